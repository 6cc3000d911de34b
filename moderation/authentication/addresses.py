"""The addresses of an account: the one that notices go to, and one that waits to be confirmed."""

from allauth.account.models import EmailAddress

from moderation.models import Account


def address_is_confirmed(account: Account) -> bool:
    """Return whether somebody followed the link of a letter to the address of an account."""
    mine = EmailAddress.objects.filter(user=account, email__iexact=account.email)
    return bool(mine.filter(verified=True).exists())


def waiting_addresses_forget(*, account: Account) -> None:
    """Delete the addresses that nobody confirmed; the links in their letters lead nowhere then."""
    waiting = EmailAddress.objects.filter(user=account, verified=False)
    waiting.exclude(email__iexact=account.email).delete()


def waiting_addresses_give_way(*, account: Account) -> None:
    """Delete the address of a new account wherever it waits: others keep asking for letters."""
    waiting = EmailAddress.objects.filter(email__iexact=account.email, verified=False)
    waiting.exclude(user=account).delete()
