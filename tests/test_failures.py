"""While the database is away: a clean 503 everywhere; once it is back, work goes on."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.mail import EmailMultiAlternatives
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse

from moderation.findings import findings_record
from moderation.jobs import job_lease
from moderation.models import Account, Counter, ModelVersion, Notice, Policy
from moderation.outbox import notice_send
from moderation.states import Scope
from moderation.tasks import sweep
from moderation.tokens import token_create
from moderation.waiting import connection_is_lost, database_is_away, written_down
from tests import factories

Browser = Callable[[Account | None], Client]
pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def database_away() -> Iterator[None]:
    """Let every new connection be refused, as by a server that was stopped."""
    given = connection.settings_dict
    usual = {name: given[name] for name in ("NAME", "PORT")}
    connection.close()
    given |= {"NAME": "/nowhere/at.all"} if connection.vendor == "sqlite" else {"PORT": "1"}
    try:
        yield
    finally:
        connection.close()
        given |= usual


def _patient(client: Client) -> Client:
    """Let the test see the answer that the web server would give, instead of the exception."""
    client.raise_request_exception = False
    return client


@pytest.fixture
def version(policy: Policy, uma: Account, asleep: None) -> ModelVersion:
    return factories.published(uma)


PAGES = ["/", "/policy/", "/log-in/", "/studio/", "/console/", "/no-such-page/", "/admin/"]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_not_now_to_who_is_logged_in(page: str, as_: Browser, mo: Account) -> None:
    browser = _patient(as_(mo))
    with database_away():
        answer = browser.get(page)
    assert answer.status_code == 503
    assert int(answer["Retry-After"]) > 0
    assert "We will be back in a moment" in answer.content.decode()
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert browser.get(page).status_code != 503


def test_who_sends_a_form_is_told_to_send_it_again(
    version: ModelVersion, as_: Browser, rui: Account
) -> None:
    browser = _patient(as_(rui))
    address = reverse("report", args=[version.code])
    with database_away():
        answer = browser.post(address, {"text": "A red star.", "rule": "red-star"})
    assert answer.status_code == 503
    assert not version.reports.exists()
    assert browser.post(address, {"text": "A red star.", "rule": "red-star"}).status_code == 302
    assert version.reports.count() == 1


def test_the_api_says_not_now_as_a_problem_and_the_same_key_may_try_again(
    version: ModelVersion, rui: Account
) -> None:
    _, key = token_create(account=rui, name="test", scopes=list(Scope.values), actor=None)
    client = _patient(Client(headers={"Authorization": f"Bearer {key}"}))

    def post() -> Any:
        body = {"version": version.code, "text": "A red star."}
        return client.post(
            "/api/v1/reports", body, content_type="application/json", HTTP_IDEMPOTENCY_KEY="one"
        )

    with database_away():
        for answer in (post(), client.get("/api/v1/versions"), client.get("/api/v1/policy")):
            assert (answer.status_code, answer["Content-Type"]) == (503, "application/problem+json")
            assert answer.json()["status"] == 503
            assert answer["Retry-After"]
    assert post().status_code == 201
    assert version.reports.count() == 1


def test_a_fault_of_ours_is_still_called_one(
    client: Client, monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("moderation.selectors.public.policy_in_force", broken)
    answer = _patient(client).get("/policy/")
    assert answer.status_code == 500
    assert "Something broke on our side" in answer.content.decode()


def _hopeless(*_: object) -> None:
    """Ask what the database will never answer; for both, Django calls it an OperationalError."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET statement_timeout = 20")
            try:
                cursor.execute("SELECT pg_sleep(5)")
            finally:
                connection.close()
        else:
            cursor.execute("SELECT * FROM no_such_table")


