"""The append-only record: writes events, seals each with the digest of the one before.

Reads and writes ``Event`` alone. Never changes or removes one: triggers refuse it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from moderation.models import Account, Case, Event, ModelVersion

GENESIS = "0" * 64
# Any fixed number: serialises the writers of the chain on PostgreSQL. SQLite has one writer.
_CHAIN_LOCK = 0x57454947
# Whoever holds that lock and says nothing for so long is frozen, and everybody else is waiting:
# PostgreSQL ends their transaction. Nothing but a few statements comes between lock and commit.
SILENCE = "10s"


def _digest(event: Event) -> str:
    sealed = [
        event.sequence,
        event.at.isoformat(timespec="microseconds"),
        event.action,
        event.actor_id,
        event.version_id,
        event.case_id,
        event.data,
        event.previous_digest,
    ]
    text = json.dumps(sealed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def event_record(
    *,
    action: str,
    actor: Account | None,
    version: ModelVersion | None = None,
    case: Case | None = None,
    data: Mapping[str, Any] | None = None,
) -> Event:
    """Append one event to the chain, within the transaction of the deed itself.

    ``actor`` is None where the machine acted. The event of a case is one of its version, too.
    Raises TransactionManagementError outside of a transaction: a deed and its record are written
    together or not at all.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("An event is recorded with its deed.")
    sequence, digest = _last()
    event = Event(
        sequence=sequence + 1,
        at=timezone.now(),
        action=action,
        actor=actor,
        # By its number: a case that was read alone need not have its version read for this.
        version_id=version.pk if version else case.version_id if case else None,
        case=case,
        data=dict(data or {}),
        previous_digest=digest,
    )
    event.digest = _digest(event)
    event.save(force_insert=True)
    return event


def _last() -> tuple[int, str]:
    """Return number and digest of the last event, which stays the last until this transaction ends.

    Lock and look are two statements, so that the look sees what the last holder of the lock wrote;
    with the limit for the holder they take one round trip.
    """
    lock = (
        f"SET LOCAL idle_in_transaction_session_timeout = '{SILENCE}'; "
        f"SELECT pg_advisory_xact_lock({_CHAIN_LOCK}); "
        if connection.vendor == "postgresql"
        else ""
    )
    table = connection.ops.quote_name(Event._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"{lock}SELECT sequence, digest FROM {table} "  # noqa: S608 - the names are our own
            "ORDER BY sequence DESC LIMIT 1"
        )
        for _ in range(lock.count(";")):
            cursor.nextset()
        row = cursor.fetchone()
    return row or (0, GENESIS)


@dataclass(frozen=True)
class Verification:
    """What a walk along the chain found."""

    events: int
    head: str
    bad_sequence: int | None = None
    reason: str = ""


def chain_verify(*, must_contain: str = "") -> Verification:
    """Walk the whole chain and return its head, or the first row that does not hold.

    ``must_contain`` is a digest noted earlier: if it is gone, the chain was cut at its end.
    """
    expected, previous, count = 1, GENESIS, 0
    missing = bool(must_contain)
    for event in Event.objects.order_by("sequence").iterator(2000):
        reason = ""
        if event.sequence != expected:
            reason = f"row {expected} is missing"
        elif event.previous_digest != previous:
            reason = "it does not follow from the row before it"
        elif event.digest != _digest(event):
            reason = "its content does not match its digest"
        if reason:
            return Verification(count, previous, expected, reason)
        expected, previous, count = expected + 1, event.digest, count + 1
        missing = missing and event.digest != must_contain
    if missing:
        return Verification(count, previous, expected, "the digest noted earlier is gone")
    return Verification(count, previous)
