"""What follows once a decision is in force, or takes another back, and who is told.

Writes reports' outcomes, appeals' answers, strikes, statements and notices. When it happens is for
``enforcement`` to say.
"""

from typing import Any

from django.utils import timezone

from moderation.audit import event_record
from moderation.banks import bank_withdraw
from moderation.cases import case_transition
from moderation.child_safety import PRESERVATION
from moderation.clearing import content_clear
from moderation.effects import does_what_is_asked, in_whose_place, restrictions_standing
from moderation.holds import hold_reschedule
from moderation.models import (
    Account,
    Appeal,
    Case,
    ChildSafetyRecord,
    Decision,
    ModelVersion,
    Report,
)
from moderation.notices import notice_issue
from moderation.outcomes import reports_answer, reports_answer_anew, reports_answered_by
from moderation.second_reviews import reviews_end
from moderation.statements import statement_issue, statement_of
from moderation.states import (
    ABOUT_ACCOUNTS,
    LOOSENING,
    RESTRICTIONS,
    TOLD_TO_CREATOR,
    Action,
    AppealState,
    CaseState,
    ReportState,
    Side,
)
from moderation.strikes import strike_give, strike_void

# Told by a template of their own; the others share one.
_OWN_NOTICE = frozenset({Action.APPROVE, Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE})


def decision_follow(*, decision: Decision) -> None:
    """Bring about what a decision in force means: statement, strike, notices, reports' outcomes."""
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
    reports_answer(case=decision.case, decision=decision)
    reports_answer_anew(decision=decision)
    hold_reschedule(version=decision.version, actor=decision.decided_by)
    if restricts:
        _settle_reporters_appeals(decision)


def _settle_reporters_appeals(decision: Decision) -> None:
    """End the open appeals against "no action" that ask for nothing more than was done.

    A granted one ends those against the same decision. A restriction under another rule ends none
    as long as people can see the version.
    """
    replaced = {each.pk for each in in_whose_place(decision)}
    appeals = Appeal.objects.filter(
        decision__version=decision.version, side=Side.REPORTER, state=AppealState.OPEN
    )
    for appeal in appeals.select_related("case", "report__rule", "appellant", "decision"):
        if appeal.decision_id in replaced or does_what_is_asked(decision, appeal.report):
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
        event_record(
            action="child_safety.opened",
            actor=decision.decided_by,
            version=decision.version,
            case=decision.case,
            data={"decision": decision.code, "record": record.code},
        )


# --- Taken back -------------------------------------------------------------------------------


def reversal_follow(*, decision: Decision, before: str) -> None:
    """Undo what the overridden decision brought with it, and tell whom it was told.

    ``before`` is who could see the version until now.
    """
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
    if decision.action in LOOSENING and overridden.action not in ABOUT_ACCOUNTS:
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
    if overridden.action in ABOUT_ACCOUNTS:
        return
    acted_upon = reports_answered_by(overridden).filter(state=ReportState.ACTED)
    concerned = list(acted_upon.select_related("reporter"))
    reversed_ = decision.action in LOOSENING
    if not reversed_:
        # It answers them from now on: what becomes of it is theirs to know.
        Report.objects.filter(pk__in=[report.pk for report in concerned]).update(decision=decision)
    if overridden.action == decision.action:
        return
    # Who was told that action was taken is told that it was taken back, or what takes its place.
    for report in concerned:
        if decision.appeal and report.pk == decision.appeal.report_id:
            continue
        notice_issue(
            kind="report_reversed" if reversed_ else "report_modified",
            version=version,
            account=report.reporter,
            email=report.email,
            report=report,
            extra={**_where_it_stands(version), "visibility": version.visibility},
        )


def _where_it_stands(version: ModelVersion) -> dict[str, Any]:
    """Return for a notice whether another restriction stands."""
    return {"still_restricted": bool(restrictions_standing(version))}


def appeal_grant(*, appeal: Appeal, by: Decision) -> None:
    """Write the answer of a granted appeal, now that it is in force."""
    granted = by.action == Action.REVERSE or appeal.side == Side.REPORTER
    appeal.state = AppealState.OVERTURNED if granted else AppealState.MODIFIED
    appeal.answer = by.facts
    appeal.answered_by = by.decided_by
    appeal.answered_at = timezone.now()
    appeal.save(update_fields=["state", "answer", "answered_by", "answered_at"])
    event_record(
        action=f"appeal.{appeal.state}",
        actor=by.decided_by,
        version=by.version,
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
