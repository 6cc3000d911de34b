"""Who reads German finds no sentence in English, on no page of theirs and in no statement."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import appeal_files, appeals, holds
from moderation.appeals import appeal_file, appeal_write
from moderation.decisions import decision_make
from moderation.hearings import appeal_answer
from moderation.holds import hold_end, holds_place
from moderation.inquiries import inquiry_send
from moderation.likeness import likeness_confirm, likeness_request
from moderation.models import (
    Account,
    Decision,
    LikenessRequest,
    ModelVersion,
    Notice,
    Report,
    ReportingMeasure,
    Rule,
    StatementOfReasons,
)
from moderation.queue import case_claim
from moderation.reasons import Terms
from moderation.reports import report_file
from moderation.statement_words import WORDS
from moderation.states import LADDER, RESTRICTIONS, Action, AppealState, Language, Visibility
from moderation.translations import ACTIONS, REFUSALS, STEPS
from tests import factories
from tests.test_reports import raised_in

Browser = Callable[[Account | None], Client]
pytestmark = pytest.mark.usefixtures("policy")

# Words that stand in nearly every English sentence and in no German one.
ENGLISH = re.compile(
    r"\b(the|and|you|your|with|this|that|of|it|are|by|for|nobody|when|who|to|or)\b", re.I
)
SPOKEN = re.compile(r' (?:aria-label|title|placeholder|alt)="([^"]*)"')


def english_in(page: str) -> list[str]:
    """Return what of a page reads as English: visible text, and what screen readers say."""
    body = page.partition("<body")[2]
    body = re.sub(r"<(script|style|textarea)\b.*?</\1>", " ", body, flags=re.S)
    # What leads to English may say so in English.
    body = re.sub(r'<(\w+)[^>]* lang="en".*?</\1>', " ", body, flags=re.S)
    said = SPOKEN.findall(body) + re.sub(r"<[^>]*>", "\n", body).splitlines()
    return [line.strip() for line in said if ENGLISH.search(line)]


@pytest.fixture
def german(uma: Account, rui: Account) -> None:
    """Let both sides read German, and the rules be written in it."""
    Account.objects.filter(pk__in=[uma.pk, rui.pk]).update(language=Language.GERMAN)
    Rule.objects.update(
        title="Rote Sterne",
        text="Keine roten Sterne.",
        advice="Ohne Stern.",
        permitted_examples=["Ein gelber Stern."],
        prohibited_examples=["Ein roter Stern."],
        actions=[action.value for action in RESTRICTIONS],
    )
    for account in (uma, rui):
        account.refresh_from_db()


def _decided(uma: Account, mo: Account, action: Action, **terms: Any) -> Decision:
    case = case_claim(case=factories.held(uma, title="Tusche", rule="red-star"), actor=mo)
    return decision_make(
        case=case,
        action=action,
        rules=["red-star"],
        facts="Ein roter Stern.",
        terms=Terms(**terms),
        actor=mo,
    )


TERMS: dict[Action, dict[str, Any]] = {
    Action.LABEL: {"label": "Nachgezeichnet"},
    Action.GEO_RESTRICT: {"countries": ["AT"]},
    Action.MUTE: {"until": timezone.now() + timedelta(days=3)},
}


@pytest.mark.parametrize("action", RESTRICTIONS)
def test_a_statement_is_stored_as_it_was_sent_in_the_language_of_its_reader(
    action: Action, german: None, settings: Any, uma: Account, mo: Account
) -> None:
    settings.COUNTRY_HEADER = "CF-IPCountry"
    terms = dict(TERMS.get(action, {}))
    case = case_claim(case=factories.held(uma, title="Tusche", rule="red-star"), actor=mo)
    if action == Action.DISABLE_PREVIEW:
        terms["preview"] = case.version.previews.get().code
    decision_make(
        case=case,
        action=action,
        rules=["red-star"],
        facts="Ein roter Stern.",
        terms=Terms(**terms),
        actor=mo,
    )
    content = StatementOfReasons.objects.get().content
    assert content["language"] == "de"
    for part in ("what", "effect", "territory", "detection", "notice", "elsewhere"):
        assert not ENGLISH.search(content[part]), content[part]
    notice = Notice.objects.get(decision__action=action, recipient=uma)
    for part in ("effect", "detection"):
        assert content[part] in notice.text
        assert content[part] in notice.html.replace("&quot;", '"')


def test_every_action_step_and_state_has_its_words_in_every_language() -> None:
    for language in Language:
        words = WORDS[language]
        assert set(words.effects) == set(Visibility)
        for action in RESTRICTIONS:
            assert action in words.of_actions or action in {
                *(Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE, Action.CHILD_SAFETY)
            }
        if language != Language.ENGLISH:
            assert set(RESTRICTIONS) <= set(ACTIONS[language])
            assert set(STEPS[language]) == {step.points for step in LADDER}


def test_what_an_appeal_is_refused_for_is_said_in_german(
    german: None, as_: Browser, uma: Account, mo: Account
) -> None:
    decision = _decided(uma, mo, Action.REMOVE)
    address = reverse("creator:decision", args=[decision.code])
    page = as_(uma).post(address, {"text": " "}).content.decode()
    assert "Sagen Sie in ein paar Worten, warum" in page
    assert english_in(page) == []
    for_the_team = {"conflict_of_interest", "not_claimed"}
    raised = raised_in(appeals, appeal_files) - for_the_team
    assert raised - set(REFUSALS["de"]) == set()


def test_who_takes_a_version_down_twice_is_told_in_german(
    german: None, as_: Browser, uma: Account
) -> None:
    version = factories.published(uma)
    client, address = as_(uma), reverse("creator:withdraw", args=[version.code])
    done = client.post(address, follow=True).content.decode()
    assert "Zurückgezogen. Nur Sie" in done
    again = client.post(address)
    assert again.status_code == 409
    assert "schon zurückgezogen" in again.content.decode()


def test_a_creator_who_reads_german_reads_decision_standing_and_notices_in_german(
    german: None, as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    client = as_(uma)

    def read(*addresses: str) -> None:
        for address in addresses:
            page = client.get(address).content.decode()
            assert '<html lang="de">' in page, address
            assert english_in(page) == [], address

    decision = _decided(uma, mo, Action.REMOVE)
    address = reverse("creator:decision", args=[decision.code])
    pages = [address, reverse("creator:standing"), reverse("creator:notices")]
    read(*pages)
    client.post(address, {"text": "Er ist orange."})
    read(address)
    appeal = decision.appeals.get()
    case_claim(case=appeal.case, actor=ada)
    appeal_write(appeal=appeal, text="Welches Bild?", actor=ada, from_team=True)
    read(address)
    sent = client.post(
        reverse("creator:appeal-message", args=[decision.code]), {"message": "Das erste."}
    )
    assert sent.status_code == 302
    read(address)
    for outcome in (AppealState.UPHELD, AppealState.REMANDED, AppealState.MODIFIED):
        other = _decided(uma, mo, Action.REMOVE)
        other_appeal = appeal_file(decision=other, text="Nein.", actor=uma)
        case_claim(case=other_appeal.case, actor=ada)
        instead = Action.LIMIT if outcome == AppealState.MODIFIED else None
        appeal_answer(
            appeal=other_appeal, outcome=outcome, answer="Gut.", action=instead, actor=ada
        )
        read(reverse("creator:decision", args=[other.code]))
    _decided(uma, mo, Action.MUTE, until=timezone.now() + timedelta(days=3))
    read(*pages)
    # Last: what was cleared is held against nobody again.
    appeal_answer(appeal=appeal, outcome=AppealState.OVERTURNED, answer="Er ist orange.", actor=ada)
    read(*pages)
    notices = Notice.objects.filter(recipient=uma)
    assert {"decision_remove", "decision_restriction", "appeal_upheld"} <= {
        notice.kind for notice in notices
    }
    read(*(reverse("creator:notice", args=[notice.code]) for notice in notices))


def test_a_reporter_who_reads_german_reads_everything_in_german(
    german: None, as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    version = factories.published(uma, title="Tusche")
    factories.published(rui, title="Aquarell")
    client = as_(rui)

    def read(address: str) -> None:
        page = client.get(address).content.decode()
        assert english_in(page) == [], address

    form = reverse("report", args=[version.code])
    for track in ("rule", "illegal", "copy"):
        read(f"{form}?track={track}")
    report_file(version=version, text="Das ist falsch.", actor=rui, language=Language.GERMAN)
    report = Report.objects.get()
    status = reverse("report-status", args=[report.token])
    read(status)
    case = case_claim(case=report.case, actor=mo)
    decision_make(case=case, action=Action.DISMISS, rules=[], facts="Nichts.", actor=mo)
    read(status)
    client.post(reverse("report-appeal", args=[report.token]), {"text": "Doch."})
    read(status)
    read(reverse("likeness"))
    client.post(
        reverse("likeness"),
        {
            **{"models": f"/models/{version.code}/", "email": "dana@example.org"},
            **{"signature": "Dana", "text": "Das bin ich.", "agrees": "on", "language": "de"},
        },
    )
    request = LikenessRequest.objects.get()
    page = reverse("likeness-page", args=[request.token])
    read(page)
    client.post(page)
    read(page)
    measure = ReportingMeasure.objects.create(
        account=rui,
        measure="suspension",
        state="in_force",
        figures={"answered": 4, "unfounded": 3},
        proposed_at=timezone.now(),
        reason="Dreimal ohne Grund.",
        decided_by=mo,
        decided_at=timezone.now(),
        until=timezone.now() + timedelta(days=7),
        appeal_until=timezone.now() + timedelta(days=184),
    )
    read(reverse("creator:measure", args=[measure.code]))


def test_a_creator_whose_model_the_clock_hides_reads_why_in_german(
    german: None, as_: Browser, uma: Account
) -> None:
    version = factories.published(uma, title="Tusche")
    likeness_request(
        models=version.code,
        email="dana@example.org",
        signature="Dana",
        text="Das bin ich.",
        agrees=True,
    )
    likeness_confirm(request=LikenessRequest.objects.get())
    ModelVersion.objects.update(hidden_from=timezone.now())
    holds_place()
    client, address = as_(uma), reverse("creator:hold", args=[version.code])
    assert '<html lang="de">' in client.get(address).content.decode()
    answers = [
        client.get(address),
        client.post(address, {"text": " "}),
        client.post(address, {"text": "Das ist niemand."}, follow=True),
        client.post(address, {"text": "Noch einmal."}),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 200, 409]
    hold_end(version=version, actor=None)
    for answer in (*answers, client.get(address)):
        assert english_in(answer.content.decode()) == []
    assert raised_in(holds) - set(REFUSALS["de"]) == set()
    content = StatementOfReasons.objects.get().content
    for part in ("effect", "territory", "facts", "detection", "decided", "elsewhere"):
        assert content[part]
        assert not ENGLISH.search(content[part]), content[part]
    assert not ENGLISH.search(" ".join(content["change"]))


def test_a_creator_reads_their_models_and_where_each_stands_in_german(
    german: None, as_: Browser, uma: Account, mo: Account
) -> None:
    client = as_(uma)

    def read(*addresses: str) -> None:
        for address in addresses:
            page = client.get(address).content.decode()
            assert '<html lang="de">' in page, address
            assert english_in(page) == [], address

    read(reverse("creator:models"))
    waiting = factories.submitted(uma, title="Tusche", licence="CC0", tags=["Tusche"])
    case = factories.held(uma, title="Kohle")
    versions = [waiting, factories.published(uma, title="Kreide"), case.version]
    pages = [reverse("creator:version", args=[version.code]) for version in versions]
    read(reverse("creator:models"), *pages)
    part = client.get(pages[0], headers={"HX-Request": "true"}).content.decode()
    assert "Wird gewogen" in part
    inquiry = inquiry_send(case=case_claim(case=case, actor=mo), text="Wer ist gezeigt?", actor=mo)
    read(pages[2])
    sent = client.post(
        reverse("creator:answer-inquiry", args=[case.version.code, inquiry.code]),
        {"answer": "Niemand."},
        follow=True,
    )
    assert english_in(sent.content.decode()) == []
    decision = _decided(uma, mo, Action.REMOVE)
    appeal_file(decision=decision, text="Nein.", actor=uma)
    read(reverse("creator:models"), reverse("creator:version", args=[decision.version.code]))
