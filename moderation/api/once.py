"""``Idempotency-Key`` for every POST: sent twice, done once, answered alike."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse

from moderation.api.auth import TokenAuth
from moderation.api.problems import problem, refusal_problem
from moderation.errors import Refusal
from moderation.idempotency import Kept, answer_once
from moderation.states import Scope
from moderation.waiting import database_is_away

Run = Callable[..., HttpResponse]
First = Callable[..., AbstractContextManager[None]]


@contextmanager
def _nothing_first(request: HttpRequest, *args: Any, **kwargs: Any) -> Iterator[None]:
    yield


def once(scope: Scope, *, first: First = _nothing_first) -> Callable[[Run], Run]:
    """Wrap a POST so that a repeated key gets the first answer again, once something was done.

    The answer carries ``Idempotent-Replay: true`` when it is given again. While another request
    with the key is at work this one waits for it, and says 503 if that takes too long. ``first``
    stores what was sent before the transaction that holds key, effect and answer: nobody waits
    for it, and no database gives up on it.
    """

    def wrapped(run: Run) -> Run:
        @wraps(run)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            # As the API itself reads the header, or a POST it lets in would be kept by nobody.
            authentication = TokenAuth(scope)
            try:
                token = authentication(request)
                if token is None:
                    # Let the API itself say so.
                    return run(request, *args, **kwargs)
                # As it is for the operation itself.
                request.auth = token  # type: ignore[attr-defined]
                kept = answer_once(
                    token=token,
                    key=request.headers.get("Idempotency-Key", ""),
                    route=f"{request.method} {request.path}"[:300],
                    body_digest=_digest(request),
                    work=lambda: _keep(run(request, *args, **kwargs)),
                    first=lambda: first(request, *args, **kwargs),
                )
            except Refusal as refusal:
                return refusal_problem(refusal)
            except RequestDataTooBig:
                return problem(413, "The body of the request is too large.", "too_large")
            except OperationalError as error:
                if not database_is_away(error):
                    raise
                response = problem(
                    503,
                    "The database is busy, or another request with this key is still at work. "
                    "Send it again with the same key.",
                    "busy",
                )
                response["Retry-After"] = "2"
                return response
            except _NothingDoneError as answer:
                return answer.response
            response = HttpResponse(kept.body, status=kept.status, content_type=kept.content_type)
            if kept.is_replay:
                response["Idempotent-Replay"] = "true"
            return response

        return guarded

    return wrapped


class _NothingDoneError(Exception):
    """A refusal or a fault is not kept: all is rolled back, and the same key may try again.

    What refuses it may pass: a policy that is missing, too many at once, a scope, a file still to
    come. Whoever sends it again after that is to be heard, and nothing is ever done twice by it.
    """

    def __init__(self, response: HttpResponse) -> None:
        super().__init__()
        self.response = response


def _keep(response: HttpResponse) -> Kept:
    if response.status_code >= 400:
        raise _NothingDoneError(response)
    return Kept(response.status_code, response["Content-Type"], response.content.decode())


def _digest(request: HttpRequest) -> str:
    """Return the digest of what was sent: fields and files, whatever the boundary between them."""
    digest = hashlib.sha256()
    if request.content_type == "multipart/form-data":
        for name, values in sorted(request.POST.lists()):
            digest.update(repr((name, values)).encode())
        for name, files in sorted(request.FILES.lists()):
            for file in files:
                digest.update(repr((name, file.name)).encode())
                for chunk in file.chunks():
                    digest.update(chunk)
                file.seek(0)
    else:
        digest.update(request.body)
    return digest.hexdigest()
