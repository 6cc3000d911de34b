"""Reports through their pages: each track, later changes, floods, and who never learns of whom."""

import inspect
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from moderation import cases, evidence, language, likeness, outcomes, report_changes, reports
from moderation.authz import Hidden
from moderation.cases import cases_weigh
from moderation.decisions import decision_make
from moderation.misuse import measure_answer, measure_decide
from moderation.models import (
    Account,
    Case,
    Decision,
    Event,
    ModelVersion,
    Notice,
    Report,
    ReportingMeasure,
    TrustedFlagger,
)
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import Action
from moderation.throttle import LIMITS, Limit
from moderation.translations import REFUSALS
from tests import factories
from tests.test_api import Marketplace

Browser = Callable[[Account | None], Client]
pytestmark = pytest.mark.usefixtures("policy")


@pytest.fixture
def version(uma: Account) -> ModelVersion:
    return factories.published(uma)


def _send(client: Client, version: ModelVersion, **words: Any) -> Any:
    return client.post(
        reverse("report", args=[version.code]), {"text": "A red star.", "preview": "", **words}
    )


def _decide(case: Case, action: Action, mo: Account) -> None:
    case_claim(case=case, actor=mo)
    rules = ["red-star"] if action == Action.REMOVE else []
    decision_make(case=case, action=action, rules=rules, facts="Looked at it.", actor=mo)


NOTICE = {
    "track": "illegal",
    "place": "https://models.example.org/models/x/",
    "name": "Nia Notifier",
    "email": "nia@example.org",
    "good_faith": "on",
}


def test_a_report_can_be_sent_from_the_page_of_every_part_and_from_before_the_age_gate(
    version: ModelVersion, as_: Browser
) -> None:
    ModelVersion.objects.filter(pk=version.pk).update(visibility="age_restricted")
    page = as_(None).get(reverse("model", args=[version.code])).content.decode()
    assert "18+" in page
    assert reverse("report", args=[version.code]) in page
    ModelVersion.objects.filter(pk=version.pk).update(visibility="published")
    page = as_(None).get(reverse("model", args=[version.code])).content.decode()
    preview = version.previews.get()
    assert f"?preview={preview.code}" in page
    assert _send(as_(None), version, preview=preview.code).status_code == 302
    assert Report.objects.get().preview == preview


@pytest.mark.parametrize(
    ("missing", "code"),
    [("place", "no_place"), ("name", "no_name"), ("email", "no_email"), ("good_faith", "no_good")],
)
def test_a_notice_of_illegality_holds_what_article_16_asks_for(
    missing: str, code: str, version: ModelVersion, as_: Browser
) -> None:
    words = {key: value for key, value in NOTICE.items() if key != missing}
    if missing == "place":
        words["place"] = " "
    response = _send(as_(None), version, **words)
    assert response.status_code == 422
    assert f"{missing}-error" in response.content.decode()
    assert not Report.objects.exists()
    assert _send(as_(None), version, **NOTICE).status_code == 302


def test_nobody_is_asked_for_a_name_where_a_child_is_abused(
    version: ModelVersion, as_: Browser
) -> None:
    words = {"track": "illegal", "place": "the first preview", "is_child_safety": "on"}
    assert _send(as_(None), version, **words).status_code == 302
    report = Report.objects.get()
    assert (report.name, report.email, report.is_child_safety) == ("", "", True)
    assert report.case.priority >= 500, "harm 5, of a stranger, in public"


