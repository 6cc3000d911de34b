"""Who is logged in, with what every page of the team asks about them, in one query."""

from allauth.account.auth_backends import AuthenticationBackend
from allauth.mfa.models import Authenticator
from django.db.models import Exists, OuterRef

from moderation.models import Account
from moderation.prepared import Prepared

# Read with every request of somebody who is logged in.
_logged_in = Prepared(
    lambda number: (
        Account.objects.select_related("console_preference")
        .annotate(has_second_factor=Exists(Authenticator.objects.filter(user=OuterRef("pk"))))
        .filter(pk=number)
    ),
    number=int,
)


class AccountBackend(AuthenticationBackend):
    """allauth's own, which reads a second factor's being there and own settings along."""

    def get_user(self, user_id: int) -> Account | None:
        """Return who is logged in, unless the account is closed; with ``has_second_factor``."""
        found = _logged_in.first(number=user_id)
        return found if found is not None and self.user_can_authenticate(found) else None
