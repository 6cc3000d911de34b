"""Appeals: in time, once, answered by another person, and undone when they are won."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import appeals
from moderation.decisions import decision_confirm, decision_make
from moderation.models import Account, Appeal, Case, Decision, Notice
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import Action, Role
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


@pytest.fixture
def decision(uma: Account, mo: Account) -> Decision:
    return factories.decided(uma, mo)


def _appeal(client: Client, decision: Decision, text: str = "It is orange, not red.") -> Any:
    return client.post(reverse("creator:decision", args=[decision.code]), {"text": text})


def _answer(client: Client, case: Case, outcome: str, answer: str = "It is orange.") -> Any:
    client.post(reverse("console:claim", args=[case.code]))
    fields = {"outcome": outcome, "answer": answer}
    appeal = case.appeals.latest("filed_at")
    return client.post(reverse("console:answer", args=[case.code, appeal.code]), fields)


def test_a_won_appeal_publishes_what_had_waited_in_quarantine(
    as_: Browser, uma: Account, ada: Account, decision: Decision
) -> None:
    assert _appeal(as_(uma), decision).status_code == 302
    assert _answer(as_(ada), decision.case, "overturned").status_code == 302
    decision.version.refresh_from_db()
    decision.case.refresh_from_db()
    assert decision.version.visibility == "published"
    assert decision.case.state == "closed"
    notice = Notice.objects.get(kind="appeal_overturned")
    assert notice.recipient == uma
    assert "It is orange." in notice.text
    assert not re.search(r"\bada\b", notice.text)
    assert [event.action for event in decision.case.events.all()][-3:] == [
        "appeal.overturned",
        "version.restored",
        "case.closed",
    ]


@pytest.mark.parametrize("before", ["published", "limited"])
def test_a_won_appeal_restores_the_visibility_of_before(
    before: str, as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    version = factories.published(uma)
    version.visibility = before
    version.save()
    report_file(version=version, text="A red star.", actor=rui)
    case = version.cases.get()
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    removal = {"action": "remove", "rules": ["red-star"], "facts": "A red star."}
    client.post(reverse("console:decide", args=[case.code]), removal)
    _appeal(as_(uma), case.decisions.get())
    _answer(as_(ada), case, "overturned")
    version.refresh_from_db()
    assert version.visibility == before
    assert Notice.objects.filter(kind="report_reversed", recipient=rui).exists()


def test_a_lost_appeal_leaves_the_decision_and_says_why(
    as_: Browser, uma: Account, ada: Account, decision: Decision
) -> None:
    _appeal(as_(uma), decision)
    _answer(as_(ada), decision.case, "upheld", "The star is red in both previews.")
    decision.version.refresh_from_db()
    assert decision.version.visibility == "removed"
    page = as_(uma).get(reverse("creator:decision", args=[decision.code])).content.decode()
    assert "The star is red in both previews." in page


def test_the_moderator_who_decided_cannot_answer_the_appeal(
    as_: Browser, uma: Account, mo: Account, decision: Decision
) -> None:
    _appeal(as_(uma), decision)
    client = as_(mo)
    assert client.post(reverse("console:next")).url == reverse("console:queue")
    response = _answer(client, decision.case, "upheld")
    assert response.status_code == 403
    assert "another moderator" in response.content.decode()
    assert Appeal.objects.get().state == "open"


def test_the_view_meets_the_database_constraint_when_every_check_before_it_is_gone(
    as_: Browser, uma: Account, mo: Account, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes the service's own guard away: what is left is the constraint, and it holds."""
    _appeal(as_(uma), decision)
    Case.objects.filter(pk=decision.case_id).update(
        state="hearing", claimed_by=mo, claimed_until=timezone.now() + timedelta(hours=1)
    )
    monkeypatch.setattr(appeals, "require_no_part_in", lambda *_, **__: None)
    client = as_(mo)
    client.raise_request_exception = False
    fields = {"outcome": "overturned", "answer": "I was wrong."}
    with transaction.atomic():
        appeal = Appeal.objects.get()
        address = reverse("console:answer", args=[decision.case.code, appeal.code])
        response = client.post(address, fields)
    assert response.status_code == 403
    assert Appeal.objects.get().state == "open"
    decision.version.refresh_from_db()
    assert decision.version.visibility == "removed"


def test_the_database_refuses_an_answer_by_the_decider_the_appellant_or_a_reporter(
    as_: Browser, uma: Account, mo: Account, decision: Decision
) -> None:
    _appeal(as_(uma), decision)
    answered = {"state": "upheld", "answer": "No.", "answered_at": timezone.now()}
    for person in (mo, uma):
        with pytest.raises(IntegrityError), transaction.atomic():
            Appeal.objects.update(answered_by=person, **answered)


