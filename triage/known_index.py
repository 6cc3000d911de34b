"""What uploads are compared with, loaded from the domain and kept in memory while it is fresh."""

import threading
import time
from pathlib import Path

from moderation.selectors.workers import KnownStamp, known_entries, known_models, known_stamp
from triage.known import BankEntry, Known, KnownCollection, KnownModel

# Loading that takes longer than this may take at most a twentieth of the time. A large house is
# then a little behind, by about a minute for 200,000 sketches; any other never is.
_SLOW_SECONDS = 1.0
_SHARE = 20


class KnownIndex:
    """The known models and bank entries of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamp: KnownStamp | None = None
        self._known: Known = KnownCollection()
        self._not_before = 0.0

    def current(self) -> Known:
        """Return what is known, loading it anew if it has changed."""
        with self._lock:
            started = time.monotonic()
            if started < self._not_before:
                return self._known
            stamp = known_stamp()
            if stamp != self._stamp:
                self._known = KnownCollection(
                    [
                        KnownModel(**row | {"path": Path(row["path"]) if row["path"] else None})
                        for row in known_models()
                    ],
                    [BankEntry(**row) for row in known_entries()],  # type: ignore[arg-type]
                )
                self._stamp = stamp
                took = time.monotonic() - started
                self._not_before = started + took * _SHARE if took > _SLOW_SECONDS else 0.0
            return self._known
