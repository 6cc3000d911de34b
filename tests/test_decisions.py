"""Decisions through the console: who may, what is required, what follows from them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.models import Account, Case, Decision, ModelVersion, Notice
from moderation.reports import report_file
from moderation.statement_words import WORDS
from moderation.states import APPEAL_WINDOW, Language
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]

REMOVAL = {
    "action": "remove",
    "rules": ["red-star"],
    "facts": "The first preview shows a red star.",
    "private_note": "third one this week",
}


@pytest.fixture
def case(uma: Account) -> Case:
    return factories.held(uma, rule="red-star")


@pytest.fixture
def at_work(as_: Browser, mo: Account, case: Case) -> Client:
    """Return Mo's browser, with the case claimed."""
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    return client


def _decide(client: Client, case: Case, **fields: Any) -> Any:
    return client.post(reverse("console:decide", args=[case.code]), {**REMOVAL, **fields})


def test_a_removal_hides_the_model_and_gives_the_creator_rule_reason_and_way_back(
    at_work: Client,
    case: Case,
    uma: Account,
    as_: Browser,
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        assert _decide(at_work, case).status_code == 302
    decision = Decision.objects.get()
    case.refresh_from_db()
    version = case.version
    version.refresh_from_db()
    assert (case.state, version.visibility) == ("decided", "removed")
    assert decision.previous_visibility == "quarantined"
    assert decision.appeal_until == decision.decided_at + APPEAL_WINDOW
    assert decision.automated_detection
    notice = Notice.objects.get(kind="decision_remove")
    assert notice.recipient == uma
    address = reverse("creator:decision", args=[decision.code])
    for text in (notice.text, notice.html):
        assert "Red stars" in text
        assert "The first preview shows a red star." in text
        assert address in text
        assert "third one this week" not in text
    letter = next(letter for letter in mail.outbox if letter.subject == notice.subject)
    assert letter.to == ["uma@example.org"]
    page = as_(uma).get(address).content.decode()
    assert "Red stars" in page
    assert "third one this week" not in page
    assert "mo@example.org" not in page


def test_the_page_of_a_decision_says_what_was_sent_whatever_came_later(
    at_work: Client, as_: Browser, case: Case, uma: Account, rui: Account
) -> None:
    ModelVersion.objects.filter(pk=case.version_id).update(visibility="published")
    # Taken beside the case, which goes on, and which reports join.
    assert _decide(at_work, case, action="strike").status_code == 302
    decision = Decision.objects.get()
    report = report_file(version=decision.version, text="A red star.", actor=rui)
    assert report.case == case
    page = reverse("creator:decision", args=[decision.code])
    said = decision.statement.content
    assert said["notice"] == ""
    Account.objects.filter(pk=uma.pk).update(username="una")
    for language in (Language.ENGLISH, Language.GERMAN):
        Account.objects.filter(pk=uma.pk).update(language=language)
        shown = as_(Account.objects.get(pk=uma.pk)).get(page).content.decode()
        assert WORDS[language].reported not in shown
        # In another language than that in which it was sent it is said anew.
        assert (said["what"] in shown) == (language == Language.ENGLISH)
    _decide(at_work, case)
    removal = Decision.objects.get(action="remove")
    assert removal.statement.content["notice"] == WORDS[Language.GERMAN].reported


@pytest.mark.parametrize(
    ("action", "rule", "visibility"),
    [
        ("approve", "", "published"),
        ("age_restrict", "purple-heart", "age_restricted"),
        ("limit", "red-star", "limited"),
        ("remove", "red-star", "removed"),
    ],
)
def test_each_action_leads_to_its_visibility(
    action: str, rule: str, visibility: str, at_work: Client, case: Case
) -> None:
    _decide(at_work, case, action=action, rules=[rule] if rule else [])
    case.version.refresh_from_db()
    assert case.version.visibility == visibility


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"facts": "   "}, "Say in words"),
        ({"rules": []}, "at least one rule"),
        ({"rules": ["no-such-rule"]}, "no rule"),
        ({"action": "explode"}, "Choose one"),
        ({"action": "age_restrict"}, "does not allow"),
        ({"facts": "x" * 6000}, "6,000 characters"),
    ],
)
def test_a_decision_without_its_reasons_is_refused_and_keeps_what_was_typed(
    fields: dict[str, Any], words: str, at_work: Client, case: Case
) -> None:
    response = _decide(at_work, case, **fields)
    assert response.status_code == 422
    page = response.content.decode()
    assert words in page
    assert "third one this week" in page
    assert not Decision.objects.exists()
    case.refresh_from_db()
    assert case.state == "claimed"


