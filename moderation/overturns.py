"""How often decisions are overturned, by rule and by probe; an alarm to the policy leads.

The overturn rate of a probe is the best sign that it has drifted. Writes an ``Event`` and notices.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from moderation.audit import event_record
from moderation.models import Account, Appeal, Decision, Event
from moderation.notices import notice_issue
from moderation.states import AppealState, Concern, Outcome, Role, Side

# Fewer answers say nothing; a third overturned is more than anybody's bad day.
FEWEST_ANSWERS = 5
ALARMING_RATE = 1 / 3
WINDOW = timedelta(days=90)
# Nobody is told the same thing again for so long.
SILENCE = timedelta(days=30)
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


def overturn_rates() -> list[Rate]:
    """Return the rates of the last 90 days by rule and by probe, the most overturned first."""
    appeals = (
        Appeal.objects.filter(side=Side.CREATOR, answered_at__gte=timezone.now() - WINDOW)
        .exclude(state__in=[AppealState.OPEN, AppealState.MOOT])
        .select_related("decision__version")
    )
    counts: dict[tuple[str, str], list[bool]] = {}
    for appeal in appeals:
        granted = appeal.state in _GRANTED
        for key in subjects_of(appeal.decision):
            counts.setdefault(key, []).append(granted)
    rates = [Rate(kind, name, len(each), sum(each)) for (kind, name), each in counts.items()]
    return sorted(rates, key=lambda rate: (-rate.share, -rate.answered, rate.name))


def subjects_of(decision: Decision) -> list[tuple[str, str]]:
    """Return the rules of a decision and the probes that had pointed to it under them."""
    rules = [clause["slug"] for clause in decision.clauses]
    probes = (
        decision.version.findings.filter(outcome=Outcome.SCORED, rule__slug__in=rules)
        .exclude(concern=Concern.NONE)
        .values_list("probe", flat=True)
    )
    return [
        *(("rule", rule) for rule in rules),
        *(("probe", probe) for probe in sorted(set(probes))),
    ]


def overturns_watch(*, decision: Decision) -> list[Rate]:
    """Raise an alarm for each rule and probe of an overturned decision that is so too often.

    Told to every policy lead, once in 30 days for each.
    """
    subjects = set(subjects_of(decision))
    alarming = [
        rate
        for rate in overturn_rates()
        if (rate.kind, rate.name) in subjects
        and rate.answered >= FEWEST_ANSWERS
        and rate.share >= ALARMING_RATE
        and not _told_lately(rate)
    ]
    leads = Account.objects.filter(role=Role.POLICY_LEAD, is_active=True)
    for rate in alarming:
        event_record(
            action="overturns.alarm",
            actor=None,
            version=decision.version,
            data={
                "kind": rate.kind,
                "name": rate.name,
                "answered": rate.answered,
                "overturned": rate.overturned,
            },
        )
        for lead in leads:
            notice_issue(
                kind="overturn_alarm",
                version=decision.version,
                account=lead,
                extra={
                    "subject": rate.name,
                    "subject_kind": rate.kind,
                    "answered": rate.answered,
                    "overturned": rate.overturned,
                    "percent": round(100 * rate.share),
                },
            )
    return alarming


def _told_lately(rate: Rate) -> bool:
    recent = Event.objects.filter(action="overturns.alarm", at__gte=timezone.now() - SILENCE)
    return any(
        event.data.get("name") == rate.name and event.data.get("kind") == rate.kind
        for event in recent
    )
