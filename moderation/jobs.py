"""Triage jobs: leased with a fencing token, sent again when nobody finished them.

Writes ``TriageJob`` alone. What a finished or dead job means for the version is for
``findings`` to say.
"""

import logging
import random
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from moderation.counters import counter_add
from moderation.dispatch import MOST_WAITING, STAGE_TASKS, room_for, wake_triage
from moderation.models import ModelVersion, Policy, TriageJob
from moderation.states import UNFINISHED_JOBS, JobState

logger = logging.getLogger(__name__)

# At most this many jobs are taken back at a sweep.
SWEEP_LIMIT = 200
# After so many times RESEND_SECONDS a message is sent again even if none seems to be missing: what
# waits in the queue may be other jobs' second messages.
SURELY_LOST = 20
# A job that has waited for longer than this says that the house is behind; then this share of the
# turns goes to the newest.
BEHIND = timedelta(seconds=20)
NEWEST_SHARE = 0.5
# Work that goes on for longer has hung; its lease is left to run out, and another worker tries.
LONGEST_LEASE = timedelta(hours=1)
LEASE_LOST = "A worker took this job and did not finish it in time."


# The leases that threads of this process hold now: what to give back when it must end.
_held_here: set["Lease"] = set()


@dataclass(frozen=True)
class Lease:
    """The right to finish a job, for as long as nobody else leases it."""

    job_id: int
    token: str


def jobs_create(*, version: ModelVersion, policy: Policy) -> list[TriageJob]:
    """Write the triage jobs of a version and wake a worker for each on commit.

    While too many messages are under way no more are sent; the sweeper sends them in turn.
    """
    now = timezone.now()
    jobs = []
    for stage in TriageJob.Stage.values:
        woken_at = _to_wake_at(stage, now)
        job = TriageJob.objects.create(
            version=version, policy=policy, stage=stage, not_before=now, woken_at=woken_at
        )
        if woken_at:
            wake_triage(stage=stage, job_id=job.pk)
        jobs.append(job)
    return jobs


def job_add(*, version: ModelVersion, policy: Policy, stage: str, scorer: str) -> TriageJob | None:
    """Write one more job for a version that was weighed before, and wake a worker on commit.

    While too many messages are under way none is sent, as in ``jobs_create``: a whole catalogue
    is weighed again at once. Returns None where a job of this stage is under way, and where the
    newest was for this policy and scorer. The version must be locked.
    """
    now = timezone.now()
    jobs = TriageJob.objects.filter(version=version, stage=stage)
    newest = jobs.order_by("-pk").first()
    if newest is not None and (newest.policy_id, newest.scorer) == (policy.pk, scorer):
        return None
    if jobs.filter(state__in=UNFINISHED_JOBS).exists():
        return None
    job = TriageJob.objects.create(
        version=version,
        policy=policy,
        stage=stage,
        scorer=scorer,
        not_before=now,
        woken_at=_to_wake_at(stage, now),
    )
    if job.woken_at:
        wake_triage(stage=job.stage, job_id=job.pk)
    return job


def job_lease(*, job_id: int) -> Lease | None:
    """Take a queued job that is due, or return None if somebody else has it or it is done."""
    now = timezone.now()
    token = secrets.token_hex(16)
    taken = TriageJob.objects.filter(pk=job_id, state=JobState.QUEUED, not_before__lte=now).update(
        state=JobState.RUNNING,
        token=token,
        attempts=F("attempts") + 1,
        leased_at=now,
        lease_until=now + timedelta(seconds=settings.LEASE_SECONDS),
    )
    return Lease(job_id, token) if taken else None


def job_lease_in_turn(*, job_id: int) -> Lease | None:
    """Take the job that a message names, or one that came later; None if there is none to take.

    While the named one has waited for long the house is behind, and every second turn goes to the
    newest that nobody has tried: a heap of hopeless jobs at the head of the queue then holds half
    of the workers and delays nothing fresh. Whoever is passed over is sent for again.
    """
    now = timezone.now()
    named = TriageJob.objects.filter(pk=job_id).values("stage", "not_before").first()
    if named is None:
        return None
    if now - named["not_before"] > BEHIND and random.random() < NEWEST_SHARE:  # noqa: S311
        untried = TriageJob.objects.filter(
            stage=named["stage"], state=JobState.QUEUED, attempts=0, not_before__lte=now
        )
        newest = untried.order_by("-not_before").values_list("pk", flat=True).first()
        lease = job_lease(job_id=newest) if newest is not None else None
        if lease is not None:
            return lease
    return job_lease(job_id=job_id)


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
                if timezone.now() > last:
                    return
                try:
                    if not lease_renew(lease):
                        return
                except DatabaseError as error:
                    # It may be back before the lease has run out.
                    logger.warning("The lease of job %s was not renewed: %s", lease.job_id, error)
                    connection.close()
        finally:
            connection.close()

    keeper = threading.Thread(target=renew, name=f"lease of job {lease.job_id}", daemon=True)
    keeper.start()
    _held_here.add(lease)
    try:
        yield
    finally:
        _held_here.discard(lease)
        done.set()
        keeper.join()


