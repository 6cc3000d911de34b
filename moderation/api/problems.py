"""Errors as RFC 9457 asks: ``application/problem+json``, with our stable code beside the words."""

import json
from collections.abc import Sequence
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic import Field

from moderation.errors import Refusal

TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    409: "Conflict",
    410: "Too late",
    413: "Too large",
    422: "Cannot be done",
    429: "Too many",
    503: "Not now",
}


class Problem(Schema):
    """What went wrong: ``detail`` for people, ``code`` for programs."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    errors: list[dict[str, Any]] = Field(default_factory=list)


def problem(
    status: int,
    detail: str,
    code: str,
    *,
    field: str | None = None,
    errors: Sequence[dict[str, Any]] = (),
) -> HttpResponse:
    """Return an error as problem+json."""
    said = Problem(
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        code=code,
        field=field,
        errors=list(errors),
    )
    return HttpResponse(
        json.dumps(said.model_dump(exclude_none=True), ensure_ascii=False),
        status=status,
        content_type="application/problem+json",
    )


def refusal_problem(refusal: Refusal) -> HttpResponse:
    """Return a refusal as problem+json."""
    return problem(refusal.status, refusal.sentence, refusal.code, field=refusal.field)


def handlers_add(api: NinjaAPI) -> None:
    """Let every error of the API become a problem."""

    @api.exception_handler(Refusal)
    def refused(request: HttpRequest, error: Refusal) -> HttpResponse:
        return refusal_problem(error)

    @api.exception_handler(ValidationError)
    def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
        errors = [
            {"where": ".".join(str(part) for part in each["loc"]), "says": each["msg"]}
            for each in error.errors
        ]
        return problem(
            422, "The request does not fit its description.", "invalid_request", errors=errors
        )

    @api.exception_handler(AuthenticationError)
    def unknown(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        response = problem(
            401,
            "Send a valid key as “Authorization: Bearer wh_…”.",
            "not_authenticated",
        )
        response["WWW-Authenticate"] = "Bearer"
        return response

    @api.exception_handler(Http404)
    def absent(request: HttpRequest, error: Http404) -> HttpResponse:
        return problem(404, "There is nothing at this address.", "not_found")

    @api.exception_handler(HttpError)
    def failed(request: HttpRequest, error: HttpError) -> HttpResponse:
        return problem(error.status_code, str(error), "bad_request")
