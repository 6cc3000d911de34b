"""How allauth fits into the house: throttles, letters, and who may do without a second factor."""

import logging
from collections.abc import Collection
from smtplib import SMTPException
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.userkit import filter_users_by_email, get_user_by_username
from allauth.core import context as allauth_context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponseBase
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.text import wrap

from moderation.authentication.known_browsers import browser_known, browser_remember
from moderation.authentication.stored_secrets import secret_decrypt, secret_encrypt
from moderation.authz import needs_second_factor
from moderation.errors import Conflict, Refusal
from moderation.models import Account
from moderation.outbox import LINE_LENGTH
from moderation.public.reporting import client_address, language_of
from moderation.states import Language
from moderation.throttle import require_token, throttle_give_back, throttle_take
from moderation.translations import templates_in

logger = logging.getLogger(__name__)

# allauth's name of a letter: our folder in templates/letters/.
LETTERS = {
    "account/email/email_confirmation": "confirm_email",
    "account/email/email_confirmation_signup": "confirm_email",
    "account/email/password_reset_key": "password_reset",
    "account/email/unknown_account": "no_account",
    "account/email/account_already_exists": "have_account",
}
MISMATCH = (
    "Name and password do not belong together, or the account is closed. Mind capitals and spaces."
)


class NotSent(Refusal):
    """The mail server did not take a letter that somebody waits for."""

    status = 503
    code = "letter_not_sent"


