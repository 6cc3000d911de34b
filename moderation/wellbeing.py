"""What people who look at harmful material are spared: limits, breaks, whole categories.

Research on content moderators finds that blurring, grey pictures and breaks help, and that choice
helps most. Writes ``ConsolePreference`` and ``Exposure``.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from moderation.errors import NotAllowed
from moderation.models import Account, Case, ConsolePreference, Exposure, Finding, Rule
from moderation.prepared import Prepared

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# A page that is open gives a sign of life each minute.
LONGEST_SILENCE = timedelta(seconds=90)


# Asked before each case that somebody takes.
_shown = Prepared(
    lambda account, since: (
        Exposure.objects.filter(account=account, is_severe=True, seen_at__gt=since)
        .only("case_id", "finding_id", "seen_at", "looked_for")
        .order_by("-seen_at")
    ),
    account=int,
    since=datetime,
)


def preference_of(account: Account) -> ConsolePreference:
    """Return what a person has chosen, or the careful defaults."""
    try:
        return account.console_preference
    except ConsolePreference.DoesNotExist:
        return ConsolePreference(account=account)


def preference_choose(
    *, account: Account, shows_sharp: bool, shows_colour: bool, opted_out: Iterable[str]
) -> None:
    """Store how a person wants to be shown pictures, and which rules' cases they do not want."""
    known = set(Rule.objects.filter(policy__is_active=True).values_list("slug", flat=True))
    account.console_preference, _ = ConsolePreference.objects.update_or_create(
        account=account,
        defaults={
            "shows_sharp": shows_sharp,
            "shows_colour": shows_colour,
            "opted_out": sorted(known & set(opted_out)),
        },
    )


def exposure_record(*, account: Account, case: Case, rules: Iterable[Rule]) -> None:
    """Note that a person was shown the pictures of a case, once for each rule."""
    exposures_record(account=account, shown=[(case, list(rules))])


def exposures_record(*, account: Account, shown: Iterable[tuple[Case, list[Rule]]]) -> None:
    """Note that a person was shown pictures of many cases at once, each with its rules."""
    exposures = [_exposure(account, rule, case=case) for case, rules in shown for rule in rules]
    if exposures:
        Exposure.objects.bulk_create(exposures, ignore_conflicts=True)


def question_show(*, account: Account, finding: Finding) -> None:
    """Note that a person is shown the picture of a single question.

    Raises NotAllowed where they have seen too much, unless they were shown it before.
    """
    if finding.rule is None or Exposure.objects.filter(account=account, finding=finding).exists():
        return
    if finding.rule.is_severe:
        require_rested(account)
    shown = _exposure(account, finding.rule, finding=finding)
    Exposure.objects.bulk_create([shown], ignore_conflicts=True)


def _exposure(account: Account, rule: Rule, **what: Case | Finding) -> Exposure:
    now = timezone.now()
    return Exposure(
        account=account,
        rule=rule.slug,
        is_severe=rule.is_severe,
        seen_at=now,
        looked_until=now,
        **what,
    )


def exposure_continue(
    *, account: Account, case: Case | None = None, finding: Finding | None = None
) -> None:
    """Add the time since the last sign of life of a page to what its person was shown.

    That of a case gives one every minute and when something is decided, that of a single question
    when it is answered. A longer silence counts as ``LONGEST_SILENCE``: the page was closed in
    between.
    """
    now = timezone.now()
    shown = list(Exposure.objects.filter(account=account, case=case, finding=finding))
    for exposure in shown:
        exposure.looked_for += min(now - exposure.looked_until, LONGEST_SILENCE)
        exposure.looked_until = now
    Exposure.objects.bulk_update(shown, ["looked_for", "looked_until"])


def looked_today(account: Account) -> timedelta:
    """Return how long the pictures of severe cases were open to a person in 24 hours."""
    return _looked(_severe(account, timezone.now() - DAY))


def require_rested(account: Account) -> None:
    """Let through who has not yet seen too much today or in the last hour.

    Both cases, a single question among them, and minutes count. What is claimed already can be
    finished. Raises NotAllowed with when to come back.
    """
    now = timezone.now()
    shown = _severe(account, now - DAY)
    for window, cases, minutes, says in (
        (
            *(DAY, settings.SEVERE_A_DAY, settings.SEVERE_MINUTES_A_DAY),
            "That is enough of the worst for a day",
        ),
        (
            *(HOUR, settings.SEVERE_AN_HOUR, settings.SEVERE_MINUTES_AN_HOUR),
            "Take a break from the worst",
        ),
    ):
        seen = [one for one in shown if one.seen_at > now - window]
        looked = _looked(seen)
        if cases and len(seen) >= cases:
            what, back = f"seen {len(seen)} severe cases", seen[cases - 1].seen_at + window
        elif minutes and looked >= timedelta(minutes=minutes):
            spent = round(looked.total_seconds() / 60)
            what, back = f"looked at severe cases for {spent} minutes", seen[-1].seen_at + window
        else:
            continue
        raise NotAllowed(
            f"{says}: you have {what}. More can be yours from {back:%H:%M} UTC on. "
            "What you hold you can finish.",
            code="needs_a_break",
        )


def _severe(account: Account, since: datetime) -> list[Exposure]:
    """Return what severe cases and questions a person was shown, each once, the newest first."""
    shown: dict[tuple[int | None, int | None], Exposure] = {}
    for exposure in _shown.rows(account=account.pk, since=since):
        shown.setdefault((exposure.case_id, exposure.finding_id), exposure)
    return list(shown.values())


def _looked(shown: Iterable[Exposure]) -> timedelta:
    return sum((exposure.looked_for for exposure in shown), timedelta())
