"""What people who look at harmful material are spared: limits, breaks, whole categories.

Research on content moderators finds that blurring, grey pictures and breaks help, and that choice
helps most. Writes ``ConsolePreference`` and ``Exposure``.
"""

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from moderation.errors import NotAllowed
from moderation.models import Account, Case, ConsolePreference, Exposure, Rule

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


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
    now = timezone.now()
    Exposure.objects.bulk_create(
        (
            Exposure(
                account=account, case=case, rule=rule.slug, is_severe=rule.is_severe, seen_at=now
            )
            for rule in rules
        ),
        ignore_conflicts=True,
    )


def require_rested(account: Account) -> None:
    """Let through who has not yet seen too much today or in the last hour.

    What is claimed already can be finished. Raises NotAllowed with when to come back.
    """
    severe = Exposure.objects.filter(account=account, is_severe=True)
    now = timezone.now()
    for window, most, says in (
        (DAY, settings.SEVERE_A_DAY, "That is enough of the worst for a day"),
        (HOUR, settings.SEVERE_AN_HOUR, "Take a break from the worst"),
    ):
        seen = list(
            severe.filter(seen_at__gt=now - window)
            .order_by("-seen_at")
            .values_list("seen_at", flat=True)[:most]
        )
        if most and len(seen) >= most:
            back = seen[-1] + window
            raise NotAllowed(
                f"{says}: you have seen {len(seen)} severe cases. More can be yours from "
                f"{back:%H:%M} UTC on. What you hold you can finish.",
                code="needs_a_break",
            )