def test_the_database_refuses_to_change_whom_an_appeal_is_against(
    as_: Browser, uma: Account, ada: Account, decision: Decision
) -> None:
    _appeal(as_(uma), decision)
    with pytest.raises(IntegrityError), transaction.atomic():
        Appeal.objects.update(decided_by=ada)


def test_an_appeal_is_accepted_until_the_last_second_and_refused_after_it(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = factories.decided(uma, mo)
    until = decision.appeal_ends_at
    assert until is not None
    assert decision.effect.ended_at is not None
    assert until - decision.effect.ended_at == timedelta(days=184)
    late = until + timedelta(days=1)
    monkeypatch.setattr(appeals.timezone, "now", lambda: late)
    response = _appeal(as_(uma), decision)
    assert response.status_code == 410
    page = response.content.decode()
    assert "out-of-court" in page
    assert "It is orange, not red." in page
    assert not Appeal.objects.exists()
    monkeypatch.setattr(appeals.timezone, "now", lambda: until)
    assert _appeal(as_(uma), decision).status_code == 302


@pytest.mark.parametrize("side", ["creator", "reporter"])
def test_the_time_to_appeal_begins_when_people_are_told(
    side: str,
    as_: Browser,
    uma: Account,
    mo: Account,
    ada: Account,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.SECOND_PERSON_FOR, settings.POPULAR_DOWNLOADS = ["popular", "approve"], -1
    report = report_file(version=factories.published(uma), text="A star.", actor=None)
    case_claim(case=report.case, actor=mo)
    action, rules = (Action.REMOVE, ["red-star"]) if side == "creator" else (Action.APPROVE, [])
    decision = decision_make(case=report.case, action=action, rules=rules, facts="So.", actor=mo)
    told_at = decision.decided_at + timedelta(days=10)
    last = told_at + timedelta(days=184)
    with monkeypatch.context() as later:
        later.setattr(timezone, "now", lambda: told_at)
        decision_confirm(decision=decision, reports_seen=1, actor=ada)
    if side == "creator":
        sent = reverse("creator:decision", args=[decision.code])
        assert f"{last.day} {last:%B %Y}" in Notice.objects.get(kind="decision_remove").text
        assert f"{last.day} {last:%B %Y}" in as_(uma).get(sent).content.decode()
    else:
        sent = reverse("report-appeal", args=[report.token])
    monkeypatch.setattr(timezone, "now", lambda: last + timedelta(seconds=1))
    client = as_(uma if side == "creator" else None)
    refused = client.post(sent, {"text": "Look again."})
    assert refused.status_code == 410
    assert "184 days" not in refused.content.decode()
    monkeypatch.setattr(timezone, "now", lambda: last)
    assert client.post(sent, {"text": "Look again."}).status_code == 302


def test_a_decision_is_appealed_once(as_: Browser, uma: Account, decision: Decision) -> None:
    _appeal(as_(uma), decision)
    assert _appeal(as_(uma), decision).status_code == 409
    assert Appeal.objects.count() == 1


@pytest.mark.parametrize(("text", "words"), [("  ", "few words"), ("x" * 4001, "4,001")])
def test_an_appeal_without_words_or_with_too_many_is_refused(
    text: str, words: str, as_: Browser, uma: Account, decision: Decision
) -> None:
    response = _appeal(as_(uma), decision, text)
    assert response.status_code == 422
    assert words in response.content.decode()


def test_nobody_else_sees_or_appeals_the_decision(
    as_: Browser, nobody: Account, decision: Decision
) -> None:
    assert as_(nobody).get(reverse("creator:decision", args=[decision.code])).status_code == 404
    assert _appeal(as_(nobody), decision).status_code == 404


def test_an_approval_cannot_be_appealed(as_: Browser, uma: Account, mo: Account) -> None:
    decision = factories.decided(uma, mo, action=Action.APPROVE)
    assert _appeal(as_(uma), decision).status_code == 409


def test_an_answer_without_reasons_is_refused(
    as_: Browser, uma: Account, ada: Account, decision: Decision
) -> None:
    _appeal(as_(uma), decision)
    assert _answer(as_(ada), decision.case, "upheld", "  ").status_code == 422
    assert _answer(as_(ada), decision.case, "perhaps").status_code == 422
    assert Appeal.objects.get().state == "open"


def test_two_moderators_answering_at_once_give_one_answer(
    as_: Browser, uma: Account, ada: Account, decision: Decision
) -> None:
    other = factories.account("sam", role=Role.MODERATOR)
    _appeal(as_(uma), decision)
    assert _answer(as_(ada), decision.case, "upheld").status_code == 302
    assert _answer(as_(other), decision.case, "overturned").status_code == 409
    decision.version.refresh_from_db()
    assert decision.version.visibility == "removed"
