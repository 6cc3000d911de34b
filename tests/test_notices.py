"""Notices: every kind is complete, says what it must, and names nobody who is not to be named."""

import ast
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import overturns
from moderation.appeals import appeal_file, appeal_file_by_reporter, appeal_write
from moderation.decisions import decision_make, decision_reverse
from moderation.hearings import appeal_answer
from moderation.holds import holds_place
from moderation.inquiries import inquiry_send
from moderation.intake import model_create
from moderation.likeness import likeness_confirm, likeness_request
from moderation.misuse import measure_answer, measure_appeal, measure_decide
from moderation.models import (
    Account,
    Decision,
    LikenessRequest,
    ModelVersion,
    Notice,
    ReportingMeasure,
)
from moderation.notices import notice_issue
from moderation.outbox import notice_send
from moderation.queue import case_claim
from moderation.reasons import Terms
from moderation.reports import report_file
from moderation.states import (
    APPEAL_OUTCOMES,
    Action,
    AppealState,
    Language,
    Measure,
    ReportState,
    Role,
)
from tests import factories

Browser = Callable[[Account | None], Client]

FOLDER: Path = django_settings.BASE_DIR / "templates" / "notices"
KINDS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
# What the services put behind the beginning of a kind.
ENDINGS: dict[str, Sequence[str]] = {
    "decision_": [Action.APPROVE, Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE],
    "report_": [ReportState.ACTED, ReportState.NO_ACTION],
    "report_appeal_": [AppealState.UPHELD, AppealState.OVERTURNED, AppealState.REMANDED],
    "appeal_": APPEAL_OUTCOMES,
    "reporting_": ["warning", "suspension", "answer"],
}
ELSEWHERE = "https://digital-strategy.ec.europa.eu/"

TITLE = "Ink wash"
FACTS = "Two previews show a scarlet star.\n\nThe third is clean."
NOTE = "Private-note-81: third upload of this kind this week."
REPORT = "Report-text-47: my neighbour showed me this one."
VISITOR = "witness@visitors.example.org"
APPEAL = "Appeal-text-12: it is orange."
ANSWER = "The answer in own words: it is red in both."


@pytest.fixture
def cast(uma: Account) -> dict[str, Account]:
    """Return people whose names stand in no sentence of ours."""
    return {
        "creator": uma,
        "reporter": factories.account("reporterella"),
        "moderator": factories.account("moderatrix", role=Role.MODERATOR),
        "senior": factories.account("hearingson", role=Role.SENIOR_MODERATOR),
        "lead": factories.account("leadora", role=Role.POLICY_LEAD),
    }


