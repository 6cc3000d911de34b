"""The queue: hands each case to exactly one moderator, for a while.

Writes claims through ``cases.case_transition``. Never gives anybody their own model, a model
they reported, or an appeal against their own decision.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from moderation.authz import require_impartial, require_moderator, require_other_than_decider
from moderation.cases import case_transition
from moderation.errors import Conflict, NotAllowed
from moderation.models import Account, Case, Decision, Report
from moderation.states import HELD_CASES, WAITING_CASES, CaseState

_TAKEN = {CaseState.QUEUED: CaseState.CLAIMED, CaseState.APPEALED: CaseState.HEARING}
_GIVEN_BACK = {CaseState.CLAIMED: CaseState.QUEUED, CaseState.HEARING: CaseState.APPEALED}


def queue_for(account: Account) -> QuerySet[Case]:
    """Return the waiting cases this moderator may take, first one first."""
    reported = Report.objects.filter(
        reporter=account,
        version__uploaded_model=OuterRef("version__uploaded_model"),
    )
    decided = Decision.objects.filter(case=OuterRef("pk"), decided_by=account)
    return (
        Case.objects.filter(state__in=WAITING_CASES)
        .exclude(version__uploaded_model__creator=account)
        .exclude(Exists(reported))
        .exclude(Q(state=CaseState.APPEALED) & Exists(decided))
        .order_by("-priority", "due_at", "pk")
    )


def case_claim(*, case: Case, actor: Account) -> Case:
    """Give one case to a moderator for the length of a claim.

    Claiming again what one already holds renews the claim. Raises Conflict if somebody else has
    it, NotAllowed for a conflict of interest.
    """
    require_impartial(actor, case.version)
    if case.state in {CaseState.APPEALED, CaseState.HEARING}:
        require_other_than_decider(actor, case)
    if case.claimed_by_id == actor.pk and claim_renew(case=case, actor=actor):
        case.refresh_from_db()
        return case
    if case.state in HELD_CASES:
        raise Conflict(f"{_holder(case)} has this case. Take the next one instead.", code="claimed")
    if case.state not in _TAKEN:
        raise Conflict("This case is not waiting for anybody any more.", code="not_waiting")
    case_transition(
        case=case,
        to=_TAKEN[CaseState(case.state)],
        actor=actor,
        action="case.claimed",
        claimed_by=actor,
        claimed_until=_until(),
    )
    return case


def queue_claim_next(*, actor: Account) -> Case | None:
    """Give a moderator the first case of the queue; None if nothing waits for them.

    A moderator who already holds a case gets that one.
    """
    require_moderator(actor)
    held = Case.objects.filter(state__in=HELD_CASES, claimed_by=actor).first()
    if held is not None:
        claim_renew(case=held, actor=actor)
        return held
    # Others may be quicker for the first few; 20 tries outlast any team's rush.
    for case in queue_for(actor).select_related("version__uploaded_model")[:20]:
        try:
            return case_claim(case=case, actor=actor)
        except Conflict:
            continue
    return None


def claim_renew(*, case: Case, actor: Account) -> bool:
    """Extend a claim; False if the case is no longer this moderator's."""
    return bool(
        Case.objects.filter(pk=case.pk, state__in=HELD_CASES, claimed_by=actor).update(
            claimed_until=_until()
        )
    )


def case_release(*, case: Case, actor: Account) -> None:
    """Give a claimed case back to the queue."""
    if case.state not in HELD_CASES or case.claimed_by_id != actor.pk:
        raise NotAllowed("This case is not yours to give back.")
    _give_back(case, actor)


def claims_expire() -> int:
    """Give back the cases whose claim ran out; return how many."""
    released = 0
    for case in Case.objects.filter(
        state__in=HELD_CASES, claimed_until__lt=timezone.now()
    ).select_related("version"):
        # Its moderator may have come back since: only a claim that still stands as it was read.
        if not Case.objects.filter(pk=case.pk, claimed_until=case.claimed_until).exists():
            continue
        try:
            _give_back(case, None)
        except Conflict:
            continue
        released += 1
    return released


@transaction.atomic
def _give_back(case: Case, actor: Account | None) -> None:
    case_transition(
        case=case,
        to=_GIVEN_BACK[CaseState(case.state)],
        actor=actor,
        action="case.released" if actor else "case.claim_expired",
        claimed_by=None,
        claimed_until=None,
    )


def _until() -> datetime:
    return timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)


def _holder(case: Case) -> str:
    return case.claimed_by.username if case.claimed_by else "Somebody else"
