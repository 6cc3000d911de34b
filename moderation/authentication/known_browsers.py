"""Browsers that an account was logged in with before: strangers' guesses do not keep them waiting.

"Device cookies" as OWASP describes them
(https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies): the cookie
opens nothing, it only says whose bucket the guesses of this browser are counted in.
"""

import secrets
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponseBase

from moderation.models import Account

COOKIE = "known_browser"
# Browsers keep no cookie for longer than 400 days; each log-in makes a new one.
LONGEST = timedelta(days=365)
# People share browsers, and some have two accounts; a school has hundreds, and one cookie.
MOST_ACCOUNTS = 5
_BETWEEN = "."


def browser_remember(request: HttpRequest, response: HttpResponseBase, account: Account) -> None:
    """Name an account in the cookie of a browser in which it was just logged in, wholly.

    Of others that are named there, those of last time stay.
    """
    others = [each for each in _marks(request) if not each.startswith(f"{account.pk}:")]
    mine = _signer(account).sign(f"{account.pk}:{secrets.token_urlsafe(12)}")
    response.set_cookie(
        COOKIE,
        _BETWEEN.join([mine, *others][:MOST_ACCOUNTS]),
        max_age=LONGEST,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def browser_known(request: HttpRequest, account: Account) -> str | None:
    """Return the name of this browser's own bucket for an account, or None if it is not known."""
    for mark in _marks(request):
        if mark.startswith(f"{account.pk}:"):
            try:
                return _signer(account).unsign(mark, max_age=LONGEST)
            except BadSignature:
                return None
    return None


def _marks(request: HttpRequest) -> Iterator[str]:
    yield from request.COOKIES.get(COOKIE, "").split(_BETWEEN)[:MOST_ACCOUNTS]


def _signer(account: Account) -> TimestampSigner:
    # With the password in it, as in the link of a letter: a new one makes every browser unknown.
    return TimestampSigner(salt=f"moderation.known_browser:{account.password}")
