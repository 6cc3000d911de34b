"""What people who look at harmful material are spared: limits, breaks, whole categories.

Research on content moderators finds that blurring, grey pictures and breaks help, and that choice
helps most. Writes ``ConsolePreference`` and ``Exposure``.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
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
        Exposure.objects.filter(account=account, is_severe=True, looked_until__gt=since)
        .only("case_id", "finding_id", "seen_at", "looked_for", "looked_until")
        .order_by("-looked_until", "pk")
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


def shown_now(account: Account, case: Any) -> QuerySet[Exposure]:
    """Return the looks at a case that go on: whoever reloads its page is shown nothing anew.

    The case is given by itself, or by a reference to that of an outer query.
    """
    since = timezone.now() - LONGEST_SILENCE
    return Exposure.objects.filter(account=account, case=case, looked_until__gt=since)


def exposure_record(*, account: Account, case: Case, rules: Iterable[Rule]) -> None:
    """Note that a person is shown the pictures of a case, unless they have them open already."""
    shown = set(shown_now(account, case).values_list("rule", flat=True))
    anew = [rule for rule in rules if rule.slug not in shown]
    exposures_record(account=account, shown=[(case, anew)])


def exposures_record(*, account: Account, shown: Iterable[tuple[Case, list[Rule]]]) -> None:
    """Note that a person is shown pictures of many cases from now on, each with its rules.

    The caller leaves out those that they have open already (``shown_now``).
    """
    now = timezone.now()
    exposures = [
        _exposure(account, rule, now, case=case) for case, rules in shown for rule in rules
    ]
    if exposures:
        Exposure.objects.bulk_create(exposures)


def question_show(*, account: Account, finding: Finding) -> None:
    """Note that a person is shown the picture of a single question.

    Raises NotAllowed where they have seen too much, unless they were shown it before.
    """
    if finding.rule is None or Exposure.objects.filter(account=account, finding=finding).exists():
        return
    if finding.rule.is_severe:
        require_rested(account)
    shown = _exposure(account, finding.rule, timezone.now(), finding=finding)
    Exposure.objects.bulk_create([shown], ignore_conflicts=True)


def _exposure(account: Account, rule: Rule, now: datetime, **what: Case | Finding) -> Exposure:
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
    between. After an hour of silence nothing is added: what is open since shows no pictures.
    """
    now = timezone.now()
    looks = Exposure.objects.filter(
        account=account, case=case, finding=finding, looked_until__gt=now - HOUR
    ).order_by("-seen_at")
    # The last look alone, with a row for each rule.
    last: dict[str, Exposure] = {}
    for exposure in looks:
        last.setdefault(exposure.rule, exposure)
    shown = list(last.values())
    for exposure in shown:
        exposure.looked_for += min(now - exposure.looked_until, LONGEST_SILENCE)
        exposure.looked_until = now
    Exposure.objects.bulk_update(shown, ["looked_for", "looked_until"])


def looked_today(account: Account) -> timedelta:
    """Return how long the pictures of severe cases were open to a person in 24 hours."""
    since = timezone.now() - DAY
    return _looked(_severe(account, since), since)


def require_rested(account: Account) -> None:
    """Let through who has not yet seen too much today or in the last hour.

    Both cases, a single question among them, and minutes count. What is claimed already can be
    finished. Raises NotAllowed with when to come back.
    """
    now = timezone.now()
    looks = _severe(account, now - DAY)
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
        since = now - window
        within = [look for look in looks if look.looked_until > since]
        # When each was last looked at, the latest first.
        seen: dict[tuple[int | None, int | None], datetime] = {}
        for look in within:
            seen.setdefault((look.case_id, look.finding_id), look.looked_until)
        looked = _looked(within, since)
        if cases and len(seen) >= cases:
            what = f"seen {len(seen)} severe cases"
            back = list(seen.values())[cases - 1] + window
        elif minutes and looked >= timedelta(minutes=minutes):
            spent = round(looked.total_seconds() / 60)
            what = f"looked at severe cases for {spent} minutes"
            back = within[-1].looked_until + window
        else:
            continue
        raise NotAllowed(
            f"{says}: you have {what}. More can be yours from {back:%H:%M} UTC on. "
            "What you hold you can finish.",
            code="needs_a_break",
        )


def _severe(account: Account, since: datetime) -> list[Exposure]:
    """Return a person's looks at severe cases and questions, under several rules or one, once.

    The latest first.
    """
    looks: dict[tuple[int | None, int | None, datetime], Exposure] = {}
    for look in _shown.rows(account=account.pk, since=since):
        looks.setdefault((look.case_id, look.finding_id, look.seen_at), look)
    return list(looks.values())


def _looked(looks: Iterable[Exposure], since: datetime) -> timedelta:
    """Return how long these looks took, no longer than from that moment on."""
    return sum((min(look.looked_for, look.looked_until - since) for look in looks), timedelta())
