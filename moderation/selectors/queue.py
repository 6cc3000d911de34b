"""The moderators' queue: what waits, in which order, and why."""

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, F, Prefetch, Q
from django.utils import timezone
from django.utils.text import get_text_list

from moderation.errors import NotAllowed
from moderation.models import (
    Account,
    Case,
    Finding,
    Report,
    TriageJob,
)
from moderation.states import (
    HELD_CASES,
    WAITING_CASES,
    CaseState,
    Concern,
    JobState,
)


def require_team(account: Account) -> None:
    """Let the moderation team into the console."""
    if not account.is_team:
        raise NotAllowed("The console is for the moderation team.")


@dataclass(frozen=True)
class Tally:
    """The counters above the queue."""

    waiting: int
    in_review: int
    appeals: int
    overdue: int
    jobs: int


def queue_tally() -> Tally:
    """Count what waits, in one query for cases and one for jobs."""
    now = timezone.now()
    counts = Case.objects.filter(state__in=WAITING_CASES | HELD_CASES).aggregate(
        waiting=Count("pk", filter=Q(state=CaseState.QUEUED)),
        in_review=Count("pk", filter=Q(state__in=HELD_CASES)),
        appeals=Count("pk", filter=Q(state=CaseState.APPEALED)),
        overdue=Count("pk", filter=Q(due_at__lt=now)),
    )
    jobs = TriageJob.objects.filter(state__in=[JobState.QUEUED, JobState.RUNNING]).count()
    return Tally(jobs=jobs, **counts)


@dataclass(frozen=True)
class Row:
    """One line of the queue: the case, and in words why it stands where it does."""

    case: Case
    concerns: tuple[tuple[str, Concern], ...]
    why: str
    used: int
    left: timedelta
    bar: str


def queue_rows(*, state: str = "", rule: str = "", limit: int = 50) -> list[Row]:
    """Return the cases that are open, first one first, with the reasons for their order."""
    cases = Case.objects.filter(state__in=WAITING_CASES | HELD_CASES)
    if state in set(WAITING_CASES | HELD_CASES):
        cases = cases.filter(state=state)
    if rule:
        cases = cases.filter(
            Q(version__findings__rule__slug=rule) & ~Q(version__findings__concern=Concern.NONE)
            | Q(reports__rule__slug=rule)
        ).distinct()
    concerned = (
        Finding.objects.exclude(concern=Concern.NONE)
        .select_related("rule", "preview")
        # Where there is no score, PostgreSQL would put it first and SQLite last.
        .order_by(F("score").desc(nulls_last=True))
    )
    rows = (
        cases.select_related("version__uploaded_model__creator", "claimed_by")
        .prefetch_related(
            Prefetch("version__findings", queryset=concerned, to_attr="concerned"),
            Prefetch("reports", queryset=Report.objects.select_related("rule")),
            "version__previews",
        )
        .order_by("turn_at", "pk")
    )
    return [_row(case) for case in rows[:limit]]


def _row(case: Case) -> Row:
    findings: list[Finding] = getattr(case.version, "concerned", [])
    reports = list(case.reports.all())
    length = (case.due_at - case.opened_at).total_seconds()
    left = case.due_at - timezone.now()
    used = round(100 * (1 - left.total_seconds() / length)) if length > 0 else 100
    bars = [bar for bar in (90, 75, 50) if used >= bar]
    return Row(
        case=case,
        concerns=_titles(findings, reports, case.is_incomplete),
        why=_why(case, findings, reports),
        used=max(0, min(used, 100)),
        left=left,
        bar=f"used-{bars[0]}" if bars else "",
    )


def _titles(
    findings: list[Finding], reports: list[Report], is_incomplete: bool
) -> tuple[tuple[str, Concern], ...]:
    """Return what the case is about, each with its gravest concern, the gravest first."""
    titles: dict[str, Concern] = {}
    for concern in (Concern.HOLD, Concern.REVIEW):
        for finding in findings:
            if finding.rule and finding.concern == concern:
                titles.setdefault(finding.rule.title, concern)
    for report in reports:
        titles.setdefault(report.rule.title if report.rule else "A report", Concern.REVIEW)
    if is_incomplete or not titles:
        titles.setdefault("Not everything could be seen", Concern.REVIEW)
    return tuple(titles.items())


def _why(case: Case, findings: list[Finding], reports: list[Report]) -> str:
    parts = []
    if case.state in {CaseState.APPEALED, CaseState.HEARING}:
        parts.append("the creator appeals")
    scored = [finding for finding in findings if finding.score is not None]
    if scored:
        parts.append(_scored(max(scored, key=lambda finding: finding.concern == Concern.HOLD)))
    if case.is_incomplete:
        parts.append("something could not be looked at")
    if reports:
        people = "1 person" if len(reports) == 1 else f"{len(reports)} people"
        parts.append(f"{people} reported it")
    text = get_text_list(parts, "and") or "it waits for a person"
    return f"Here because {text}."


def _scored(finding: Finding) -> str:
    if finding.preview:
        subject = f"preview {finding.preview.position + 1}"
    else:
        subject = "a file" if finding.file_id else "the page"
    if finding.concern == Concern.HOLD and finding.hold is not None:
        return f"{subject} scored {finding.score:.2f} (hold from {finding.hold:.2f})"
    if finding.review is not None:
        return f"{subject} scored {finding.score:.2f} (review from {finding.review:.2f})"
    return f"{subject} scored {finding.score:.2f}"


def held_case(account: Account) -> Case | None:
    """Return the case this moderator holds, if any."""
    return Case.objects.filter(claimed_by=account, state__in=HELD_CASES).first()
