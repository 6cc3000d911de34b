"""How the team's work stands: what waits, how long deciding takes, how far people agree.

Figures of the house, never of one person: a ranking of moderators makes them quick, not right.
Each table takes a fixed number of queries.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

from django.db.models import Count, Min, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import TruncDate
from django.utils import timezone

from moderation.agreement import Agreement
from moderation.models import (
    Account,
    Case,
    CaseFacet,
    Decision,
    Event,
    ReviewItem,
    Rule,
    SecondReview,
)
from moderation.selectors.overturns import overturn_rates
from moderation.selectors.queue import require_team
from moderation.selectors.queue_filters import PROBES, TRACKS
from moderation.selectors.second_reviews import agreement_by_rule, agreement_in_all
from moderation.states import (
    ANSWERS,
    CAME_INTO_FORCE,
    LISTED_CASES,
    POLICY_LEADING,
    SENIOR,
    Action,
    Answer,
)

PERIODS = (7, 30, 90)
# How many of the newest decisions the handling times are drawn from. Of 5,000 the median is
# known to a few per cent, and looking up who took each case when costs an index look-up.
TIMED = 5_000
# A case that was left open over night says nothing about how long deciding takes.
LONGEST_HANDLING = timedelta(hours=2)
REVIEWS = 5_000
DISAGREEMENTS = 50


@dataclass(frozen=True)
class OpenLine:
    """The open cases of one rule or one source."""

    label: str
    link: str
    open: int
    oldest: datetime | None
    breached: int


@dataclass(frozen=True)
class DayLine:
    """The decisions of one day, by what they say. ``median`` is of the handling times, or None."""

    day: str
    allow: int
    restrict: int
    remove: int
    other: int
    median: timedelta | None

    @property
    def total(self) -> int:
        """All decisions of the day."""
        return self.allow + self.restrict + self.remove + self.other


@dataclass(frozen=True)
class RateLine:
    """How many appeals on one rule or probe were answered, and how many granted."""

    kind: str
    label: str
    answered: int
    overturned: int
    percent: float


@dataclass(frozen=True)
class AgreementLine:
    """How far two people agree on one rule."""

    label: str
    found: Agreement


@dataclass(frozen=True)
class KnownLine:
    """How many answers to known-answer items were right, by what the right answer is."""

    label: str
    given: int
    right: int


@dataclass(frozen=True)
class TeamPage:
    """What the page of the team shows."""

    days: int
    rules: list[OpenLine]
    sources: list[OpenLine]
    open: int
    breached: int
    oldest: datetime | None
    daily: list[DayLine]
    decisions: int
    handling: timedelta | None
    handled: int
    rates: list[RateLine]
    overall: Agreement
    agreement: list[AgreementLine]
    known: list[KnownLine]
    waiting: int
    disagreements: list[SecondReview]
    sees_disagreements: bool


def team_page(*, account: Account, days: int) -> TeamPage:
    """Return the figures of the last ``days`` days. Raises NotAllowed for all but the team."""
    require_team(account)
    since = timezone.now() - timedelta(days=days)
    titles = dict(Rule.objects.order_by("policy__version").values_list("slug", "title"))
    sources = _by_source()
    daily, handling = _decided(since, days)
    reviews = list(
        SecondReview.objects.filter(given_at__gte=since)
        .select_related("item__decision__case", "item__decision__version__uploaded_model")
        .order_by("-given_at")[:REVIEWS]
    )
    drawn = [review for review in reviews if review.kind == ReviewItem.Kind.DRAWN]
    sees = account.role in POLICY_LEADING | SENIOR
    return TeamPage(
        days=days,
        rules=_by_rule(titles),
        sources=sources + _by_track(),
        # Every case has one source.
        open=sum(line.open for line in sources),
        breached=sum(line.breached for line in sources),
        oldest=min((line.oldest for line in sources if line.oldest), default=None),
        daily=daily,
        decisions=sum(line.total for line in daily),
        handling=_median(handling),
        handled=len(handling),
        rates=_rates(timedelta(days=days), titles),
        overall=agreement_in_all(drawn),
        agreement=sorted(
            (
                AgreementLine(titles.get(rule, rule), found)
                for rule, found in agreement_by_rule(drawn).items()
            ),
            key=lambda line: (-line.found.pairs, line.label),
        ),
        known=_known([review for review in reviews if review.kind == ReviewItem.Kind.KNOWN]),
        waiting=ReviewItem.objects.filter(ended_at__isnull=True, reviews__isnull=True).count(),
        disagreements=[
            review
            for review in drawn
            if not review.agrees and review.item.decision.version.isolated_at is None
        ][:DISAGREEMENTS]
        if sees
        else [],
        sees_disagreements=sees,
    )


def team_table(page: TeamPage, name: str) -> Iterator[list[str | int | float]]:
    """Yield the rows of one of the page's tables, the heading first. Raises KeyError for others."""
    tables: dict[str, tuple[list[str], Iterable[list[str | int | float]]]] = {
        "rules": (_OPEN, map(_open_row, page.rules)),
        "sources": (_OPEN, map(_open_row, page.sources)),
        "decisions": (
            ["day", "left", "restricted", "removed", "other", "median_seconds"],
            (
                [
                    *(line.day, line.allow, line.restrict, line.remove, line.other),
                    int(line.median.total_seconds()) if line.median else "",
                ]
                for line in page.daily
            ),
        ),
        "appeals": (
            ["kind", "name", "answered", "overturned", "percent"],
            (
                [line.kind, line.label, line.answered, line.overturned, round(line.percent, 1)]
                for line in page.rates
            ),
        ),
        "agreement": (
            ["rule", "pairs", "share", "kappa", "low", "high"],
            (_agreement_row(line) for line in page.agreement),
        ),
        "known": (
            ["right_answer", "given", "right"],
            ([line.label, line.given, line.right] for line in page.known),
        ),
    }
    heading, rows = tables[name]
    yield list(heading)
    yield from rows


