"""The users of a marketplace, for whom it acts through the API. Writes ``ExternalAccount``."""

from django.db import transaction

from moderation.audit import event_record
from moderation.errors import Invalid
from moderation.models import Account, ExternalAccount
from moderation.models.api import EXTERNAL_ID_LENGTH
from moderation.models.codes import new_code

# RFC 2606: no letter box can ever be there. The marketplace tells its users itself.
NOWHERE = "external.invalid"


@transaction.atomic
def external_account(*, marketplace: Account, external_id: str) -> Account:
    """Return the account of a marketplace's user, made when they are first named.

    Without an id it is the marketplace itself. Raises Invalid for an id that is too long.
    """
    external_id = external_id.strip()
    if not external_id:
        return marketplace
    if len(external_id) > EXTERNAL_ID_LENGTH or not external_id.isprintable():
        raise Invalid(
            f"The id of a user has at most {EXTERNAL_ID_LENGTH} printable characters.",
            code="bad_user",
            field="on_behalf_of",
        )
    # One at a time for each marketplace, so that two first requests make one account.
    Account.objects.select_for_update(no_key=True).get(pk=marketplace.pk)
    known = ExternalAccount.objects.filter(marketplace=marketplace, external_id=external_id)
    found = known.select_related("account").first()
    if found is not None:
        return found.account
    code = new_code()
    account = Account(username=f"{marketplace.username}-{code}", email=f"{code}@{NOWHERE}")
    account.set_unusable_password()
    account.save()
    ExternalAccount.objects.create(
        marketplace=marketplace, external_id=external_id, account=account
    )
    event_record(action="account.external", actor=marketplace, data={"account": account.username})
    return account
