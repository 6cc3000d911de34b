"""The counts of a year that are published (DSA Art. 15 and 24). Numbers only, no person.

Every table counts rows once: its total is asked of the database by itself, and a test holds it
against the sum of its lines.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from django.db.models import QuerySet

from moderation.models import Appeal, Case, Decision, Finding, Hold, Report
from moderation.states import (
    ABOUT_ACCOUNTS,
    ANSWERED_REPORTS,
    CAME_INTO_FORCE,
    RESTRICTIONS,
    Action,
    AppealState,
    Concern,
    Ground,
    ReportState,
    Side,
    Source,
    Track,
)
from moderation.taxonomy import current_name, label_of

NOT_SPECIFIED = "STATEMENT_CATEGORY_NOT_SPECIFIED_NOTICE"
# What a person answered; the others are open, or became moot.
ANSWERED = (
    AppealState.UPHELD,
    AppealState.OVERTURNED,
    AppealState.MODIFIED,
    AppealState.REMANDED,
)
OVERTURNED = (AppealState.OVERTURNED, AppealState.MODIFIED)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table. ``share`` is of the largest line, 0..100, for the bar."""

    key: str
    label: str
    count: int
    share: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Lines that count the same rows, each once."""

    key: str
    title: str
    lines: tuple[Line, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with what it was computed from; ``value`` is None where there is nothing yet."""

    key: str
    label: str
    value: float | None
    unit: str
    n: int


@dataclass(frozen=True, slots=True)
class YearlyReport:
    """What is published about one year."""

    year: int
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]

    def as_data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)

    def as_table(self) -> Iterator[list[str | int | float]]:
        """Yield the rows of a CSV file."""
        yield ["year", "table", "line", "label", "value", "n"]
        for table in self.tables:
            for line in table.lines:
                yield [self.year, table.key, line.key, line.label, line.count, ""]
            yield [self.year, table.key, "total", table.title, table.total, ""]
        for one in self.figures:
            value = "" if one.value is None else one.value
            yield [self.year, "figures", one.key, f"{one.label} ({one.unit})", value, one.n]


def years_with_rows() -> list[int]:
    """Return the years in which anything was reported or decided, the latest first."""
    years = {
        *(day.year for day in Report.objects.dates("created_at", "year")),
        *(day.year for day in Decision.objects.dates("decided_at", "year")),
    }
    return sorted(years, reverse=True)


def report_of_year(year: int) -> YearlyReport:
    """Return the counts of a calendar year (UTC)."""
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    reports = Report.objects.filter(created_at__gte=start, created_at__lt=end)
    decisions = Decision.objects.filter(
        decided_at__gte=start, decided_at__lt=end, effect__state__in=CAME_INTO_FORCE
    )
    restrictions = decisions.filter(action__in=RESTRICTIONS)
    appeals = Appeal.objects.filter(filed_at__gte=start, filed_at__lt=end)
    holds = Hold.objects.filter(held_at__gte=start, held_at__lt=end)
    actions = dict(Action.choices)
    tables = (
        _table("notices_by_category", "Notices by category", _categories(reports), reports.count()),
        _table(
            "notices_by_track",
            "Notices by track",
            _named(_tally(reports, "track"), dict(Track.choices)),
            reports.count(),
        ),
        _table(
            "notices_by_outcome",
            "Notices by outcome",
            _named(_tally(reports, "state"), dict(ReportState.choices)),
            reports.count(),
        ),
        _table(
            "decisions_by_action",
            "Decisions by what was done",
            _named(_tally(decisions, "action"), actions),
            decisions.count(),
        ),
        _table(
            "restrictions_by_category",
            "Restrictions by category",
            _categories_of_decisions(restrictions),
            restrictions.count(),
        ),
        _table(
            "restrictions_by_kind",
            "Restrictions of content and of accounts",
            _kinds(restrictions),
            restrictions.count(),
        ),
        _table(
            "restrictions_by_ground",
            "Restrictions by ground",
            _named(_tally(restrictions, "ground"), dict(Ground.choices)),
            restrictions.count(),
        ),
        _table(
            "restrictions_by_detection",
            "Restrictions by how the content was found",
            _named(
                _tally(restrictions, "automated_detection"),
                {"True": "An automated check pointed to it", "False": "No automated check did"},
            ),
            restrictions.count(),
        ),
        _table(
            "restrictions_by_decider",
            "Restrictions by who decided",
            _named(_tally(restrictions, "source"), dict(Source.choices)),
            restrictions.count(),
        ),
        # Decided by nobody: they stand beside the restrictions that people decided.
        _table(
            "holds_by_detection",
            "Hidden by a clock until a person decided, by how the content was found",
            _holds(holds),
            holds.count(),
        ),
        _table(
            "appeals_by_side",
            "Appeals by who appealed",
            _named(_tally(appeals, "side"), dict(Side.choices)),
            appeals.count(),
        ),
        _table(
            "appeals_by_outcome",
            "Appeals by outcome",
            _named(_tally(appeals, "state"), dict(AppealState.choices)),
            appeals.count(),
        ),
    )
    return YearlyReport(year, tables, tuple(_figures(reports, restrictions, appeals, start, end)))


