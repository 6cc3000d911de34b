"""How often decisions are overturned, by rule and by probe.

The overturn rate of a probe is the best sign that it has drifted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from moderation.models import Appeal, Decision, Finding
from moderation.states import AppealState, Concern, Outcome, Side

WINDOW = timedelta(days=90)
_GRANTED = frozenset({AppealState.OVERTURNED, AppealState.MODIFIED})


@dataclass(frozen=True)
class Rate:
    """How many appeals were answered, and how many of them granted."""

    kind: str
    name: str
    answered: int
    overturned: int

    @property
    def share(self) -> float:
        """The share that was granted, 0 to 1."""
        return self.overturned / self.answered if self.answered else 0.0


def overturn_rates(*, window: timedelta = WINDOW) -> list[Rate]:
    """Return the rates of a window by rule and by probe, the most overturned first.

    Two queries, whatever the number of appeals.
    """
    appeals = list(
        Appeal.objects.filter(side=Side.CREATOR, answered_at__gte=timezone.now() - window)
        .exclude(state__in=[AppealState.OPEN, AppealState.MOOT])
        .select_related("decision")
    )
    pointed = _pointed_to({appeal.decision.version_id for appeal in appeals})
    counts: dict[tuple[str, str], list[bool]] = {}
    for appeal in appeals:
        granted = appeal.state in _GRANTED
        for key in _subjects(appeal.decision, pointed.get(appeal.decision.version_id, [])):
            counts.setdefault(key, []).append(granted)
    rates = [Rate(kind, name, len(each), sum(each)) for (kind, name), each in counts.items()]
    return sorted(rates, key=lambda rate: (-rate.share, -rate.answered, rate.name))


def subjects_of(decision: Decision) -> list[tuple[str, str]]:
    """Return the rules of a decision and the probes that had pointed to it under them."""
    pointed = _pointed_to({decision.version_id})
    return _subjects(decision, pointed.get(decision.version_id, []))


def _pointed_to(versions: Iterable[int]) -> dict[int, list[tuple[str, str]]]:
    """Return, for each version, the rules and probes of the findings that asked for a person."""
    found: dict[int, list[tuple[str, str]]] = {}
    rows = Finding.objects.filter(
        version__in=list(versions), outcome=Outcome.SCORED, rule__isnull=False
    ).exclude(concern=Concern.NONE)
    for version, rule, probe in rows.values_list("version_id", "rule__slug", "probe").distinct():
        found.setdefault(version, []).append((rule, probe))
    return found


def _subjects(decision: Decision, pointed: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    rules = [str(clause["slug"]) for clause in decision.clauses]
    probes = sorted({probe for rule, probe in pointed if rule in rules})
    return [*(("rule", rule) for rule in rules), *(("probe", probe) for probe in probes)]