class AccountAdapter(DefaultAccountAdapter):
    """Accounts: every guess at a password takes a token, and letters look like all others."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": MISMATCH,
        "email_password_mismatch": MISMATCH,
        "incorrect_password": "This is not your password. Mind capitals and spaces.",
        "enter_current_password": "This is not your password. Mind capitals and spaces.",
        "invalid_password_reset": "This link was used already, or is too old. Ask for a new one.",
    }

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Account | None:
        """Return whose name and password these are; raises TooMany after too many wrong ones.

        The token is taken first and given back for a right password, so that guesses that come at
        the same moment do not slip through together.
        """
        # As signing up does it: a name typed as a ligature, or in full width, is the plain one.
        username = Account.normalize_username(str(credentials.get("username") or ""))
        credentials["username"] = username
        taken = _counted(request, {username, str(credentials.get("email") or "")} - {""})
        for limit, key in taken:
            require_token(limit=limit, key=key)
        account: Account | None = super().authenticate(request, **credentials)
        if account is not None:
            for limit, key in taken:
                throttle_give_back(limit=limit, key=key)
        return account

    def post_login(self, request: HttpRequest, user: Account, **given: Any) -> HttpResponseBase:
        """Remember the browser of whoever is logged in now, every stage behind them."""
        response: HttpResponseBase = super().post_login(request, user, **given)
        browser_remember(request, response, user)
        return response

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """Return how somebody can show again who they are: by a second factor where there is one.

        Otherwise a stolen password would do to add a second factor of the thief's own.
        """
        ways: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return [way for way in ways if way["id"].startswith("mfa_")] or ways

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        """Return the address of a confirmation, on the site's own name whatever host was asked."""
        return _at_home(reverse("account_confirm_email", args=[emailconfirmation.key]))

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Return the address of a new password, on the site's own name whatever host was asked."""
        number, _, secret = key.partition("-")
        return _at_home(reverse("account_reset_password_from_key", args=[number, secret]))

    def get_email_verification_redirect_url(self, email_address: Any) -> str:
        """Lead on to the account, or to logging in."""
        return reverse("account_home")

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """Lead the team to its queue, and everybody else to the models."""
        if isinstance(request.user, Account) and request.user.is_team:
            return reverse("console:queue")
        return str(super().get_login_redirect_url(request))

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        """Lead back to the account."""
        return reverse("account_home")

    def can_delete_email(self, email_address: Any) -> bool:
        """Return False for the address that notices go to: it is replaced, never taken away."""
        return bool(email_address.email != email_address.user.email)

    def confirm_email(self, request: HttpRequest, email_address: Any) -> bool:
        """Move an account to an address; raises Conflict if another was quicker."""
        try:
            with transaction.atomic():
                return bool(super().confirm_email(request, email_address))
        except IntegrityError as error:
            raise Conflict(
                "Another account has this address now. Choose another one.", code="taken"
            ) from error

    def send_confirmation_mail(
        self, request: HttpRequest, emailconfirmation: Any, signup: bool
    ) -> None:
        """Send the letter that confirms an address; at signing up its failure stops nobody."""
        try:
            super().send_confirmation_mail(request, emailconfirmation, signup)
        except Refusal as refusal:
            if not signup:
                raise
            # The account is there already; its page sends the letter again.
            logger.warning("letter at sign-up", extra={"code": refusal.code})

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send a letter somebody asked for, unless the letter box has had many; raises TooMany
        after too many from the same sender, and NotSent.
        """
        letter, sender = LETTERS[template_prefix], client_address(allauth_context.request)
        require_token(limit="letter.address", key=sender)
        require_token(limit="letter.sender", key=f"{sender} {email.casefold()}")
        if _has_one_already(letter, email):
            return
        try:
            self._write(letter, email, context)
        except (SMTPException, OSError, UnicodeError) as error:
            raise NotSent(
                "The letter could not be sent just now. Try again in a few minutes."
            ) from error

    def send_notification_mail(
        self,
        template_prefix: str,
        user: Account,
        context: dict[str, Any] | None = None,
        email: str | None = None,
    ) -> None:
        """Tell somebody that their account was changed; what was changed stays so if it fails."""
        what = template_prefix.rpartition("/")[2]
        values = {
            **(context or {}),
            "user": user,
            "what": what,
            "reset_url": _at_home(reverse("account_reset_password")),
        }
        try:
            self._write("changed", email or user.email, values)
        except (SMTPException, OSError, UnicodeError) as error:
            logger.warning("letter about a change", extra={"code": type(error).__name__})

    def _write(self, letter: str, email: str, context: dict[str, Any]) -> None:
        language, name = language_of(allauth_context.request), ""
        person = context.get("user")
        if isinstance(person, Account):
            language, name = Language(person.language), person.username
        values = {
            **context,
            "name": name,
            "site": settings.SITE_URL.rstrip("/"),
            "signup_url": _at_home(reverse("account_signup")),
        }

        def part(name: str) -> str:
            return render_to_string(templates_in(language, f"letters/{letter}/{name}"), values)

        message = EmailMultiAlternatives(
            subject=" ".join(part("subject.txt").split()),
            body=wrap(part("body.txt"), LINE_LENGTH),
            from_email=settings.DEFAULT_FROM_EMAIL,
            to=[email],
            headers={"Auto-Submitted": "auto-generated"},  # RFC 3834
        )
        message.attach_alternative(part("body.html"), "text/html")
        message.send()

    def is_ajax(self, request: HttpRequest) -> bool:
        """Return whether a program asks for JSON: only the log-in page does, for a passkey."""
        return (
            request.method == "GET"
            and request.path == reverse("mfa_login_webauthn")
            and request.headers.get("Accept") == "application/json"
        )


class SecondFactorAdapter(DefaultMFAAdapter):
    """Second factors: whoever must have one keeps one."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": "This code is not right, was used already, or is too old.",
        "cannot_delete_authenticator": "Your role needs a second factor. Add another one before "
        "you remove this one.",
    }

    def encrypt(self, text: str) -> str:
        """Encrypt a secret before it is stored."""
        return secret_encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Read a stored secret; raises Unreadable if the key it was stored under is gone."""
        return secret_decrypt(encrypted_text)

    def can_delete_authenticator(self, authenticator: Any) -> bool:
        """Return False for the last second factor of somebody whose role needs one."""
        account = authenticator.user
        if not needs_second_factor(account):
            return True
        others = Authenticator.objects.filter(user=account).exclude(pk=authenticator.pk)
        return bool(others.exclude(type=Authenticator.Type.RECOVERY_CODES).exists())

    def get_totp_label(self, user: Any) -> str:
        """Name the account in the app by what its owner logs in with."""
        return str(user.username)


def _counted(request: HttpRequest, typed: Collection[str]) -> list[tuple[str, str]]:
    """Return the buckets that a guess takes a token from: limit and key.

    An account has one bucket, whether its name is typed or its address, and one for each browser
    that knows it. What opens no account is counted under what was typed.
    """
    accounts = _whose(typed)
    known = {account.pk: browser_known(request, account) for account in accounts}
    own = [("password.browser", key) for key in known.values() if key is not None]
    others = [str(pk) for pk, key in known.items() if key is None]
    if accounts and not others:
        return own
    keys = others or [f"typed:{min(typed, default='').casefold()}"]
    common = [("password.account", key) for key in keys]
    return [("password.address", client_address(request)), *own, *common]


def _whose(typed: Collection[str]) -> list[Account]:
    """Return the accounts that a guess may open."""
    found = {account for text in typed for account in filter_users_by_email(text)}
    found |= {account for account in map(get_user_by_username, typed) if account is not None}
    return sorted(found, key=lambda account: account.pk)


def _has_one_already(letter: str, email: str) -> bool:
    """Return whether a letter box has had so many of these letters that the last must do.

    Its bucket is empty only where one was sent less than an hour ago, whose link works for days,
    whoever asked for it: the owner needs no other, and nobody else learns that there is one.
    """
    return not throttle_take(limit="letter.recipient", key=f"{letter} {email.casefold()}")


def _at_home(path: str) -> str:
    return str(settings.SITE_URL).rstrip("/") + path
