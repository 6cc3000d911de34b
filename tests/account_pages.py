"""Every page of signing up, logging in and of one's own account, in every state that opens it."""

from collections.abc import Iterator, Mapping
from typing import Any

from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.conf import settings
from django.core import mail
from django.test import Client
from django.urls import resolve, reverse

from moderation.authentication.urls import urlpatterns
from moderation.models import Account
from tests import factories
from tests.access_world import PASSKEY
from tests.logging_in import confirm, link_in, log_in

# A picture and a file; what only leads on; what an account without any password sees.
NOT_PAGES = {"mfa_app_code", "mfa_download_recovery_codes", "mfa_login_webauthn"}
NOT_PAGES |= {"account_set_password"}
# What shows something else in another state; the others need to be looked at once.
CHANGING = {"account_email", "account_confirm_email", "account_reset_password_from_key"}
CHANGING |= {"mfa_index", "mfa_list_webauthn"}


def account_pages(
    person: Account, *, passkey: str = "laptop"
) -> Iterator[tuple[Client, list[str]]]:
    """Yield browsers, each with the addresses that it opens until the next one is asked for."""
    seen: set[str] = set()
    for client, given in _states(person, passkey):
        addresses = list(_opening(client, given, without=seen - CHANGING))
        seen |= {str(resolve(address).url_name) for address in addresses}
        yield client, addresses
    missing = {str(pattern.name) for pattern in urlpatterns} - NOT_PAGES - seen
    assert not missing, f"Say in tests/account_pages.py how to open {missing}."


def session_shown(page: Any, client: Client, url: str) -> None:
    """Let the window of a browser be logged in as a client of a test is."""
    page.context.clear_cookies()
    cookie = client.cookies.get(settings.SESSION_COOKIE_NAME)
    if cookie is not None:
        page.context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": cookie.value, "url": url}]
        )


def _states(person: Account, passkey: str) -> Iterator[tuple[Client, Mapping[str, Any]]]:
    factories.address_confirmed(person)
    used = {"key": "used", "uidb36": "1"}
    yield Client(), used
    # With the links of letters.
    forgetful = Client()
    forgetful.post("/log-in/forgotten/", {"email": person.email})
    form = forgetful.get(link_in(mail.outbox[-1]))["Location"]
    waiting = EmailAddress.objects.create(user=person, email="new@example.org")
    letters = {**resolve(form).kwargs, "confirmation": EmailConfirmationHMAC(waiting).key}
    yield forgetful, letters
    # Logged in, with nothing but a password, which was shown a moment ago.
    client, _ = log_in(person.username)
    confirm(client)
    yield client, used
    # With everything.
    TOTP.activate(person, generate_totp_secret())
    RecoveryCodes.activate(person)
    added = Authenticator.objects.create(
        user=person, type="webauthn", data={"name": passkey, "credential": PASSKEY}
    )
    yield client, {**used, "pk": added.pk}
    # Between the password and the second factor.
    yield log_in(person.username)[0], used


def _opening(client: Client, given: Mapping[str, Any], *, without: set[str]) -> Iterator[str]:
    """Yield the addresses that show this browser a page, rather than lead on."""
    for pattern in urlpatterns:
        kwargs = {name: given.get(name) for name in pattern.pattern.regex.groupindex}
        if pattern.name == "account_confirm_email":
            kwargs["key"] = given.get("confirmation", "used")
        if pattern.name in NOT_PAGES | without or None in kwargs.values():
            continue
        address = reverse(str(pattern.name), kwargs=kwargs)
        if client.get(address).status_code == 200:
            yield address
