"""An alarm to the policy leads where too many are overturned. Writes ``Event`` and notices."""

from datetime import timedelta

from django.utils import timezone

from moderation.audit import event_record
from moderation.models import Account, Decision, Event
from moderation.notices import notice_issue
from moderation.selectors.overturns import Rate, overturn_rates, subjects_of
from moderation.states import Role

# Fewer answers say nothing; a third overturned is more than anybody's bad day.
FEWEST_ANSWERS = 5
ALARMING_RATE = 1 / 3
# Nobody is told the same thing again for so long.
SILENCE = timedelta(days=30)


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
