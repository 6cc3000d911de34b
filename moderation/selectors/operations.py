"""What operators' machines read: ages, depths and rates. No query reads a whole table."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, Q, Sum
from django.utils import timezone

from moderation.models import (
    Appeal,
    Case,
    Counter,
    Decision,
    Effect,
    FileReference,
    Finding,
    Heartbeat,
    Notice,
    TriageJob,
    WebhookDelivery,
)
from moderation.states import (
    OPEN_CASES,
    UNFINISHED_JOBS,
    WAITING_CASES,
    DeliveryState,
    EffectState,
    JobState,
    NoticeState,
    Outcome,
)

WINDOW = timedelta(hours=1)
# From how many of the last finished jobs the times of probes are drawn.
RECENT_JOBS = 500


def oldest_due_job() -> datetime | None:
    """Return since when the oldest job waits, of those that could be done now."""
    due = TriageJob.objects.filter(state=JobState.QUEUED, not_before__lte=timezone.now())
    oldest: datetime | None = due.aggregate(oldest=Min("not_before"))["oldest"]
    return oldest


def last_worker_heartbeat() -> datetime | None:
    """Return when a worker last said that it was alive."""
    workers = Heartbeat.objects.filter(kind="worker")
    seen: datetime | None = workers.aggregate(seen=Max("seen_at"))["seen"]
    return seen


def heartbeats() -> Iterable[tuple[str, str, datetime]]:
    """Return the name, the kind and the last sign of life of every process."""
    return Heartbeat.objects.values_list("name", "kind", "seen_at")


def open_jobs() -> Iterable[Mapping[str, Any]]:
    """Return stage, state, number, attempts and the oldest due time of unfinished jobs."""
    return (
        TriageJob.objects.filter(state__in=UNFINISHED_JOBS)
        .values("stage", "state")
        .annotate(number=Count("pk"), tried=Sum("attempts"), oldest=Min("not_before"))
        .order_by("stage", "state")
    )


def finished_jobs() -> Iterable[Mapping[str, Any]]:
    """Return stage, state, number and attempts of the jobs that ended in the last hour."""
    return (
        TriageJob.objects.filter(finished_at__gte=timezone.now() - WINDOW)
        .values("stage", "state")
        .annotate(number=Count("pk"), tried=Sum("attempts"))
        .order_by("stage", "state")
    )


def probe_times() -> dict[str, list[float]]:
    """Return, for each probe, how many seconds it took in each of the last finished jobs."""
    times: dict[str, list[float]] = {}
    recent = TriageJob.objects.filter(finished_at__isnull=False, seconds__isnull=False)
    for seconds in recent.order_by("-finished_at").values_list("seconds", flat=True)[:RECENT_JOBS]:
        for probe, spent in (seconds or {}).items():
            times.setdefault(probe, []).append(spent)
    return times


def probe_failures() -> dict[str, int]:
    """Return, for each probe, how many findings of the last finished jobs failed."""
    recent = TriageJob.objects.filter(finished_at__isnull=False).order_by("-finished_at")
    failed = Finding.objects.filter(
        job__in=list(recent.values_list("pk", flat=True)[:RECENT_JOBS]), outcome=Outcome.FAILED
    )
    rows = failed.values_list("probe").annotate(Count("pk")).order_by("probe")
    return dict(rows)


def waiting_cases() -> Iterable[Mapping[str, Any]]:
    """Return source, number, oldest and breached deadlines of the cases that wait for a person."""
    now = timezone.now()
    return (
        Case.objects.filter(state__in=sorted(WAITING_CASES | OPEN_CASES))
        .values("source")
        .annotate(
            number=Count("pk"),
            oldest=Min("opened_at"),
            breached=Count("pk", filter=Q(due_at__lt=now)),
        )
        .order_by("source")
    )


def recent_decisions() -> dict[str, int]:
    """Return how many decisions of each action were made in the last hour."""
    since = timezone.now() - WINDOW
    made = Decision.objects.filter(decided_at__gte=since)
    return dict(made.values_list("action").annotate(Count("pk")).order_by("action"))


def recent_appeals() -> dict[str, int]:
    """Return how many appeals were filed, and how many answered how, in the last hour."""
    since = timezone.now() - WINDOW
    answered = Appeal.objects.filter(answered_at__gte=since)
    counts = dict(answered.values_list("state").annotate(Count("pk")).order_by("state"))
    return {"filed": Appeal.objects.filter(filed_at__gte=since).count(), **counts}


def undelivered_notices() -> dict[str, int]:
    """Return how many e-mails wait to be sent, and how many could not be sent."""
    waiting = Notice.objects.filter(state__in=[NoticeState.QUEUED, NoticeState.DEAD])
    return dict(waiting.values_list("state").annotate(Count("pk")).order_by("state"))


def oldest_due_deliveries() -> dict[str, datetime | None]:
    """Return since when the oldest row of each outbox is due; None where nothing is."""
    now = timezone.now()
    queued = Q(state=DeliveryState.QUEUED, not_before__lte=now)
    deliveries = WebhookDelivery.objects.filter(
        queued, webhook__is_active=True, webhook__account__is_active=True
    )
    notices = Notice.objects.filter(state=NoticeState.QUEUED, not_before__lte=now)
    effects = Effect.objects.filter(state=EffectState.DUE, due_at__lte=now)
    return {
        "webhooks": deliveries.aggregate(since=Min("not_before"))["since"],
        "references": FileReference.objects.filter(queued).aggregate(since=Min("not_before"))[
            "since"
        ],
        "notices": notices.aggregate(since=Min("not_before"))["since"],
        "decisions": effects.aggregate(since=Min("due_at"))["since"],
    }


def counters() -> dict[str, int]:
    """Return every counter that only grows."""
    return dict(Counter.objects.values_list("name", "value"))
