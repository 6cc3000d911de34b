"""What this house has measured about itself: how much comes, and how long work takes."""

from datetime import datetime, timedelta

from django.db.models import F, Max
from django.utils import timezone

from moderation.models import Case, ModelVersion, TriageJob
from moderation.selectors.team import handling_times
from moderation.states import JobState

WINDOW = timedelta(days=30)
# Of so many of the newest jobs the times are drawn. More would not sharpen a simulation.
TIMED = 5_000
DAY = timedelta(days=1)


def last_day() -> datetime | None:
    """Return the beginning of the 24 hours that end with the newest upload; None without any."""
    newest: datetime | None = ModelVersion.objects.aggregate(newest=Max("submitted_at"))["newest"]
    return newest - DAY if newest else None


def arrivals(*, since: datetime) -> list[float]:
    """Return when uploads were submitted in the 24 hours from ``since``, in seconds from it."""
    submitted = ModelVersion.objects.filter(submitted_at__gt=since, submitted_at__lte=since + DAY)
    moments = submitted.order_by("submitted_at").values_list("submitted_at", flat=True)
    return [(moment - since).total_seconds() for moment in moments if moment]


def service_times(*, stage: str) -> list[float]:
    """Return how many seconds the newest finished jobs of a stage took, from lease to findings."""
    done = TriageJob.objects.filter(
        stage=stage, state=JobState.DONE, finished_at__isnull=False, leased_at__lte=F("finished_at")
    ).order_by("-finished_at")
    rows = done.values_list("leased_at", "finished_at")[:TIMED]
    return [(ended - began).total_seconds() for began, ended in rows if began and ended]


def waits(*, since: datetime) -> list[float]:
    """Return how many seconds the jobs created in the 24 hours from ``since`` waited to begin.

    Those that were tried once: a second attempt is a story of its own.
    """
    jobs = TriageJob.objects.filter(
        created_at__gt=since, created_at__lte=since + DAY, attempts=1, leased_at__isnull=False
    )
    rows = jobs.values_list("created_at", "leased_at")
    return [(began - came).total_seconds() for came, began in rows if began]


def review_share() -> float | None:
    """Return how many cases were opened for each upload of the last 30 days; None without any."""
    since = timezone.now() - WINDOW
    uploads = ModelVersion.objects.filter(submitted_at__gte=since).count()
    cases = Case.objects.filter(opened_at__gte=since).count()
    return min(cases / uploads, 1.0) if uploads else None


def decision_times() -> list[float]:
    """Return how many seconds people had the cases that they decided in the last 30 days."""
    return [seconds for _, seconds in handling_times(since=timezone.now() - WINDOW)]
