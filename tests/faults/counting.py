"""Counts what is left: each accepted item once, each effect once, and the record whole."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

from django.db.models import Count, F, QuerySet

from moderation.models import (
    Case,
    Decision,
    Effect,
    Event,
    Finding,
    ModelVersion,
    Notice,
    Report,
    StatementOfReasons,
    TriageJob,
)
from moderation.states import (
    CAME_INTO_FORCE,
    RESTRICTIONS,
    TOLD_TO_CREATOR,
    EffectState,
    JobState,
    NoticeState,
    Visibility,
)
from tests.faults.house import ROOT, House
from tests.faults.load import Ledger

ENDED = (JobState.DONE, JobState.DEAD)


@dataclass(frozen=True)
class Line:
    """One promise: how many were looked at, and which of them broke it."""

    promise: str
    looked_at: int
    broken: list[str]

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "kept": not self.broken}


def is_quiet() -> bool:
    """Return whether nothing is left to be done."""
    unfinished: list[QuerySet[Any]] = [
        TriageJob.objects.exclude(state__in=ENDED),
        ModelVersion.objects.filter(visibility=Visibility.QUARANTINED, triaged_at__isnull=True),
        Effect.objects.filter(state=EffectState.DUE),
        Notice.objects.filter(state=NoticeState.QUEUED),
        Report.objects.filter(decision__isnull=False, told_at__isnull=True),
        ModelVersion.objects.filter(
            visibility=Visibility.PUBLISHED, files_published_at__isnull=True
        ),
    ]
    return not any(each.exists() for each in unfinished)


def left_over() -> str:
    """Say what is still to be done, for whoever waits."""
    jobs = TriageJob.objects.exclude(state__in=ENDED).count()
    effects = Effect.objects.filter(state=EffectState.DUE).count()
    letters = Notice.objects.filter(state=NoticeState.QUEUED).count()
    return f"{jobs} jobs, {effects} decisions, {letters} letters"


def promises(ledger: Ledger, house: House, poisoned: Iterable[str]) -> list[Line]:
    """Return a line for each promise."""
    return [
        *_uploads(ledger),
        *_reports(ledger),
        *_decisions(ledger),
        *_everything(),
        *_letters(house.mail),
        _poison(list(poisoned)),
        _record(house),
    ]


# --- What was accepted ------------------------------------------------------------------------


def _uploads(ledger: Ledger) -> Iterator[Line]:
    lost, unfinished, astray = [], [], []
    for title, (code, weights, preview) in ledger.uploads.items():
        version = ModelVersion.objects.filter(code=code, uploaded_model__title=title).first()
        if version is None or version.submitted_at is None:
            lost.append(title)
            continue
        files = list(version.files.values_list("code", flat=True))
        previews = list(version.previews.values_list("code", flat=True))
        if (files, previews) != ([weights], [preview]):
            lost.append(f"{title}: files {files}, previews {previews}")
        states = Counter(version.jobs.values_list("state", flat=True))
        if states.total() != len(TriageJob.Stage.values) or not set(states) <= set(ENDED):
            unfinished.append(f"{title}: {dict(states)}")
        in_sight = version.published_at is not None or version.cases.exists()
        if version.triaged_at is None or not in_sight:
            astray.append(title)
    number = len(ledger.uploads)
    yield Line("an accepted upload is there with its file and preview, once", number, lost)
    yield Line("its jobs have all ended", number, unfinished)
    yield Line("it was published, or a person has its case", number, astray)
    yield Line(
        "no upload is there twice, accepted or not",
        ledger.sent["uploads"],
        _repeated(ModelVersion.objects.all(), "uploaded_model__title", prefix="Upload "),
    )


def _reports(ledger: Ledger) -> Iterator[Line]:
    found = {
        report.text: report
        for report in Report.objects.annotate(cases=F("case__code")).filter(
            text__startswith="Report "
        )
    }
    receipts = Counter(
        Notice.objects.filter(kind="report_received").values_list("report__text", flat=True)
    )
    lost = [
        text
        for text, token in ledger.reports.items()
        if text not in found or token not in {found[text].code, found[text].token}
    ]
    number = len(ledger.reports)
    yield Line("an accepted report is there, on a case", number, lost)
    yield Line(
        "it has exactly one receipt",
        number,
        [f"{text}: {receipts[text]}" for text in ledger.reports if receipts[text] != 1],
    )
    yield Line(
        "no report is there twice, accepted or not",
        ledger.sent["reports"],
        _repeated(Report.objects.all(), "text", prefix="Report "),
    )


def _decisions(ledger: Ledger) -> Iterator[Line]:
    made = {row.facts: row for row in Decision.objects.select_related("effect", "version")}
    statements = Counter(StatementOfReasons.objects.values_list("decision", flat=True))
    told = Counter(
        Notice.objects.filter(decision__isnull=False, recipient=F("decision__creator")).values_list(
            "decision", flat=True
        )
    )
    lost, unstated, untold = [], [], []
    for facts, action in ledger.decisions.items():
        decision = made.get(facts)
        if decision is None or decision.action != action:
            lost.append(facts)
            continue
        if decision.effect.state not in CAME_INTO_FORCE:
            lost.append(f"{facts}: {decision.effect.state}")
        if statements[decision.pk] != (action in RESTRICTIONS):
            unstated.append(f"{facts}: {statements[decision.pk]}")
        if told[decision.pk] != (action in TOLD_TO_CREATOR):
            untold.append(f"{facts}: {told[decision.pk]}")
    number = len(ledger.decisions)
    yield Line("an accepted decision is there and in force", number, lost)
    yield Line("a restriction has exactly one statement of reasons", number, unstated)
    yield Line("its creator has exactly one notice of it", number, untold)
    yield Line(
        "no decision is there twice, accepted or not",
        ledger.sent["decisions"],
        _repeated(Decision.objects.all(), "facts", prefix="Decision "),
    )
    reporters = Report.objects.filter(decision__isnull=False, told_at__isnull=False)
    outcomes = Counter(
        Notice.objects.filter(kind__in=["report_acted", "report_no_action"]).values_list(
            "report", flat=True
        )
    )
    yield Line(
        "each reporter of a decided case was told the outcome once",
        reporters.count(),
        [f"{row.text}: {outcomes[row.pk]}" for row in reporters if outcomes[row.pk] != 1],
    )


# --- What holds for every row -------------------------------------------------------------------


def _everything() -> Iterator[Line]:
    yield Line(
        "no finding is there twice",
        Finding.objects.count(),
        _groups(Finding.objects.all(), "version", "job", "key"),
    )
    answered = Event.objects.filter(action="triage.answered")
    yield Line(
        "each job that was done was answered once",
        answered.count(),
        _groups(answered, "version", "data__stage")
        + _uncounted(
            TriageJob.objects.filter(state=JobState.DONE).count(), answered.count(), "answers"
        ),
    )
    published = Event.objects.filter(action="version.published")
    yield Line("nothing was published twice", published.count(), _groups(published, "version"))
    notices = Notice.objects.all()
    yield Line(
        "no notice is there twice",
        notices.count(),
        _groups(notices, "kind", "recipient", "email", "version", "decision", "report"),
    )
    open_cases = Case.objects.exclude(state="closed").exclude(state="decided")
    yield Line("no version has two open cases", open_cases.count(), _groups(open_cases, "version"))
    unweighed = ModelVersion.objects.filter(
        visibility=Visibility.PUBLISHED, triaged_at__isnull=True
    )
    yield Line(
        "nothing that was not weighed is public",
        ModelVersion.objects.filter(visibility=Visibility.PUBLISHED).count(),
        [str(version) for version in unweighed],
    )


def _uncounted(wanted: int, found: int, what: str) -> list[str]:
    return [] if wanted == found else [f"{found} {what} for {wanted}"]


def _groups(rows: QuerySet[Any], *fields: str) -> list[str]:
    """Return each combination of these fields that more than one row has."""
    counted = rows.order_by().values(*fields).annotate(number=Count("pk")).filter(number__gt=1)
    return [json.dumps(row, default=str) for row in counted]


def _repeated(rows: QuerySet[Any], field: str, *, prefix: str) -> list[str]:
    return _groups(rows.filter(**{f"{field}__startswith": prefix}), field)


# --- Letters, poison, the record ------------------------------------------------------------------


def letters(folder: Path) -> Counter[str]:
    """Return how often each letter was handed over, by its Message-ID."""
    found: Counter[str] = Counter()
    for path in folder.iterdir():
        # Django writes a line of dashes after each message.
        for part in path.read_bytes().split(b"\n" + b"-" * 79 + b"\n"):
            if part.strip():
                found[str(message_from_bytes(part.lstrip())["Message-ID"])] += 1
    return found


def _letters(folder: Path) -> Iterator[Line]:
    handed_over = letters(folder)
    notices = list(Notice.objects.exclude(email=""))
    yield Line(
        "each notice with an address was sent as a letter",
        len(notices),
        [
            f"{notice.code}: {notice.state}"
            for notice in notices
            if notice.state != NoticeState.SENT or not handed_over[_message_id(notice)]
        ],
    )
    # A worker that is killed between handing a letter over and noting it cannot know: the second
    # attempt carries the same Message-ID, by which mail programs take both for one (RFC 5322).
    yield Line(
        "no letter was handed over twice, but by a second attempt after a cut one",
        handed_over.total(),
        [
            notice.code
            for notice in notices
            if handed_over[_message_id(notice)] > 1 and notice.attempts < 2
        ],
    )


def letters_repeated(folder: Path) -> int:
    """Return how many letters were handed over again after an attempt that was cut off."""
    return sum(number - 1 for number in letters(folder).values())


def _message_id(notice: Notice) -> str:
    return f"<{notice.code}@weighhouse>"


def _poison(codes: list[str]) -> Line:
    broken = []
    for version in ModelVersion.objects.filter(code__in=codes):
        job = version.jobs.get(stage="files")
        seen = version.cases.filter(is_incomplete=True).exists()
        if (job.state, job.attempts, seen) != (JobState.DEAD, 3, True):
            broken.append(f"{version.code}: {job.state} after {job.attempts}, in sight: {seen}")
    return Line(
        "a poisoned job is dead after three attempts, and a person has its case",
        len(codes),
        broken,
    )


def _record(house: House) -> Line:
    done = subprocess.run(
        [sys.executable, "manage.py", "audit_verify"],
        cwd=ROOT,
        env=house.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    return Line(
        "the record of events verifies (audit_verify)",
        Event.objects.count(),
        [] if done.returncode == 0 else [said],
    )
