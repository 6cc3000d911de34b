"""Outcomes: what a decision means for the reports on a case, and telling everybody who sent one.

Writes reports' outcomes in one statement, however many there are, and the notices in portions:
the first within the decision's own transaction, the rest by a worker that is woken on commit. The
row says who is still to be told, so nobody is forgotten.
"""

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from moderation.audit import event_record
from moderation.dispatch import wake_reporters
from moderation.effects import in_whose_place
from moderation.models import Case, Decision, Notice, Report
from moderation.notices import notice_issue
from moderation.states import (
    ANSWERED_REPORTS,
    LOOSENING,
    RESTRICTIONS,
    AppealState,
    ReportState,
)

PORTION = 50


def reports_answer(*, case: Case, decision: Decision) -> int:
    """Close the open reports of a case with the outcome of a decision; return how many.

    Within the transaction of the decision.
    """
    outcome = ReportState.ACTED if decision.action in RESTRICTIONS else ReportState.NO_ACTION
    answered = case.reports.filter(state=ReportState.OPEN).update(
        state=outcome, answered_at=timezone.now(), decision=decision
    )
    if not answered:
        return 0
    _record(case, decision, outcome, answered)
    _begin_to_tell(case)
    return answered


def reports_answer_anew(*, decision: Decision) -> int:
    """Change the outcome of reports whose answer an appeal has changed; return how many.

    Whoever was told that nothing was done, or that it was taken back, is told that action was
    taken after all. Whoever appealed is told by the answer to the appeal, or, where it was sent
    back to be decided anew, here. ``answered_at`` stays the moment of the first answer. Within the
    transaction of the decision.
    """
    before, appeal = decision.overrides, decision.appeal
    if before is None or appeal is None or before.action not in LOOSENING:
        return 0
    own = Report.objects.filter(appeals=appeal)
    reports = reports_answered_by(before).filter(state__in=sorted(ANSWERED_REPORTS))
    restricts = decision.action in RESTRICTIONS
    if not restricts:
        # Sent back, and found to keep the rules once more: to everybody else nothing is new.
        reports = own
    outcome = ReportState.ACTED if restricts else ReportState.NO_ACTION
    now = timezone.now()
    chosen = Report.objects.filter(pk__in=list(reports.values_list("pk", flat=True)))
    # What was sent back is decided anew on a case of its own.
    cases = list(Case.objects.filter(reports__in=chosen).distinct().order_by("pk"))
    changed = chosen.update(state=outcome, decision=decision, told_at=None)
    if not changed:
        return 0
    if appeal.state != AppealState.REMANDED:
        own.update(told_at=now)
    _record(before.case, decision, outcome, changed)
    for case in cases:
        _begin_to_tell(case)
    return changed


def reports_answered_by(decision: Decision) -> QuerySet[Report]:
    """Return the reports whose answer a decision is, or took the place of, on whatever case."""
    return Report.objects.filter(decision__in=[each.pk for each in in_whose_place(decision)])


def _record(case: Case, decision: Decision, outcome: ReportState, reports: int) -> None:
    event_record(
        action="reports.answered",
        actor=decision.decided_by,
        version=decision.version,
        case=case,
        data={"decision": decision.code, "outcome": outcome, "reports": reports},
    )


def _begin_to_tell(case: Case) -> None:
    if reports_tell(case_id=case.pk) == PORTION:
        wake_reporters(case_id=case.pk)


@transaction.atomic
def reports_tell(*, limit: int = PORTION, case_id: int | None = None) -> int:
    """Write the outcome to reporters who have not been told yet; return to how many."""
    untold = Report.objects.filter(
        state__in=sorted(ANSWERED_REPORTS), told_at__isnull=True, decision__isnull=False
    )
    if case_id is not None:
        untold = untold.filter(case=case_id)
    # Two workers must not tell the same person twice.
    locked = untold.select_for_update(of=("self",), skip_locked=True).order_by("answered_at", "pk")
    reports = list(locked.select_related("reporter", "decision", "version__uploaded_model")[:limit])
    Report.objects.filter(pk__in=[report.pk for report in reports]).update(told_at=timezone.now())
    for report in reports:
        assert report.decision is not None  # noqa: S101 - the query says so
        notice_issue(
            kind=f"report_{report.state}",
            version=report.version,
            account=report.reporter,
            email=report.email,
            report=report,
            extra={
                "clauses": report.decision.clauses,
                "visibility": report.decision.new_visibility,
                "after_all": _was_told_otherwise(report, report.decision),
            },
        )
    return len(reports)


def _was_told_otherwise(report: Report, decision: Decision) -> bool:
    """Return whether an appeal has changed what this reporter was told before."""
    return (
        decision.appeal_id is not None
        and Notice.objects.filter(
            report=report, kind__in=["report_no_action", "report_reversed"]
        ).exists()
    )