_OPEN = ["name", "open", "oldest", "breached"]


def _open_row(line: OpenLine) -> list[str | int | float]:
    oldest = line.oldest.isoformat(timespec="seconds") if line.oldest else ""
    return [line.label, line.open, oldest, line.breached]


def _agreement_row(line: AgreementLine) -> list[str | int | float]:
    figures = (line.found.kappa, line.found.low, line.found.high)
    return [
        *(line.label, line.found.pairs, round(line.found.share, 4)),
        *("" if figure is None else round(figure, 4) for figure in figures),
    ]


# --- What waits -----------------------------------------------------------------------------


def _breached(field: str) -> Count:
    return Count("pk", filter=Q(**{f"{field}__lt": timezone.now()}))


def _of_facets(kind: str) -> list[tuple[str, int, datetime, int]]:
    found = (
        CaseFacet.objects.filter(
            kind=kind,
            case__state__in=sorted(LISTED_CASES),
            case__version__isolated_at__isnull=True,
        )
        .values_list("value")
        .annotate(
            open=Count("pk"), oldest=Min("case__opened_at"), breached=_breached("case__due_at")
        )
        .order_by("-open", "value")
    )
    return list(found)


def _by_rule(titles: dict[str, str]) -> list[OpenLine]:
    return [
        OpenLine(titles.get(value, value), f"rule={value}", count, oldest, breached)
        for value, count, oldest, breached in _of_facets(CaseFacet.Kind.RULE)
    ]