def test_a_case_is_decided_by_the_law_or_by_an_order_that_is_named(
    case: Case, at_work: Client
) -> None:
    page = at_work.get(reverse("console:case", args=[case.code])).content.decode()
    for name in ("ground", "source", "legal_ground"):
        assert f'name="{name}"' in page
    address = reverse("console:decide", args=[case.code])
    given = {
        "action": "remove",
        "rules": ["red-star"],
        "facts": "Seen.",
        "ground": "law",
        "source": "order",
    }
    for named in ("", "x" * 501):
        refused = at_work.post(address, {**given, "legal_ground": named})
        assert refused.status_code == 422
        assert '<option value="law" selected>' in refused.content.decode()
    order = "§ 86a StGB, order of the court of Bern"
    assert at_work.post(address, {**given, "legal_ground": order}).status_code == 302
    decision = Decision.objects.get()
    assert (decision.source, decision.ground, decision.legal_ground) == ("order", "law", order)
    assert decision.statement.content["legal_ground"] == order


@pytest.mark.parametrize(
    ("found", "fields", "source"),
    [
        ((0.95, "red-star"), {}, "confirmed"),
        ((0.95, "red-star"), {"action": "limit"}, "confirmed"),
        # A finding that only asks a person to look holds nothing back.
        ((0.6, "red-star"), {}, "person"),
        # The person found something else than the machine.
        ((0.95, "purple-heart"), {}, "person"),
        # The machine held the version, not the account.
        ((0.95, "red-star"), {"action": "strike"}, "person"),
        ((0.95, "red-star"), {"source": "order", "legal_ground": "§ 86a StGB"}, "order"),
        # No form can say it.
        ((0.6, "red-star"), {"source": "confirmed"}, "person"),
    ],
)
def test_what_a_machine_held_and_a_person_restricts_under_its_rule_is_partly_automated(
    found: tuple[float, str],
    fields: dict[str, Any],
    source: str,
    as_: Browser,
    uma: Account,
    mo: Account,
) -> None:
    score, rule = found
    case = factories.triaged(uma, [factories.finding(score, rule=rule)]).cases.get()
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    assert _decide(client, case, **fields).status_code == 302
    decision = Decision.objects.get()
    assert decision.source == source
    said = decision.statement.content
    partly = "partially" if source == "confirmed" else "not_automated"
    assert said["automated_decision"] == partly
    assert ("a machine held it back under this rule" in said["detection"]) == (
        source == "confirmed"
    )


