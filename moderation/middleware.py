"""Turns a refusal that no view caught into a page that says what is wrong."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve

from moderation.errors import Invalid, Refusal, is_of_api, problem_said

# The fields in which people write to each other, in any form.
_SENTENCES = (
    *("facts", "message", "private_note", "legal_ground"),
    *("answer", "note", "text", "reason", "words"),
)


def _has_null(request: HttpRequest) -> bool:
    if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
        return True
    return request.method == "POST" and any(
        "\0" in value for _, values in request.POST.lists() for value in values
    )


def _has_unknown_letters(request: HttpRequest) -> bool:
    """Return whether a request is said to be written in something that is no text."""
    name = (request.content_params or {}).get("charset", "")
    try:
        b"x".decode(name or "utf-8")
    except (LookupError, ValueError):
        return True
    return False


def _opens_a_page(request: HttpRequest) -> bool:
    """Return whether a person opens an address; programs keep their 405."""
    return request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("Accept", "")


def _page_above(path: str) -> str:
    """Return the nearest address above a path that leads anywhere."""
    while path.strip("/"):
        path = path.rstrip("/").rpartition("/")[0] + "/"
        try:
            resolve(path)
        except Resolver404:
            continue
        return path
    return "/"


def _written(request: HttpRequest) -> list[str]:
    """Return the sentences that a refused form held, for whoever typed them to copy."""
    values = (request.POST.get(name, "").strip() for name in _SENTENCES)
    return [value for value in values if value]


def _unreadable(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    if is_of_api(request):
        title, code = "Bad request", "unreadable"
        return problem_said(status=400, title=title, detail=refusal.sentence, code=code)
    return render(request, "refusal.html", {"refusal": refusal}, status=400)


def _method_refused(response: HttpResponse) -> HttpResponse:
    """Say to a program which methods an address takes."""
    allowed = response.headers["Allow"]
    said = problem_said(
        status=405,
        title="Not with this method",
        detail=f"This address takes {allowed}.",
        code="method_not_allowed",
    )
    said["Allow"] = allowed
    return said


class RefusalMiddleware:
    """Answers a ``Refusal`` with its own sentence and status.

    Whoever opens an address that only takes a form, as after a log-in in the middle of a
    decision or by the link to another language under a refusal, is led to the page above it,
    where the form is, with what they chose.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if _has_unknown_letters(request):
            refusal = Invalid("What was sent is written in no alphabet that we read. Send UTF-8.")
            return _unreadable(request, refusal)
        if _has_null(request):
            # PostgreSQL stores no such character, and nobody types one.
            refusal = Invalid("A character that no keyboard has was sent. Remove it and try again.")
            return _unreadable(request, refusal)
        response = self.get_response(request)
        if response.status_code == 405 and is_of_api(request):
            return _method_refused(response)
        if response.status_code == 405 and _opens_a_page(request):
            chosen = request.META.get("QUERY_STRING", "")
            return redirect(_page_above(request.path) + (f"?{chosen}" if chosen else ""))
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Render the refusal; leave every other exception to Django."""
        if not isinstance(exception, Refusal):
            return None
        context = {"refusal": exception, "written": _written(request)}
        return render(request, "refusal.html", context, status=exception.status)
