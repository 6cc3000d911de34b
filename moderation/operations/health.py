"""Whether the house can take work in, and whether somebody is doing it."""

import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import DatabaseError, transaction
from django.utils import timezone

from moderation.heartbeats import ALIVE_FOR, heart_beat
from moderation.selectors.operations import last_worker_heartbeat, oldest_due_job
from moderation.stored import STORAGE_ERRORS, copies_forget

# A job that has waited for longer than this has no worker, or not enough of them.
LONGEST_WAIT = timedelta(minutes=5)
# Less than any orchestrator's period; more than whoever asks in a loop gets out of the storage.
ASKED_EVERY_SECONDS = 2

NOT_WELL: tuple[type[Exception], ...] = (DatabaseError, *STORAGE_ERRORS)


@dataclass(frozen=True)
class Answer:
    """What one check found, in words. Without what is ``needed``, nothing can be taken in."""

    name: str
    is_well: bool
    says: str
    needed: bool


def answers() -> list[Answer]:
    """Return what the database, the storage, the queue and the workers answered.

    Each process asks them once in ``ASKED_EVERY_SECONDS``, however often anybody asks it.
    """
    return cast(list[Answer], cache.get_or_set("readiness", _asked, ASKED_EVERY_SECONDS))


def _asked() -> list[Answer]:
    return [
        _ask("database", _database, needed=True),
        _ask("storage", _storage, needed=True),
        _ask("jobs", _jobs, needed=False),
        _ask("workers", _workers, needed=False),
    ]


def _ask(name: str, check: Callable[[], tuple[bool, str]], *, needed: bool) -> Answer:
    try:
        is_well, says = check()
    except NOT_WELL as error:
        # The kind alone: a message may name hosts and users.
        is_well, says = False, f"{type(error).__name__}"
    return Answer(name, is_well, says, needed)


def _database() -> tuple[bool, str]:
    with transaction.atomic():
        heart_beat(name=f"web@{socket.gethostname()}", kind="web")
    return True, "a row was written"


def _storage() -> tuple[bool, str]:
    # Of this machine alone, where nothing else may run that would.
    copies_forget()
    # A name of its own: two who ask at once must not delete each other's.
    name = default_storage.save(f"ready/{uuid.uuid4().hex}", ContentFile(b"ready"))
    try:
        with default_storage.open(name) as stored:
            is_well = stored.read() == b"ready"
    finally:
        default_storage.delete(name)
    return is_well, "a file was written and read" if is_well else "a file came back changed"


def _jobs() -> tuple[bool, str]:
    oldest = oldest_due_job()
    if oldest is None:
        return True, "none is due"
    waited = timezone.now() - oldest
    return waited <= LONGEST_WAIT, f"the oldest due job has waited {waited.total_seconds():.0f} s"


def _workers() -> tuple[bool, str]:
    seen = last_worker_heartbeat()
    if seen is None:
        return False, "no worker has been seen"
    silent = timezone.now() - seen
    return silent <= ALIVE_FOR, f"a worker was seen {silent.total_seconds():.0f} s ago"
