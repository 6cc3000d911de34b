"""How often each reporter was right, by kind of report. Reads only; never discards anybody.

A kind is the rule a report named, or its track where it named none. A report that was acted upon
counts as borne out unless the action was taken back; withdrawn and open ones do not count.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, OuterRef, Q

from moderation.models import Case, Decision, Report, Rule
from moderation.states import ANSWERED_REPORTS, LOOSENING, EffectState, ReportState, Track

# Abuse of children weighs as much as the gravest rule, whatever rule the reporter named.
CHILD_SAFETY_HARM = 5


@dataclass(frozen=True, slots=True)
class Accuracy:
    """``right`` of ``answered`` reports were borne out."""

    right: int = 0
    answered: int = 0

    @property
    def probability(self) -> float:
        """How probable it is that the next one is right: the rule of succession (Laplace).

        One half for a stranger, and never 0 or 1 however many there were.
        """
        return (self.right + 1) / (self.answered + 2)

    def __str__(self) -> str:
        return f"{self.right} of {self.answered}"


@dataclass(frozen=True, slots=True)
class Witness:
    """One person's word against a version: what about, how probably right, until when.

    ``person`` tells people apart and says nothing else.
    """

    person: object
    rule: Rule | None
    track: str
    probability: float
    due_at: datetime | None
    harm: int


def accuracies(people: Iterable[int]) -> dict[int, dict[str, Accuracy]]:
    """Return the accuracy of accounts by kind; the kind “” is all kinds together."""
    taken_back = Q(
        Exists(
            Decision.objects.filter(
                overrides=OuterRef("decision"),
                action__in=sorted(LOOSENING),
                effect__state=EffectState.IN_FORCE,
            )
        )
    )
    rows = (
        Report.objects.filter(reporter__in=list(people), state__in=sorted(ANSWERED_REPORTS))
        .values("reporter", "track", "rule__slug")
        .annotate(
            answered=Count("pk", distinct=True),
            right=Count("pk", filter=Q(state=ReportState.ACTED) & ~taken_back, distinct=True),
        )
        .order_by()
    )
    found: dict[int, dict[str, Accuracy]] = {}
    for row in rows:
        kinds = found.setdefault(row["reporter"], {})
        for kind in (row["rule__slug"] or row["track"], ""):
            before = kinds.get(kind, Accuracy())
            kinds[kind] = Accuracy(before.right + row["right"], before.answered + row["answered"])
    return found


def kind_of(report: Report) -> str:
    """Return the kind under which a report counts."""
    return report.rule.slug if report.rule else report.track


def case_witnesses(case: Case) -> list[Witness]:
    """Return who speaks against the version of a case, without reading what they wrote.

    One witness a person and kind: somebody who reports from an account and somebody who leaves
    the same address twice are one. Visitors without an address share one voice, because nobody
    can tell them apart.
    """
    rows = list(
        case.reports.exclude(state=ReportState.WITHDRAWN).values_list(
            "rule", "track", "reporter", "email", "request", "due_at", "is_child_safety"
        )
    )
    rules = Rule.objects.in_bulk({row[0] for row in rows if row[0]})
    known = accuracies({row[2] for row in rows if row[2]})
    witnesses: dict[tuple[object, ...], Witness] = {}
    for rule_id, track, reporter, email, request, due_at, is_child_safety in rows:
        rule = rules.get(rule_id)
        kind = rule.slug if rule else track
        accuracy = known.get(reporter, {}).get(kind, Accuracy())
        person = (reporter, "") if reporter else (None, email.lower())
        key = (*person, request, kind, is_child_safety)
        witnesses[key] = Witness(
            person=(*person, request),
            rule=rule,
            track=track,
            probability=round(accuracy.probability, 4),
            due_at=due_at,
            harm=CHILD_SAFETY_HARM if is_child_safety else (rule.harm if rule else _harm(track)),
        )
    return list(witnesses.values())


def _harm(track: str) -> int:
    # A real person's likeness has the greatest harm in the policy that comes with Weighhouse; the
    # law's own tracks stand between that and a report that names nothing.
    return {Track.LIKENESS: 5, Track.FLAGGER: 4, Track.ILLEGAL: 3, Track.COPY: 2}.get(
        Track(track), 1
    )
