"""Accounts: people sign up. Roles are given by an admin, never by a form."""

from allauth.mfa.models import Authenticator
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from moderation.audit import event_record
from moderation.errors import Conflict, Invalid
from moderation.models import Account
from moderation.states import Language


def account_sign_up(*, username: str, email: str, password: str) -> Account:
    """Create a creator's account.

    Raises Invalid for a weak password or a bad name, Conflict if name or address are taken.
    """
    # As the log-in form does it: a name typed as a ligature, or in full width, is the plain one.
    name = Account.normalize_username(username.strip())
    account = Account(username=name, email=email.strip().lower())
    try:
        validate_password(password, account)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages), code="weak_password", field="password") from error
    account.set_password(password)
    try:
        account.clean_fields()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise Invalid(" ".join(messages), field=field) from error
    try:
        with transaction.atomic():
            account.save()
            event_record(action="account.created", actor=account)
    except IntegrityError as error:
        raise Conflict(
            "This name or e-mail address is taken. Log in instead, or choose another.",
            code="taken",
            field="username",
        ) from error
    return account


def account_set_language(*, account: Account, language: Language) -> None:
    """Set the language in which a person is told things from now on."""
    Account.objects.filter(pk=account.pk).update(language=language)


@transaction.atomic
def account_second_factor_reset(*, account: Account, actor: Account | None) -> int:
    """Remove every second factor, lost or a stranger's; return how many there were.

    Whoever needs one is led to setting up a new one, after their password.
    """
    removed: int = Authenticator.objects.filter(user=account).delete()[0]
    event_record(
        action="account.second_factor_reset",
        actor=actor,
        data={"account": account.username, "removed": removed},
    )
    return removed
