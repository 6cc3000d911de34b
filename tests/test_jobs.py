"""Triage jobs: leased once, fenced, sent again, and dead after three attempts."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery.signals import before_task_publish
from django.utils import timezone

from moderation.dispatch import messages_waiting
from moderation.findings import attempt_failed, findings_record
from moderation.jobs import (
    Lease,
    job_lease,
    job_lease_in_turn,
    lease_kept,
    lease_renew,
    leases_give_back,
)
from moderation.models import Account, Case, Finding, ModelVersion, Policy, TriageJob
from moderation.rescreening import version_rescreen
from moderation.tasks import sweep
from tests import factories
from tests.processes import queues_empty

pytestmark = pytest.mark.usefixtures("policy")


@pytest.fixture
def version(uma: Account) -> ModelVersion:
    return factories.submitted(uma)


@pytest.fixture
def job(version: ModelVersion) -> TriageJob:
    return version.jobs.get(stage="previews")


@pytest.fixture
def sent(asleep: None) -> Iterator[list[tuple[str, int]]]:
    """Return the messages that were sent, as Celery itself announces them."""
    messages: list[tuple[str, int]] = []

    def note(sender: str, body: Any, **_: Any) -> None:
        messages.append((sender, body[0][0]))

    before_task_publish.connect(note)
    yield messages
    before_task_publish.disconnect(note)


def _lease(job: TriageJob) -> Lease:
    lease = job_lease(job_id=job.pk)
    assert lease is not None
    return lease


def _expire(job: TriageJob) -> None:
    TriageJob.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_a_job_is_leased_by_one_worker_only(job: TriageJob) -> None:
    assert job_lease(job_id=job.pk) is not None
    assert job_lease(job_id=job.pk) is None


def test_a_second_message_for_a_finished_job_does_nothing(job: TriageJob) -> None:
    lease = _lease(job)
    assert findings_record(lease=lease, findings=[factories.finding()])
    assert job_lease(job_id=job.pk) is None
    assert not findings_record(lease=lease, findings=[factories.finding()])
    assert Finding.objects.filter(job=job).count() == 1


@pytest.mark.usefixtures("asleep")
def test_finishing_with_an_old_token_changes_nothing(job: TriageJob) -> None:
    old = _lease(job)
    _expire(job)
    sweep()
    new = _lease(job)
    assert not findings_record(lease=old, findings=[factories.finding(0.99)])
    assert not lease_renew(old)
    attempt_failed(lease=old, error="late")
    job.refresh_from_db()
    assert (job.state, job.error) == (
        "running",
        "A worker took this job and did not finish it in time.",
    )
    assert not Finding.objects.filter(job=job).exists()
    assert findings_record(lease=new, findings=[factories.finding()])


@pytest.mark.usefixtures("asleep")
def test_after_three_attempts_a_job_is_dead_and_its_case_says_so(
    version: ModelVersion, job: TriageJob
) -> None:
    for _ in range(3):
        TriageJob.objects.filter(pk=job.pk).update(not_before=timezone.now())
        attempt_failed(lease=_lease(job), error="The disk is gone.")
    job.refresh_from_db()
    assert (job.state, job.attempts, job.error) == ("dead", 3, "The disk is gone.")
    assert not Case.objects.exists()
    findings_record(lease=_lease(version.jobs.get(stage="files")), findings=[factories.finding()])
    case = version.cases.get()
    assert case.is_incomplete
    version.refresh_from_db()
    assert version.visibility == "quarantined"


@pytest.mark.usefixtures("asleep")
def test_a_lease_that_ran_out_three_times_kills_the_job_and_a_person_sees_it(
    version: ModelVersion, job: TriageJob
) -> None:
    for _ in range(3):
        for row in version.jobs.all():
            _lease(row)
            _expire(row)
        sweep()
    assert set(version.jobs.values_list("state", flat=True)) == {"dead"}
    assert version.cases.get().is_incomplete


def test_the_sweeper_sends_again_what_was_never_started_but_not_at_every_sweep(
    version: ModelVersion,
    sent: list[tuple[str, int]],
    django_capture_on_commit_callbacks: Any,
) -> None:
    version.jobs.update(woken_at=timezone.now() - timedelta(minutes=5))
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    wanted = {(f"triage.{stage}", pk) for stage, pk in version.jobs.values_list("stage", "pk")}
    assert {message for message in sent if message[0].startswith("triage")} == wanted
    sent.clear()
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert _triage(sent) == []


@pytest.fixture
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two messages wait in each queue."""
    monkeypatch.setattr("moderation.jobs.MOST_WAITING", 2)
    monkeypatch.setattr("moderation.dispatch.MOST_WAITING", 2)


