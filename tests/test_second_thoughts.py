"""Undo, the second person, and decisions that are taken back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import enforcement
from moderation.decisions import (
    decision_cancel,
    decision_confirm,
    decision_make,
    decision_reverse,
    decision_undo,
)
from moderation.enforcement import decisions_enforce_due
from moderation.errors import Conflict, NotAllowed
from moderation.models import Account, Case, Decision, Effect, Notice, StatementOfReasons
from moderation.queue import case_claim
from moderation.reasons import Terms
from moderation.reports import report_file
from moderation.states import Action, Role
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]
REMOVAL = {"action": "remove", "rules": ["red-star"], "facts": "A red star."}


@pytest.fixture
def sam(db: None) -> Account:
    """Return Sam, who is nobody's first choice and everybody's second person."""
    return factories.account("sam", role=Role.MODERATOR)


@pytest.fixture
def ten_seconds(settings: Any) -> None:
    settings.UNDO_SECONDS = 10


def _later(monkeypatch: pytest.MonkeyPatch, **by: float) -> None:
    later = timezone.now() + timedelta(**by)
    monkeypatch.setattr(enforcement.timezone, "now", lambda: later)


def _reported(uma: Account, rui: Account, mo: Account, **texts: Any) -> Case:
    version = factories.published(uma, **texts)
    report_file(version=version, text="A red star.", actor=rui)
    return case_claim(case=version.cases.get(), actor=mo)


# --- Undo -----------------------------------------------------------------------------------


def test_a_restriction_applies_at_once_and_nobody_is_told_for_ten_seconds(
    as_: Browser,
    uma: Account,
    rui: Account,
    mo: Account,
    ten_seconds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = _reported(uma, rui, mo)
    before = Notice.objects.count()
    assert as_(mo).post(reverse("console:decide", args=[case.code]), REMOVAL).status_code == 302
    address = reverse("model", args=[case.version.code])
    assert as_(None).get(address).status_code == 404
    assert Notice.objects.count() == before
    assert not StatementOfReasons.objects.exists()
    assert case.reports.get().state == "open"
    decision = Decision.objects.get()
    assert as_(uma).get(reverse("creator:decision", args=[decision.code])).status_code == 404
    assert decisions_enforce_due() == 0
    _later(monkeypatch, seconds=11)
    assert decisions_enforce_due() == 1
    assert decisions_enforce_due() == 0
    assert Notice.objects.filter(decision=decision).count() == 1
    assert StatementOfReasons.objects.get().content["facts"] == "A red star."
    assert case.reports.get().state == "acted"


def test_undo_gives_the_case_back_and_nobody_ever_hears_of_it(
    as_: Browser, uma: Account, rui: Account, mo: Account, ten_seconds: None
) -> None:
    case = _reported(uma, rui, mo)
    client = as_(mo)
    client.post(reverse("console:decide", args=[case.code]), REMOVAL)
    decision = Decision.objects.get()
    told = Notice.objects.count()
    page = client.get(reverse("console:case", args=[case.code])).content.decode()
    assert reverse("console:undo", args=[decision.code]) in page
    assert client.post(reverse("console:undo", args=[decision.code])).status_code == 302
    case.refresh_from_db()
    case.version.refresh_from_db()
    assert (case.state, case.claimed_by) == ("claimed", mo)
    assert case.version.visibility == "published"
    assert Notice.objects.count() == told
    assert decisions_enforce_due() == 0
    assert client.post(reverse("console:decide", args=[case.code]), REMOVAL).status_code == 302


def test_an_approval_is_not_public_before_it_can_no_longer_be_undone(
    as_: Browser,
    uma: Account,
    mo: Account,
    ten_seconds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="Fine.", actor=mo)
    address = reverse("model", args=[case.version.code])
    assert as_(None).get(address).status_code == 404
    _later(monkeypatch, seconds=11)
    decisions_enforce_due()
    assert as_(None).get(address).status_code == 200


def test_undo_comes_too_late_after_ten_seconds_and_only_from_who_decided(
    uma: Account,
    rui: Account,
    mo: Account,
    sam: Account,
    ten_seconds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = _reported(uma, rui, mo)
    decision = decision_make(
        case=case, action=Action.LIMIT, rules=["red-star"], facts="A star.", actor=mo
    )
    with pytest.raises(NotAllowed, match="Only who made"):
        decision_undo(decision=decision, actor=sam)
    _later(monkeypatch, seconds=10)
    with pytest.raises(Conflict, match="time to undo it is over"):
        decision_undo(decision=decision, actor=mo)
    assert decisions_enforce_due() == 1
    with pytest.raises(Conflict):
        decision_undo(decision=decision, actor=mo)


def test_a_report_that_came_in_since_keeps_its_own_case_when_undo_is_tried(
    uma: Account, rui: Account, mo: Account, ten_seconds: None
) -> None:
    case = _reported(uma, rui, mo)
    decision = decision_make(
        case=case, action=Action.LIMIT, rules=["red-star"], facts="A star.", actor=mo
    )
    report_file(version=case.version, text="Look again.", actor=None)
    with pytest.raises(Conflict, match="its own case"):
        decision_undo(decision=decision, actor=mo)
    assert Effect.objects.get().state == "due"


def test_the_database_lets_no_effect_go_backwards(uma: Account, mo: Account) -> None:
    decision = factories.decided(uma, mo)
    with pytest.raises(IntegrityError, match="stays so"), transaction.atomic():
        Effect.objects.filter(decision=decision).update(state="due")


# --- The second person ----------------------------------------------------------------------


@pytest.fixture
def popular(settings: Any, uma: Account, rui: Account, mo: Account) -> Case:
    """Return the claimed case of a model that more people have than one person may remove."""
    settings.SECOND_PERSON_FOR = ["popular", "suspend", "child_safety", "overturn"]
    settings.POPULAR_DOWNLOADS = 10
    case = _reported(uma, rui, mo)
    case.version.downloads = 11
    case.version.save()
    return case


def test_the_removal_of_a_popular_model_waits_for_a_second_person(
    as_: Browser, popular: Case, uma: Account, mo: Account, sam: Account
) -> None:
    client = as_(mo)
    told = Notice.objects.count()
    client.post(reverse("console:decide", args=[popular.code]), REMOVAL)
    decision = Decision.objects.get()
    popular.refresh_from_db()
    assert (popular.state, decision.effect.state) == ("confirm", "held")
    assert as_(None).get(reverse("model", args=[popular.version.code])).status_code == 200
    own = client.get(reverse("console:held")).content.decode()
    assert "somebody else confirms it" in own
    confirm = reverse("console:confirm", args=[decision.code])
    assert client.post(confirm).status_code == 403
    assert Notice.objects.count() == told
    assert confirm in as_(sam).get(reverse("console:held")).content.decode()
    assert as_(sam).post(confirm, {"reports_seen": "1"}).status_code == 302
    decision.effect.refresh_from_db()
    popular.refresh_from_db()
    assert (decision.effect.state, popular.state) == ("in_force", "decided")
    assert (decision.decided_by, decision.effect.second_person) == (mo, sam)
    assert as_(None).get(reverse("model", args=[popular.version.code])).status_code == 404
    assert Notice.objects.filter(decision=decision).count() == 1


def test_either_may_withdraw_it_without_a_verdict(
    as_: Browser, popular: Case, mo: Account, sam: Account
) -> None:
    as_(mo).post(reverse("console:decide", args=[popular.code]), REMOVAL)
    decision = Decision.objects.get()
    cancel = reverse("console:cancel", args=[decision.code])
    too_long = as_(sam).post(cancel, {"reason": "n" * 501})
    assert too_long.status_code == 422
    assert "500 are the most" in too_long.content.decode()
    assert "n" * 501 in too_long.content.decode()
    assert as_(sam).post(cancel, {"reason": "n" * 500}).status_code == 302
    late = as_(sam).post(cancel, {"reason": "Not what it seems."})
    assert late.status_code == 409
    assert "Not what it seems." in late.content.decode()
    popular.refresh_from_db()
    popular.version.refresh_from_db()
    assert (popular.state, popular.version.visibility) == ("queued", "published")
    assert as_(sam).post(reverse("console:confirm", args=[decision.code])).status_code == 409
    assert not Notice.objects.filter(decision=decision).exists()


@pytest.fixture
def escalated(as_: Browser, popular: Case, mo: Account, ada: Account) -> Decision:
    """Return what a senior moderator decided, and a second person has yet to confirm."""
    as_(mo).post(reverse("console:escalate", args=[popular.code]), {"note": "Is it one?"})
    client = as_(ada)
    client.post(reverse("console:next"))
    client.post(reverse("console:decide", args=[popular.code]), REMOVAL)
    return Decision.objects.get()


def test_what_was_escalated_waits_for_a_senior_moderator_again_once_it_is_withdrawn(
    as_: Browser, escalated: Decision, sam: Account, ada: Account
) -> None:
    assert as_(sam).post(reverse("console:cancel", args=[escalated.code])).status_code == 302
    case = reverse("console:case", args=[escalated.case.code])
    assert as_(sam).post(reverse("console:next")).url == reverse("console:queue")
    assert as_(ada).post(reverse("console:next")).url == case


@pytest.mark.usefixtures("ten_seconds")
def test_what_was_escalated_goes_back_to_who_decided_it_when_a_junior_undoes_their_confirming(
    as_: Browser, escalated: Decision, sam: Account, ada: Account
) -> None:
    client = as_(sam)
    client.post(reverse("console:confirm", args=[escalated.code]), {"reports_seen": "1"})
    page = client.post(reverse("console:undo", args=[escalated.code]), follow=True)
    assert "ada has the case again" in page.content.decode()
    case = escalated.case
    case.refresh_from_db()
    assert (case.state, case.claimed_by) == ("claimed", ada)


def test_only_specialists_judge_what_was_set_apart_and_only_they_or_its_decider_withdraw_it(
    as_: Browser, popular: Case, mo: Account, sam: Account
) -> None:
    chris = factories.account("chris", role=Role.CHILD_SAFETY)
    apart = {**REMOVAL, "action": Action.CHILD_SAFETY.value}
    assert as_(mo).post(reverse("console:decide", args=[popular.code]), apart).status_code == 302
    decision = Decision.objects.get()
    confirm, cancel = (
        reverse(f"console:{name}", args=[decision.code]) for name in ("confirm", "cancel")
    )
    assert decision.code not in as_(sam).get(reverse("console:held")).content.decode()
    for address in (confirm, cancel):
        assert as_(sam).post(address, {"reason": "No."}).status_code == 404
    for judge in (decision_confirm, decision_cancel):
        with pytest.raises(NotAllowed):
            judge(decision=decision, actor=sam)
    popular.version.refresh_from_db()
    assert (decision.effect.state, popular.version.isolated_at is None) == ("held", False)
    # Mo may think better of it, and then it is as it was.
    assert as_(mo).post(confirm).status_code == 403
    assert as_(mo).post(cancel).status_code == 302
    popular.version.refresh_from_db()
    assert popular.version.isolated_at is None
    popular.refresh_from_db()
    case_claim(case=popular, actor=mo)
    as_(mo).post(reverse("console:decide", args=[popular.code]), apart)
    again = Decision.objects.exclude(pk=decision.pk).get()
    assert as_(chris).post(reverse("console:confirm", args=[again.code])).status_code == 302
    again.effect.refresh_from_db()
    assert (again.effect.state, again.effect.second_person) == ("in_force", chris)
    # Nor does a moderator take it back, whose taking back would wait for a second person, too.
    back = reverse("console:reverse", args=[again.code])
    assert as_(sam).post(back, {"facts": "A leaf."}).status_code == 404


def test_a_report_that_came_in_meanwhile_is_read_before_it_is_confirmed(
    as_: Browser, popular: Case, mo: Account, sam: Account
) -> None:
    as_(mo).post(reverse("console:decide", args=[popular.code]), REMOVAL)
    report_file(version=popular.version, text="This is me.", actor=None)
    assert Case.objects.count() == 1
    confirm = reverse("console:confirm", args=[Decision.objects.get().code])
    refused = as_(sam).post(confirm, {"reports_seen": "1"})
    assert refused.status_code == 409
    page = refused.content.decode()
    # It is there to be read, and only then counts as seen.
    for said in ("A red star.", "This is me."):
        assert f'<blockquote class="said" >{said}</blockquote>' in page
    assert 'name="reports_seen" value="2"' in page
    assert as_(sam).post(confirm, {"reports_seen": "2"}).status_code == 302
    assert set(popular.reports.values_list("state", flat=True)) == {"acted"}


def test_the_database_refuses_a_second_person_who_is_the_first_and_none_at_all(
    popular: Case, mo: Account, uma: Account, rui: Account
) -> None:
    decision_make(case=popular, action=Action.REMOVE, rules=["red-star"], facts="A.", actor=mo)
    now = timezone.now()
    for person in (mo, uma, rui, None):
        confirmed = {"second_person": person, "confirmed_at": now if person else None}
        with pytest.raises(IntegrityError), transaction.atomic():
            Effect.objects.update(state="due", due_at=now, **confirmed)
    assert Effect.objects.get().state == "held"


def test_who_reported_a_model_does_not_confirm_its_removal(
    as_: Browser, popular: Case, mo: Account, sam: Account
) -> None:
    report_file(version=popular.version, text="Bad.", actor=sam)
    as_(mo).post(reverse("console:decide", args=[popular.code]), REMOVAL)
    confirm = reverse("console:confirm", args=[Decision.objects.get().code])
    assert as_(sam).post(confirm).status_code == 403


def test_a_suspension_is_held_and_then_keeps_the_account_from_uploading_and_reporting(
    as_: Browser, settings: Any, uma: Account, rui: Account, mo: Account, sam: Account
) -> None:
    settings.SECOND_PERSON_FOR = ["suspend"]
    case = _reported(uma, rui, mo)
    decision = decision_make(
        case=case,
        action=Action.SUSPEND,
        rules=["red-star"],
        facts="The fourth one.",
        terms=Terms(until=timezone.now() + timedelta(days=30)),
        actor=mo,
    )
    uma.refresh_from_db()
    assert not uma.is_suspended
    decision_confirm(decision=decision, actor=sam)
    uma.refresh_from_db()
    assert uma.is_suspended
    case.refresh_from_db()
    assert case.state == "claimed"
    client = as_(uma)
    assert client.post(reverse("creator:create"), {"title": "New"}).status_code == 403
    other = factories.published(rui)
    answer = client.post(reverse("report", args=[other.code]), {"text": "Bad."})
    assert answer.status_code == 403
    page = client.get(reverse("creator:standing")).content.decode()
    assert "suspended until" in page
    assert client.get(reverse("creator:decision", args=[decision.code])).status_code == 200
    reversal = decision_reverse(decision=decision, facts="It was somebody else.", actor=sam)
    assert reversal.effect.state == "in_force"
    uma.refresh_from_db()
    assert not uma.is_suspended


# --- Taken back -----------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["published", "limited", "age_restricted"])
def test_a_decision_that_is_taken_back_restores_what_was_and_tells_who_was_told(
    before: str, as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    case = _reported(uma, rui, mo)
    case.version.visibility = before
    case.version.save()
    as_(mo).post(reverse("console:decide", args=[case.code]), REMOVAL)
    decision = Decision.objects.get()
    address = reverse("console:reverse", args=[decision.code])
    assert as_(mo).post(address, {"facts": "It is orange."}).status_code == 302
    case.version.refresh_from_db()
    assert case.version.visibility == before
    reversal = Decision.objects.get(action="reverse")
    assert (reversal.overrides, reversal.chain) == (decision, decision.code)
    assert Notice.objects.filter(kind="decision_reverse", recipient=uma).count() == 1
    assert Notice.objects.filter(kind="report_reversed", recipient=rui).count() == 1
    page = as_(uma).get(reverse("creator:decision", args=[decision.code])).content.decode()
    assert "taken back since" in page
    assert as_(mo).post(address, {"facts": "Again."}).status_code == 409


def test_a_decision_in_force_is_taken_back_on_the_page_of_its_case(
    as_: Browser, uma: Account, rui: Account, mo: Account, sam: Account, settings: Any
) -> None:
    case = _reported(uma, rui, mo)
    settings.UNDO_SECONDS = 10
    as_(mo).post(reverse("console:decide", args=[case.code]), REMOVAL)
    decision = Decision.objects.get()
    page = reverse("console:case", args=[case.code])
    back = reverse("console:reverse", args=[decision.code])
    due = as_(sam).get(page).content.decode()
    # Until people are told it is undone, not taken back.
    assert "Can still be undone" in due
    assert back not in due
    Effect.objects.update(due_at=timezone.now())
    decisions_enforce_due()
    assert back in as_(sam).get(page).content.decode()
    for reader in (rui, factories.account("pia", role=Role.POLICY_LEAD)):
        assert back not in as_(reader).get(page).content.decode()
    refused = as_(sam).post(back, {"facts": "x" * 5001})
    assert refused.status_code == 422
    # The form is open again, and holds what was typed.
    assert "x" * 5001 in refused.content.decode().partition(f'action="{back}"')[2]
    assert as_(sam).post(back, {"facts": "It is orange."}).url == page
    told = as_(sam).get(page).content.decode()
    assert "It is orange." in told
    assert back not in told


@pytest.mark.parametrize("action", ["approve", "dismiss"])
def test_what_was_let_go_by_mistake_is_put_into_the_queue_again_beside_the_decision(
    action: str, as_: Browser, uma: Account, rui: Account, mo: Account, sam: Account
) -> None:
    case = _reported(uma, rui, mo)
    client, page = as_(mo), reverse("console:case", args=[case.code])
    client.post(reverse("console:decide", args=[case.code]), {"action": action, "facts": "Fine."})
    doubt = reverse("console:doubt", args=[Decision.objects.get().code])
    assert f'action="{doubt}"' in client.get(page).content.decode()
    assert f'action="{doubt}"' not in as_(rui).get(page).content.decode()
    long = client.post(doubt, {"reason": "x" * 2001})
    assert long.status_code == 422
    assert "x" * 2001 in long.content.decode().partition(f'action="{doubt}"')[2]
    opened = client.post(doubt, {"reason": "The third preview: I saw it too late."})
    again = Case.objects.get(source="moderator")
    assert opened.url == reverse("console:case", args=[again.code])
    assert as_(sam).post(reverse("console:next")).url == opened.url
    told = as_(sam).get(opened.url).content.decode()
    assert "What a moderator noted" in told
    assert "The third preview: I saw it too late." in told
    as_(sam).post(reverse("console:decide", args=[again.code]), REMOVAL)
    case.version.refresh_from_db()
    assert case.version.visibility == "removed"


def test_what_was_taken_back_by_mistake_is_looked_at_again_in_the_case_that_is_open(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    case = _reported(uma, rui, mo)
    client = as_(mo)
    client.post(reverse("console:decide", args=[case.code]), REMOVAL)
    removal = Decision.objects.get()
    doubt = reverse("console:doubt", args=[removal.code])
    # A removal is taken back; it is not looked at again.
    assert client.post(doubt, {"reason": "It is orange."}).status_code == 409
    client.post(reverse("console:reverse", args=[removal.code]), {"facts": "It is orange."})
    report_file(version=case.version, text="It is red.", actor=None)
    opened = case.version.cases.exclude(pk=case.pk).get()
    doubt = reverse("console:doubt", args=[Decision.objects.get(action="reverse").code])
    answer = client.post(doubt, {"reason": "It is red after all."})
    assert answer.url == reverse("console:case", args=[opened.code])
    assert "It is red after all." in client.get(answer.url).content.decode()


def test_the_page_of_a_case_says_who_confirmed_a_decision_and_what_became_of_it(
    as_: Browser, popular: Case, mo: Account, sam: Account
) -> None:
    page = reverse("console:case", args=[popular.code])
    as_(mo).post(reverse("console:decide", args=[popular.code]), REMOVAL)
    withdrawn = Decision.objects.get()
    for reader in (mo, sam):
        assert "Waits for a second person" in as_(reader).get(page).content.decode()
    as_(sam).post(reverse("console:cancel", args=[withdrawn.code]))
    assert "Withdrawn before a second person confirmed it, by sam" in (
        as_(mo).get(page).content.decode()
    )
    popular.refresh_from_db()
    case_claim(case=popular, actor=mo)
    as_(mo).post(reverse("console:decide", args=[popular.code]), REMOVAL)
    again = Decision.objects.exclude(pk=withdrawn.pk).get()
    as_(sam).post(reverse("console:confirm", args=[again.code]), {"reports_seen": "1"})
    assert "confirmed by sam" in as_(mo).get(page).content.decode()


def test_taking_the_later_of_two_restrictions_back_leaves_the_earlier(
    uma: Account, rui: Account, mo: Account
) -> None:
    case = _reported(uma, rui, mo)
    decision_make(case=case, action=Action.LIMIT, rules=["red-star"], facts="A.", actor=mo)
    report_file(version=case.version, text="Still there.", actor=None)
    second = case_claim(case=case.version.cases.get(state="queued"), actor=mo)
    removal = decision_make(
        case=second, action=Action.REMOVE, rules=["red-star"], facts="B.", actor=mo
    )
    decision_reverse(decision=removal, facts="Too much.", actor=mo)
    case.version.refresh_from_db()
    assert case.version.visibility == "limited"
    notice = Notice.objects.get(kind="decision_reverse")
    assert "still stands" in notice.text
    assert "not listed or recommended" in notice.text


def test_a_creator_reads_nothing_of_what_is_held_undone_or_told_to_the_authorities(
    as_: Browser, uma: Account, mo: Account, settings: Any
) -> None:
    settings.UNDO_SECONDS = 10
    decision = factories.decided(uma, mo)
    decision_make(case=decision.case, action=Action.LAW, rules=[], facts="A plan.", actor=mo)
    page = as_(uma).get(reverse("creator:version", args=[decision.version.code])).content.decode()
    assert "law enforcement" not in page
    assert decision.code not in page
    Effect.objects.update(due_at=timezone.now())
    decisions_enforce_due()
    page = as_(uma).get(reverse("creator:version", args=[decision.version.code])).content.decode()
    assert decision.code in page
    assert "law enforcement" not in page
