"""Strikes: what an account's past weighs, and what the ladder proposes.

Writes ``Strike``; never deletes one. Mutes and suspends nobody: a person decides that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from django.utils import timezone

from moderation.effects import in_whose_place
from moderation.models import Account, Decision, Strike
from moderation.states import (
    FIRST_OFFENCE,
    GRAVE_HARM,
    LADDER,
    STRIKE_HALF_LIFE_DAYS,
    STRIKE_LIFE_DAYS,
    STRIKE_POINTS,
    Step,
)

_CENT = Decimal("0.01")


def strike_give(*, decision: Decision) -> Strike | None:
    """Give the strike that a decision in force carries; None if it carries none.

    The points come from the rule of the policy, or from the action where the rule names none.
    The gravest rule counts, once. A first offence counts half, unless the harm is grave. What comes
    of an appeal, or is decided anew after one, has the date of the first strike that it replaces:
    whoever appeals is no worse off for it.
    """
    rule, points = _points(decision)
    if points <= 0:
        return None
    replaced = Strike.objects.filter(decision__in=[each.pk for each in in_whose_place(decision)])
    first = replaced.order_by("given_at").first()
    given_at = first.given_at if first else timezone.now()
    is_first = not Strike.objects.filter(
        account=decision.creator, voided_at__isnull=True, given_at__lte=given_at
    ).exists()
    grave = any(each.harm >= GRAVE_HARM for each in decision.rules.all())
    dampened = is_first and not grave
    return Strike.objects.create(
        account=decision.creator,
        decision=decision,
        rule=rule,
        points=(points * FIRST_OFFENCE if dampened else points).quantize(_CENT),
        was_first=dampened,
        half_life_days=STRIKE_HALF_LIFE_DAYS,
        given_at=given_at,
        expires_at=given_at + timedelta(days=STRIKE_LIFE_DAYS),
    )


def _points(decision: Decision) -> tuple[str, Decimal]:
    """Return the rule that weighs most under this action, and its points."""
    usual = STRIKE_POINTS.get(decision.action, Decimal(0))
    weighed = [("", Decimal(0))]
    if usual:
        for clause in decision.clauses:
            # Frozen in the clause on the day of the decision.
            own = clause.get("strikes")
            weighed.append((clause["slug"], usual if own is None else Decimal(str(own))))
    return max(weighed, key=lambda pair: pair[1])


def strike_void(*, decision: Decision, by: Decision) -> int:
    """Void the strike of a decision that was taken back; return how many that were."""
    return Strike.objects.filter(decision=decision, voided_at__isnull=True).update(
        voided_at=timezone.now(), voided_by=by
    )


def weight_of(strike: Strike, *, at: datetime) -> Decimal:
    """Return what a strike weighs at a moment: halved with each half-life, then nothing."""
    if strike.voided_at is not None or at >= strike.expires_at:
        return Decimal(0)
    halves = max((at - strike.given_at) / timedelta(days=strike.half_life_days), 0.0)
    return (strike.points * Decimal(0.5**halves)).quantize(_CENT, ROUND_HALF_UP)


@dataclass(frozen=True)
class Weighed:
    """A strike and what it weighs now."""

    strike: Strike
    weight: Decimal


@dataclass(frozen=True)
class Standing:
    """How an account stands: its points, the step it has reached and the one that comes next."""

    points: Decimal
    strikes: Sequence[Weighed]
    step: Step | None
    following: Step | None


def standing_of_account(account: Account, *, at: datetime | None = None) -> Standing:
    """Weigh an account's strikes at a moment, now unless another is named."""
    moment = at or timezone.now()
    strikes = [
        Weighed(strike, weight_of(strike, at=moment))
        for strike in account.strikes.select_related("decision__version__uploaded_model").order_by(
            "-given_at"
        )
    ]
    points = sum((each.weight for each in strikes), Decimal(0))
    reached = [step for step in LADDER if points >= step.points]
    ahead = [step for step in LADDER if points < step.points]
    return Standing(
        points=points,
        strikes=strikes,
        step=reached[-1] if reached else None,
        following=ahead[0] if ahead else None,
    )
