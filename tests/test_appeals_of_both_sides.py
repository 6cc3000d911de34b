"""Appeals by creators and reporters, their threads and files, and the edge cases others met."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import appeals, overturns
from moderation.appeals import appeal_file, appeal_file_by_reporter
from moderation.bulk import cases_decide, shown_sign
from moderation.decisions import (
    decision_confirm,
    decision_make,
    decision_reverse,
    decision_undo,
)
from moderation.errors import Conflict, NotAllowed
from moderation.hearings import appeal_answer
from moderation.misuse import misuse_figures
from moderation.models import (
    Account,
    Appeal,
    AppealFile,
    AppealMessage,
    Case,
    ClearedDigest,
    Decision,
    Event,
    ModelVersion,
    Notice,
    Report,
    Rule,
    StatementOfReasons,
)
from moderation.queue import case_claim, case_release, queue_claim_next
from moderation.reasons import Terms
from moderation.reporters import Accuracy, accuracies
from moderation.reports import Words, report_file
from moderation.states import Action, AppealState, Language, Role, Track
from moderation.throttle import LIMITS, Limit
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


@pytest.fixture
def sam(db: None) -> Account:
    return factories.account("sam", role=Role.MODERATOR)


def _reported(uma: Account, rui: Account | None, **texts: Any) -> Report:
    version = factories.published(uma, **texts)
    return report_file(version=version, text="A red star.", actor=rui)


def _decide(case: Case, mo: Account, action: Action) -> Decision:
    case.refresh_from_db()
    case_claim(case=case, actor=mo)
    rules = [] if action == Action.APPROVE else ["red-star"]
    return decision_make(case=case, action=action, rules=rules, facts="Seen.", actor=mo)


def _answer(appeal: Appeal, ada: Account, outcome: AppealState, **more: Any) -> Appeal:
    appeal.case.refresh_from_db()
    case_claim(case=appeal.case, actor=ada)
    return appeal_answer(appeal=appeal, outcome=outcome, answer="Because.", actor=ada, **more)


# --- Reporters ------------------------------------------------------------------------------


def test_a_visitor_appeals_that_nothing_was_done_by_the_private_link(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, None)
    page = reverse("report-status", args=[report.token])
    address = reverse("report-appeal", args=[report.token])
    assert address not in as_(None).get(page).content.decode()
    _decide(report.case, mo, Action.APPROVE)
    assert address in as_(None).get(page).content.decode()
    proof = SimpleUploadedFile("proof.txt", b"Look at the third one.")
    sent = as_(None).post(address, {"text": "Look again.", "files": [proof]})
    assert sent.status_code == 302
    appeal = Appeal.objects.get()
    assert (appeal.side, appeal.appellant, appeal.case) == ("reporter", None, report.case)
    assert as_(None).post(address, {"text": "Again."}).status_code == 409
    # The same queue as any other appeal, and not for who decided.
    assert queue_claim_next(actor=mo) is None
    assert queue_claim_next(actor=ada) == report.case
    shown = as_(ada).get(reverse("console:conversation", args=[report.case.code])).content.decode()
    assert "proof.txt" in shown
    appeal_answer(
        appeal=appeal,
        outcome=AppealState.OVERTURNED,
        answer="You are right.",
        action=Action.REMOVE,
        rules=["red-star"],
        actor=ada,
    )
    report.version.refresh_from_db()
    assert report.version.visibility == "removed"
    assert "You are right." in as_(None).get(page).content.decode()
    removal = Decision.objects.get(action="remove")
    assert StatementOfReasons.objects.get().decision == removal
    # The creator has their own appeal against it, and neither who decided first nor who overturned.
    theirs = appeal_file(decision=removal, text="No.", actor=uma)
    for person in (mo, ada):
        with pytest.raises(NotAllowed):
            case_claim(case=theirs.case, actor=person)


@pytest.mark.parametrize(
    ("told_in", "subject", "words"),
    [
        (Language.ENGLISH, "was changed", "It is no longer listed or recommended"),
        (Language.GERMAN, "wurde geändert", "Es wird nicht mehr aufgelistet"),
    ],
)
def test_reporters_are_told_what_takes_the_place_of_the_action_they_were_told_of(
    told_in: Language,
    subject: str,
    words: str,
    uma: Account,
    rui: Account,
    mo: Account,
    ada: Account,
) -> None:
    Account.objects.filter(pk=rui.pk).update(language=told_in)
    version = factories.published(uma)
    theirs = report_file(version=version, text="A star.", language=told_in, actor=rui)
    by_mail = report_file(
        version=version, text="A star.", email="v@example.org", language=told_in, actor=None
    )
    removal = _decide(theirs.case, mo, Action.REMOVE)
    appeal = appeal_file(decision=removal, text="It is orange.", actor=uma)
    _answer(appeal, ada, AppealState.MODIFIED, action=Action.LIMIT)
    for report in (theirs, by_mail):
        assert _told(report)[-1] == "report_modified"
        notice = Notice.objects.get(report=report, kind="report_modified")
        assert subject in notice.subject
        assert words in notice.text and words in notice.html
        assert "It is orange." not in notice.text


def test_who_sent_two_reports_with_one_address_appeals_the_decision_once(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    version = factories.published(uma)
    factories.address_confirmed(rui)
    typed = ("nia@visitors.example.org", "Nia@Visitors.example.ORG", "RUI@example.org", "", "")
    reports = [
        report_file(version=version, text="A red star.", email=email, actor=None) for email in typed
    ]
    theirs = report_file(version=version, text="A red star.", actor=rui)
    _decide(theirs.case, mo, Action.APPROVE)

    def send(report: Report, by: Account | None, language: str = "en") -> Any:
        address = reverse("report-appeal", args=[report.token])
        return as_(by).post(f"{address}?language={language}", {"text": "Look again."})

    assert send(theirs, rui).status_code == 302
    first, same, of_account, nameless, other = reports
    assert send(first, None).status_code == 302
    refused = send(same, None)
    assert refused.status_code == 409
    assert "Somebody with the e-mail address of this report" in refused.content.decode()
    assert "Look again." in refused.content.decode(), "what was typed is kept"
    assert "Jemand mit der E-Mail-Adresse" in send(same, None, "de").content.decode()
    assert send(of_account, None).status_code == 409
    # Who left no address is nobody's double.
    assert [send(each, None).status_code for each in (nameless, other)] == [302, 302]
    assert Appeal.objects.count() == 4


def test_an_address_that_a_stranger_typed_keeps_no_account_from_its_appeal(
    uma: Account, rui: Account, mo: Account
) -> None:
    factories.address_confirmed(rui)
    theirs = _reported(uma, rui)
    version = theirs.version
    stranger = report_file(version=version, text="A star.", email=rui.email, actor=None)
    _decide(theirs.case, mo, Action.APPROVE)
    appeal_file_by_reporter(report=stranger, text="Look.", actor=None)
    assert appeal_file_by_reporter(report=theirs, text="Look.", actor=rui).appellant == rui


def test_only_who_has_the_link_or_the_role_reads_the_files_of_an_appeal(
    as_: Browser, uma: Account, rui: Account, mo: Account, nobody: Account
) -> None:
    report = _reported(uma, rui)
    _decide(report.case, mo, Action.APPROVE)
    proof = SimpleUploadedFile("p.html", b"<script>alert(1)</script>")
    appeal_file_by_reporter(report=report, text="Look.", uploads=[proof], actor=rui)
    row = AppealFile.objects.get()
    by_link = reverse("report-file", args=[report.token, row.code])
    answer = as_(None).get(by_link)
    assert answer.status_code == 200
    # A page that runs is what it was read as, a text, by its name as well.
    assert answer["Content-Disposition"] == 'attachment; filename="p.html.txt"'
    assert answer["Content-Type"] == "application/octet-stream"
    assert as_(mo).get(reverse("console:appeal-file", args=[row.code])).status_code == 200
    for person in (uma, nobody):
        for name in ("console:appeal-file", "creator:appeal-file"):
            assert as_(person).get(reverse(name, args=[row.code])).status_code == 404
    assert as_(None).get(reverse("report-file", args=["x" * 32, row.code])).status_code == 404


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"MZ\x90\x00\x03", "neither a picture"), (b"", "is empty"), (b"a" * 5_300_000, "5 MB")],
)
def test_a_file_that_is_no_small_picture_pdf_or_text_is_refused_and_nothing_is_kept(
    content: bytes, words: str, as_: Browser, uma: Account, mo: Account
) -> None:
    decision = factories.decided(uma, mo)
    upload = SimpleUploadedFile("proof.png", content)
    given = {"text": "It is orange.", "files": [upload]}
    answer = as_(uma).post(reverse("creator:decision", args=[decision.code]), given)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert words in page
    assert "It is orange." in page
    assert not Appeal.objects.exists()


def test_a_thread_joins_both_sides_until_it_is_answered(
    as_: Browser, uma: Account, mo: Account, ada: Account, nobody: Account
) -> None:
    decision = factories.decided(uma, mo)
    appeal = appeal_file(decision=decision, text="It is orange.", actor=uma)
    client = as_(ada)
    ask = reverse("console:message", args=[decision.case.code, appeal.code])
    refused = client.post(ask, {"message": "Which <one>?"})
    assert refused.status_code == 409
    assert "Which &lt;one&gt;?</textarea>" in refused.content.decode()
    client.post(reverse("console:claim", args=[decision.case.code]))
    assert client.post(ask, {"message": "Which one?"}).status_code == 302
    assert "Which one?" in Notice.objects.get(kind="appeal_message").text
    page = reverse("creator:decision", args=[decision.code])
    assert "Which one?" in as_(uma).get(page).content.decode()
    reply = reverse("creator:appeal-message", args=[decision.code])
    assert as_(uma).post(reply, {"message": "The <third>."}).status_code == 302
    letters = reverse("console:conversation", args=[decision.case.code])
    shown = client.get(letters).content.decode()
    assert "The &lt;third&gt;." in shown
    assert as_(nobody).post(reply, {"message": "Me too."}).status_code == 404
    _answer(appeal, ada, AppealState.UPHELD)
    assert as_(uma).post(reply, {"message": "But"}).status_code == 409
    late = client.post(ask, {"message": "One more thing"})
    assert late.status_code == 409
    assert "One more thing</textarea>" in late.content.decode()


@pytest.mark.parametrize("language", [Language.ENGLISH, Language.GERMAN])
def test_a_message_that_is_refused_is_not_lost(
    language: Language,
    as_: Browser,
    uma: Account,
    rui: Account,
    mo: Account,
    ada: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Account.objects.filter(pk=uma.pk).update(language=language)
    uma.refresh_from_db()
    appeal = appeal_file(decision=factories.decided(uma, mo), text="No.", actor=uma)
    report = _reported(factories.account("una"), None)
    _decide(report.case, mo, Action.APPROVE)
    report.refresh_from_db()
    reporters = appeal_file_by_reporter(report=report, text="Yes.", actor=None)
    by_link = reverse("report-appeal", args=[report.token]) + f"?language={language}"
    threads = (
        (as_(uma), reverse("creator:appeal-message", args=[appeal.decision.code]), appeal),
        (as_(None), by_link, reporters),
    )
    monkeypatch.setitem(LIMITS, "appeal.message", Limit(burst=1, per_day=1))  # type: ignore[index]
    for client, address, about in threads:
        refused = client.post(address, {"message": "Too long. " * 401})
        assert refused.status_code == 422
        assert "Too long. Too long." in refused.content.decode()
        assert client.post(address, {"message": "It is <orange>."}).status_code == 302
        # A thread has a throttle of its own: each message takes the lock of the record.
        refused = client.post(address, {"message": "And <round>."})
        assert refused.status_code == 429
        assert "And &lt;round&gt;.</textarea>" in refused.content.decode()
        _answer(about, ada, AppealState.UPHELD)
        late = client.post(address, {"message": "But <blue>."})
        assert late.status_code == 409
        said = late.content.decode()
        assert "But &lt;blue&gt;.</textarea>" in said
        words = "has been answered" if language == Language.ENGLISH else "wurde beantwortet"
        assert words in said
    assert AppealMessage.objects.count() == 2


def test_files_of_an_appeal_that_fails_stay_nowhere(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = factories.decided(uma, mo)
    proof = SimpleUploadedFile("proof.txt", b"Look.")

    def refuse(**_: Any) -> None:
        raise Conflict("Somebody else was quicker.", code="stale_decision")

    # The letter is the last that is written.
    with monkeypatch.context() as broken:
        broken.setattr(appeals, "notice_issue", refuse)
        address = reverse("creator:decision", args=[decision.code])
        assert as_(uma).post(address, {"text": "No.", "files": [proof]}).status_code == 409
    assert not Appeal.objects.exists()
    assert not list(Path(default_storage.path("appeals")).iterdir())


def test_a_reporter_appeals_until_the_last_minute_of_day_184_and_no_later(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = _reported(uma, None)
    decision = _decide(report.case, mo, Action.APPROVE)
    assert decision.effect.ended_at is not None
    last = decision.effect.ended_at + timedelta(days=184)
    address = reverse("report-appeal", args=[report.token])
    monkeypatch.setattr(appeals.timezone, "now", lambda: last + timedelta(minutes=1))
    answer = as_(None).post(address, {"text": "Look again."})
    assert answer.status_code == 410
    assert "out-of-court" in answer.content.decode()
    monkeypatch.setattr(appeals.timezone, "now", lambda: last)
    assert as_(None).post(address, {"text": "Look again."}).status_code == 302


def _told(report: Report) -> list[str]:
    return list(Notice.objects.filter(report=report).order_by("pk").values_list("kind", flat=True))


def test_everybody_who_was_told_that_nothing_is_done_is_told_what_an_appeal_has_changed(
    as_: Browser, uma: Account, rui: Account, nobody: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, rui)
    by_account = report_file(version=report.version, text="Me too.", actor=nobody)
    by_visitor = report_file(
        version=report.version, text="Ich auch.", email="v@example.org", language="de", actor=None
    )
    _decide(report.case, mo, Action.APPROVE)
    as_(mo).post(reverse("console:unfounded", args=[by_account.code]))
    appeal = appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    _answer(appeal, ada, AppealState.OVERTURNED, action=Action.REMOVE, rules=["red-star"])
    assert _told(report) == [
        "report_received",
        "report_no_action",
        "report_appeal_received",
        "report_appeal_overturned",
    ]
    for each in (by_account, by_visitor):
        assert _told(each) == ["report_received", "report_no_action", "report_acted"]
        each.refresh_from_db()
        assert each.state == "acted"
    letter = Notice.objects.get(kind="report_acted", email="v@example.org").text
    assert "dass es bleibt, wie es ist" in letter
    page = as_(None).get(reverse("report-status", args=[by_visitor.token])).content.decode()
    assert "Es wurde etwas unternommen." in page
    assert accuracies([rui.pk, nobody.pk])[rui.pk][""] == Accuracy(right=1, answered=1)
    assert misuse_figures(nobody).unfounded == 0

    # The creator appeals in their turn, with success: everybody hears of it, and it counts.
    removal = Decision.objects.get(action="remove")
    sam = factories.account("sam", role=Role.MODERATOR)
    _answer(appeal_file(decision=removal, text="No.", actor=uma), sam, AppealState.OVERTURNED)
    for each in (report, by_account, by_visitor):
        assert _told(each)[-1] == "report_reversed"
    assert (
        "später zurückgenommen"
        in as_(None).get(reverse("report-status", args=[by_visitor.token])).content.decode()
    )
    assert accuracies([rui.pk])[rui.pk][""] == Accuracy(right=0, answered=1)


@pytest.mark.parametrize(
    ("action", "told"), [(Action.REMOVE, "report_acted"), (Action.APPROVE, "report_no_action")]
)
def test_whose_appeal_was_sent_back_hears_what_was_decided_anew(
    action: Action,
    told: str,
    uma: Account,
    rui: Account,
    nobody: Account,
    mo: Account,
    ada: Account,
    sam: Account,
) -> None:
    report = _reported(uma, rui)
    other = report_file(version=report.version, text="Me too.", actor=nobody)
    _decide(report.case, mo, Action.APPROVE)
    appeal = appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    _answer(appeal, ada, AppealState.REMANDED)
    _decide(report.version.cases.get(state="queued"), sam, action)
    assert _told(report)[-2:] == ["report_appeal_remanded", told]
    assert _told(other)[2:] == (["report_acted"] if action == Action.REMOVE else [])
    if action == Action.REMOVE:
        decision_reverse(decision=Decision.objects.get(action="remove"), facts="No.", actor=sam)
        for each in (report, other):
            assert _told(each)[-1] == "report_reversed"


@pytest.mark.parametrize("anew", [Action.REMOVE, Action.LIMIT])
def test_whoever_reported_hears_what_becomes_of_a_decision_that_was_made_anew(
    anew: Action,
    as_: Browser,
    uma: Account,
    rui: Account,
    mo: Account,
    ada: Account,
    sam: Account,
) -> None:
    report = _reported(uma, rui)
    removed = _decide(report.case, mo, Action.REMOVE)
    _answer(appeal_file(decision=removed, text="No.", actor=uma), ada, AppealState.REMANDED)
    second = _decide(report.version.cases.get(state="queued"), sam, anew)
    assert second.case != report.case
    assert accuracies([rui.pk])[rui.pk][""] == Accuracy(right=1, answered=1)
    decision_reverse(decision=second, facts="Orange.", actor=sam)
    assert _told(report)[-1] == "report_reversed"
    page = as_(rui).get(reverse("report-status", args=[report.token])).content.decode()
    assert "later taken back" in page
    assert accuracies([rui.pk])[rui.pk][""] == Accuracy(right=0, answered=1)
    # And whoever reported can appeal that.
    report.refresh_from_db()
    appeal = appeal_file_by_reporter(report=report, text="It is red.", actor=rui)
    third = factories.account("kim", role=Role.MODERATOR)
    granted = {"action": Action.REMOVE, "rules": ["red-star"]}
    _answer(appeal, third, AppealState.OVERTURNED, **granted)
    report.refresh_from_db()
    assert report.decision is not None and report.decision.appeal == appeal


def test_what_merely_came_on_top_is_taken_back_without_a_word_to_who_reported_before(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    Rule.objects.update(actions=["limit", "remove"])
    report = _reported(uma, rui)
    _decide(report.case, mo, Action.LIMIT)
    report_file(version=report.version, text="Worse.", actor=None)
    removal = _decide(report.version.cases.get(state="queued"), mo, Action.REMOVE)
    decision_reverse(decision=removal, facts="Too hard.", actor=mo)
    assert _told(report)[-1] == "report_acted"
    page = as_(rui).get(reverse("report-status", args=[report.token])).content.decode()
    assert "later taken back" not in page


def test_a_granted_appeal_settles_those_of_other_reporters_against_the_same_decision(
    uma: Account, rui: Account, nobody: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, rui)
    other = report_file(version=report.version, text="Me too.", actor=nobody)
    _decide(report.case, mo, Action.APPROVE)
    for each, person in ((report, rui), (other, nobody)):
        each.refresh_from_db()
        appeal_file_by_reporter(report=each, text="Look again.", actor=person)
    granted = {"action": Action.LABEL, "rules": ["red-star"], "terms": Terms(label="Red stars")}
    _answer(report.appeals.get(), ada, AppealState.OVERTURNED, **granted)
    assert [appeal.state for appeal in Appeal.objects.order_by("pk")] == ["overturned", "moot"]
    assert _told(other)[-2:] == ["report_acted", "appeal_moot"]
    report.case.refresh_from_db()
    assert report.case.state == "closed"


def test_a_restriction_under_another_rule_takes_no_reporters_appeal_away(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, rui)
    Report.objects.update(rule=Rule.objects.get(slug="yellow-ring"))
    _decide(report.case, mo, Action.APPROVE)
    client = as_(rui)
    file = reverse("report-appeal", args=[report.token])

    def restrict(action: Action, rule: str) -> None:
        report.version.refresh_from_db()
        report_file(version=report.version, text="And this.", actor=None)
        case = case_claim(case=report.version.cases.get(state="queued"), actor=mo)
        decision_make(
            case=case,
            action=action,
            rules=[rule],
            facts="Seen.",
            terms=Terms(label="Red stars") if action == Action.LABEL else Terms(),
            actor=mo,
        )

    restrict(Action.LABEL, "red-star")
    assert file in client.get(reverse("report-status", args=[report.token])).content.decode()
    assert client.post(file, {"text": "It copies a person."}).status_code == 302
    appeal = Appeal.objects.get()
    restrict(Action.LIMIT, "red-star")
    appeal.refresh_from_db()
    assert appeal.state == "open", "people can still see it"
    restrict(Action.REMOVE, "red-star")
    appeal.refresh_from_db()
    assert appeal.state == "moot"


def test_what_is_decided_anew_after_an_appeal_still_says_that_it_was_reported(
    uma: Account, rui: Account, mo: Account, ada: Account, sam: Account, tmp_path: Path
) -> None:
    version = factories.published(uma)
    words = Words(text="A red star.", place="the first preview", good_faith=True)
    report = report_file(version=version, text="", track=Track.ILLEGAL, words=words, actor=rui)
    removed = _decide(report.case, mo, Action.REMOVE)
    _answer(appeal_file(decision=removed, text="No.", actor=uma), ada, AppealState.REMANDED)
    anew = _decide(version.cases.get(state="queued"), sam, Action.LIMIT)
    assert anew.case != report.case
    assert anew.statement.content["notice"] == removed.statement.content["notice"] != ""
    call_command("transparency", "export", "--since", "2020-01-01", "--out", str(tmp_path))
    (file,) = tmp_path.glob("*.json")
    sources = [row["source_type"] for row in json.loads(file.read_text())["statements"]]
    assert sources == ["SOURCE_ARTICLE_16", "SOURCE_ARTICLE_16"]


def test_what_is_taken_beside_a_case_answers_no_report(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    acted, dismissed = _reported(uma, None), _reported(uma, None, title="Other")
    _decide(acted.case, mo, Action.REMOVE)
    for case, action in ((acted.case, Action.STRIKE), (dismissed.case, Action.LAW)):
        decision_make(case=case, action=action, rules=["red-star"], facts="So.", actor=mo)
    strike = Decision.objects.get(action="strike")
    decision_reverse(decision=strike, facts="Too much.", actor=ada)
    page = as_(None).get(reverse("report-status", args=[acted.token])).content.decode()
    assert "later taken back" not in page
    _decide(dismissed.case, mo, Action.APPROVE)
    decision_make(
        case=dismissed.case, action=Action.LAW, rules=["red-star"], facts="Again.", actor=mo
    )
    appeal = appeal_file_by_reporter(report=dismissed, text="Look again.", actor=None)
    assert appeal.decision.action == "approve"


# --- Six cases that other houses met --------------------------------------------------------


def test_what_another_reporters_appeal_has_overturned_opens_no_new_case(
    uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, rui)
    second = report_file(version=report.version, text="Me too.", actor=None)
    _decide(report.case, mo, Action.APPROVE)
    appeal = appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    _answer(appeal, ada, AppealState.OVERTURNED, action=Action.REMOVE, rules=["red-star"])
    cases = Case.objects.count()
    with pytest.raises(Conflict, match="(?i)action was taken") as refused:
        appeal_file_by_reporter(report=second, text="And mine?", actor=None)
    assert refused.value.code in {"already_overturned", "nothing_to_appeal"}
    assert Case.objects.count() == cases


def test_a_decision_that_a_newer_one_replaced_is_not_appealed_nor_offered_to_be(
    as_: Browser, uma: Account, mo: Account
) -> None:
    report = _reported(uma, None)
    first = _decide(report.case, mo, Action.LIMIT)
    report_file(version=report.version, text="Still.", actor=None)
    _decide(report.version.cases.get(state="queued"), mo, Action.REMOVE)
    address = reverse("creator:decision", args=[first.code])
    page = as_(uma).get(address).content.decode()
    assert "A newer decision has taken its place" in page
    assert 'name="text"' not in page
    assert as_(uma).post(address, {"text": "No."}).status_code == 409


def test_both_sides_appeals_wait_in_one_queue_whichever_way_they_came(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    by_page, by_link = _reported(uma, rui), _reported(uma, None, title="Other")
    _decide(by_page.case, mo, Action.REMOVE)
    _decide(by_link.case, mo, Action.APPROVE)
    decision = by_page.case.decisions.get()
    as_(uma).post(reverse("creator:decision", args=[decision.code]), {"text": "No."})
    as_(None).post(reverse("report-appeal", args=[by_link.token]), {"text": "Look."})
    queue = as_(ada).get(reverse("console:queue"), {"state": "appealed"}).content.decode()
    for report in (by_page, by_link):
        assert reverse("console:case", args=[report.case.code]) in queue


def test_an_appeal_that_is_denied_leaves_the_queue_and_is_told(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo)
    appeal = appeal_file(decision=decision, text="No.", actor=uma)
    _answer(appeal, ada, AppealState.UPHELD)
    decision.case.refresh_from_db()
    assert decision.case.state == "closed"
    assert Notice.objects.filter(kind="appeal_upheld", recipient=uma).count() == 1
    assert queue_claim_next(actor=ada) is None


def test_what_is_removed_while_a_reporters_appeal_waits_settles_it_in_the_same_breath(
    uma: Account, rui: Account, mo: Account, ada: Account, sam: Account
) -> None:
    report = _reported(uma, rui)
    _decide(report.case, mo, Action.APPROVE)
    appeal = appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    report_file(version=report.version, text="Look!", actor=None)
    _decide(report.version.cases.get(state="queued"), sam, Action.REMOVE)
    appeal.refresh_from_db()
    appeal.case.refresh_from_db()
    assert (appeal.state, appeal.case.state) == ("moot", "closed")
    assert Notice.objects.filter(kind="appeal_moot", recipient=rui).count() == 1


def test_a_granted_appeal_restores_what_was_and_not_simply_published(
    uma: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, None)
    ModelVersion.objects.filter(pk=report.version_id).update(visibility="age_restricted")
    decision = _decide(report.case, mo, Action.REMOVE)
    _answer(appeal_file(decision=decision, text="No.", actor=uma), ada, AppealState.OVERTURNED)
    report.version.refresh_from_db()
    assert report.version.visibility == "age_restricted"


# --- Outcomes -------------------------------------------------------------------------------


def test_a_milder_decision_takes_the_place_of_the_one_appealed(
    uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo)
    appeal = appeal_file(decision=decision, text="Too much.", actor=uma)
    _answer(appeal, ada, AppealState.MODIFIED, action=Action.LIMIT)
    decision.version.refresh_from_db()
    assert decision.version.visibility == "limited"
    milder = Decision.objects.get(action="limit")
    assert (milder.overrides, milder.appeal, milder.chain) == (decision, appeal, decision.code)
    assert Appeal.objects.get().state == "modified"
    assert StatementOfReasons.objects.filter(decision=milder).count() == 1
    assert appeal_file(decision=milder, text="Still too much.", actor=uma).state == "open"


def test_what_is_sent_back_is_decided_anew_by_somebody_else_and_stands_until_then(
    as_: Browser, uma: Account, mo: Account, ada: Account, sam: Account
) -> None:
    decision = factories.decided(uma, mo)
    _answer(appeal_file(decision=decision, text="No.", actor=uma), ada, AppealState.REMANDED)
    decision.version.refresh_from_db()
    assert decision.version.visibility == "removed"
    again = decision.version.cases.get(state="queued")
    assert queue_claim_next(actor=mo) is None
    case_claim(case=again, actor=sam)
    decision_make(case=again, action=Action.APPROVE, rules=[], facts="Orange.", actor=sam)
    decision.version.refresh_from_db()
    assert decision.version.visibility == "published"


def test_what_was_sent_back_on_its_creators_appeal_is_not_dismissed_without_a_word_to_them(
    as_: Browser, uma: Account, mo: Account, ada: Account, sam: Account
) -> None:
    decision = factories.decided(uma, mo)
    _answer(appeal_file(decision=decision, text="No.", actor=uma), ada, AppealState.REMANDED)
    again = case_claim(case=decision.version.cases.get(state="queued"), actor=sam)
    given = {"action": "dismiss", "facts": "Orange."}
    answer = as_(sam).post(reverse("console:decide", args=[again.code]), given)
    assert answer.status_code == 409
    assert "because its creator appealed" in answer.content.decode()


def _account_decided(
    uma: Account, mo: Account, action: Action, until: Any = None
) -> tuple[Case, Decision]:
    case = factories.held(uma)
    decision = decision_make(
        case=case,
        action=action,
        rules=["red-star"],
        facts="Again and again.",
        terms=Terms(until=until),
        actor=mo,
    )
    return case, decision


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"outcome": "modified", "action": "remove_model"}, "of its kind"),
        ({"outcome": "modified", "action": "limit"}, "of its kind"),
        ({"outcome": "remanded"}, "no case would decide that anew"),
    ],
)
def test_what_was_decided_about_an_account_is_not_answered_with_something_about_the_model(
    fields: dict[str, str], says: str, as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    _, suspension = _account_decided(uma, mo, Action.SUSPEND)
    appeal = appeal_file(decision=suspension, text="No.", actor=uma)
    case_claim(case=appeal.case, actor=ada)
    answer = as_(ada).post(
        reverse("console:answer", args=[appeal.case.code, appeal.code]),
        {"answer": "Too much.", **fields},
    )
    assert answer.status_code == 422
    assert says in answer.content.decode()
    appeal.refresh_from_db()
    assert appeal.state == "open"


def test_a_suspension_that_becomes_a_strike_on_appeal_is_over(
    uma: Account, mo: Account, ada: Account
) -> None:
    case, suspension = _account_decided(uma, mo, Action.SUSPEND)
    uma.refresh_from_db()
    assert uma.is_suspended
    appeal = appeal_file(decision=suspension, text="No.", actor=uma)
    _answer(appeal, ada, AppealState.MODIFIED, action=Action.STRIKE)
    uma.refresh_from_db()
    assert not uma.is_suspended
    case.version.refresh_from_db()
    assert case.version.visibility == "quarantined"


def test_a_reporters_appeal_is_granted_with_something_about_the_model(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, rui)
    _decide(report.case, mo, Action.APPROVE)
    report.refresh_from_db()
    appeal = appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    case_claim(case=appeal.case, actor=ada)
    given = {"outcome": "overturned", "action": "strike", "rules": ["red-star"]}
    answer = as_(ada).post(
        reverse("console:answer", args=[appeal.case.code, appeal.code]),
        {"answer": "Right.", **given},
    )
    assert answer.status_code == 422
    assert "A report is about a model" in answer.content.decode()


def test_a_decision_that_another_had_replaced_can_be_appealed_once_that_is_taken_back(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    Rule.objects.update(actions=["limit", "remove"])
    version = factories.published(uma)
    report_file(version=version, text="A red star.", actor=None)
    limit = _decide(version.cases.get(), mo, Action.LIMIT)
    version.refresh_from_db()
    report_file(version=version, text="Worse.", actor=None)
    removal = _decide(version.cases.get(state="queued"), mo, Action.REMOVE)
    client, page = as_(uma), reverse("creator:decision", args=[limit.code])
    assert client.post(page, {"text": "No."}).status_code == 409
    late = limit.decided_at + timedelta(days=180)
    monkeypatch.setattr(appeals.timezone, "now", lambda: late)
    decision_reverse(decision=removal, facts="Too hard.", actor=mo)
    monkeypatch.setattr(appeals.timezone, "now", lambda: late + timedelta(days=185))
    assert as_(uma).post(page, {"text": "No."}).status_code == 410
    monkeypatch.setattr(appeals.timezone, "now", lambda: late + timedelta(days=183))
    client = as_(uma)
    assert "If you think this is wrong" in client.get(page).content.decode()
    assert client.post(page, {"text": "No."}).status_code == 302
    assert Appeal.objects.get().decision == limit


@pytest.mark.parametrize(
    ("outcome", "says"),
    [("upheld", "Everybody concerned has been told"), ("overturned", "waits for a second person")],
)
def test_who_answers_is_told_whether_anybody_was_told(
    as_: Browser, uma: Account, mo: Account, ada: Account, settings: Any, outcome: str, says: str
) -> None:
    settings.SECOND_PERSON_FOR = ["overturn"]
    appeal = appeal_file(decision=factories.decided(uma, mo), text="Look again.", actor=uma)
    appeal.case.refresh_from_db()
    case_claim(case=appeal.case, actor=ada)
    address = reverse("console:answer", args=[appeal.case.code, appeal.code])
    answered = as_(ada).post(address, {"outcome": outcome, "answer": "Because."}, follow=True)
    assert f"Answered. {'What it changes ' if outcome == 'overturned' else ''}{says}" in (
        answered.content.decode()
    )


def test_who_hears_a_reporters_appeal_is_told_who_reads_the_answer(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, rui)
    _decide(report.case, mo, Action.APPROVE)
    report.refresh_from_db()
    appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    report.case.refresh_from_db()
    case_claim(case=report.case, actor=ada)
    page = as_(ada).get(reverse("console:case", args=[report.case.code])).content.decode()
    assert "Whoever appealed reads this" in page
    assert "You hear it" in page
    for untrue in ("The creator reads this.", "is restored", "Waiting for another moderator"):
        assert untrue not in page


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_reporter_finds_the_form_again_once_something_new_was_decided(
    language: str, as_: Browser, uma: Account, mo: Account, ada: Account, sam: Account
) -> None:
    report = _reported(uma, None)
    page = reverse("report-status", args=[report.token]) + f"?language={language}"
    address = reverse("report-appeal", args=[report.token])
    client, form = as_(None), 'name="text"'
    _decide(report.case, mo, Action.APPROVE)
    assert form in client.get(page).content.decode()
    client.post(address, {"text": "Look again."})
    assert form not in client.get(page).content.decode()
    _answer(Appeal.objects.get(), ada, AppealState.REMANDED)
    assert form not in client.get(page).content.decode()
    _decide(Case.objects.get(state="queued"), sam, Action.APPROVE)
    shown = client.get(page).content.decode()
    assert form in shown
    assert "Look again." in shown
    assert client.post(address, {"text": "Once more."}).status_code == 302
    assert form not in client.get(page).content.decode()
    assert Appeal.objects.count() == 2


def test_of_two_appeals_on_a_case_the_one_that_was_read_is_answered(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    report = _reported(uma, rui)
    version = report.version
    visitor = report_file(version=version, text="A star.", email="v@example.org", actor=None)
    _decide(report.case, mo, Action.APPROVE)
    reports = [Report.objects.get(pk=each.pk) for each in (report, visitor)]
    first, second = (
        appeal_file_by_reporter(report=each, text=f"Look again, {each.code}.", actor=each.reporter)
        for each in reports
    )
    client, code = as_(ada), report.case.code
    client.post(reverse("console:claim", args=[code]))
    ask, answer = (
        {each: reverse(name, args=[code, each.code]) for each in (first, second)}
        for name in ("console:message", "console:answer")
    )
    page = reverse("console:case", args=[code])
    shown = client.get(page).content.decode()
    # Both are read there, and the forms are those of the one that waited longer.
    assert first.text in shown
    assert second.text in shown
    assert answer[first] in shown
    assert ask[first] in shown
    assert answer[second] not in shown
    shown = client.get(page, {"appeal": second.code}).content.decode()
    assert answer[second] in shown
    assert answer[first] not in shown
    refused = client.post(answer[second], {"outcome": "upheld", "answer": ""}).content.decode()
    assert answer[second] in refused
    sent = client.post(ask[second], {"message": "Which one?"})
    assert second.code in sent["Location"]
    assert Notice.objects.get(kind="appeal_message").email == "v@example.org"
    client.post(answer[second], {"outcome": "upheld", "answer": "There is none."})
    assert [each.state for each in Appeal.objects.order_by("filed_at")] == ["open", "upheld"]
    late = client.post(ask[second], {"message": "One more thing"})
    assert late.status_code == 409
    assert "One more thing</textarea>" in late.content.decode()
    elsewhere = _reported(uma, rui).case
    assert (
        client.post(reverse("console:answer", args=[elsewhere.code, first.code])).status_code == 404
    )


def test_an_overturning_waits_for_a_third_person_and_can_be_withdrawn(
    settings: Any, uma: Account, mo: Account, ada: Account, sam: Account
) -> None:
    settings.SECOND_PERSON_FOR = ["overturn"]
    decision = factories.decided(uma, mo)
    appeal = appeal_file(decision=decision, text="No.", actor=uma)
    _answer(appeal, ada, AppealState.OVERTURNED)
    reversal = Decision.objects.get(action="reverse")
    assert (Appeal.objects.get().state, Case.objects.get().state) == ("open", "reconfirm")
    for person in (ada, mo):
        with pytest.raises(NotAllowed):
            decision_confirm(decision=reversal, actor=person)
    decision_confirm(decision=reversal, actor=sam)
    assert (Appeal.objects.get().state, Case.objects.get().state) == ("overturned", "closed")
    decision.version.refresh_from_db()
    assert decision.version.visibility == "published"


def _beside(uma: Account, mo: Account, sam: Account, settings: Any) -> Decision:
    decision = factories.decided(uma, mo)
    decision_make(
        case=decision.case, action=Action.STRIKE, rules=["red-star"], facts="S.", actor=sam
    )
    return decision


def _undone(uma: Account, mo: Account, sam: Account, settings: Any) -> Decision:
    case = factories.held(uma)
    settings.UNDO_SECONDS = 10
    decision_undo(decision=_decide(case, sam, Action.REMOVE), actor=sam)
    settings.UNDO_SECONDS = 0
    case.refresh_from_db()
    case_release(case=case, actor=sam)
    return _decide(case, mo, Action.REMOVE)


def _earlier(uma: Account, mo: Account, sam: Account, settings: Any) -> Decision:
    case = factories.held(uma)
    _decide(case, sam, Action.LIMIT)
    case.version.refresh_from_db()
    report_file(version=case.version, text="Worse than that.", actor=None)
    return _decide(case.version.cases.get(state="queued"), mo, Action.REMOVE)


def _stroke(uma: Account, mo: Account, sam: Account, settings: Any) -> Decision:
    settings.SECOND_PERSON_FOR = ["limit"]
    cases = [factories.held(uma, title=title) for title in ("One", "Two")]
    shown = shown_sign(members=[(case.code, 0) for case in cases], account=mo)
    cases_decide(
        shown=shown,
        chosen=[case.code for case in cases],
        action=Action.LIMIT,
        rules=["red-star"],
        facts="Both.",
        actor=mo,
    )
    one, two = Decision.objects.order_by("pk")
    assert one.bulk == two.bulk != ""
    decision_confirm(decision=one, actor=sam)
    decision_confirm(decision=two, actor=factories.account("kim", role=Role.MODERATOR))
    two.refresh_from_db()
    return two


@pytest.mark.parametrize("part", [_beside, _undone, _earlier, _stroke])
def test_the_database_refuses_an_answer_by_who_took_any_part(
    part: Callable[..., Decision], settings: Any, uma: Account, mo: Account, sam: Account
) -> None:
    Rule.objects.update(actions=["limit", "remove"])
    decision = part(uma, mo, sam, settings)
    appeal = appeal_file(decision=decision, text="No.", actor=uma)
    case_claim(case=appeal.case, actor=factories.account("lea", role=Role.MODERATOR))
    answered = {"state": "upheld", "answer": "No.", "answered_at": timezone.now()}
    with pytest.raises(IntegrityError, match="took part"), transaction.atomic():
        Appeal.objects.filter(pk=appeal.pk).update(answered_by=sam, **answered)


@pytest.mark.parametrize("part", [_beside, _undone, _earlier, _stroke])
def test_an_appeal_is_offered_on_its_page_to_nobody_who_took_any_part(
    part: Callable[..., Decision],
    as_: Browser,
    settings: Any,
    uma: Account,
    mo: Account,
    sam: Account,
    ada: Account,
) -> None:
    Rule.objects.update(actions=["limit", "remove"])
    appeal = appeal_file(decision=part(uma, mo, sam, settings), text="No.", actor=uma)
    address = reverse("console:case", args=[appeal.case.code])
    for account in (mo, sam):
        page = as_(account).get(address).content.decode()
        assert "You took part in this decision, so another moderator answers the appeal." in page
        assert "Take this appeal" not in page
    assert "Take this appeal" in as_(ada).get(address).content.decode()


def test_what_was_cleared_is_not_held_against_anybody_again_under_the_same_policy(
    uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    decision = _decide(case, mo, Action.REMOVE)
    _answer(appeal_file(decision=decision, text="No.", actor=uma), ada, AppealState.OVERTURNED)
    assert set(ClearedDigest.objects.values_list("kind", "rule")) == {
        ("file", "red-star"),
        ("preview", "red-star"),
        ("texts", "red-star"),
    }
    again = factories.triaged(uma, [factories.finding(0.95, rule="red-star")])
    assert again.visibility == "published"
    other = factories.triaged(uma, [factories.finding(0.95, rule="yellow-ring")])
    assert other.visibility == "quarantined"
    failed = factories.triaged(uma, [factories.finding(None, rule="red-star")])
    assert failed.visibility == "quarantined"


def test_a_strike_that_is_taken_back_clears_nothing(uma: Account, mo: Account) -> None:
    case = factories.held(uma, rule="red-star")
    removal = _decide(case, mo, Action.REMOVE)
    strike = decision_make(
        case=case, action=Action.STRIKE, rules=["red-star"], facts="Twice.", actor=mo
    )
    decision_reverse(decision=strike, facts="Once.", actor=mo)
    again = factories.triaged(uma, [factories.finding(0.95, rule="red-star")])
    assert again.visibility == "quarantined", "it was removed under that rule, and that stands"
    decision_reverse(decision=removal, facts="Orange.", actor=mo)
    cleared = factories.triaged(uma, [factories.finding(0.95, rule="red-star")])
    assert cleared.visibility == "published"


def test_nothing_is_cleared_of_a_rule_under_which_it_is_still_restricted(
    uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    Rule.objects.update(actions=["limit", "remove"])
    limit = _decide(case, mo, Action.LIMIT)
    case.version.refresh_from_db()
    report_file(version=case.version, text="Worse.", actor=None)
    removal = _decide(case.version.cases.get(state="queued"), mo, Action.REMOVE)
    decision_reverse(decision=removal, facts="Too hard.", actor=mo)
    assert not ClearedDigest.objects.exists()
    decision_reverse(decision=limit, facts="Orange.", actor=mo)
    assert ClearedDigest.objects.filter(rule="red-star").count() == 3


def test_a_rule_that_is_often_overturned_raises_an_alarm_once(
    uma: Account, mo: Account, ada: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overturns, "FEWEST_ANSWERS", 2)
    lead = factories.account("lead", role=Role.POLICY_LEAD)
    for title in ("One", "Two", "Three"):
        decision = _decide(_reported(uma, None, title=title).case, mo, Action.REMOVE)
        _answer(appeal_file(decision=decision, text="No.", actor=uma), ada, AppealState.OVERTURNED)
    assert Event.objects.filter(action="overturns.alarm", data__name="red-star").count() == 1
    notice = Notice.objects.get(kind="overturn_alarm")
    assert notice.recipient == lead
    assert "2 of 2" in notice.text


def test_taking_a_decision_back_settles_the_appeal_against_it(
    uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo)
    appeal = appeal_file(decision=decision, text="No.", actor=uma)
    decision_reverse(decision=decision, facts="I was wrong.", actor=mo)
    appeal.refresh_from_db()
    appeal.case.refresh_from_db()
    assert (appeal.state, appeal.case.state) == ("moot", "closed")
