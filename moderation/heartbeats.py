"""Which processes are alive: each worker writes a row every few seconds. Writes ``Heartbeat``."""

from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from moderation.models import Heartbeat

BEAT_SECONDS = 10
# Three beats missed: a pause of the garbage collector is not a death.
ALIVE_FOR = timedelta(seconds=3 * BEAT_SECONDS)
FORGOTTEN_AFTER = timedelta(days=1)


def heart_beat(*, name: str, kind: str, queues: Sequence[str] = ()) -> None:
    """Note that a process is alive."""
    now = timezone.now()
    Heartbeat.objects.update_or_create(
        name=name,
        defaults={"kind": kind, "queues": list(queues), "seen_at": now},
        create_defaults={
            "kind": kind,
            "queues": list(queues),
            "seen_at": now,
            "started_at": now,
        },
    )


def heart_stop(*, name: str) -> None:
    """Forget a process that ended as it should."""
    Heartbeat.objects.filter(name=name).delete()


def heartbeats_forget() -> int:
    """Forget processes that have been silent for a day; return how many."""
    silent = Heartbeat.objects.filter(seen_at__lt=timezone.now() - FORGOTTEN_AFTER)
    return silent.delete()[0]
