"""What follows when people change how they get in: the record, and what a letter has shown.

Writes ``Event``, never with an address or a secret, and ``EmailAddress``; removes second factors
that somebody else set up.
"""

from typing import Any

from allauth.account import signals as account_signals
from allauth.account.internal.flows.email_verification import verify_email_indirectly
from allauth.account.internal.flows.login import record_authentication
from allauth.account.internal.flows.manage_email import sync_user_email_address
from allauth.account.models import EmailAddress
from allauth.mfa import signals as second_factor_signals
from allauth.mfa.utils import is_mfa_enabled
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from moderation.accounts import account_second_factor_reset
from moderation.audit import event_record
from moderation.authentication.addresses import waiting_addresses_forget
from moderation.authz import has_power
from moderation.models import Account


@receiver([account_signals.password_changed, account_signals.password_set])
@receiver(account_signals.password_reset)
def _password(user: Account, **given: Any) -> None:
    # A thief who asked for another address before must not move the account there afterwards.
    waiting_addresses_forget(account=user)
    _record("account.password_changed", user)


@receiver(account_signals.password_reset)
def _letter_shows_whose_it_is(request: HttpRequest, user: Account, **given: Any) -> None:
    """Take the address as confirmed: letters about passwords go to an account's own address only.

    A second factor that was there before anybody had confirmed an address may be a stranger's, who
    signed up with it. It gives way; that of somebody with power over others never does.
    """
    confirmed = EmailAddress.objects.filter(user=user, verified=True).exists()
    if not confirmed and not has_power(user) and is_mfa_enabled(user):
        account_second_factor_reset(account=user, actor=user)
    sync_user_email_address(user)
    verify_email_indirectly(request, user, user.email)


@receiver(account_signals.email_changed)
def _email(user: Account, from_email_address: Any, **given: Any) -> None:
    # The first address of an account is confirmed, not changed.
    if from_email_address is not None:
        _record("account.email_changed", user)


@receiver(second_factor_signals.authenticator_added)
def _added(request: HttpRequest, user: Account, authenticator: Any, **given: Any) -> None:
    # Whoever has just shown that it works need not show it again.
    record_authentication(request, user, "mfa", id=authenticator.pk, type=authenticator.type)
    _record("account.second_factor_added", user, kind=authenticator.type)


@receiver(second_factor_signals.authenticator_removed)
def _removed(user: Account, authenticator: Any, **given: Any) -> None:
    _record("account.second_factor_removed", user, kind=authenticator.type)


@transaction.atomic
def _record(action: str, account: Account, **data: str) -> None:
    event_record(action=action, actor=account, data=data)
