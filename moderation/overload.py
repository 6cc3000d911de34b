"""More requests than a process can serve in time: a clean “not now”, at once and cheaply.

Stands before sessions and the database. The web server must hand over more requests at once than
are served and wait here (``--blocking-threads``), or it lets the rest wait where nobody sees them.
"""

import logging
import threading
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from moderation.failures import Reason, unavailable

logger = logging.getLogger(__name__)

# Whoever has waited for so long is better told to come again.
WAIT_SECONDS = 5.0
REASON = Reason(
    code="overloaded",
    sentence="More is asked of this house just now than it can answer. Send it again in a moment.",
    retry_after_seconds=2,
)


class OverloadMiddleware:
    """Serves ``WEB_AT_ONCE`` requests at once in this process, and lets as many again wait."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self._change = threading.Condition()
        self._here = 0
        self._served = 0
        self._is_full = False

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not self._let_in():
            response = unavailable(request, REASON)
            # Django would write a line for each, which costs more than the answer.
            response._has_been_logged = True  # type: ignore[attr-defined]
            return response
        try:
            return self.get_response(request)
        finally:
            with self._change:
                self._here -= 1
                self._served -= 1
                self._change.notify()

    def _let_in(self) -> bool:
        """Take a place, waiting for it if need be; False if there is none to be had in time."""
        most = settings.WEB_AT_ONCE
        with self._change:
            if self._here < 2 * most:
                self._here += 1
                if self._change.wait_for(lambda: self._served < most, WAIT_SECONDS):
                    self._served += 1
                    self._is_full = self._is_full and self._here > most
                    return True
                self._here -= 1
            if not self._is_full:
                # Once, until nobody has to wait any more.
                logger.warning("More comes than can be served: some are told to come again.")
            self._is_full = True
            return False