@pytest.mark.parametrize("measure", ["muted", "suspended", "reporting"])
def test_a_child_in_danger_is_reported_by_whoever_may_say_nothing_else(
    measure: str, version: ModelVersion, as_: Browser, rui: Account, mo: Account
) -> None:
    now = timezone.now()
    until = now + timedelta(days=9)
    if measure == "reporting":
        ReportingMeasure.objects.create(
            account=rui,
            measure="suspension",
            state="in_force",
            reason="Nothing of it was true.",
            proposed_at=now,
            decided_at=now,
            decided_by=mo,
            until=until,
            appeal_until=until,
        )
    else:
        rui.suspended_at = now if measure == "suspended" else None
        rui.suspended_until = rui.muted_until = until
        rui.save()
    client = as_(rui)
    assert _send(client, version).status_code == 403
    assert _send(client, version, **NOTICE).status_code == 403
    child = {"track": "illegal", "place": "the first preview", "is_child_safety": "on"}
    # Ticked on a report that breaks a rule only, it opens no door.
    assert _send(client, version, is_child_safety="on").status_code == 403
    assert _send(client, version, **child).status_code == 302
    assert Report.objects.get().is_child_safety


def test_a_child_in_danger_is_reported_with_an_address_that_has_many_open_reports(
    version: ModelVersion, as_: Browser
) -> None:
    for _ in range(5):
        assert _send(as_(None), version, email="nia@example.org").status_code == 302
    assert _send(as_(None), version, email="nia@example.org").status_code == 409
    letters = Notice.objects.count()
    child = {"track": "illegal", "place": "the first preview", "is_child_safety": "on"}
    sent = _send(as_(None), version, **child, email="nia@example.org")
    assert sent.status_code == 302
    report = Report.objects.get(is_child_safety=True)
    assert (report.email, Notice.objects.count()) == ("", letters), "no letter box is flooded"
    assert "It is the only way to learn the outcome." in as_(None).get(sent.url).content.decode()


def test_a_notice_of_illegal_content_is_taken_with_an_address_that_has_many_open_reports(
    version: ModelVersion, as_: Browser
) -> None:
    for _ in range(5):
        assert _send(as_(None), version, **NOTICE).status_code == 302
    letters = Notice.objects.count()
    sent = _send(as_(None), version, **NOTICE)
    assert sent.status_code == 302
    report = Report.objects.latest("pk")
    assert (report.name, report.email) == ("Nia Notifier", "")
    assert Notice.objects.count() == letters, "no letter box is flooded"
    assert "It is the only way to learn the outcome." in as_(None).get(sent.url).content.decode()
    # Without an address at all it is no notice.
    assert _send(as_(None), version, **NOTICE | {"email": ""}).status_code == 422


def test_a_creator_reports_a_copy_and_the_comparison_is_attached(
    version: ModelVersion, as_: Browser, rui: Account
) -> None:
    original = factories.published(rui)
    assert _send(as_(None), version, track="copy").status_code == 409
    assert _send(as_(rui), version, track="copy", original=version.code).status_code == 422
    response = _send(as_(rui), version, track="copy", original=original.code)
    assert response.status_code == 302
    comparison = Report.objects.get().comparison
    assert comparison["original"] == original.code
    assert (comparison["same_files"], comparison["same_previews"]) == (1, 1)


def test_a_registered_flagger_runs_on_a_lane_of_its_own_and_is_looked_at_first(
    version: ModelVersion, uma: Account, as_: Browser, rui: Account, mo: Account
) -> None:
    other = factories.published(uma)
    _send(as_(None), other)
    TrustedFlagger.objects.create(account=rui, organisation="Hotline of the North")
    assert _send(as_(rui), version, **NOTICE).status_code == 302
    assert Report.objects.get(version=version).track == "flagger"
    first = Case.objects.order_by("turn_at").first()
    assert first is not None
    assert first.version == version
    page = as_(mo).get(reverse("console:case", args=[first.code])).content.decode()
    assert "Hotline of the North" in page
    TrustedFlagger.objects.update(ended_at=timezone.now())
    third = factories.published(uma)
    _send(as_(rui), third, **NOTICE)
    assert Report.objects.get(version=third).track == "illegal"


