"""What uploads are compared with, loaded from the domain and kept in memory while it is fresh."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.selectors.workers import (
    entries_stamp,
    known_entries,
    known_models,
    known_stamp,
)
from triage.known import (
    BankEntry,
    BankMatch,
    EntryKind,
    Known,
    KnownCollection,
    KnownModel,
    Neighbour,
)
from triage.weights.sketches import Sketch

# Loading that takes longer than this may take at most a twentieth of the time. A large house is
# then a little behind, by about a minute for 200,000 sketches; any other never is.
_SLOW_SECONDS = 1.0
_SHARE = 20


class KnownIndex:
    """The known models and bank entries of this process."""

    def __init__(self) -> None:
        self._models = _Kept(known_stamp, _models)
        self._entries = _Kept(entries_stamp, _entries)

    def current(self) -> Known:
        """Return what is known, loading it anew if it has changed."""
        return _Both(self._models.current(), self._entries.current())

    def banked(self) -> Known:
        """Return the entries of the banks alone: previews are compared with nothing else."""
        return self._entries.current()


class _Kept:
    """A collection, loaded anew whenever its stamp has changed."""

    def __init__(self, stamp: Callable[[], object], load: Callable[[], Known]) -> None:
        self._lock = threading.Lock()
        self._stamp, self._load = stamp, load
        self._seen: object = None
        self._known: Known = KnownCollection()
        self._not_before = 0.0

    def current(self) -> Known:
        with self._lock:
            started = time.monotonic()
            if started < self._not_before:
                return self._known
            stamp = self._stamp()
            if stamp != self._seen:
                self._known = self._load()
                self._seen = stamp
                took = time.monotonic() - started
                self._not_before = started + took * _SHARE if took > _SLOW_SECONDS else 0.0
            return self._known


def _models() -> Known:
    return KnownCollection(
        [
            KnownModel(**row | {"path": Path(row["path"]) if row["path"] else None})
            for row in known_models()
        ]
    )


def _entries() -> Known:
    return KnownCollection(entries=[BankEntry(**row) for row in known_entries()])  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Both:
    """Known models of one collection and bank entries of another."""

    models: Known
    entries: Known

    def model_count(self) -> int:
        return self.models.model_count()

    def nearest(self, sketch: Sketch, limit: int) -> Sequence[Neighbour]:
        return self.models.nearest(sketch, limit)

    def entry_count(self, kind: EntryKind) -> int:
        return self.entries.entry_count(kind)

    def match(self, kind: EntryKind, value: str) -> Sequence[BankMatch]:
        return self.entries.match(kind, value)
