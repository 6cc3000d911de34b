"""Ten thousand hopeless jobs at the head of the queue, and how long fresh ones wait.

The hopeless ones have had no attempt yet, so nothing tells them from fresh ones but that they came
first: the worst that can stand there. Real workers fail at them all the while.
"""

import os
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db.models import Count
from django.utils import timezone

from moderation.models import (
    Account,
    ModelFile,
    ModelVersion,
    Policy,
    PreviewImage,
    TriageJob,
    UploadedModel,
)
from moderation.states import JobState, Visibility
from tests import factories
from tests.faults.house import House
from tests.faults.running import fill

FRESH_EVERY_SECONDS = 0.6
MOST_SECONDS = 60.0
Say = Callable[[str], None]


def measure(house: House, *, jobs: int, fresh: int, say: Say) -> dict[str, Any]:
    """Return how long fresh jobs waited for their start behind ``jobs`` hopeless ones."""
    fill()
    creator, other = factories.account("hopeless"), factories.account("fresh")
    versions = _hopeless(creator, jobs // len(TriageJob.Stage.values))
    hopeless = TriageJob.objects.filter(version__in=versions)
    say(f"{hopeless.count():,} hopeless jobs stand in the table; workers and clock are starting")
    for place in house.places:
        house.start_worker(place)
    house.start_clock()
    _wait_for_failures(hopeless, say)
    waits = _submit_and_watch(other, fresh, say)
    states = dict(hopeless.values_list("state").annotate(number=Count("pk")))
    failed = sum(hopeless.values_list("attempts", flat=True))
    p95 = statistics.quantiles(waits, n=100)[94]
    found = {
        "kept": p95 < MOST_SECONDS and states.get(JobState.QUEUED, 0) > 0,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "hopeless_jobs": jobs,
        "hopeless_attempts_meanwhile": failed,
        "hopeless_jobs_by_state": states,
        "fresh_jobs": len(waits),
        "start_seconds_median": round(statistics.median(waits), 2),
        "start_seconds_p95": round(p95, 2),
        "start_seconds_max": round(max(waits), 2),
    }
    for name, value in found.items():
        say(f"{name}: {value}")
    if not states.get(JobState.QUEUED):
        say("the hopeless ones were all done before the end: take more of them (--jobs)")
    return found


def _hopeless(creator: Account, number: int) -> list[int]:
    """Write versions whose files are not in the storage, submitted hours ago."""
    policy = Policy.objects.get(is_active=True)
    long_ago = timezone.now() - timedelta(hours=3)
    models = UploadedModel.objects.bulk_create(
        UploadedModel(creator=creator, title=f"Hopeless {n:05}") for n in range(number)
    )
    versions = ModelVersion.objects.bulk_create(
        ModelVersion(uploaded_model=model, visibility=Visibility.QUARANTINED, submitted_at=long_ago)
        for model in models
    )
    ModelFile.objects.bulk_create(
        ModelFile(
            version=version,
            name="gone.safetensors",
            content=f"quarantine/gone-{version.code}",
            size=8,
            sha256="0" * 64,
            format="safetensors",
        )
        for version in versions
    )
    PreviewImage.objects.bulk_create(
        PreviewImage(
            version=version,
            name="gone.png",
            original=f"quarantine/gone-{version.code}.png",
            shown=f"quarantine/gone-{version.code}.jpg",
            sha256="0" * 64,
            width=8,
            height=8,
        )
        for version in versions
    )
    TriageJob.objects.bulk_create(
        TriageJob(version=version, policy=policy, stage=stage, not_before=long_ago)
        for version in versions
        for stage in TriageJob.Stage.values
    )
    return [version.pk for version in versions]


def _wait_for_failures(hopeless: Any, say: Say) -> None:
    """Wait until workers are failing at the hopeless ones."""
    while not hopeless.filter(attempts__gt=0).exists():
        time.sleep(0.2)
    say("workers fail at them; fresh uploads come now")


def _submit_and_watch(creator: Account, number: int, say: Say) -> list[float]:
    """Submit fresh versions one by one; return how long each of their jobs waited for a worker."""
    submitted: dict[int, float] = {}
    waits: dict[int, float] = {}
    began = told = time.monotonic()
    made = 0
    while len(waits) < number * len(TriageJob.Stage.values):
        if made < number and time.monotonic() >= began + made * FRESH_EVERY_SECONDS:
            version = factories.submitted(creator, title=f"Fresh {made:03}")
            now = time.monotonic()
            submitted |= dict.fromkeys(version.jobs.values_list("pk", flat=True), now)
            made += 1
        for pk in TriageJob.objects.filter(
            pk__in=set(submitted) - set(waits), attempts__gt=0
        ).values_list("pk", flat=True):
            waits[pk] = time.monotonic() - submitted[pk]
        if time.monotonic() - told > 15:
            told = time.monotonic()
            say(f"{made} fresh versions submitted, {len(waits)} of their jobs begun")
        if time.monotonic() - began > number * FRESH_EVERY_SECONDS + 5 * MOST_SECONDS:
            # What has not begun by now counts with the time it has waited so far.
            waits |= {pk: time.monotonic() - at for pk, at in submitted.items() if pk not in waits}
            break
        time.sleep(0.1)
    return list(waits.values())