def test_a_flagger_says_that_a_rule_is_broken_with_the_form_that_everybody_has(
    version: ModelVersion, as_: Browser, rui: Account
) -> None:
    TrustedFlagger.objects.create(account=rui, organisation="Hotline of the North")
    client = as_(rui)
    form = client.get(reverse("report", args=[version.code])).content.decode()
    assert "good_faith" not in form
    assert _send(client, version, track="rule", rule="red-star").status_code == 302
    assert Report.objects.get().track == "rule"
    assert _send(client, version, **NOTICE).status_code == 302
    assert Report.objects.filter(track="flagger").count() == 1


def test_who_said_that_a_rule_is_broken_can_still_give_notice_of_a_crime_and_of_a_child_in_danger(
    version: ModelVersion, as_: Browser, rui: Account, mo: Account
) -> None:
    client = as_(rui)
    child = {"track": "illegal", "place": "the first preview", "is_child_safety": "on"}
    for words in ({}, NOTICE, child):
        assert _send(client, version, **words).status_code == 302
        again = _send(client, version, **words | {"text": "A second star."})
        assert again.status_code == 409
        assert "A second star." in again.content.decode(), "what was typed is kept"
    case = Case.objects.get()
    kinds = set(case.reports.values_list("track", "is_child_safety"))
    assert kinds == {("rule", False), ("illegal", False), ("illegal", True)}
    assert case.reasons["reporters"] == 1, "one person, however often"
    _decide(case, Action.REMOVE, mo)
    assert Notice.objects.filter(kind="report_acted", recipient=rui).count() == 3


def test_a_picture_sent_along_is_copied_and_only_moderators_see_it(
    version: ModelVersion, as_: Browser, mo: Account, uma: Account
) -> None:
    assert _send(as_(None), version, pictures=factories.preview_upload()).status_code == 302
    evidence = Report.objects.get().evidence.get()
    address = reverse("console:evidence", args=[evidence.code])
    assert as_(mo).get(address).status_code == 200
    assert as_(uma).get(address).status_code == 403
    assert as_(None).get(address).status_code == 302
    refused = _send(as_(None), version, pictures=factories.preview_upload(content=b"no picture"))
    assert refused.status_code == 422
    assert Report.objects.count() == 1


def test_what_a_second_report_says_can_be_put_into_the_first(
    version: ModelVersion, as_: Browser, rui: Account
) -> None:
    client = as_(rui)
    first, second = "https://one.example.org/", "https://two.example.org/"
    _send(client, version, links=first, pictures=factories.preview_upload())
    more = {"text": "Two stars.", "rule": "red-star", "links": second}
    page = _send(client, version, **more, pictures=factories.preview_upload())
    assert page.status_code == 409
    shown = page.content.decode()
    assert '<option value="red-star" lang="en" selected>' in shown
    assert f"{first}\n{second}</textarea>" in shown
    assert "The pictures that you chose just now were not kept." in shown
    address = reverse("report", args=[version.code]) + "?language=de"
    in_german = client.post(address, {**more, "pictures": factories.preview_upload()})
    assert in_german.status_code == 409
    assert "wurden nicht behalten" in in_german.content.decode()
    assert f"{first}\n{second}</textarea>" in in_german.content.decode()
    report = Report.objects.get()
    address = reverse("report-change", args=[report.token])
    saved = {**more, "links": f"{first}\n{second}", "pictures": factories.preview_upload()}
    assert client.post(address, saved).status_code == 302
    report.refresh_from_db()
    assert (report.text, report.links) == ("Two stars.", [first, second])
    assert report.rule is not None and report.rule.slug == "red-star"
    assert report.evidence.count() == 2
    # Three in all, and what is no link is refused beside what was typed.
    two = [factories.preview_upload(), factories.preview_upload()]
    assert client.post(address, {**more, "pictures": two}).status_code == 422
    refused = client.post(address, {**more, "links": "javascript:alert(1)"})
    assert refused.status_code == 422
    assert "javascript:alert(1)</textarea>" in refused.content.decode()
    assert report.evidence.count() == 2
    # Words alone leave the rest as it is.
    assert client.post(address, {"text": "Three."}).status_code == 302
    report.refresh_from_db()
    assert (report.text, report.links, report.rule_id is None) == ("Three.", [first, second], False)


