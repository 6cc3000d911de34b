"""What every page needs: the policy's name, whether this is the demo, and unread notices."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from moderation.models import Account
from moderation.selectors.creators import unread_notices


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the variables of the page frame."""
    # A request that was refused at the door, such as one for another host, has no user.
    account = getattr(request, "user", None)
    return {
        "is_demo": settings.ENCODER == "demo",
        "unread": unread_notices(account) if isinstance(account, Account) else 0,
    }
