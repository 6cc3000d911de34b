"""What follows from a decision: at once, after the time for undo, or when it is taken back.

A decision begins ``held`` (for a second person) or ``due`` (it can be undone). Restrictions apply
at once; what makes something public, and every message, waits until the decision is in force.
Writes ``Effect``, reports' outcomes, appeals' answers, strikes, statements and notices.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.banks import bank_withdraw
from moderation.cases import case_transition
from moderation.child_safety import PRESERVATION
from moderation.clearing import content_clear
from moderation.effects import (
    effects_apply,
    effects_apply_to_account,
    restrictions_standing,
)
from moderation.errors import Conflict
from moderation.holds import hold_end
from moderation.models import (
    Account,
    Appeal,
    Case,
    ChildSafetyRecord,
    Decision,
    Effect,
    ModelVersion,
)
from moderation.notices import notice_issue
from moderation.outcomes import reports_answer
from moderation.overturns import overturns_watch
from moderation.second_reviews import review_draw, reviews_end
from moderation.statements import statement_issue, statement_of
from moderation.states import (
    ABOUT_ACCOUNTS,
    ANSWERED_REPORTS,
    LOOSENING,
    OPEN_CASES,
    RESTRICTIONS,
    TOLD_TO_CREATOR,
    Action,
    AppealState,
    CaseState,
    EffectState,
    Side,
    may_follow,
)
from moderation.strikes import strike_give, strike_void

# Told by a template of their own; the others share one.
_OWN_NOTICE = frozenset({Action.APPROVE, Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE})
SWEEP_LIMIT = 200


# --- From decision to effect ------------------------------------------------------------------


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
    claim = {
        "claimed_by": actor,
        "claimed_until": timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS),
        "closed_at": None,
    }
    if decision.action in ABOUT_ACCOUNTS | {Action.LAW} or (
        decision.action == Action.REVERSE and decision.appeal_id is None
    ):
        # It was taken beside the case.
        return
    if case.state == CaseState.CONFIRM:
        case_transition(case=case, to=CaseState.QUEUED, actor=actor)
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
    about = decision.overrides if decision.action == Action.REVERSE else decision
    if about and about.action in ABOUT_ACCOUNTS:
        effects_apply_to_account(account=decision.creator)


def _record(action: str, decision: Decision, actor: Account | None, **data: str) -> None:
    event_record(
        action=action,
        actor=actor,
        version=decision.version,
        case=decision.case,
        data={"decision": decision.code, **{key: value for key, value in data.items() if value}},
    )


# --- In force ---------------------------------------------------------------------------------


def _enforce(decision: Decision) -> None:
    """Bring a decision into force: apply it, and tell everybody concerned."""
    _move(decision, EffectState.IN_FORCE, ended_at=timezone.now())
    before = decision.version.visibility
    # An appeal that was remanded has been answered; this decision is what came of it.
    answers = decision.appeal is not None and decision.appeal.state == AppealState.OPEN
    if decision.appeal and answers:
        _answer(decision.appeal, decision)
    _apply(decision)
    if decision.action == Action.REVERSE or decision.appeal_id:
        _take_back(decision, before)
    if decision.action != Action.REVERSE:
        _restrict(decision)
    if decision.appeal and answers:
        appeal_tell(
            appeal=decision.appeal, answered_by=decision.decided_by, version=decision.version
        )
        overturns_watch(decision=decision.appeal.decision)
    review_draw(decision=decision)


def _restrict(decision: Decision) -> None:
    restricts = decision.action in RESTRICTIONS
    if restricts:
        statement_issue(decision=decision)
        strike_give(decision=decision)
    if decision.action == Action.CHILD_SAFETY:
        _isolate(decision)
    if decision.action in TOLD_TO_CREATOR:
        own = decision.action in _OWN_NOTICE
        notice_issue(
            kind=f"decision_{decision.action}" if own else "decision_restriction",
            version=decision.version,
            account=decision.creator,
            decision=decision,
            extra={"statement": statement_of(decision)},
        )
    if decision.action in ABOUT_ACCOUNTS | {Action.LAW}:
        return
    hold_end(version=decision.version, actor=decision.decided_by)
    reports_answer(case=decision.case, decision=decision)
    if restricts and decision.appeal_id is None:
        _settle_reporters_appeals(decision)


def _settle_reporters_appeals(decision: Decision) -> None:
    """End the open appeals against "no action": another decision has done what they ask for."""
    appeals = Appeal.objects.filter(
        decision__version=decision.version, side=Side.REPORTER, state=AppealState.OPEN
    )
    for appeal in appeals.select_related("case", "report", "appellant", "decision"):
        appeal_end(appeal=appeal, actor=decision.decided_by)


def _isolate(decision: Decision) -> None:
    now = timezone.now()
    record, created = ChildSafetyRecord.objects.get_or_create(
        version=decision.version,
        defaults={
            "decision": decision,
            "opened_at": now,
            "preserve_until": now + PRESERVATION,
        },
    )
    if created:
        _record("child_safety.opened", decision, decision.decided_by, record=record.code)


# --- Taken back -------------------------------------------------------------------------------


def _take_back(decision: Decision, before: str) -> None:
    """Undo what the overridden decision brought with it, and tell whom it was told."""
    overridden = decision.overrides
    if overridden is None:
        return
    reviews_end(decision=overridden)
    version = decision.version
    if version.visibility != before:
        event_record(
            action="version.restored",
            actor=decision.decided_by,
            version=version,
            case=decision.case,
            data={"from": before, "to": version.visibility},
        )
    if overridden.action not in RESTRICTIONS:
        return
    strike_void(decision=overridden, by=decision)
    bank_withdraw(decision=overridden, actor=decision.decided_by)
    if decision.action in LOOSENING:
        content_clear(overridden=overridden, by=decision)
    for appeal in overridden.appeals.filter(state=AppealState.OPEN).select_related("case"):
        appeal_end(appeal=appeal, actor=decision.decided_by)
    if decision.appeal_id is None:
        notice_issue(
            kind="decision_reverse",
            version=version,
            account=overridden.creator,
            decision=overridden,
            extra={"facts": decision.facts, **_where_it_stands(version)},
        )
    if decision.action not in LOOSENING or overridden.action in ABOUT_ACCOUNTS:
        return
    for report in overridden.case.reports.filter(state__in=sorted(ANSWERED_REPORTS)).select_related(
        "reporter"
    ):
        # Who was told that action was taken is told that it was taken back.
        if decision.appeal and report.pk == decision.appeal.report_id:
            continue
        notice_issue(
            kind="report_reversed",
            version=version,
            account=report.reporter,
            email=report.email,
            report=report,
            extra=_where_it_stands(version),
        )


def _where_it_stands(version: ModelVersion) -> dict[str, Any]:
    """Return for a notice whether another restriction stands."""
    return {"still_restricted": bool(restrictions_standing(version))}


def _answer(appeal: Appeal, decision: Decision) -> None:
    """Write the answer of a granted appeal, now that it is in force."""
    granted = decision.action == Action.REVERSE or appeal.side == Side.REPORTER
    appeal.state = AppealState.OVERTURNED if granted else AppealState.MODIFIED
    appeal.answer = decision.facts
    appeal.answered_by = decision.decided_by
    appeal.answered_at = timezone.now()
    appeal.save(update_fields=["state", "answer", "answered_by", "answered_at"])
    event_record(
        action=f"appeal.{appeal.state}",
        actor=decision.decided_by,
        version=decision.version,
        case=appeal.case,
        data={"appeal": appeal.code, "decision": appeal.decision.code},
    )


def appeal_tell(*, appeal: Appeal, answered_by: Account, version: ModelVersion) -> None:
    """Tell whoever appealed what became of it, with the reasons in own words."""
    said = {
        "answer": appeal.answer,
        "answered_by": answered_by.pseudonym,
        **_where_it_stands(version),
    }
    if appeal.side == Side.CREATOR:
        notice_issue(
            kind=f"appeal_{appeal.state}",
            version=version,
            account=appeal.appellant,
            decision=appeal.decision,
            extra=said,
        )
        return
    notice_issue(
        kind=f"report_appeal_{appeal.state}",
        version=version,
        account=appeal.appellant,
        email=appeal.report.email if appeal.report else "",
        report=appeal.report,
        extra=said,
    )


def appeal_end(*, appeal: Appeal, actor: Account) -> None:
    """End an appeal whose decision was taken back, or overtaken, before an answer."""
    appeal.state = AppealState.MOOT
    appeal.answered_at = timezone.now()
    appeal.save(update_fields=["state", "answered_at"])
    case = Case.objects.get(pk=appeal.case_id)
    event_record(
        action="appeal.moot",
        actor=actor,
        version=appeal.decision.version,
        case=case,
        data={"appeal": appeal.code, "decision": appeal.decision.code},
    )
    open_ones = case.appeals.filter(state=AppealState.OPEN)
    if case.state in {CaseState.APPEALED, CaseState.HEARING} and not open_ones.exists():
        case_transition(
            case=case,
            to=CaseState.CLOSED,
            actor=actor,
            claimed_by=None,
            claimed_until=None,
            closed_at=timezone.now(),
        )
    notice_issue(
        kind="appeal_moot",
        version=appeal.decision.version,
        account=appeal.appellant,
        email=appeal.report.email if appeal.report else "",
        report=appeal.report,
    )