def _figures(
    reports: QuerySet[Report],
    restrictions: QuerySet[Decision],
    appeals: QuerySet[Appeal],
    start: datetime,
    end: datetime,
) -> Iterator[Figure]:
    # Not what was withdrawn, which has a moment as well.
    answered = reports.filter(state__in=sorted(ANSWERED_REPORTS))
    waits = [
        (done - filed).total_seconds() / 3600
        for filed, done in answered.values_list("created_at", "answered_at")
        if done is not None
    ]
    yield _median("notice_median_hours", "Median time from a notice to its answer", "hours", waits)
    times = [
        (decided - opened).total_seconds() / 3600
        for opened, decided in restrictions.values_list("case__opened_at", "decided_at")
    ]
    yield _median(
        "action_median_hours", "Median time from a case to its restriction", "hours", times
    )
    durations = [
        (done - filed).total_seconds() / 86400
        for filed, done in appeals.filter(state__in=ANSWERED).values_list("filed_at", "answered_at")
        if done is not None
    ]
    yield _median(
        "appeal_median_days", "Median time from an appeal to its answer", "days", durations
    )
    outcomes = Counter(appeals.values_list("state", flat=True))
    yield _share(
        "overturn_rate",
        "Answered appeals that changed the decision",
        sum(outcomes[state] for state in OVERTURNED),
        sum(outcomes[state] for state in ANSWERED),
    )
    # The error rate of automated means: cases that a machine opened and in which a person saw
    # nothing to restrict; and restrictions it pointed to that did not stand.
    opened = Decision.objects.filter(
        decided_at__gte=start,
        decided_at__lt=end,
        effect__state__in=CAME_INTO_FORCE,
        case__source=Case.Source.TRIAGE,
        overrides__isnull=True,
        # What was taken beside the case says nothing about what the check pointed to.
    ).exclude(action__in=ABOUT_ACCOUNTS | {Action.LAW})
    yield _share(
        "automated_false_alarms",
        "Cases opened by an automated check in which a person saw nothing to restrict",
        opened.filter(action__in=[Action.APPROVE, Action.DISMISS])
        .values("case")
        .distinct()
        .count(),
        opened.values("case").distinct().count(),
    )
    pointed = restrictions.filter(automated_detection=True)
    yield _share(
        "automated_overturned",
        "Restrictions found with an automated check that an appeal changed",
        pointed.filter(appeals__state__in=OVERTURNED).distinct().count(),
        pointed.count(),
    )
    flagged = Finding.objects.filter(created_at__gte=start, created_at__lt=end).exclude(
        concern=Concern.NONE
    )
    yield Figure(
        "automated_findings",
        "Findings of automated checks that sent something to people",
        float(flagged.count()),
        "findings",
        flagged.count(),
    )


def _median(key: str, label: str, unit: str, values: Sequence[float]) -> Figure:
    return Figure(key, label, round(median(values), 1) if values else None, unit, len(values))


def _share(key: str, label: str, part: int, whole: int) -> Figure:
    value = round(100 * part / whole, 1) if whole else None
    return Figure(key, label, value, "per cent", whole)


def _tally(rows: QuerySet[Any], field: str) -> Mapping[str, int]:
    # In Python: the default ordering of a model would otherwise split the groups.
    return Counter(str(value) for value in rows.order_by().values_list(field, flat=True))


def _named(counts: Mapping[str, int], labels: Mapping[str, str]) -> list[tuple[str, str, int]]:
    tally = dict(counts)
    return [(key, label, tally.pop(key, 0)) for key, label in labels.items()] + [
        (key, key, count) for key, count in tally.items()
    ]


def _categories(reports: QuerySet[Report]) -> list[tuple[str, str, int]]:
    found = Counter(
        current_name(category) if category else NOT_SPECIFIED
        for category in reports.order_by().values_list("rule__category", flat=True)
    )
    return [(name, label_of(name), count) for name, count in sorted(found.items())]


def _categories_of_decisions(decisions: QuerySet[Decision]) -> list[tuple[str, str, int]]:
    """Count each decision once: under the rule that it names first."""
    rules: dict[int, Mapping[str, str]] = {}
    found: Counter[str] = Counter()
    for decision in decisions.select_related("policy").only("clauses", "policy").order_by():
        if decision.policy_id not in rules:
            rules[decision.policy_id] = dict(decision.policy.rules.values_list("slug", "category"))
        slug = decision.clauses[0]["slug"] if decision.clauses else ""
        category = rules[decision.policy_id].get(slug, "")
        found[current_name(category) or "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"] += 1
    return [(name, label_of(name), count) for name, count in sorted(found.items())]


def _kinds(decisions: QuerySet[Decision]) -> list[tuple[str, str, int]]:
    on_accounts = decisions.filter(action__in=ABOUT_ACCOUNTS).count()
    on_content = decisions.exclude(action__in=ABOUT_ACCOUNTS).count()
    return [
        ("content", "Of a model, a version or a preview", on_content),
        ("account", "Of an account", on_accounts),
    ]


def _holds(holds: QuerySet[Hold]) -> list[tuple[str, str, int]]:
    found = Counter(hold.is_found_by_machine for hold in holds.select_related("report"))
    return [
        ("True", "An automated comparison found a copy", found[True]),
        ("False", "A depicted person named it", found[False]),
    ]


def _table(key: str, title: str, counts: Iterable[tuple[str, str, int]], total: int) -> Table:
    lines = [each for each in counts if each[2]]
    most = max((count for _, _, count in lines), default=1)
    return Table(
        key,
        title,
        tuple(Line(name, label, count, round(100 * count / most)) for name, label, count in lines),
        total,
    )
