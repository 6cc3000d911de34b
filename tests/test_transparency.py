"""Statements for the EU's database and the yearly report: complete, true, and of nobody."""

import csv
import json
import os
import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from moderation.appeals import appeal_file_by_reporter
from moderation.decisions import decision_confirm, decision_make
from moderation.hearings import appeal_answer
from moderation.models import (
    Account,
    Appeal,
    Case,
    Decision,
    Effect,
    ModelVersion,
    Policy,
    PreviewImage,
    Report,
    Rule,
    StatementOfReasons,
)
from moderation.models.codes import new_code
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.queue import case_claim
from moderation.reasons import Terms
from moderation.report_changes import report_withdraw
from moderation.reports import Words, report_file
from moderation.selectors.transparency import report_of_year
from moderation.states import (
    ABOUT_ACCOUNTS,
    ENDS_SOMETIME,
    RESTRICTIONS,
    VISIBILITY_AFTER,
    Action,
    AppealState,
    EffectState,
    Ground,
    Side,
    Source,
    Track,
    Visibility,
)
from moderation.taxonomy import taxonomy
from moderation.transparency import Record, concerns_the_union, payload_of
from moderation.transparency_schema import batch_faults, statement_faults
from tests import factories

DECISIONS = 10_000
PRIVATE = (
    "Quentin Poison",
    "quentin@poison.example",
    "203.0.113.77",
    "2001:db8:0:1::77",
    "Poison Lane 5",
)
COUNTRIES = [["DE"], ["AT", "FR"], ["US", "DE"], []]


def _poisoned(words: str) -> str:
    return f"{words} {' '.join(PRIVATE)}"


def _decisions(
    many: int, cases: list[Case], previews: list[PreviewImage], mo: Account, policy: Policy
) -> None:
    """Write random restrictions in force, each with names and addresses wherever people type."""
    chance = random.Random(17)
    rules = list(policy.rules.all())
    rows = []
    for number in range(many):
        case = chance.choice(cases)
        action = chance.choice(RESTRICTIONS)
        source = chance.choice(list(Source))
        ground = chance.choice(list(Ground))
        decided = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=50 * number)
        clauses = chance.sample(rules, chance.randint(1, 3))
        preview = next(one for one in previews if one.version_id == case.version_id)
        until = decided + timedelta(days=chance.randint(0, 90)) if chance.random() < 0.3 else None
        rows.append(
            Decision(
                code=new_code(),
                case=case,
                version=case.version,
                preview=preview if action == Action.DISABLE_PREVIEW else None,
                action=action,
                source=source,
                ground=ground,
                legal_ground=_poisoned(
                    chance.choice(["§ 201a StGB, complaint of", "Art. 9 order by judge"])
                )
                if source == Source.ORDER or ground == Ground.LAW
                else "",
                policy=policy,
                clauses=[
                    {"slug": r.slug, "title": r.title, "text": r.text, "advice": r.advice}
                    for r in clauses
                ],
                facts=_poisoned("Seen:"),
                message=_poisoned("To the creator:"),
                private_note=_poisoned("Between us:"),
                label=_poisoned("Label") if action == Action.LABEL else "",
                territories=chance.choice(
                    COUNTRIES[:3] if action == Action.GEO_RESTRICT else COUNTRIES
                ),
                until=until,
                decided_by=mo,
                creator=case.version.uploaded_model.creator,
                automated_detection=chance.random() < 0.5,
                previous_visibility=Visibility.QUARANTINED,
                new_visibility=VISIBILITY_AFTER.get(action, Visibility.PUBLISHED),
                appeal_until=decided + timedelta(days=184),
                decided_at=decided,
            )
        )
    Decision.objects.bulk_create(rows, batch_size=500)
    Effect.objects.bulk_create(
        [
            Effect(decision=row, state=EffectState.IN_FORCE, decided_by=mo, ended_at=row.decided_at)
            for row in rows
        ],
        batch_size=500,
    )