def leases_give_back() -> int:
    """Queue again what this process is at, without counting the attempt; return how many.

    For a worker that was told to end and cannot wait for its work.
    """
    return sum(lease_give_back(lease, pause=timedelta()) for lease in list(_held_here))


def lease_give_back(lease: Lease, *, pause: timedelta) -> bool:
    """Queue a job again without counting the attempt: nothing was wrong with the job itself.

    Returns False if the lease was lost.
    """
    return bool(
        _held(lease).update(
            state=JobState.QUEUED,
            attempts=F("attempts") - 1,
            token="",
            lease_until=None,
            woken_at=None,
            not_before=timezone.now() + pause,
        )
    )


def job_finish(
    lease: Lease, *, seconds: Mapping[str, float] | None = None, scorer: str = ""
) -> bool:
    """Mark a job done; False, and nothing changes, if the lease was lost.

    ``seconds`` is how long each probe took, ``scorer`` what really weighed the previews: a head
    may have been put in place while the job waited.
    """
    return bool(
        _held(lease).update(
            state=JobState.DONE,
            token="",
            lease_until=None,
            finished_at=timezone.now(),
            seconds=dict(seconds) if seconds else None,
            scorer=scorer,
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
    taken_back = sum(
        _give_back(job, error=LEASE_LOST, now=now, wait=False)
        for job in expired.order_by("lease_until")[:SWEEP_LIMIT]
    )
    counter_add(name="lease_expiries", number=taken_back)
    return taken_back


def jobs_resend() -> int:
    """Send a message for due jobs that none is under way for; return how many.

    Never so many that more than ``MOST_WAITING`` wait in a queue: a backlog stays in the table,
    where it is ordered, and not in the broker, where it is not. Jobs that have failed before come
    after those that have not, so that a heap of hopeless ones delays no fresh one.
    """
    now = timezone.now()
    sent = 0
    for stage in TriageJob.Stage.values:
        for job_id, woken_at in _to_wake(stage, now):
            same = TriageJob.objects.filter(pk=job_id, state=JobState.QUEUED, woken_at=woken_at)
            if same.update(woken_at=now):
                wake_triage(stage=stage, job_id=job_id)
                sent += 1
    return sent


def _to_wake(stage: str, now: datetime) -> list[tuple[int, datetime | None]]:
    """Return the jobs of a stage to send a message for, and when one was last sent.

    First those that had none. Then, where fewer messages wait than were sent, those that were
    silent for longest: theirs were lost. A message that still waits in a long queue is not sent
    again, or a slow worker would be buried under copies.
    """
    room = room_for(STAGE_TASKS[stage])
    queued = TriageJob.objects.filter(state=JobState.QUEUED, stage=stage, not_before__lte=now)
    never = queued.filter(woken_at__isnull=True).order_by("attempts", "not_before")
    chosen = list(never.values_list("pk", "woken_at")[:room])
    silence = timedelta(seconds=settings.RESEND_SECONDS)
    silent = queued.filter(woken_at__lt=now - silence).order_by("woken_at")
    missing = _under_way(stage, up_to=2 * MOST_WAITING) - (MOST_WAITING - room)
    lost = silent.values_list("pk", "woken_at")[: max(0, min(room - len(chosen), missing))]
    chosen += lost
    surely = silent.filter(woken_at__lt=now - SURELY_LOST * silence)
    known = {job_id for job_id, _ in chosen}
    rest = surely.exclude(pk__in=known).values_list("pk", "woken_at")
    return chosen + list(rest[: max(0, room - len(chosen))])


def _to_wake_at(stage: str, now: datetime) -> datetime | None:
    """Return when a new job's message is sent: now, or None where it waits for the sweeper."""
    return now if _under_way(stage) < MOST_WAITING else None


def _under_way(stage: str, up_to: int = MOST_WAITING) -> int:
    """Return how many queued jobs of a stage a message was sent for, counting no further."""
    sent_for = TriageJob.objects.filter(state=JobState.QUEUED, stage=stage, woken_at__isnull=False)
    return sent_for[:up_to].count()


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