def test_what_was_public_or_decided_by_a_person_before_confirms_no_machine(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    version = factories.triaged(uma, [factories.finding(0.95, rule="red-star")])
    first = as_(mo)
    first.post(reverse("console:claim", args=[version.cases.get().code]))
    _decide(first, version.cases.get(), action="approve", rules=[])
    version.refresh_from_db()
    report_file(version=version, text="A red star.", actor=None)
    case = version.cases.get(state="queued")
    second = as_(ada)
    second.post(reverse("console:claim", args=[case.code]))
    _decide(second, case)
    assert Decision.objects.get(action="remove").source == "person"


def test_a_case_that_somebody_else_holds_is_not_decided(
    as_: Browser, ada: Account, at_work: Client, case: Case
) -> None:
    response = _decide(as_(ada), case)
    assert response.status_code == 409
    page = response.content.decode()
    assert "mo has this case" in page
    assert "The first preview shows a red star." in page
    assert not Decision.objects.exists()


def test_a_case_that_nobody_holds_is_claimed_before_it_is_decided(
    as_: Browser, mo: Account, case: Case
) -> None:
    assert _decide(as_(mo), case).status_code == 409
    assert not Decision.objects.exists()


def test_a_second_decision_on_the_same_case_is_refused_and_shows_the_first(
    at_work: Client, case: Case
) -> None:
    _decide(at_work, case)
    response = _decide(at_work, case, action="approve", rules=[])
    assert response.status_code == 409
    assert "mo has decided this case already" in response.content.decode()
    assert Decision.objects.count() == 1


def test_reporters_hear_the_outcome_and_visitors_by_mail(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="A red star.", rule="red-star", actor=rui)
    visitor = report_file(version=version, text="Me too.", email="v@example.org", actor=None)
    case = version.cases.get()
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    assert _decide(client, case).status_code == 302
    told = Notice.objects.filter(kind="report_acted")
    assert {(notice.recipient, notice.email) for notice in told} == {
        (rui, "rui@example.org"),
        (None, "v@example.org"),
    }
    page = as_(None).get(reverse("report-status", args=[visitor.token]))
    assert "Action was taken" in page.content.decode()
    decision = as_(uma).get(reverse("creator:decision", args=[Decision.objects.get().code]))
    assert not re.search(r"\brui\b", decision.content.decode())


def test_a_report_that_was_not_borne_out_leaves_everything_as_it_was(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="I do not like it.", actor=rui)
    case = version.cases.get()
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    _decide(client, case, action="approve", rules=[])
    version.refresh_from_db()
    case.refresh_from_db()
    assert (version.visibility, case.state) == ("published", "closed")
    assert Notice.objects.filter(kind="report_no_action", recipient=rui).exists()


def test_the_database_refuses_a_decision_on_ones_own_model(case: Case, uma: Account) -> None:
    with pytest.raises(IntegrityError, match="decision_not_on_own_model"), transaction.atomic():
        Decision.objects.create(**_row(case, decided_by=uma))


def test_the_database_refuses_a_decision_by_somebody_who_reported_the_model(
    uma: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="No good.", actor=mo)
    with pytest.raises(IntegrityError, match="reported"), transaction.atomic():
        Decision.objects.create(**_row(version.cases.get(), decided_by=mo))


@pytest.mark.parametrize(
    ("gap", "constraint"),
    [
        ({"facts": ""}, "decision_has_facts"),
        ({"message": ""}, "decision_has_message"),
        ({"message": "", "action": "approve"}, "decision_has_message"),
        ({"clauses": []}, "decision_restriction_has_rule_and_way_back"),
        ({"appeal_until": None}, "decision_restriction_has_rule_and_way_back"),
    ],
)
def test_the_database_refuses_a_decision_without_facts_message_rule_or_way_back(
    gap: dict[str, Any], constraint: str, case: Case, mo: Account
) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Decision.objects.create(**_row(case, decided_by=mo, **gap))
    # Nothing else was wrong with it.
    Decision.objects.create(**_row(case, decided_by=mo))


def _row(case: Case, **fields: Any) -> dict[str, Any]:
    return {
        "case": case,
        "version": case.version,
        "action": "remove",
        "policy": case.version.jobs.all()[0].policy,
        "clauses": [{"slug": "red-star"}],
        "facts": "A red star.",
        "message": "A red star.",
        "creator": case.version.uploaded_model.creator,
        "automated_detection": True,
        "previous_visibility": "quarantined",
        "new_visibility": "removed",
        "appeal_until": timezone.now(),
        "decided_at": timezone.now(),
        **fields,
    }


def test_a_report_that_came_in_meanwhile_is_read_before_the_decision(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="A red star.", actor=rui)
    case = version.cases.get()
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    page = client.get(reverse("console:case", args=[case.code])).content.decode()
    assert 'name="reports_seen" value="1"' in page
    report_file(version=version, text="This is me.", actor=None)
    response = _decide(client, case, reports_seen="1")
    assert response.status_code == 409
    assert "This is me." in response.content.decode()
    assert not Decision.objects.exists()
    assert _decide(client, case, reports_seen="2").status_code == 302


@pytest.mark.parametrize("field", ["facts", "private_note"])
def test_a_null_character_is_refused_before_it_reaches_the_database(
    field: str, at_work: Client, case: Case
) -> None:
    assert _decide(at_work, case, **{field: "a\0b"}).status_code == 400
    assert not Decision.objects.exists()