@pytest.fixture
def poisoned_cases(db: None, mo: Account) -> tuple[list[Case], list[PreviewImage], Policy]:
    """Return cases of a creator whose name, page and reporters must never go out."""
    content = policy_read(POLICY_DIR / "default.yaml")
    policy = policy_import(content=content, activate=True, actor=None)
    quentin = factories.account("quentinpoison")
    rita = factories.account("ritareporter")
    cases = []
    for number in range(6):
        version = factories.draft(quentin, title=_poisoned(f"Model {number}"))
        version.visibility = Visibility.PUBLISHED
        version.submitted_at = version.published_at = datetime(2025, 12, 1, tzinfo=UTC)
        version.save()
        source = Case.Source.REPORT if number % 2 else Case.Source.TRIAGE
        case = Case.objects.create(
            version=version, source=source, state="closed", due_at=timezone.now()
        )
        if number % 2:
            report = Report.objects.create(
                case=case, version=version, reporter=rita, text=_poisoned("I saw this.")
            )
            Report.objects.filter(pk=report.pk).update(created_at=datetime(2025, 12, 2, tzinfo=UTC))
        cases.append(case)
    versions = [case.version_id for case in cases]
    return cases, list(PreviewImage.objects.filter(version__in=versions)), policy


def _export(*arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command(
        "transparency", "export", "--since", "2026-01-01", "--json", *arguments, stdout=out
    )
    tally: dict[str, Any] = json.loads(out.getvalue())
    return tally


def test_ten_thousand_decisions_become_ten_thousand_statements_of_nobody(
    poisoned_cases: tuple[list[Case], list[PreviewImage], Policy], mo: Account, tmp_path: Path
) -> None:
    _decisions(DECISIONS, *poisoned_cases[:2], mo, poisoned_cases[2])
    tally = _export("--out", str(tmp_path / "statements"))
    assert tally["statements"] == DECISIONS
    assert tally["batches"] == DECISIONS // 100
    assert tally["refused"] == []
    texts = [path.read_text() for path in sorted((tmp_path / "statements").glob("*.json"))]
    assert len(texts) == tally["batches"]
    names = [*PRIVATE, "quentinpoison", "ritareporter", "example.org", "judge", "complaint"]
    puids: set[str] = set()
    for text in texts:
        assert not [name for name in names if name.lower() in text.lower()]
        batch = json.loads(text)
        assert batch_faults(batch) == []
        puids |= {statement["puid"] for statement in batch["statements"]}
    assert len(puids) == DECISIONS
    again = _export("--out", str(tmp_path / "again"))
    assert again == tally
    assert [path.read_text() for path in sorted((tmp_path / "again").glob("*.json"))] == texts


# The long run: PAYLOADS_BY_DOOR=2000 pytest tests/test_transparency.py -k door
BY_DOOR = int(os.environ.get("PAYLOADS_BY_DOOR", "44"))


def test_what_people_decide_by_the_door_goes_out_with_its_provenance_and_nobodys_name(
    policy: Policy, settings: Any, mo: Account, tmp_path: Path
) -> None:
    settings.COUNTRY_HEADER = "CF-IPCountry"
    Rule.objects.update(actions=[action.value for action in RESTRICTIONS])
    chance = random.Random(23)
    expected = {}
    for number in range(BY_DOOR):
        action = RESTRICTIONS[number % len(RESTRICTIONS)]
        # Others each time: who is suspended submits nothing, who reports much is throttled.
        quentin = factories.account(f"quentinpoison{number}")
        rita = factories.account(f"ritareporter{number}")
        title = _poisoned(f"Model {number}")
        by_machine = chance.random() < 0.5
        track = chance.choice([None, Track.RULE, Track.ILLEGAL]) if by_machine else Track.ILLEGAL
        # Under which rule, and whether a machine held it or only asked a person to look.
        rule = chance.choice(["red-star", "red-star", "purple-heart", ""])
        score = chance.choice([0.95, 0.95, 0.6])
        found = [factories.finding(score, rule=rule)] if by_machine else []
        version = factories.triaged(quentin, found, title=title)
        if track is not None and version.visibility == Visibility.PUBLISHED:
            words = Words(text=_poisoned("Seen."), place=_poisoned("There"), good_faith=True)
            report_file(version=version, text="", track=track, words=words, actor=rita)
        source = chance.choice([Source.PERSON, Source.PERSON, Source.ORDER])
        is_confirmed = (
            (by_machine, rule, score, source) == (True, "red-star", 0.95, Source.PERSON)
        ) and action not in ABOUT_ACCOUNTS
        terms = Terms(
            label=_poisoned("Label") if action == Action.LABEL else "",
            countries=["DE", "AT"] if action == Action.GEO_RESTRICT else (),
            preview=version.previews.get().code if action == Action.DISABLE_PREVIEW else "",
            until=timezone.now() + timedelta(days=9) if action in ENDS_SOMETIME else None,
            is_order=source == Source.ORDER,
            legal_ground=_poisoned("Art. 9 order by") if source == Source.ORDER else "",
        )
        decision = decision_make(
            case=case_claim(case=version.cases.get(), actor=mo),
            action=action,
            rules=["red-star"],
            facts=_poisoned("Seen:"),
            message=_poisoned("To you:"),
            private_note=_poisoned("Between us:"),
            terms=terms,
            actor=mo,
        )
        expected[f"decision-{decision.code}"] = (
            "Yes" if by_machine else "No",
            f"AUTOMATED_DECISION_{'PARTIALLY' if is_confirmed else 'NOT_AUTOMATED'}",
            _source_type(version, source),
        )
    tally = _export("--out", str(tmp_path))
    assert (tally["statements"], tally["refused"]) == (BY_DOOR, [])
    sent = {}
    for path in tmp_path.glob("*.json"):
        text = path.read_text()
        names = [*PRIVATE, "quentinpoison", "ritareporter", "example.org", "Between us"]
        assert not [name for name in names if name.lower() in text.lower()]
        assert batch_faults(json.loads(text)) == []
        for row in json.loads(text)["statements"]:
            fields = ("automated_detection", "automated_decision", "source_type")
            sent[row["puid"]] = tuple(row[field] for field in fields)
    assert sent == expected
    assert len({automated for _, automated, _ in sent.values()}) == 2
    assert StatementOfReasons.objects.count() == BY_DOOR


def _source_type(version: ModelVersion, source: Source) -> str:
    tracks = set(version.reports.values_list("track", flat=True))
    if Track.ILLEGAL in tracks:
        return "SOURCE_ARTICLE_16"
    if tracks or source == Source.ORDER:
        return "SOURCE_TYPE_OTHER_NOTIFICATION"
    return "SOURCE_VOLUNTARY"


RECORD = Record(
    puid="decision-abc123defg",
    action=Action.REMOVE,
    source=Source.PERSON,
    ground=Ground.POLICY,
    legal_ground="",
    automated_detection=False,
    tracks=frozenset(),
    policy="default v1",
    titles=("Gore and cruelty",),
    texts=("Nothing of that kind.",),
    categories=("STATEMENT_CATEGORY_VIOLENCE",),
    keywords=("KEYWORD_OTHER",),
    territories=(),
    content_date=date(2026, 1, 1),
    application_date=date(2026, 2, 1),
    until=None,
)


@pytest.mark.parametrize(
    ("flip", "field", "before", "after"),
    [
        ({"automated_detection": True}, "automated_detection", "No", "Yes"),
        (
            {"source": Source.CONFIRMED},
            "automated_decision",
            "AUTOMATED_DECISION_NOT_AUTOMATED",
            "AUTOMATED_DECISION_PARTIALLY",
        ),
        (
            {"source": Source.ORDER, "legal_ground": "An order"},
            "source_type",
            "SOURCE_VOLUNTARY",
            "SOURCE_TYPE_OTHER_NOTIFICATION",
        ),
        (
            {"tracks": frozenset({"rule"})},
            "source_type",
            "SOURCE_VOLUNTARY",
            "SOURCE_TYPE_OTHER_NOTIFICATION",
        ),
        (
            {"tracks": frozenset({"rule", "illegal"})},
            "source_type",
            "SOURCE_VOLUNTARY",
            "SOURCE_ARTICLE_16",
        ),
        (
            {"tracks": frozenset({"illegal", "flagger"})},
            "source_type",
            "SOURCE_VOLUNTARY",
            "SOURCE_TRUSTED_FLAGGER",
        ),
    ],
)
def test_what_is_recorded_flips_exactly_the_field_that_says_it(
    flip: dict[str, Any], field: str, before: str, after: str
) -> None:
    one, other = payload_of(RECORD), payload_of(replace(RECORD, **flip))
    assert (one[field], other[field]) == (before, after)
    assert {key for key in {*one, *other} if one.get(key) != other.get(key)} == {field}
    assert statement_faults(other) == []


@pytest.mark.parametrize("action", RESTRICTIONS)
@pytest.mark.parametrize("ground", Ground)
def test_every_restriction_has_a_statement_that_is_accepted(action: Action, ground: Ground) -> None:
    payload = payload_of(
        replace(RECORD, action=action, ground=ground, until=date(2026, 3, 1), legal_ground="§ 1")
    )
    assert statement_faults(payload) == []
    ends = [value for key, value in payload.items() if key.startswith("end_date")]
    assert ends == ["2026-03-01"]


def test_withdrawn_names_in_an_old_policy_go_out_under_their_successors() -> None:
    old = replace(
        RECORD,
        categories=("STATEMENT_CATEGORY_SCOPE_OF_PLATFORM_SERVICE",),
        keywords=("KEYWORD_NON_CONSENSUAL_ITEMS_DEEPFAKE",),
    )
    payload = payload_of(old)
    assert payload["category"] == "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
    assert payload["category_specification"] == ["KEYWORD_NON_CONSENSUAL_MATERIAL_DEEPFAKE"]
    assert not set(taxonomy()["withdrawn"]) & set(json.dumps(payload).split('"'))


def test_of_a_legal_ground_only_the_citation_goes_out() -> None:
    record = replace(RECORD, ground=Ground.LAW, legal_ground=_poisoned("§ 201a StGB, says"))
    assert payload_of(record)["illegal_content_legal_ground"] == "§ 201a StGB"
    named = payload_of(replace(record, legal_ground="The judge Quentin Poison"))
    assert "Poison" not in named["illegal_content_legal_ground"]


def test_what_is_restricted_only_outside_the_union_is_not_reported_to_it() -> None:
    assert not concerns_the_union(replace(RECORD, territories=("US",)))
    assert payload_of(replace(RECORD, territories=("US", "SE")))["territorial_scope"] == ["SE"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"puid": "a b"}, "puid"),
        ({"puid": None}, "puid"),
        ({"decision_visibility": None}, "decision_visibility"),
        ({"decision_visibility": ["DECISION_VISIBILITY_GONE"]}, "decision_visibility"),
        ({"decision_visibility_other": "words"}, "decision_visibility_other"),
        ({"category": "STATEMENT_CATEGORY_SCOPE_OF_PLATFORM_SERVICE"}, "category"),
        ({"category_specification": ["KEYWORD_DANGEROUS_TOYS"]}, "category_specification"),
        ({"automated_detection": True}, "automated_detection"),
        ({"automated_decision": "No"}, "automated_decision"),
        ({"source_type": None}, "source_type"),
        ({"source_identity": "somebody"}, "source_identity"),
        ({"content_type": ["CONTENT_TYPE_IMAGE"]}, "content_type_other"),
        ({"decision_facts": "x" * 5001}, "decision_facts"),
        ({"decision_facts": "write to a@b.example"}, "decision_facts"),
        ({"decision_facts": "came from 203.0.113.7"}, "decision_facts"),
        ({"decision_facts": "came from 2001:db8::7"}, "decision_facts"),
        ({"application_date": "01.02.2026"}, "application_date"),
        ({"application_date": "2019-12-31"}, "application_date"),
        ({"content_date": "2026-02-30"}, "content_date"),
        ({"end_date_visibility_restriction": "2026-01-31"}, "end_date_visibility_restriction"),
        ({"territorial_scope": ["US"]}, "territorial_scope"),
        ({"incompatible_content_ground": None}, "incompatible_content_ground"),
        ({"illegal_content_explanation": "words"}, "illegal_content_explanation"),
        ({"content_language": "en"}, "content_language"),
        ({"content_id": {"EAN-13": "12"}}, "content_id"),
        ({"username": "quentin"}, "username"),
    ],
)
def test_the_validator_refuses_and_names_the_field(change: dict[str, Any], field: str) -> None:
    payload = {key: value for key, value in (payload_of(RECORD) | change).items() if value}
    assert field in {fault.split(":")[0] for fault in statement_faults(payload)}


