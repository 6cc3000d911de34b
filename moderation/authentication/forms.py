"""Forms that differ from allauth's: a guess takes a token, an address stays till replaced."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.forms import AddEmailForm, ChangePasswordForm, ResetPasswordForm
from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.models import EmailAddress
from allauth.core.internal.cryptokit import normalize_user_code
from allauth.mfa.adapter import get_adapter as second_factor_adapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.totp.forms import ActivateTOTPForm
from django.http import HttpRequest

from moderation.authentication.addresses import waiting_addresses_forget
from moderation.models import Account
from moderation.throttle import require_token, throttle_give_back, throttle_take


@contextmanager
def _one_guess(account: Any) -> Iterator[None]:
    """Take a token for a guess, and give it back unless the guess raises that it is wrong."""
    key = str(account.pk)
    require_token(limit="second_factor", key=key)
    yield
    throttle_give_back(limit="second_factor", key=key)


class _Once:
    """A code opens once, however many processes it is shown to at the same moment.

    allauth remembers used codes in the cache, which each process has for itself.
    """

    user: Any

    def clean_code(self) -> str:
        with _one_guess(self.user):
            code: str = super().clean_code()  # type: ignore[misc]
            # As allauth compares it: spaces and dashes make no other code.
            key = f"{self.user.pk}:{normalize_user_code(code)}"
            if not throttle_take(limit="second_factor.code", key=key):
                raise second_factor_adapter().validation_error("incorrect_code")
        return code


class CodeAtLogIn(_Once, AuthenticateForm):
    """The code after the password."""


class CodeAgain(_Once, ReauthenticateForm):
    """The code before something that matters."""


class FirstCode(ActivateTOTPForm):
    """The code that shows that the app was set up."""

    def clean_code(self) -> str:
        """Check it as one guess."""
        with _one_guess(self.user):
            code: str = super().clean_code()
        return code


class NewPassword(ChangePasswordForm):
    """The old password and a new one."""

    def clean_oldpassword(self) -> str:
        """Check the old one as every other guess at a password is."""
        given: str = self.cleaned_data["oldpassword"]
        if not get_adapter().reauthenticate(self.user, given):
            raise get_adapter().validation_error("enter_current_password")
        return given


class ForgottenPassword(ResetPasswordForm):
    """The address of an account whose password is forgotten."""

    def clean_email(self) -> str:
        """Find the one account that has it: an address that waits to be confirmed opens none."""
        given: str = super().clean_email()
        found = Account.objects.filter(email__iexact=given, is_active=True)
        # Compared once more as allauth does: a database may take two letters for the same one, and
        # the letter goes to the address that was typed.
        self.users = [account for account in found if account.email.lower() == given.lower()]
        return given


class NewAddress(AddEmailForm):
    """Another address, to which the account moves once it is confirmed."""

    def clean_email(self) -> str:
        """Refuse one that another account has: signing up says as much."""
        given: str = super().clean_email()
        if Account.objects.filter(email__iexact=given).exclude(pk=self.user.pk).exists():
            raise get_adapter().validation_error("email_taken")
        return given

    def save(self, request: HttpRequest) -> Any:
        """Send the letter. The address until now stays, confirmed or not: notices go there."""
        waiting_addresses_forget(account=self.user)
        address = EmailAddress.objects.create(user=self.user, email=self.cleaned_data["email"])
        send_verification_email_to_address(request, address)
        return address
