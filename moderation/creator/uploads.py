"""Resumable uploads for the page's own progress bar: JSON in, JSON out."""

import json
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, cast

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from moderation import selectors
from moderation.errors import Invalid, Refusal
from moderation.models import Account
from moderation.uploads import (
    part_put,
    upload_complete,
    upload_create,
    upload_of,
    upload_progress,
)

View = Callable[..., HttpResponse]
CHUNK = 256 * 1024


def answers_json(view: View) -> View:
    """Turn a refusal into JSON with the sentence and the code."""

    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Refusal as refusal:
            said = {"sentence": refusal.sentence, "code": refusal.code}
            return JsonResponse(said, status=refusal.status)

    return answered


def _account(request: HttpRequest) -> Account:
    return cast(Account, request.user)


@login_required
@require_POST
@answers_json
def begin(request: HttpRequest, code: str) -> JsonResponse:
    """Begin an upload, or find the one to resume."""
    version = selectors.creators.own_version(_account(request), code)
    try:
        given = json.loads(request.body)
        name, size = str(given["name"]), int(given["size"])
        modified = int(given.get("modified", 0))
        if not 0 <= modified < 2**53:
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise Invalid("Say the name and the size of the file.", code="bad_request") from error
    upload = upload_create(
        version=version, name=name, size=size, modified=modified, actor=_account(request)
    )
    return JsonResponse(upload_progress(upload))


@login_required
@require_GET
@answers_json
def progress(request: HttpRequest, code: str) -> JsonResponse:
    """Say which parts are there."""
    return JsonResponse(upload_progress(upload_of(code=code, actor=_account(request))))


@login_required
@require_http_methods(["PUT"])
@answers_json
def part(request: HttpRequest, code: str, number: int) -> JsonResponse:
    """Take one part; ``X-Content-SHA256`` is the sender's digest of it."""
    upload = upload_of(code=code, actor=_account(request))
    sha256 = request.headers.get("X-Content-SHA256", "")
    part_put(upload=upload, number=number, chunks=_chunks(request), sha256=sha256)
    return JsonResponse({"number": number})


@login_required
@require_POST
@answers_json
def complete(request: HttpRequest, code: str) -> JsonResponse:
    """Put the parts together and bring the file through the door."""
    made = upload_complete(
        upload=upload_of(code=code, actor=_account(request)), actor=_account(request)
    )
    return JsonResponse({"file": made.code, "sha256": made.sha256, "format": made.format})


def _chunks(request: HttpRequest) -> Iterator[bytes]:
    while chunk := request.read(CHUNK):
        yield chunk