def test_a_batch_is_refused_that_is_too_large_or_says_something_twice() -> None:
    payload = payload_of(RECORD)
    assert batch_faults({"statements": []})
    assert batch_faults({"statements": [payload] * 101})
    assert "twice" in batch_faults({"statements": [payload, payload]})[0]


@pytest.mark.django_db
def test_only_what_is_in_force_is_exported(uma: Account, mo: Account, policy: Policy) -> None:
    decision = factories.decided(uma, mo)
    Effect.objects.filter(decision=decision).delete()
    made = {"decision": decision, "decided_by": mo, "due_at": timezone.now()}
    effect = Effect.objects.create(state=EffectState.DUE, **made)
    assert _export("--dry-run")["statements"] == 0
    since = timezone.now()
    Effect.objects.filter(pk=effect.pk).update(state=EffectState.IN_FORCE, ended_at=since)
    tally = _export("--dry-run")
    assert tally["statements"] == 1
    assert tally["written"] is False


def test_a_decision_is_exported_for_the_day_on_which_it_came_into_force(
    uma: Account,
    mo: Account,
    ada: Account,
    policy: Policy,
    settings: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.POPULAR_DOWNLOADS = -1
    settings.SECOND_PERSON_FOR = ["popular"]
    last_of_june = datetime(2026, 6, 30, 12, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: last_of_june)
    decision = factories.decided(uma, mo)
    monkeypatch.setattr(timezone, "now", lambda: last_of_june + timedelta(days=3))
    decision_confirm(decision=decision, actor=ada)

    def exported(since: str, until: str) -> list[dict[str, Any]]:
        out = tmp_path / since
        call_command(
            "transparency", "export", f"--since={since}", f"--until={until}", f"--out={out}"
        )
        return [
            row for file in out.glob("*.json") for row in json.loads(file.read_text())["statements"]
        ]

    assert exported("2026-06-01", "2026-07-01") == []
    (row,) = exported("2026-07-01", "2026-08-01")
    assert row["puid"] == f"decision-{decision.code}"
    assert row["application_date"] == "2026-07-03"
    assert row["content_date"] == "2026-06-30"


def test_export_asks_for_a_folder(db: None) -> None:
    with pytest.raises(CommandError, match="--out"):
        call_command("transparency", "export", "--since", "2026-01-01")


@pytest.fixture
def a_year(
    poisoned_cases: tuple[list[Case], list[PreviewImage], Policy], mo: Account, ada: Account
) -> None:
    """Write a year of reports, decisions and appeals of every kind."""
    cases, previews, policy = poisoned_cases
    _decisions(300, cases, previews, mo, policy)
    Case.objects.update(opened_at=datetime(2025, 12, 31, tzinfo=UTC))
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    rule = policy.rules.get(slug="gore-cruelty")
    for number in range(7):
        report = Report.objects.create(
            case=cases[0],
            version=cases[0].version,
            rule=rule if number % 2 else None,
            text="Words.",
            state="acted" if number < 4 else "open",
        )
        Report.objects.filter(pk=report.pk).update(
            created_at=moment,
            answered_at=moment + timedelta(hours=number + 1) if number < 4 else None,
        )
    outcomes = [AppealState.UPHELD] * 3 + [AppealState.OVERTURNED, AppealState.OPEN]
    decisions = list(Decision.objects.order_by("pk")[: len(outcomes)])
    for decision, outcome in zip(decisions, outcomes, strict=True):
        is_open = outcome == AppealState.OPEN
        Appeal.objects.create(
            decision=decision,
            case=decision.case,
            side=Side.CREATOR,
            appellant=decision.creator,
            decided_by=mo,
            text="Look again.",
            state=outcome,
            answer="" if is_open else "Because.",
            answered_by=None if is_open else ada,
            filed_at=moment,
            answered_at=None if is_open else moment + timedelta(days=2),
        )


def test_totals_are_the_sums_of_their_rows(a_year: None) -> None:
    report = report_of_year(2026)
    for table in report.tables:
        assert sum(line.count for line in table.lines) == table.total, table.key
    totals = {table.key: table.total for table in report.tables}
    assert totals["decisions_by_action"] == totals["restrictions_by_category"] == 300
    assert totals["notices_by_category"] == totals["notices_by_outcome"] == 7
    assert totals["appeals_by_outcome"] == 5
    figures = {figure.key: figure for figure in report.figures}
    assert (figures["overturn_rate"].value, figures["overturn_rate"].n) == (25.0, 4)
    assert figures["notice_median_hours"].value == 2.5
    assert figures["appeal_median_days"].value == 2.0
    assert {table.total for table in report_of_year(2024).tables} == {0}


def test_the_year_counts_answers_and_cases_each_once(
    policy: Policy, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    def figures() -> dict[str, tuple[float | None, int]]:
        report = report_of_year(timezone.now().year)
        return {figure.key: (figure.value, figure.n) for figure in report.figures}

    version = factories.published(uma)
    report_withdraw(report=report_file(version=version, text="A star.", actor=None))
    assert figures()["notice_median_hours"] == (None, 0), "taken back is not answered"
    case = version.cases.get()
    report = report_file(version=version, text="A star.", actor=rui)
    case_claim(case=case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="A leaf.", actor=mo)
    Report.objects.filter(pk=report.pk).update(
        created_at=timezone.now() - timedelta(days=9),
        answered_at=timezone.now() - timedelta(days=8),
    )
    report.refresh_from_db()
    appeal = appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    case_claim(case=appeal.case, actor=ada)
    appeal_answer(
        appeal=appeal,
        outcome=AppealState.OVERTURNED,
        answer="A star.",
        action=Action.REMOVE,
        rules=["red-star"],
        actor=ada,
    )
    report.refresh_from_db()
    assert report.state == "acted"
    assert figures()["notice_median_hours"] == (24.0, 1), "an appeal changes no first answer"

    held = case_claim(case=factories.held(uma), actor=mo)
    for action in (Action.STRIKE, Action.LAW, Action.REMOVE):
        rules = [] if action == Action.LAW else ["red-star"]
        decision_make(case=held, action=action, rules=rules, facts="A star.", actor=mo)
        held.refresh_from_db()
    let_go = case_claim(case=factories.held(uma), actor=mo)
    decision_make(case=let_go, action=Action.APPROVE, rules=[], facts="A leaf.", actor=mo)
    assert figures()["automated_false_alarms"] == (50.0, 2)


def test_the_report_is_the_same_as_csv_as_json_and_on_the_page(
    a_year: None, tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "r.csv")]
    call_command("transparency", "report", "--year", "2026", *out, stdout=StringIO())
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    written = StringIO()
    call_command("transparency", "report", "--year", "2026", "--json", stdout=written)
    data = json.loads(written.getvalue())
    totals = {row["table"]: int(row["value"]) for row in rows if row["line"] == "total"}
    assert totals == {table["key"]: table["total"] for table in data["tables"]}
    page = Client().get("/transparency/?year=2026")
    assert page.status_code == 200
    text = page.content.decode()
    for table in data["tables"]:
        assert table["title"] in text
        for line in table["lines"]:
            assert f"<td>{line['count']}</td>" in text
    assert "25 per cent" in text
    assert "poison" not in text.lower()
    assert "<script" not in text.split("<main")[1].split("</main")[0]


def test_the_page_is_there_before_anything_happened(db: None) -> None:
    page = Client().get("/transparency/?year=nonsense")
    assert page.status_code == 200
    assert "Nothing in this year." in page.content.decode()