def _triage(sent: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [message for message in sent if message[0].startswith("triage")]


@pytest.mark.usefixtures("room_for_two")
def test_a_backlog_stays_in_the_table_and_not_in_the_broker(
    uma: Account, sent: list[tuple[str, int]], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(3):
            factories.submitted(uma)
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert len(_triage(sent)) == 4
    TriageJob.objects.filter(woken_at__isnull=False).update(state="dead")
    queues_empty()
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert len(_triage(sent)) == 6
    assert not TriageJob.objects.filter(state="queued", woken_at__isnull=True).exists()


@pytest.mark.usefixtures("room_for_two")
def test_a_catalogue_that_is_weighed_again_does_not_fill_the_broker_either(
    policy: Policy,
    uma: Account,
    sent: list[tuple[str, int]],
    django_capture_on_commit_callbacks: Any,
) -> None:
    versions = [factories.published(uma) for _ in range(4)]
    policy.is_active = False
    policy.save()
    later = Policy.objects.create(name=policy.name, version=policy.version + 1, is_active=True)
    sent.clear()
    with django_capture_on_commit_callbacks(execute=True):
        for version in versions:
            assert version_rescreen(version=version, policy=later, scorer="a", actor=None)
    assert len(_triage(sent)) == 2
    assert TriageJob.objects.filter(policy=later, woken_at__isnull=True).count() == 2
    TriageJob.objects.filter(woken_at__isnull=False).update(state="dead")
    queues_empty()
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert len(_triage(sent)) == 4


@pytest.mark.usefixtures("room_for_two")
def test_a_slow_worker_is_not_buried_under_copies_of_what_waits_for_it(
    uma: Account, sent: list[tuple[str, int]], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(2):
            factories.submitted(uma)
    assert len(_triage(sent)) == 4
    for _ in range(20):
        TriageJob.objects.update(woken_at=timezone.now() - timedelta(minutes=5))
        with django_capture_on_commit_callbacks(execute=True):
            sweep()
    assert len(_triage(sent)) == 4
    assert messages_waiting("triage.files") == 2
    queues_empty()
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert len(_triage(sent)) == 8


@pytest.mark.usefixtures("room_for_two")
def test_what_has_failed_before_delays_nothing_fresh(
    uma: Account, sent: list[tuple[str, int]], django_capture_on_commit_callbacks: Any
) -> None:
    hopeless = [factories.submitted(uma) for _ in range(5)]
    long_ago = timezone.now() - timedelta(hours=1)
    TriageJob.objects.update(attempts=1, not_before=long_ago, woken_at=None)
    fresh = [factories.submitted(uma) for _ in range(2)]
    TriageJob.objects.filter(version__in=fresh).update(woken_at=None)
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    woken = {pk for _, pk in _triage(sent)}
    assert woken == set(TriageJob.objects.filter(version__in=fresh).values_list("pk", flat=True))
    assert len(hopeless) == 5


@pytest.mark.usefixtures("asleep")
def test_while_the_house_is_behind_a_part_of_the_turns_goes_to_the_newest(
    uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, middle, newest = (
        factories.submitted(uma, title=f"Upload {number}").jobs.get(stage="files")
        for number in range(3)
    )

    def taken(named: TriageJob) -> int | None:
        lease = job_lease_in_turn(job_id=named.pk)
        return lease.job_id if lease else None

    monkeypatch.setattr("moderation.jobs.NEWEST_SHARE", 1.0)
    assert taken(middle) == middle.pk, "nobody waits for long: the one that was named"
    TriageJob.objects.filter(pk=old.pk).update(not_before=timezone.now() - timedelta(hours=1))
    assert taken(old) == newest.pk
    assert taken(old) == old.pk, "no other is left"
    assert taken(old) is None
    TriageJob.objects.filter(pk=newest.pk).update(
        state="queued", token="", lease_until=None, attempts=1
    )
    TriageJob.objects.filter(pk=old.pk).update(state="queued", token="", lease_until=None)
    assert taken(old) == old.pk, "what has failed before is not fresh"


@pytest.mark.usefixtures("asleep")
def test_a_worker_that_must_end_gives_its_work_back_without_counting_the_attempt(
    job: TriageJob,
) -> None:
    lease = _lease(job)
    with lease_kept(lease):
        assert leases_give_back() == 1
        assert not findings_record(lease=lease, findings=[factories.finding(0.99)])
    job.refresh_from_db()
    assert (job.state, job.attempts, job.token) == ("queued", 0, "")
    assert leases_give_back() == 0


def test_a_failed_attempt_waits_before_the_next(job: TriageJob) -> None:
    attempt_failed(lease=_lease(job), error="busy")
    assert job_lease(job_id=job.pk) is None
    TriageJob.objects.filter(pk=job.pk).update(not_before=timezone.now())
    assert job_lease(job_id=job.pk) is not None


def test_a_failed_finding_is_never_a_pass(uma: Account) -> None:
    version = factories.triaged(uma, [factories.finding(None)])
    assert version.visibility == "quarantined"
    assert version.cases.get().is_incomplete


def test_a_job_that_answers_nothing_is_never_a_pass(version: ModelVersion) -> None:
    for row in version.jobs.all():
        assert findings_record(lease=_lease(row), findings=[])
    version.refresh_from_db()
    assert version.visibility == "quarantined"
    assert version.cases.exists()


@pytest.mark.parametrize(
    ("score", "visibility", "cases"),
    [
        (0.0, "published", 0),
        (0.49, "published", 0),
        (0.5, "quarantined", 1),
        (0.85, "quarantined", 1),
    ],
)
def test_thresholds_decide_who_looks(
    score: float, visibility: str, cases: int, uma: Account
) -> None:
    version = factories.triaged(uma, [factories.finding(score)])
    assert version.visibility == visibility
    assert version.cases.count() == cases
