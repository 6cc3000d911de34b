"""Who waits for whom: the version first, the record last, so that nobody waits in a circle."""

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from moderation import audit, likeness, reports
from moderation.audit import chain_verify, event_record
from moderation.findings import findings_record
from moderation.jobs import Lease, job_lease
from moderation.likeness import likeness_confirm, likeness_sweep
from moderation.models import (
    Account,
    Event,
    LikenessRequest,
    ModelVersion,
    Report,
    TriageJob,
)
from moderation.report_changes import likeness_edit, likeness_withdraw
from moderation.reports import report_file
from tests import factories

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("policy", "asleep"),
    pytest.mark.skipif(
        "postgres" not in os.environ.get("DATABASE_URL", ""),
        reason="SQLite has one writer at a time, so nobody holds a lock: set DATABASE_URL.",
    ),
]
# Long enough for the other to come as far as its lock, whatever the machine is doing.
HELD_SECONDS = 1.5


def _request(*versions: ModelVersion) -> LikenessRequest:
    request = LikenessRequest.objects.create(
        email="d@example.org",
        signature="D",
        text="This is me.",
        is_intimate=True,
        language="en",
        filed_at=timezone.now(),
    )
    request.versions.set(versions)
    return request


def _last_job(version: ModelVersion) -> Lease:
    """Hand in all jobs of a version but one, and return the lease of that one."""
    *others, last = [
        job_lease(job_id=job.pk) for job in TriageJob.objects.filter(version=version).order_by("pk")
    ]
    for lease in others:
        assert lease is not None
        findings_record(lease=lease, findings=[factories.finding()])
    assert last is not None
    return last


def _at_once(*deeds: Callable[[], object]) -> list[str]:
    """Do all deeds in threads of their own; return how they failed."""
    failures: list[str] = []

    def work(deed: Callable[[], object]) -> None:
        try:
            deed()
        except BaseException as error:
            failures.append(repr(error))
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return failures


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], threading.Event]:
    """Let a function stand still in the middle of a transaction; its event says when it does."""

    def paused(module: Any, name: str) -> threading.Event:
        reached, real = threading.Event(), getattr(module, name)

        def slow(*given: Any, **named: Any) -> Any:
            reached.set()
            threading.Event().wait(HELD_SECONDS)
            return real(*given, **named)

        monkeypatch.setattr(module, name, slow)
        return reached

    return paused


def _after(reached: threading.Event, deed: Callable[[], object]) -> Callable[[], object]:
    def work() -> object:
        assert reached.wait(30)
        return deed()

    return work


def test_a_request_is_confirmed_while_the_model_is_reported(
    uma: Account, rui: Account, nobody: Account, pause: Any
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="A red star.", actor=rui)
    request = _request(version)
    reached = pause(reports, "notice_issue")
    failures = _at_once(
        lambda: report_file(version=version, text="Another one.", actor=nobody),
        _after(reached, lambda: likeness_confirm(request=request)),
    )
    assert failures == []
    assert Report.objects.filter(version=version).count() == 3


@pytest.mark.parametrize(
    "deed",
    [
        lambda request: likeness_edit(request=request, text="It is me indeed."),
        lambda request: likeness_withdraw(request=request),
        lambda request: likeness_sweep(request_id=request.pk),
    ],
    ids=["edit", "withdraw", "sweep"],
)
def test_a_request_changes_while_a_copy_of_what_it_names_is_settled(
    uma: Account, rui: Account, pause: Any, deed: Callable[[LikenessRequest], object]
) -> None:
    request = _request(factories.published(uma))
    likeness_confirm(request=request)
    copy = factories.submitted(rui)
    lease = _last_job(copy)
    reached = pause(likeness, "copies_of")
    failures = _at_once(
        lambda: findings_record(lease=lease, findings=[factories.finding()]),
        _after(reached, lambda: deed(request)),
    )
    assert failures == []
    copy.refresh_from_db()
    assert copy.triaged_at is not None


def test_nobody_else_waits_for_the_record_while_copies_are_looked_for(
    uma: Account, rui: Account, pause: Any
) -> None:
    likeness_confirm(request=_request(factories.published(uma)))
    lease = _last_job(factories.submitted(rui))
    reached = pause(likeness, "copies_of")

    def unrelated() -> None:
        # It gives up at once instead of waiting for who looks.
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '300ms'")
            event_record(action="account.created", actor=None)

    failures = _at_once(
        lambda: findings_record(lease=lease, findings=[factories.finding()]),
        _after(reached, unrelated),
    )
    assert failures == []
    last = Event.objects.order_by("-sequence").values_list("action", flat=True)[0]
    assert last == "triage.answered"


def test_who_falls_silent_with_the_lock_of_the_record_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit, "SILENCE", "300ms")
    has_lock, others_are_done = threading.Event(), threading.Event()

    def frozen() -> None:
        try:
            with pytest.raises(DatabaseError), transaction.atomic():
                event_record(action="account.created", actor=None)
                has_lock.set()
                # Not a word to PostgreSQL, until somebody else has got the lock in its place.
                assert others_are_done.wait(60)
                Event.objects.count()
        finally:
            connection.close()

    thread = threading.Thread(target=frozen)
    thread.start()
    try:
        assert has_lock.wait(60)
        with transaction.atomic():
            event_record(action="account.closed", actor=None)
    finally:
        others_are_done.set()
        thread.join()
    recorded = Event.objects.values_list("action", flat=True)
    assert "account.closed" in recorded
    assert "account.created" not in recorded
    assert not chain_verify().reason
