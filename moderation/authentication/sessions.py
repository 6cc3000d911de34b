"""Sessions in the database, looked up by a query that is written once."""

from datetime import datetime

from django.contrib.sessions.backends.db import SessionStore as DatabaseSessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone

from moderation.prepared import Prepared

# Read with every request that brings a cookie.
_open = Prepared(
    lambda key, now: Session.objects.filter(session_key=key, expire_date__gt=now),
    key=str,
    now=datetime,
)


class SessionStore(DatabaseSessionStore):
    """Django's own, which is asked with every request."""

    def _get_session_from_db(self) -> Session | None:
        found = _open.first(key=self.session_key, now=timezone.now())
        if found is None:
            # As Django does: a key that nobody gave out is not taken up.
            self._session_key = None
        return found
