"""What is answered when something broke: a clean “not now” while database or bucket is away.

``overload`` answers the same way where too much is asked at once.

Django asks here (``handler500``) for whatever no view and no middleware caught, so that one place
covers sessions, authentication, views and templates alike. Nothing here touches the database.
"""

import sys
from dataclasses import dataclass
from functools import cache

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.decorators.csrf import requires_csrf_token
from django.views.defaults import bad_request, page_not_found, server_error

from moderation.errors import is_of_api, problem_said
from moderation.stored import BUCKET_ERRORS
from moderation.waiting import database_is_away


@dataclass(frozen=True)
class Reason:
    """Why there is no answer just now: a code for programs, a sentence for people."""

    code: str
    sentence: str
    retry_after_seconds: int


DATABASE_AWAY = Reason(
    code="database_away",
    sentence="The database is away or too busy just now. Send it again in a moment.",
    # A restart of PostgreSQL takes some seconds; whoever asks again sooner only adds to its work.
    retry_after_seconds=5,
)


STORAGE_AWAY = Reason(
    code="storage_away",
    sentence="The store of the files does not answer just now. Send it again in a moment.",
    retry_after_seconds=10,
)


@requires_csrf_token
def broken(request: HttpRequest) -> HttpResponse:
    """Answer an exception that nobody caught: 503 while database or bucket is away, else 500."""
    error = sys.exc_info()[1]
    if database_is_away(error):
        return unavailable(request)
    if isinstance(error, BUCKET_ERRORS):
        return unavailable(request, STORAGE_AWAY)
    if is_of_api(request):
        detail = "Something broke on our side. It has been noted."
        return problem_said(status=500, title="Broken", detail=detail, code="broken")
    return server_error(request)


@requires_csrf_token
def refused(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django calls bad: 503 where only the database was away, else 400.

    A session that cannot be saved is one of these: Django takes it for one that was deleted.
    """
    if database_is_away(exception):
        return unavailable(request)
    if is_of_api(request):
        detail = "This request cannot be read."
        return problem_said(status=400, title="Bad request", detail=detail, code="bad_request")
    return bad_request(request, exception)


@requires_csrf_token
def absent(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request for what is not there."""
    if is_of_api(request):
        detail = "There is nothing at this address."
        return problem_said(status=404, title="Not found", detail=detail, code="not_found")
    return page_not_found(request, exception)


def unavailable(request: HttpRequest, reason: Reason = DATABASE_AWAY) -> HttpResponse:
    """Say “not now”, to programs as problem+json (RFC 9457), to people as a page."""
    if is_of_api(request):
        response = problem_said(
            status=503, title="Not now", detail=reason.sentence, code=reason.code
        )
    else:
        response = HttpResponse(_page(reason), status=503)
    response["Retry-After"] = str(reason.retry_after_seconds)
    response["Cache-Control"] = "no-store"
    return response


@cache
def _page(reason: Reason) -> str:
    # Without the request: the frame of the page would ask who that is, and so the database. And
    # once: whoever has no time for anybody has none to write the same page again.
    return render_to_string("503.html", {"reason": reason})