def _by_source() -> list[OpenLine]:
    # What is held apart for child safety is counted nowhere else.
    listed = Case.objects.filter(state__in=sorted(LISTED_CASES), version__isolated_at__isnull=True)
    sources = (
        listed.values_list("source")
        .annotate(open=Count("pk"), oldest=Min("opened_at"), breached=_breached("due_at"))
        .order_by("-open")
    )
    labels = dict(Case.Source.choices)
    return [
        OpenLine(f"opened by {labels[value]}", f"source={value}", count, oldest, breached)
        for value, count, oldest, breached in sources
    ]


def _by_track() -> list[OpenLine]:
    return [
        OpenLine(f"report: {TRACKS.get(value, value)}", f"track={value}", count, oldest, breached)
        for value, count, oldest, breached in _of_facets(CaseFacet.Kind.TRACK)
    ]


# --- What was decided -----------------------------------------------------------------------


def _made(since: datetime) -> QuerySet[Decision]:
    """Return the decisions that came into force; what was undone or withdrawn decided nothing."""
    made = Decision.objects.filter(effect__state__in=sorted(CAME_INTO_FORCE))
    return made.filter(decided_at__gte=since).exclude(action=Action.REVERSE)


def _decided(since: datetime, days: int) -> tuple[list[DayLine], list[float]]:
    """Return a line for each day, the oldest first, and the handling times of the newest."""
    counts: dict[tuple[str, str], int] = Counter()
    made = _made(since)
    by_day = made.annotate(day=TruncDate("decided_at", tzinfo=UTC)).values_list("day", "action")
    for day, action, number in by_day.annotate(number=Count("pk")).order_by():
        counts[day.isoformat(), ANSWERS.get(Action(action), "other")] += number
    times: dict[str, list[float]] = {}
    for decided_at, seconds in handling_times(since=since):
        times.setdefault(decided_at.astimezone(UTC).date().isoformat(), []).append(seconds)
    today = timezone.now().astimezone(UTC).date()
    lines = []
    for back in range(days - 1, -1, -1):
        day = (today - timedelta(days=back)).isoformat()
        lines.append(
            DayLine(
                day=day,
                allow=counts[day, Answer.ALLOW],
                restrict=counts[day, Answer.RESTRICT],
                remove=counts[day, Answer.REMOVE],
                other=counts[day, "other"],
                median=_median(times.get(day, [])),
            )
        )
    return lines, [each for of_day in times.values() for each in of_day]


def handling_times(*, since: datetime) -> Iterator[tuple[datetime, float]]:
    """Yield of the newest decisions when each was made, and the seconds since its case was taken.

    Without those that were made in bulk, or lay open for longer than ``LONGEST_HANDLING``.
    """
    taken = Event.objects.filter(
        case=OuterRef("case"),
        actor=OuterRef("decided_by"),
        action="case.claimed",
        at__lte=OuterRef("decided_at"),
    ).order_by("-sequence")
    timed = (
        _made(since)
        .filter(bulk="")
        .annotate(taken=Subquery(taken.values("at")[:1]))
        .order_by("-decided_at")
        .values_list("decided_at", "taken")[:TIMED]
    )
    for decided_at, taken_at in timed:
        if taken_at is not None and decided_at - taken_at <= LONGEST_HANDLING:
            yield decided_at, (decided_at - taken_at).total_seconds()


def _median(seconds: Sequence[float]) -> timedelta | None:
    return timedelta(seconds=median(seconds)) if seconds else None


def _rates(window: timedelta, titles: dict[str, str]) -> list[RateLine]:
    labels = {"rule": titles, "probe": PROBES}
    return [
        RateLine(
            rate.kind,
            labels[rate.kind].get(rate.name, rate.name),
            rate.answered,
            rate.overturned,
            100 * rate.share,
        )
        for rate in overturn_rates(window=window)
    ]


def _known(reviews: Sequence[SecondReview]) -> list[KnownLine]:
    lines = []
    for answer, label in Answer.choices:
        given = [review for review in reviews if review.item.answer == answer]
        if given:
            lines.append(KnownLine(label, len(given), sum(review.agrees for review in given)))
    return lines
