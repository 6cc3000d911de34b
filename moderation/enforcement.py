"""How far a decision has come: at once, after the time for undo, or when it is taken back.

A decision begins ``held`` (for a second person) or ``due`` (it can be undone). Restrictions apply
at once; what makes something public, and every message, waits until the decision is in force.
Writes ``Effect`` and moves cases; what a decision in force brings with it is for ``consequences``.
"""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.cases import case_transition
from moderation.consequences import appeal_grant, appeal_tell, decision_follow, reversal_follow
from moderation.effects import (
    effects_apply,
    effects_apply_to_account,
    in_whose_place,
)
from moderation.errors import Conflict
from moderation.models import (
    Account,
    Appeal,
    Case,
    Decision,
    Effect,
    ModelVersion,
)
from moderation.overturns import overturns_watch
from moderation.second_reviews import review_draw
from moderation.states import (
    ABOUT_ACCOUNTS,
    OPEN_CASES,
    RESTRICTIONS,
    Action,
    AppealState,
    CaseState,
    EffectState,
    may_follow,
)

SWEEP_LIMIT = 200


def effect_begin(*, decision: Decision, is_held: bool) -> Effect:
    """Start a new decision on its way. Its caller holds the lock on the version."""
    now = timezone.now()
    delay = timedelta(seconds=settings.UNDO_SECONDS)
    effect = Effect.objects.create(
        decision=decision,
        state=EffectState.HELD if is_held else EffectState.DUE,
        due_at=None if is_held else now + delay,
        decided_by=decision.decided_by,
    )
    decision.effect = effect
    if is_held:
        _record("decision.held", decision, decision.decided_by)
    _apply(decision)
    if not is_held and not delay:
        _enforce(decision)
    return effect


def effect_confirm(*, decision: Decision, case: Case, actor: Account) -> None:
    """Let a second person confirm a held decision. Its caller has checked who that is."""
    now = timezone.now()
    _move(
        decision,
        EffectState.DUE,
        second_person=actor,
        confirmed_at=now,
        due_at=now + timedelta(seconds=settings.UNDO_SECONDS),
    )
    _record("decision.confirmed", decision, actor)
    if case.state == CaseState.CONFIRM:
        to = CaseState.DECIDED if decision.action in RESTRICTIONS else CaseState.CLOSED
        closed = now if to == CaseState.CLOSED else None
        case_transition(case=case, to=to, actor=actor, closed_at=closed)
    elif case.state == CaseState.RECONFIRM:
        hearing_end(case=case, actor=actor, besides=decision.appeal)
    _apply(decision)
    if not settings.UNDO_SECONDS:
        _enforce(decision)


def effect_end(
    *, decision: Decision, case: Case, state: EffectState, reason: str = "", actor: Account
) -> None:
    """Undo or cancel a decision before anybody was told; everything is as it was before it."""
    now = timezone.now()
    if state == EffectState.UNDONE and decision.effect.due_at and now >= decision.effect.due_at:
        raise Conflict(
            "The time to undo it is over, and people are being told. Take it back by a new "
            "decision instead.",
            code="too_late_to_undo",
        )
    _move(decision, state, ended_by=actor, ended_at=now)
    word = "undone" if state == EffectState.UNDONE else "cancelled"
    _record(f"decision.{word}", decision, actor, reason=reason.strip())
    _case_back(decision, case, actor)
    _apply(decision)


def _case_back(decision: Decision, case: Case, actor: Account) -> None:
    """Bring the case back to where it was before the decision."""
    # What was escalated is for senior moderators only, one of whom has decided it.
    is_beyond = bool(case.escalated_at) and not actor.is_senior
    claim = {
        "claimed_by": decision.decided_by if is_beyond else actor,
        "claimed_until": timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS),
        "closed_at": None,
    }
    if decision.action in ABOUT_ACCOUNTS | {Action.LAW} or (
        decision.action == Action.REVERSE and decision.appeal_id is None
    ):
        # It was taken beside the case.
        return
    if case.state == CaseState.CONFIRM:
        to = CaseState.ESCALATED if case.escalated_at else CaseState.QUEUED
        case_transition(case=case, to=to, actor=actor)
    elif case.state == CaseState.RECONFIRM:
        case_transition(case=case, to=CaseState.APPEALED, actor=actor)
    elif decision.appeal and decision.appeal.case_id == case.pk:
        if case.state == CaseState.APPEALED:
            return
        case_transition(
            case=case, to=CaseState.HEARING, actor=actor, action="case.reopened", **claim
        )
    else:
        other = Case.objects.filter(version=case.version_id, state__in=OPEN_CASES).first()
        if other is not None:
            raise Conflict(
                "A new report has come in since, and has its own case. Decide that one: it can "
                "set this right.",
                code="new_case",
            )
        case_transition(
            case=case, to=CaseState.CLAIMED, actor=actor, action="case.reopened", **claim
        )


