"""What is answered when something broke: a clean “not now” while the database is away.

Django asks here (``handler500``) for whatever no view and no middleware caught, so that one place
covers sessions, authentication, views and templates alike. Nothing here touches the database.
"""

import sys

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views.decorators.csrf import requires_csrf_token
from django.views.defaults import bad_request, server_error

from moderation.waiting import database_is_away

# A restart of PostgreSQL takes some seconds; whoever asks again sooner only adds to its work.
RETRY_AFTER_SECONDS = 5
SAID = "The database is away or too busy just now. Send it again in a moment."


@requires_csrf_token
def broken(request: HttpRequest) -> HttpResponse:
    """Answer an exception that nobody caught: 503 while the database is away, else 500."""
    if not database_is_away(sys.exc_info()[1]):
        return server_error(request)
    return unavailable(request)


@requires_csrf_token
def refused(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django calls bad: 503 where only the database was away, else 400.

    A session that cannot be saved is one of these: Django takes it for one that was deleted.
    """
    if not database_is_away(exception):
        return bad_request(request, exception)
    return unavailable(request)


def unavailable(request: HttpRequest) -> HttpResponse:
    """Say “not now”, to programs as problem+json (RFC 9457), to people as a page."""
    response: HttpResponse
    if request.path.startswith("/api/"):
        said = {"type": "about:blank", "title": "Not now", "status": 503}
        response = JsonResponse(
            {**said, "detail": SAID, "code": "database_away"},
            status=503,
            content_type="application/problem+json",
        )
    else:
        # Without the request: the frame of the page would ask who that is, and so the database.
        response = HttpResponse(render_to_string("503.html"), status=503)
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    response["Cache-Control"] = "no-store"
    return response
