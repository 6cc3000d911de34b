"""Who must show a second factor, and who may set one up.

Keeps whoever has power over others out until a second factor has shown who they are, and an address
that nobody confirmed from getting one.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode

from moderation.authentication.addresses import address_is_confirmed
from moderation.authz import needs_second_factor
from moderation.models import Account

WHY = "Your role needs a second factor. Set one up, and the way is open."
CONFIRM = (
    "Confirm your e-mail address first: a second factor keeps out whoever has none, and must not "
    "keep out the owner of an address that somebody else signed up with."
)
# What somebody needs in order to set one up.
OPEN_NAMES = ("account_", "mfa_")


class SecondFactorMiddleware:
    """Leads a member of the team to setting up, or showing, their second factor."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: object, args: object, kwargs: object
    ) -> HttpResponse | None:
        """Redirect wherever a role could be used; leave everybody else to the view."""
        if not settings.REQUIRE_MFA or _is_open(request.resolver_match):
            return None
        account = request.user
        if not isinstance(account, Account) or not needs_second_factor(account):
            return None
        # The back end has read it along with the account; whoever was logged in otherwise is asked.
        has_one = getattr(account, "has_second_factor", None)
        if not (is_mfa_enabled(account) if has_one is None else has_one):
            messages.warning(request, WHY)
            return HttpResponseRedirect(reverse("mfa_index"))
        records = get_authentication_records(request, account)
        if any(record["method"] == "mfa" for record in records):
            return None
        # A session from before the second factor, or before the role: it shows it now.
        ways = get_adapter().get_reauthentication_methods(account)
        way = next(way["url"] for way in ways if way["id"].startswith("mfa_"))
        return HttpResponseRedirect(f"{way}?{urlencode({'next': request.get_full_path()})}")


def _is_open(match: Any) -> bool:
    if match.namespaces:
        # The API knows tokens and no sessions.
        return bool(match.namespaces == ["api-1"])
    return str(match.url_name).startswith(OPEN_NAMES)


def confirmed_first(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Lead an account to confirming its address before a view that sets up a second factor.

    Not whoever is let nowhere else before they have one: an admin has vouched for them.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        account = request.user
        if (
            isinstance(account, Account)
            and not needs_second_factor(account)
            and not address_is_confirmed(account)
        ):
            messages.warning(request, CONFIRM)
            return HttpResponseRedirect(reverse("account_email"))
        return view(request, *args, **kwargs)

    return guarded