def test_what_the_database_will_never_answer_is_a_fault_of_ours(
    client: Client, monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    monkeypatch.setattr("moderation.selectors.public.policy_in_force", _hopeless)
    assert _patient(client).get("/policy/").status_code == 500


def test_the_api_does_not_call_a_fault_of_ours_busy_either(
    version: ModelVersion, rui: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = token_create(account=rui, name="test", scopes=list(Scope.values), actor=None)
    client = _patient(Client(headers={"Authorization": f"Bearer {key}"}))
    monkeypatch.setattr("moderation.api.once.answer_once", lambda **_: _hopeless())
    body = {"version": version.code, "text": "A red star."}
    answer = client.post(
        "/api/v1/reports", body, content_type="application/json", HTTP_IDEMPOTENCY_KEY="one"
    )
    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "broken"


def test_what_can_never_be_written_is_not_tried_again() -> None:
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        _hopeless()

    with pytest.raises(OperationalError):
        written_down(write, seconds=60)
    assert len(tries) == 1


def _swept(monkeypatch: pytest.MonkeyPatch, step: Callable[[], None]) -> list[str]:
    """Return which steps a sweep did whose second fails."""
    done: list[str] = []

    def failing() -> None:
        done.append("failing")
        step()

    steps = (lambda: done.append("before"), failing, lambda: done.append("after"))
    monkeypatch.setattr("moderation.tasks.STEPS", steps)
    with pytest.raises(OperationalError):
        sweep()
    return done


def test_a_step_of_the_sweep_that_can_never_work_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _swept(monkeypatch, _hopeless) == ["before", "failing", "after"]


def test_without_a_database_the_sweep_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    def step() -> None:
        with database_away():
            Notice.objects.count()

    assert _swept(monkeypatch, step) == ["before", "failing"]


def _django(cause: Exception) -> OperationalError:
    """Return what Django makes of what a driver says."""
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("state", "away", "lost"),
    [
        ("08006", True, True),
        ("57P01", True, True),
        ("57P03", True, True),
        ("53300", True, False),
        ("40P01", True, False),
        ("40001", True, False),
        ("55P03", True, False),
        ("57014", False, False),
        ("28P01", False, False),
    ],
)
def test_postgresql_says_by_its_code_whether_it_is_away(state: str, away: bool, lost: bool) -> None:
    error = _django(psycopg.errors.lookup(state)("as the server says it"))
    assert (database_is_away(error), connection_is_lost(error)) == (away, lost)


def test_postgresql_that_says_nothing_is_away() -> None:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect("postgres://127.0.0.1:1/nowhere", connect_timeout=5)
    assert connection_is_lost(_django(refused.value))


def test_sqlite_is_away_where_it_is_locked_or_cannot_be_opened(tmp_path: Path) -> None:
    def said(statement: str) -> OperationalError:
        with (
            closing(sqlite3.connect(tmp_path / "db", timeout=0)) as asking,
            pytest.raises(sqlite3.Error) as error,
        ):
            asking.execute(statement)
        return _django(error.value)

    with closing(sqlite3.connect(tmp_path / "db")) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        locked = said("BEGIN IMMEDIATE")
    assert (database_is_away(locked), connection_is_lost(locked)) == (True, False)
    # The words of a message prove nothing: the name of a table may hold them.
    assert not database_is_away(said("SELECT * FROM locked_disk"))
    with pytest.raises(sqlite3.OperationalError) as unopened:
        sqlite3.connect(tmp_path / "nowhere" / "db")
    assert connection_is_lost(_django(unopened.value))


def test_a_letter_that_went_out_while_the_database_went_away_is_not_sent_twice(
    version: ModelVersion, mailoutbox: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    notice = Notice.objects.get(kind="published")
    away = database_away()
    send = EmailMultiAlternatives.send

    def sent_and_cut(message: EmailMultiAlternatives) -> int:
        number = send(message)
        away.__enter__()
        return number

    def back(_: float) -> None:
        away.__exit__(None, None, None)

    monkeypatch.setattr(EmailMultiAlternatives, "send", sent_and_cut)
    monkeypatch.setattr("moderation.waiting.time.sleep", back)
    assert notice_send(notice_id=notice.pk)
    notice.refresh_from_db()
    assert (notice.state, notice.attempts, len(mailoutbox)) == ("sent", 1, 1)


def test_what_is_not_back_in_time_is_given_up_and_said() -> None:
    with database_away(), pytest.raises(OperationalError):
        written_down(Notice.objects.count, seconds=0)


def test_an_answer_that_comes_too_late_is_counted(version: ModelVersion, uma: Account) -> None:
    job = factories.submitted(uma, title="Later").jobs.first()
    assert job is not None
    lease = job_lease(job_id=job.pk)
    assert lease is not None
    assert findings_record(lease=lease, findings=[factories.finding()])
    assert not findings_record(lease=lease, findings=[factories.finding()])
    assert Counter.objects.get(name="late_answers").value == 1
