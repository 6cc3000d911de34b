"""Triage jobs: leased with a fencing token, sent again when nobody finished them.

Writes ``TriageJob`` alone. What a finished or dead job means for the version is for
``findings`` to say.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from moderation.dispatch import wake_triage
from moderation.models import ModelVersion, Policy, TriageJob
from moderation.states import JobState

# At most this many messages a sweep, oldest first: a backlog must not flood the broker.
SWEEP_LIMIT = 200
# Work that goes on for longer has hung; its lease is left to run out, and another worker tries.
LONGEST_LEASE = timedelta(hours=1)
LEASE_LOST = "A worker took this job and did not finish it in time."


@dataclass(frozen=True)
class Lease:
    """The right to finish a job, for as long as nobody else leases it."""

    job_id: int
    token: str


def jobs_create(*, version: ModelVersion, policy: Policy) -> list[TriageJob]:
    """Write the triage jobs of a version and wake a worker for each on commit."""
    now = timezone.now()
    jobs = [
        TriageJob.objects.create(
            version=version, policy=policy, stage=stage, not_before=now, woken_at=now
        )
        for stage in TriageJob.Stage.values
    ]
    for job in jobs:
        wake_triage(stage=job.stage, job_id=job.pk)
    return jobs


def job_lease(*, job_id: int) -> Lease | None:
    """Take a queued job that is due, or return None if somebody else has it or it is done."""
    now = timezone.now()
    token = secrets.token_hex(16)
    taken = TriageJob.objects.filter(pk=job_id, state=JobState.QUEUED, not_before__lte=now).update(
        state=JobState.RUNNING,
        token=token,
        attempts=F("attempts") + 1,
        lease_until=now + timedelta(seconds=settings.LEASE_SECONDS),
    )
    return Lease(job_id, token) if taken else None


def lease_renew(lease: Lease) -> bool:
    """Extend a lease; False if it was lost."""
    until = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    return bool(_held(lease).update(lease_until=until))


@contextmanager
def lease_kept(lease: Lease) -> Iterator[None]:
    """Renew a lease in the background, four times in its length, while the work goes on."""
    done = threading.Event()
    last = timezone.now() + LONGEST_LEASE

    def renew() -> None:
        try:
            while not done.wait(settings.LEASE_SECONDS / 4):
                if timezone.now() > last or not lease_renew(lease):
                    return
        finally:
            connection.close()

    keeper = threading.Thread(target=renew, name=f"lease of job {lease.job_id}", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def job_finish(lease: Lease) -> bool:
    """Mark a job done; False, and nothing changes, if the lease was lost."""
    return bool(
        _held(lease).update(
            state=JobState.DONE, token="", lease_until=None, finished_at=timezone.now()
        )
    )


def job_fail(lease: Lease, *, error: str) -> bool:
    """Give a job back after a failed attempt, or declare it dead after the last one.

    Waits 5, then 10 seconds before the next attempt. Returns False if the lease was lost.
    """
    now = timezone.now()
    with transaction.atomic():
        job = _held(lease).first()
        if job is None:
            return False
        return _give_back(job, error=error, now=now)


def jobs_expire() -> int:
    """Take back the jobs whose lease ran out; return how many."""
    now = timezone.now()
    expired = TriageJob.objects.filter(state=JobState.RUNNING, lease_until__lt=now)
    return sum(
        _give_back(job, error=LEASE_LOST, now=now, wait=False)
        for job in expired.order_by("lease_until")[:SWEEP_LIMIT]
    )


def jobs_resend() -> int:
    """Send a message for every due job that none is under way for; return how many."""
    now = timezone.now()
    due = TriageJob.objects.filter(
        Q(woken_at__isnull=True) | Q(woken_at__lt=now - timedelta(seconds=settings.RESEND_SECONDS)),
        state=JobState.QUEUED,
        not_before__lte=now,
    )
    sent = 0
    for job in due.order_by("not_before")[:SWEEP_LIMIT]:
        claimed = due.filter(pk=job.pk).update(woken_at=now)
        if claimed:
            wake_triage(stage=job.stage, job_id=job.pk)
            sent += 1
    return sent


def _held(lease: Lease) -> QuerySet[TriageJob]:
    return TriageJob.objects.filter(pk=lease.job_id, token=lease.token, state=JobState.RUNNING)


def _give_back(job: TriageJob, *, error: str, now: datetime, wait: bool = True) -> bool:
    """Queue a running job again, or let it die; compare-and-set on its token."""
    last = job.attempts >= settings.JOB_ATTEMPTS
    after = JobState.DEAD if last else JobState.QUEUED
    pause = timedelta(seconds=5 * 2 ** (job.attempts - 1)) if wait else timedelta()
    changed = _held(Lease(job.pk, job.token)).update(
        state=after,
        token="",
        lease_until=None,
        woken_at=None,
        error=error[:2000],
        not_before=now + pause,
        finished_at=now if last else None,
    )
    return bool(changed)
