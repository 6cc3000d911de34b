"""What every view of the console needs."""

from typing import cast

from django.http import HttpRequest, HttpResponse

from moderation.models import Account


def account_of(request: HttpRequest) -> Account:
    """Return who is logged in."""
    return cast(Account, request.user)


def private(response: HttpResponse) -> HttpResponse:
    """Keep what moderators see out of the browser's cache."""
    response["Cache-Control"] = "no-store"
    return response
