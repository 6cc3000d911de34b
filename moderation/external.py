"""The users of a marketplace, for whom it acts through the API. Writes ``ExternalAccount``."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction

from moderation.audit import event_record
from moderation.errors import Invalid
from moderation.models import Account, ExternalAccount
from moderation.models.api import EXTERNAL_ID_LENGTH
from moderation.models.codes import new_code

# RFC 2606: no letter box can ever be there. The marketplace tells its users itself.
NOWHERE = "external.invalid"


@contextmanager
def external_account(*, marketplace: Account, external_id: str) -> Iterator[Account]:
    """Yield the account of a marketplace's user, made when they are first named.

    Without an id it is the marketplace itself. What is done for a user belongs into the block: a
    new account is recorded at its end, because whoever records something holds up everybody else,
    and none is left where the block ends with an exception. Raises Invalid for an id that is too
    long.
    """
    external_id = external_id.strip()
    if len(external_id) > EXTERNAL_ID_LENGTH or not external_id.isprintable():
        raise Invalid(
            f"The id of a user has at most {EXTERNAL_ID_LENGTH} printable characters.",
            code="bad_user",
            field="on_behalf_of",
        )
    if not external_id:
        yield marketplace
        return
    mine = ExternalAccount.objects.filter(marketplace=marketplace, external_id=external_id)
    known = mine.select_related("account").first()
    if known is not None:
        yield known.account
        return
    with transaction.atomic():
        made = _made(marketplace, external_id)
        yield made or mine.get().account
        if made is not None:
            event_record(
                action="account.external", actor=marketplace, data={"account": made.username}
            )


def _made(marketplace: Account, external_id: str) -> Account | None:
    """Make the account, or return None where another request has, once that has ended."""
    code = new_code()
    account = Account(username=f"{marketplace.username}-{code}", email=f"{code}@{NOWHERE}")
    account.set_unusable_password()
    try:
        with transaction.atomic():
            account.save(force_insert=True)
            ExternalAccount.objects.create(
                marketplace=marketplace, external_id=external_id, account=account
            )
    except IntegrityError:
        return None
    return account