@pytest.fixture
def story(policy: None, cast: dict[str, Account], monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    """Live through everything that issues a notice; return the notices."""
    return _lived(cast, monkeypatch)


def _lived(cast: dict[str, Account], monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    monkeypatch.setattr(overturns, "FEWEST_ANSWERS", 1)
    version = factories.published(cast["creator"], title=TITLE)
    _reported(version, cast)
    _decided(version, Action.APPROVE, [], cast)
    _reported(version, cast)
    _decided(version, Action.AGE_RESTRICT, ["purple-heart"], cast)
    _reported(version, cast)
    limited = _decided(version, Action.LIMIT, ["red-star"], cast)
    _appealed(limited, AppealState.UPHELD, cast)
    _reported(version, cast)
    removed = _decided(version, Action.REMOVE, ["red-star", "yellow-ring"], cast)
    _appealed(removed, AppealState.OVERTURNED, cast)
    held = factories.held(cast["creator"], title=TITLE)
    case_claim(case=held, actor=cast["moderator"])
    inquiry_send(case=held, text="Whose drawing is this?", actor=cast["moderator"])
    _granted_in_other_ways(cast)
    _reporters_appeal(cast)
    _asked_for_removal(factories.published(cast["creator"], title=TITLE), cast)
    _misused(cast)
    return list(Notice.objects.order_by("pk"))


def _granted_in_other_ways(cast: dict[str, Account]) -> None:
    """Live through what is taken back, replaced, sent back, or settled before an answer."""
    version = factories.published(cast["creator"], title=TITLE)
    _reported(version, cast)
    modified = _decided(version, Action.REMOVE, ["red-star"], cast)
    _appealed(modified, AppealState.MODIFIED, cast, action=Action.LABEL, words="Draws stars")
    version = factories.published(cast["creator"], title=TITLE)
    _reported(version, cast)
    limited = _decided(version, Action.LIMIT, ["red-star"], cast)
    appeal = appeal_file(decision=limited, text=APPEAL, actor=cast["creator"])
    case_claim(case=appeal.case, actor=cast["senior"])
    appeal_write(appeal=appeal, text="Which one is it?", actor=cast["senior"], from_team=True)
    decision_reverse(decision=limited, facts="It is a rose.", actor=cast["moderator"])
    _reported(version, cast)
    removed = _decided(version, Action.REMOVE, ["red-star"], cast)
    _appealed(removed, AppealState.REMANDED, cast)


def _reporters_appeal(cast: dict[str, Account]) -> None:
    """Let the reporter appeal that nothing was done, and hear each answer."""
    for outcome in (AppealState.UPHELD, AppealState.REMANDED, AppealState.OVERTURNED):
        version = factories.published(cast["creator"], title=TITLE)
        _reported(version, cast)
        _decided(version, Action.APPROVE, [], cast)
        report = version.reports.get(reporter=cast["reporter"])
        appeal = appeal_file_by_reporter(report=report, text=APPEAL, actor=cast["reporter"])
        case_claim(case=appeal.case, actor=cast["senior"])
        appeal_answer(
            appeal=appeal,
            outcome=outcome,
            answer=ANSWER,
            rules=["red-star"] if outcome == AppealState.OVERTURNED else [],
            action=Action.REMOVE if outcome == AppealState.OVERTURNED else None,
            actor=cast["senior"],
        )


def _reported(version: ModelVersion, cast: dict[str, Account]) -> None:
    version.refresh_from_db()
    language = Language(cast["reporter"].language)
    report_file(version=version, text=REPORT, language=language, actor=cast["reporter"])
    report_file(version=version, text=REPORT, email=VISITOR, language=language, actor=None)


def _asked_for_removal(version: ModelVersion, cast: dict[str, Account]) -> None:
    """A depicted person asks; nobody decides in time."""
    likeness_request(
        models=version.code,
        email=VISITOR,
        signature="Witness W. Person",
        text=REPORT,
        agrees=True,
        language=Language(cast["reporter"].language),
    )
    likeness_confirm(request=LikenessRequest.objects.get())
    ModelVersion.objects.filter(pk=version.pk).update(hidden_from=timezone.now())
    assert holds_place() == 1


def _misused(cast: dict[str, Account]) -> None:
    """The reporter is warned, suspended, and objects with success."""
    for measure in (Measure.WARNING, Measure.SUSPENSION):
        row = ReportingMeasure.objects.create(
            account=cast["reporter"],
            measure=measure,
            figures={"unfounded": 3, "answered": 4, "share": 0.75, "gravity": 3},
            proposed_at=timezone.now(),
        )
        measure_decide(
            measure=row,
            accept=True,
            reason="Three times the same empty claim.",
            days=14,
            actor=cast["moderator"],
        )
    measure_appeal(measure=row, text=APPEAL, actor=cast["reporter"])
    measure_answer(measure=row, uphold=False, answer=ANSWER, actor=cast["senior"])


def _decided(
    version: ModelVersion, action: Action, rules: Sequence[str], cast: dict[str, Account]
) -> Decision:
    case = version.cases.get(state="queued")
    case_claim(case=case, actor=cast["moderator"])
    return decision_make(
        case=case,
        action=action,
        rules=rules,
        facts=FACTS,
        private_note=NOTE,
        actor=cast["moderator"],
    )


def _appealed(
    decision: Decision,
    outcome: AppealState,
    cast: dict[str, Account],
    *,
    action: Action | None = None,
    words: str = "",
) -> None:
    appeal = appeal_file(decision=decision, text=APPEAL, actor=cast["creator"])
    case_claim(case=appeal.case, actor=cast["senior"])
    appeal_answer(
        appeal=appeal,
        outcome=outcome,
        answer=ANSWER,
        action=action,
        terms=Terms(label=words),
        actor=cast["senior"],
    )


# --- The templates --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_subject_a_text_and_a_html_page(kind: str) -> None:
    names = sorted(path.name for path in (FOLDER / kind).iterdir())
    assert names == ["body.html", "body.txt", "subject.txt"]
    assert '{% extends "notices/' in (FOLDER / kind / "body.txt").read_text()
    assert '{% extends "notices/' in (FOLDER / kind / "body.html").read_text()


def test_every_kind_issued_in_code_has_a_folder_and_every_folder_is_issued() -> None:
    assert _issued_in_code() == set(KINDS)


def _issued_in_code() -> set[str]:
    kinds: set[str] = set()
    for path in (django_settings.BASE_DIR / "moderation").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("notice_issue"):
                kinds |= _kinds_of(next(word.value for word in node.keywords if word.arg == "kind"))
    return kinds


def _kinds_of(kind: ast.expr) -> set[str]:
    if isinstance(kind, ast.IfExp):
        return _kinds_of(kind.body) | _kinds_of(kind.orelse)
    if isinstance(kind, ast.JoinedStr):
        beginning = ast.literal_eval(kind.values[0])
        return {f"{beginning}{ending}" for ending in ENDINGS[beginning]}
    return {ast.literal_eval(kind)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", [each for each in Language if each != Language.ENGLISH])
def test_every_kind_is_there_in_every_language_and_falls_back_on_no_other(
    language: Language, kind: str
) -> None:
    folder = FOLDER.parent / language / "notices"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(KINDS)
    for part in ("subject.txt", "body.txt", "body.html"):
        words = (folder / kind / part).read_text()
        assert words != (FOLDER / kind / part).read_text()
        used = set(re.findall(r'{% (?:extends|include) "([^"]+)"', words))
        assert all(name.startswith(f"{language}/") for name in used), used


def test_who_reads_german_is_told_everything_in_german(
    policy: None, cast: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    for person in cast.values():
        person.language = Language.GERMAN
        person.save()
    told = _lived(cast, monkeypatch)
    assert {notice.kind for notice in told} == set(KINDS)
    for notice in told:
        assert notice.text.startswith("Guten Tag"), notice.kind
        assert '<html lang="de">' in notice.html
        assert len(notice.subject.splitlines()) == 1
        for body in (notice.text, notice.html):
            assert not re.search(r"\{\{|\{%|None|You |Hello|Nobody but", body), notice.kind
        assert "\n\n\n" not in notice.text
        links = set(re.findall(r"https?://[^\s\"<]+", notice.text))
        assert links == set(re.findall(r"href=\"([^\"]+)\"", notice.html)), notice.kind


# --- What they say --------------------------------------------------------------------------


def test_the_services_issue_every_kind_and_none_is_empty_or_unfinished(
    story: list[Notice],
) -> None:
    assert {notice.kind for notice in story} == set(KINDS)
    for notice in story:
        if notice.kind == "overturn_alarm":
            # About a rule, and not about a model.
            continue
        about_a_model = notice.version is not None
        assert (TITLE in notice.subject) == about_a_model
        assert len(notice.subject.splitlines()) == 1
        for body in (notice.text, notice.html):
            assert (TITLE in body) == about_a_model
            assert not re.search(r"\{\{|\{%|None|Action\.|”, version \D", body), body
        assert "\n\n\n" not in notice.text
        assert "&" not in notice.text


def test_no_notice_names_a_reporter_a_moderator_or_a_private_note(
    story: list[Notice], cast: dict[str, Account]
) -> None:
    team = [cast["moderator"], cast["senior"]]
    for notice in story:
        people = team if notice.recipient == cast["reporter"] else [*team, cast["reporter"]]
        private = [NOTE, REPORT, VISITOR, "Private-note", "Report-text", "witness", "Witness W"]
        private += [word for person in people for word in (person.username, person.email)]
        for sent in (notice.subject, notice.text, notice.html):
            assert not [word for word in private if word in sent], notice.kind


def test_reporters_do_not_read_what_is_only_for_the_creator(
    story: list[Notice], cast: dict[str, Account]
) -> None:
    about_reports = {kind for kind in KINDS if kind.startswith(("report", "likeness_"))}
    others = [cast["creator"], cast["lead"]]
    told = [notice for notice in story if notice.recipient not in others]
    assert {notice.kind for notice in told} == about_reports
    for notice in told:
        if notice.kind == "reporting_answer":
            continue
        for sent in (notice.text, notice.html):
            for word in ("scarlet star", "Appeal-text", "uma", "/decisions/"):
                assert word not in sent


@pytest.mark.parametrize("action", [Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE])
def test_a_restriction_says_everything_that_a_statement_of_reasons_must_hold(
    action: Action, story: list[Notice], cast: dict[str, Account]
) -> None:
    """Regulation (EU) 2022/2065, Article 17(3): (a) to (f)."""
    notice = Notice.objects.filter(kind=f"decision_{action}").earliest("pk")
    decision = notice.decision
    assert decision is not None
    assert decision.appeal_until is not None
    until = decision.appeal_until
    said = [
        "in every country and has no end date",
        "Two previews show a scarlet star.",
        "The third is clean.",
        "not found by an automated check; a person looked at it and decided",
        f"Moderator {cast['moderator'].pk}",
        "our policy (demo v1)",
        f"{until.day} {until:%B %Y, %H:%M} UTC",
        django_settings.SITE_URL + reverse("creator:decision", args=[decision.code]),
        "costs nothing",
        "different person",
        "out-of-court dispute settlement body",
        "to a court",
        *(clause[part] for clause in decision.clauses for part in ("title", "text", "advice")),
    ]
    assert decision.clauses
    for body in (notice.text, notice.html):
        assert [words for words in said if words not in body] == []


def test_a_restriction_that_began_with_a_finding_says_that_a_machine_pointed_to_it(
    policy: None, uma: Account, mo: Account
) -> None:
    notice = factories.decided(uma, mo).notices.get()
    for body in (notice.text, notice.html):
        assert "An automated check pointed to it; a person looked at it and decided." in body


@pytest.mark.parametrize(
    ("visibility", "sentence"),
    [
        ("published", "Everybody can see and download it."),
        ("age_restricted", "As before, it is shown only to people who say that they are adults."),
        ("limited", "As before, it can be opened by its address, but it is not listed"),
    ],
)
def test_an_approval_says_who_can_see_the_model_now(
    visibility: str, sentence: str, policy: None, cast: dict[str, Account]
) -> None:
    version = factories.published(cast["creator"])
    ModelVersion.objects.filter(pk=version.pk).update(visibility=visibility)
    _reported(version, cast)
    notice = _decided(version, Action.APPROVE, [], cast).notices.get()
    assert sentence in notice.text
    assert sentence in notice.html


def test_the_reporter_is_told_what_was_done_and_under_which_rule(story: list[Notice]) -> None:
    acted = Notice.objects.filter(kind="report_acted", recipient__isnull=False).order_by("pk")
    done = [
        "It is now shown only to people who say that they are adults.",
        "It is no longer listed or recommended",
        "It was removed and can no longer be seen",
    ]
    rules = ["Purple hearts are for adults.", "Models made to draw red stars", "yellow ring"]
    for notice, what, rule in zip(acted[:3], done, rules, strict=True):
        for body in (notice.text, notice.html):
            assert what in body
            assert rule in body


def test_the_answer_to_an_appeal_is_given_in_the_moderators_own_words(
    story: list[Notice], cast: dict[str, Account]
) -> None:
    for kind in ("appeal_upheld", "appeal_overturned"):
        notice = Notice.objects.get(kind=kind)
        for body in (notice.text, notice.html):
            assert ANSWER in body
            assert f"Moderator {cast['senior'].pk}, who took no part in" in body
    for notice in Notice.objects.filter(kind__in=["appeal_received", "appeal_upheld"]):
        for body in (notice.text, notice.html):
            assert "Models made to draw red stars" in body


# --- Where they lead, and what they load ----------------------------------------------------


def test_every_link_opens_for_the_person_who_was_told(story: list[Notice], as_: Browser) -> None:
    for notice in story:
        links = re.findall(r"https?://[^\s\"<]+", notice.text)
        assert set(links) == set(re.findall(r"href=\"([^\"]+)\"", notice.html)), notice.kind
        ours = [link for link in links if not link.startswith(ELSEWHERE)]
        assert ours
        client = as_(notice.recipient)
        for link in ours:
            path = link.removeprefix(django_settings.SITE_URL)
            assert path.startswith("/"), link
            assert client.get(path).status_code == 200, (notice.kind, path)


def test_a_visitor_is_led_to_the_private_page_and_to_no_account(story: list[Notice]) -> None:
    told = Notice.objects.filter(recipient__isnull=True)
    assert {notice.email for notice in told} == {VISITOR}
    for notice in told:
        if notice.report is None:
            assert "/likeness/" in notice.text
            continue
        for body in (notice.text, notice.html):
            assert reverse("report-status", args=[notice.report.token]) in body
            assert "/studio/" not in body


def test_the_html_page_loads_nothing_runs_nothing_and_has_a_dark_scheme(
    story: list[Notice],
) -> None:
    for notice in story:
        page = notice.html.lower()
        assert not re.search(r"<(img|script|link|iframe|object|embed|form|svg|video)\b", page)
        assert not re.search(r"\burl\(|@import|\bon[a-z]+=|javascript:|\bsrc=", page)
        assert "@media (prefers-color-scheme: dark)" in page
        assert '<meta name="color-scheme" content="light dark">' in page


def test_a_site_address_with_a_slash_at_its_end_makes_no_double_slash(
    uma: Account, settings: Any
) -> None:
    settings.SITE_URL = "https://models.example.org/"
    notice = _issued(uma)
    assert "https://models.example.org/models/" in notice.text


def test_the_lines_of_the_text_are_short_and_its_links_whole(
    story: list[Notice], mailoutbox: list[EmailMultiAlternatives]
) -> None:
    for notice in story:
        assert notice_send(notice_id=notice.pk)
        body = str(mailoutbox[-1].body)
        assert all(len(line) <= 72 or line.startswith("http") for line in body.splitlines())
        assert set(re.findall(r"http\S+", body)) == set(re.findall(r"http\S+", notice.text))


# --- Text of strangers ----------------------------------------------------------------------


def _issued(creator: Account, *, title: str = TITLE) -> Notice:
    version = model_create(title=title, actor=creator)
    notice = notice_issue(kind="published", version=version, account=creator)
    assert notice is not None
    return notice


def test_html_in_a_title_is_escaped_in_the_page_and_literal_in_subject_and_text(
    uma: Account,
) -> None:
    title = "<script>alert(1)</script> & <b>ink</b>"
    notice = _issued(uma, title=title)
    assert title in notice.subject
    assert title in notice.text
    assert "<script" not in notice.html
    assert "<b>ink" not in notice.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;b&gt;ink&lt;/b&gt;" in notice.html


def test_html_in_a_moderators_words_is_escaped_in_the_page_and_literal_in_the_text(
    policy: None, cast: dict[str, Account]
) -> None:
    case = factories.held(cast["creator"])
    case_claim(case=case, actor=cast["moderator"])
    facts = "The description says <img src=//evil.example/x> & more."
    decision = decision_make(
        case=case, action=Action.REMOVE, rules=["red-star"], facts=facts, actor=cast["moderator"]
    )
    notice = decision.notices.get()
    assert facts in notice.text
    assert "<img" not in notice.html
    assert "says &lt;img src=//evil.example/x&gt; &amp; more." in notice.html