def test_an_open_report_is_changed_and_taken_back_by_its_private_link(
    version: ModelVersion, as_: Browser, rui: Account, mo: Account
) -> None:
    _send(as_(rui), version)
    report = Report.objects.get()
    address = reverse("report-change", args=[report.token])
    assert as_(None).post(address, {"text": "Two red stars."}).status_code == 302
    report.refresh_from_db()
    assert report.text == "Two red stars."
    assert as_(None).post(address, {"withdraw": "yes"}).status_code == 302
    assert as_(None).post(address, {"text": "Again."}).status_code == 409
    assert _send(as_(rui), version).status_code == 302, "who took it back may report again"
    _decide(report.case, Action.REMOVE, mo)
    told = Notice.objects.filter(kind="report_acted")
    assert [notice.report.text for notice in told if notice.report] == ["A red star."]


def test_the_words_of_a_report_are_not_changed_without_end_and_what_was_typed_is_kept(
    version: ModelVersion, as_: Browser, rui: Account
) -> None:
    _send(as_(rui), version)
    report = Report.objects.get()
    client, address = as_(None), reverse("report-change", args=[report.token])
    edited = Event.objects.filter(action="report.edited")
    for number in range(LIMITS["report.edit"].burst):
        assert client.post(address, {"text": f"{number} red stars."}).status_code == 302
        # The same words change nothing, and cost nothing.
        assert client.post(address, {"text": f"{number} red stars."}).status_code == 302
    before = edited.count()
    refused = client.post(address, {"text": "One star too many."})
    assert (refused.status_code, edited.count()) == (429, before)
    assert "One star too many." in refused.content.decode()
    german = client.post(f"{address}?language=de", {"text": "Ein Stern."})
    assert "in kurzer Zeit oft" in german.content.decode()
    report.refresh_from_db()
    assert report.text == f"{before - 1} red stars."
    # Taking it back stays open.
    assert client.post(address, {"withdraw": "yes"}).status_code == 302


def test_every_reporter_is_told_the_outcome_in_their_language_merged_ones_too(
    version: ModelVersion, as_: Browser, rui: Account, nobody: Account, mo: Account
) -> None:
    _send(as_(rui), version)
    _send(as_(nobody), version, language="de")
    _send(as_(None), version, language="de", email="v@example.org")
    assert Case.objects.filter(version=version).count() == 1
    _decide(Case.objects.get(version=version), Action.REMOVE, mo)
    told = Notice.objects.filter(kind="report_acted").order_by("pk")
    greetings = [notice.text.split()[0] for notice in told]
    assert greetings == ["Hello", "Guten", "Guten"]
    page = as_(None).get(reverse("report-status", args=[Report.objects.last().token]))  # type: ignore[union-attr]
    assert "Es wurde etwas unternommen." in page.content.decode()


def test_the_forms_ask_for_the_same_in_both_languages(
    version: ModelVersion, as_: Browser, rui: Account
) -> None:
    token = report_file(version=version, text="A red star.", actor=None).token
    factories.published(rui)
    pages = [
        reverse("report", args=[version.code]),
        reverse("report", args=[version.code]) + "?track=illegal",
        reverse("report", args=[version.code]) + "?track=copy",
        reverse("report-status", args=[token]),
        reverse("likeness"),
    ]
    for page in pages:
        mark = "&" if "?" in page else "?"
        answers = [
            as_(rui).get(f"{page}{mark}language={language}").content.decode()
            for language in ("en", "de")
        ]
        fields = [re.findall(r'name="([a-z_]+)"', answer) for answer in answers]
        assert fields[0] == fields[1], page
        assert 'lang="de"' in answers[1]
    for page in (pages[0], reverse("likeness")):
        answer = as_(None).get(page, headers={"accept-language": "de-AT"})
        assert answer["Content-Language"] == "de"
        # A strict server takes plain words only.
        assert {type(value) for value in answer.headers.values()} == {str}