def hearing_end(*, case: Case, actor: Account, besides: Appeal | None) -> None:
    """Close the case of an answered appeal, unless another appeal on it waits."""
    others = case.appeals.filter(state=AppealState.OPEN)
    if besides is not None:
        others = others.exclude(pk=besides.pk)
    to = CaseState.APPEALED if others.exists() else CaseState.CLOSED
    case_transition(
        case=case,
        to=to,
        actor=actor,
        claimed_by=None,
        claimed_until=None,
        # Who has answered one of its appeals is offered no other.
        assigned_to=None,
        closed_at=timezone.now() if to == CaseState.CLOSED else None,
    )


def decisions_enforce_due() -> int:
    """Bring into force what can no longer be undone, the oldest first; return how many."""
    due = Effect.objects.filter(state=EffectState.DUE, due_at__lte=timezone.now())
    enforced = 0
    for pk in due.order_by("due_at").values_list("decision_id", flat=True)[:SWEEP_LIMIT]:
        enforced += decision_enforce(decision_id=pk)
    return enforced


@transaction.atomic
def decision_enforce(*, decision_id: int, early: bool = False) -> bool:
    """Bring one decision into force if its moment has come; False if it has not, or is over.

    ``early`` does not wait for the moment: for demonstrations.
    """
    decision = Decision.objects.select_related("version", "case").get(pk=decision_id)
    versions = ModelVersion.objects.select_for_update(no_key=True)
    list(versions.filter(uploaded_model=decision.version.uploaded_model_id).order_by("pk"))
    decision.version.refresh_from_db()
    effect = Effect.objects.select_for_update(no_key=True).get(decision=decision)
    decision.effect = effect
    if effect.state != EffectState.DUE:
        return False
    if not early and effect.due_at and effect.due_at > timezone.now():
        return False
    _enforce(decision)
    return True


def decisions_expire() -> int:
    """End the restrictions whose time is over; return how many."""
    over = Decision.objects.filter(
        until__lte=timezone.now(), effect__state=EffectState.IN_FORCE
    ).select_related("version", "effect")
    ended = 0
    for decision in over.order_by("until")[:SWEEP_LIMIT]:
        with transaction.atomic():
            ModelVersion.objects.select_for_update(no_key=True).get(pk=decision.version_id)
            decision.version.refresh_from_db()
            _move(decision, EffectState.ENDED)
            _record("decision.ended", decision, None)
            _apply(decision)
        ended += 1
    return ended


def _move(decision: Decision, to: EffectState, **fields: object) -> None:
    """Move an effect by compare-and-set; Conflict if somebody else was quicker."""
    effect = decision.effect
    effect.refresh_from_db()
    if not may_follow(EffectState, effect.state, to):
        raise Conflict(
            f"This decision is “{EffectState(effect.state).label}” by now, so nothing was changed.",
            code="stale_decision",
        )
    moved = Effect.objects.filter(pk=effect.pk, state=effect.state).update(state=to, **fields)
    if moved != 1:
        raise Conflict("Somebody else was quicker with this decision.", code="stale_decision")
    effect.refresh_from_db()


def _apply(decision: Decision) -> None:
    effects_apply(version=decision.version)
    if any(each.action in ABOUT_ACCOUNTS for each in in_whose_place(decision)):
        effects_apply_to_account(account=decision.creator)


def _record(action: str, decision: Decision, actor: Account | None, **data: str) -> None:
    event_record(
        action=action,
        actor=actor,
        version=decision.version,
        case=decision.case,
        data={"decision": decision.code, **{key: value for key, value in data.items() if value}},
    )


def _enforce(decision: Decision) -> None:
    """Bring a decision into force: apply it, and tell everybody concerned."""
    _move(decision, EffectState.IN_FORCE, ended_at=timezone.now())
    event_record(
        action="decision.in_force",
        actor=None,
        version=decision.version,
        case=decision.case,
        data={
            "decision": decision.code,
            "action": decision.action,
            "rules": [clause["slug"] for clause in decision.clauses],
            "from": decision.previous_visibility,
            "to": decision.new_visibility,
        },
    )
    before = decision.version.visibility
    # An appeal that was remanded has been answered; this decision is what came of it.
    answers = decision.appeal is not None and decision.appeal.state == AppealState.OPEN
    if decision.appeal and answers:
        appeal_grant(appeal=decision.appeal, by=decision)
    _apply(decision)
    if decision.action == Action.REVERSE or decision.appeal_id:
        reversal_follow(decision=decision, before=before)
    if decision.action != Action.REVERSE:
        decision_follow(decision=decision)
    if decision.appeal and answers:
        appeal_tell(
            appeal=decision.appeal, answered_by=decision.decided_by, version=decision.version
        )
        overturns_watch(decision=decision.appeal.decision)
    review_draw(decision=decision)
