"""While the database is away: a clean 503 everywhere; once it is back, work goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
from moderation.tokens import token_create
from moderation.waiting import written_down
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