def test_a_refusal_is_read_in_german_and_every_code_has_a_sentence(
    version: ModelVersion, as_: Browser
) -> None:
    response = _send(as_(None), version, text=" ", language="de")
    assert "Sagen Sie in ein paar Worten" in response.content.decode()
    raised = raised_in(reports, report_changes, likeness, evidence)
    assert raised - set(REFUSALS["de"]) == set()


def raised_in(*modules: Any) -> set[str]:
    """Return the codes of what modules refuse, as they stand in their source."""
    sources = "".join(inspect.getsource(module) for module in modules)
    return set(re.findall(r'code="([a-z_]+)"', sources))


def test_throttles_refuse_with_a_sentence_and_hide_nothing(
    version: ModelVersion, uma: Account, as_: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "report.visitor", Limit(burst=2, per_day=24))  # type: ignore[index]
    for _ in range(2):
        assert _send(as_(None), version).status_code == 302
    response = _send(as_(None), version)
    assert response.status_code == 429
    assert "Try again later" in response.content.decode()
    urgent = {"track": "illegal", "place": "here", "is_child_safety": "on"}
    assert _send(as_(None), version, **urgent).status_code == 302, "a child is never refused"
    version.refresh_from_db()
    assert version.visibility == "published"


def test_a_header_that_anybody_can_send_gives_nobody_a_fresh_bucket(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setitem(LIMITS, "report.visitor", Limit(burst=1, per_day=24))  # type: ignore[index]
    answers = [
        _send(Client(headers={"x-forwarded-for": f"203.0.113.{last}"}), version).status_code
        for last in (1, 2)
    ]
    assert answers == [302, 429]
    settings.TRUSTED_PROXIES = 1
    answers = [
        _send(Client(headers={"x-forwarded-for": f"1.1.1.1, 203.0.113.{last}"}), version)
        for last in (1, 2, 2)
    ]
    assert [answer.status_code for answer in answers] == [302, 302, 429]


def test_a_flood_is_one_case_weighed_later_and_outcomes_come_in_portions(
    version: ModelVersion, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "PORTION", 10)
    people = Account.objects.bulk_create(
        Account(username=f"p{number}", email=f"p{number}@example.org") for number in range(35)
    )
    for person in people:
        report_file(version=version, text="No.", actor=person)
    case = Case.objects.get(version=version)
    assert case.weighed_at is None
    assert cases_weigh() == 1
    case.refresh_from_db()
    assert case.reasons["reporters"] == 35
    version.refresh_from_db()
    assert version.visibility == "published", "nothing is hidden by a count"
    assert case.priority <= 200, "a crowd without a rule does not pass for harm"
    _decide(case, Action.APPROVE, mo)
    assert Report.objects.filter(state="no_action").count() == 35
    while outcomes.reports_tell(limit=10):
        pass
    told = Notice.objects.filter(kind="report_no_action")
    assert told.count() == told.values("recipient").distinct().count() == 35


def test_a_report_that_comes_in_while_its_case_is_weighed_is_weighed_next(
    version: ModelVersion, rui: Account, nobody: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_file(version=version, text="No.", actor=rui)
    read = cases.case_witnesses

    def read_and_then_another(case: Case) -> Any:
        found = read(case)
        monkeypatch.undo()
        report_file(version=version, text="Nor do I.", actor=nobody)
        return found

    monkeypatch.setattr(cases, "case_witnesses", read_and_then_another)
    assert cases_weigh() == 1
    case = Case.objects.get()
    assert (case.reasons["reporters"], case.weighed_at) == (1, None)
    assert cases_weigh() == 1
    case.refresh_from_db()
    assert case.reasons["reporters"] == 2
    assert case.weighed_at is not None


def test_a_report_has_no_web_process_read_what_languages_are_guessed_by(
    as_: Browser, version: ModelVersion, rui: Account
) -> None:
    language._identifier.cache_clear()
    version.uploaded_model.title = "Ein Aquarell von einem alten Leuchtturm am Meer"
    version.uploaded_model.save()
    as_(rui).post(reverse("report", args=[version.code]), {"text": "No.", "track": "rule"})
    case = Case.objects.get()
    assert case.reasons["reporters"] == 1
    assert language._identifier.cache_info().currsize == 0
    cases_weigh()
    assert case.facets.get(kind="language").value == "de"


def test_in_a_flood_a_report_takes_few_queries_and_the_lock_of_the_record_last(
    as_: Browser, version: ModelVersion
) -> None:
    address = reverse("report", args=[version.code])
    clients = [as_(factories.account(f"p{number}")) for number in range(12)]
    for client in clients[:-1]:
        client.post(address, {"text": "No."})
    with CaptureQueriesContext(connection) as first:
        assert clients[-1].post(address, {"text": "No."}).status_code == 302
    with CaptureQueriesContext(connection) as again:
        assert clients[-1].post(address, {"text": "No."}).status_code == 302
    # Session, account, version, a report of one's own; then suspension, flagger, two throttles.
    assert len(again) == 4
    written = [query["sql"] for query in first if query["sql"].startswith(("INSERT", "UPDATE"))]
    assert "moderation_event" in written[-1]
    assert len(first) <= 20


@pytest.mark.django_db(transaction=True)
def test_many_reports_at_the_same_moment_make_one_case(
    policy: Any, uma: Account, asleep: None
) -> None:
    version = factories.published(uma)
    people = [factories.account(f"p{number}") for number in range(8)]

    def send(person: Account) -> None:
        try:
            report_file(version=version, text="No.", actor=person)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as crowd:
        list(crowd.map(send, people))
    assert Case.objects.filter(version=version).count() == 1
    assert Report.objects.count() == 8


def test_a_reporters_record_orders_the_queue_and_is_shown_as_a_fraction(
    uma: Account, rui: Account, nobody: Account, mo: Account, as_: Browser
) -> None:
    for person, action in ((rui, Action.REMOVE), (nobody, Action.APPROVE)):
        for _ in range(3):
            past = factories.published(uma)
            report_file(version=past, text="A red star.", rule="red-star", actor=person)
            _decide(Case.objects.get(version=past), action, mo)
    cases = []
    for person in (nobody, rui):
        version = factories.published(uma)
        report = report_file(version=version, text="A star.", rule="red-star", actor=person)
        cases.append(report.case)
    for case in cases:
        case.refresh_from_db()
    assert cases[1].priority > cases[0].priority > 0
    assert cases[1].turn_at < cases[0].turn_at, "who was right before is looked at first"
    page = as_(mo).get(reverse("console:case", args=[cases[0].code])).content.decode()
    assert "right 0 of 3 of this kind, 0 of 3 in all" in page


def test_misuse_is_proposed_by_figures_decided_by_a_person_and_appealed_to_another(
    uma: Account, rui: Account, mo: Account, ada: Account, as_: Browser
) -> None:
    def empty_reports(count: int) -> None:
        for _ in range(count):
            version = factories.published(uma)
            report = report_file(version=version, text="Nonsense.", actor=rui)
            _decide(report.case, Action.APPROVE, mo)
            as_(mo).post(reverse("console:unfounded", args=[report.code]))

    empty_reports(2)
    assert not ReportingMeasure.objects.exists()
    empty_reports(1)
    warning = ReportingMeasure.objects.get()
    assert (warning.measure, warning.state) == ("warning", "proposed")
    assert as_(rui).get(reverse("creator:measure", args=[warning.code])).status_code == 404
    settle = reverse("console:settle-measure", args=[warning.code])
    assert as_(mo).post(settle, {"verdict": "yes", "words": " "}).status_code == 422
    as_(mo).post(settle, {"verdict": "yes", "words": "Three empty reports."})
    empty_reports(3)
    suspension = ReportingMeasure.objects.get(measure="suspension")
    settle = reverse("console:settle-measure", args=[suspension.code])
    refused = as_(mo).post(settle, {"verdict": "yes", "words": "Again.", "days": "400"})
    assert refused.status_code == 422
    assert 'value="400"' in refused.content.decode()
    as_(mo).post(settle, {"verdict": "yes", "words": "Again.", "days": "14"})
    version = factories.published(uma)
    assert _send(as_(rui), version).status_code == 403
    own = reverse("creator:measure", args=[suspension.code])
    assert as_(rui).post(own, {"text": "They were honest."}).status_code == 302
    assert "Mine." in as_(mo).post(settle, {"verdict": "no", "words": "Mine."}).content.decode()
    suspension.refresh_from_db()
    assert suspension.state == "appealed", "who decided does not answer"
    as_(ada).post(settle, {"verdict": "no", "words": "Two of them had a point."})
    suspension.refresh_from_db()
    assert suspension.state == "overturned"
    late = as_(ada).post(settle, {"verdict": "no", "words": "On second thoughts."})
    assert late.status_code == 409
    assert "On second thoughts." in late.content.decode()
    assert _send(as_(rui), version).status_code == 302


def test_who_reported_a_moderators_own_model_is_named_to_others_alone(
    uma: Account, rui: Account, mo: Account, ada: Account, as_: Browser
) -> None:
    for creator in (mo, uma, uma):
        report = report_file(version=factories.published(creator), text="Nonsense.", actor=rui)
        _decide(report.case, Action.APPROVE, ada)
        as_(ada).post(reverse("console:unfounded", args=[report.code]))
    measure = ReportingMeasure.objects.get()
    page, settle = reverse("console:misuse"), reverse("console:settle-measure", args=[measure.code])
    for what in ({"verdict": "yes", "words": "Enough."}, {"verdict": "no", "words": "It stands."}):
        assert "rui" not in as_(mo).get(page).content.decode()
        assert as_(mo).post(settle, what).status_code == 404
        assert "rui" in as_(ada).get(page).content.decode()
        if measure.state == "proposed":
            as_(ada).post(settle, what)
            as_(rui).post(reverse("creator:measure", args=[measure.code]), {"text": "Honest."})
            measure.refresh_from_db()
    assert measure.state == "appealed"
    for refused in (measure_decide, measure_answer):
        words = (
            {"accept": True, "reason": "So."}
            if refused is measure_decide
            else {"uphold": True, "answer": "So."}
        )
        with pytest.raises(Hidden):
            refused(measure=measure, actor=mo, **words)


def test_what_is_held_apart_is_named_neither_beside_a_measure_nor_to_a_depicted_person(
    uma: Account, rui: Account, mo: Account, ada: Account, as_: Browser
) -> None:
    for title in ("Ash grove", "Birch grove", "Cedar grove"):
        report = report_file(version=factories.published(uma, title=title), text="No.", actor=rui)
        _decide(report.case, Action.APPROVE, mo)
        as_(mo).post(reverse("console:unfounded", args=[report.code]))
    ModelVersion.objects.filter(uploaded_model__title="Cedar grove").update(
        visibility="removed", isolated_at=timezone.now()
    )
    page = as_(ada).get(reverse("console:misuse")).content.decode()
    assert "Birch grove" in page
    assert "Cedar grove" not in page


def test_nothing_that_a_creator_can_reach_names_who_reported(
    version: ModelVersion,
    uma: Account,
    mo: Account,
    as_: Browser,
    mailoutbox: list[EmailMultiAlternatives],
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: Any,
) -> None:
    caplog.set_level(logging.DEBUG)
    rosa = factories.account("rosa-reporter")
    poison = ["rosa-reporter", "rosa@", "Nia Notifier", "nia@example.org", "Report-words-61"]
    with django_capture_on_commit_callbacks(execute=True):
        _send(as_(rosa), version, text="Report-words-61")
        _send(as_(None), version, **NOTICE | {"text": "Report-words-61"})
        _decide(Case.objects.get(version=version), Action.REMOVE, mo)
    assert Report.objects.count() == 2
    poison += list(Report.objects.values_list("token", flat=True))
    poison += list(Report.objects.values_list("code", flat=True))

    client, seen, waiting = as_(uma), set[str](), ["/studio/", "/studio/notices/", "/"]
    while waiting:
        address = waiting.pop()
        if address in seen or address.startswith("/static/"):
            continue
        seen.add(address)
        response = client.get(address)
        if response.status_code != 200 or not response["Content-Type"].startswith("text/html"):
            continue
        page = response.content.decode()
        assert not [word for word in poison if word in page], address
        assert not [word for word in poison if word in str(response.headers)], address
        waiting += re.findall(r'href="(/[^"#]*)"', page)
    assert any("/decisions/" in address for address in seen)
    letters = [letter for letter in mailoutbox if letter.to == [uma.email]]
    assert letters
    for letter in letters:
        whole = letter.message().as_string()
        assert not [word for word in poison if word in whole]
    lines = "\n".join(record.getMessage() for record in caplog.records)
    assert not [word for word in poison[:5] if word in lines]


def test_nothing_that_machines_read_names_who_reported(
    version: ModelVersion, uma: Account, mo: Account, as_: Browser, tmp_path: Path
) -> None:
    rosa = factories.account("rosa-reporter")
    _send(as_(rosa), version, text="Report-words-61")
    _send(as_(None), version, **NOTICE | {"text": "Report-words-61"})
    _decide(Case.objects.get(version=version), Action.REMOVE, mo)
    decision = Decision.objects.get()
    poison = ["rosa-reporter", "rosa@", "Nia Notifier", "nia@example.org", "Report-words-61"]
    poison += [*Report.objects.values_list("token", flat=True)]
    poison += [*Report.objects.values_list("code", flat=True)]
    code = version.code
    shop, read = Marketplace(uma), []
    for path in (
        *("/versions", f"/versions/{code}", f"/versions/{code}/findings", "/events"),
        *("/decisions", f"/decisions/{decision.code}"),
    ):
        answer = shop.get(path)
        assert answer.status_code == 200, path
        read.append(answer.content.decode())
    for command in (
        ["export", "--since", "2020-01-01", "--out", str(tmp_path)],
        ["report", "--year", str(timezone.now().year)],
    ):
        out = StringIO()
        call_command("transparency", *command, stdout=out)
        read.append(out.getvalue())
    read += [path.read_text() for path in tmp_path.glob("*.json")]
    read.append(as_(None).get(reverse("transparency")).content.decode())
    assert len(read) == 10
    for text in read:
        assert not [word for word in poison if word in text], text[:200]


def test_a_dead_letter_waits_for_the_team_and_is_sent_again(
    version: ModelVersion, as_: Browser, mo: Account, rui: Account
) -> None:
    notice = Notice.objects.filter(recipient=version.uploaded_model.creator).first()
    assert notice is not None
    Notice.objects.filter(pk=notice.pk).update(state="dead", attempts=5, error="550 no such box")
    assert as_(rui).get(reverse("console:letters")).status_code == 403
    page = as_(mo).get(reverse("console:letters")).content.decode()
    assert "550 no such box" in page
    assert notice.subject not in page
    as_(mo).post(reverse("console:resend-letter", args=[notice.code]))
    notice.refresh_from_db()
    assert (notice.state, notice.attempts) == ("queued", 0)
