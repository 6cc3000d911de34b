"""Saved filters: views of the queue that a person comes back to. Writes ``SavedFilter``."""

from django.db import IntegrityError, transaction

from moderation.errors import Conflict, Invalid
from moderation.models import Account, SavedFilter
from moderation.selectors.queue import require_team

NAME_LENGTH = 60
QUERY_LENGTH = 1000
MOST = 20


def filter_save(*, name: str, query: str, actor: Account) -> SavedFilter:
    """Save a link to the queue under a name. Raises Invalid, or Conflict for a name in use."""
    require_team(actor)
    name = " ".join(name.split())
    if not name:
        raise Invalid("Give the view a name.", field="name")
    if len(name) > NAME_LENGTH:
        raise Invalid(f"A name has at most {NAME_LENGTH} characters.", field="name")
    if len(query) > QUERY_LENGTH:
        raise Invalid("This search is too long to be kept: search for fewer words.", field="name")
    if not query:
        raise Invalid("Filter or search first: this is the whole queue.", field="name")
    if SavedFilter.objects.filter(account=actor).count() >= MOST:
        raise Conflict(f"You have {MOST} saved views. Forget one of them first.")
    try:
        with transaction.atomic():
            return SavedFilter.objects.create(account=actor, name=name, query=query)
    except IntegrityError as error:
        raise Conflict(f"You have a view “{name}” already.", code="name_in_use") from error


def filter_forget(*, saved: int, actor: Account) -> None:
    """Forget a saved view; somebody else's, or one that is gone, is left alone."""
    require_team(actor)
    SavedFilter.objects.filter(pk=saved, account=actor).delete()
