"""Outcomes: what a decision means for the reports on a case, and telling everybody who sent one.

Writes reports' outcomes in one statement, however many there are, and the notices in portions:
the first within the decision's own transaction, the rest by a worker that is woken on commit. The
row says who is still to be told, so nobody is forgotten.
"""

from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.dispatch import wake_reporters
from moderation.models import Case, Decision, Report
from moderation.notices import notice_issue
from moderation.states import ANSWERED_REPORTS, RESTRICTIONS, ReportState

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
    event_record(
        action="reports.answered",
        actor=decision.decided_by,
        version=decision.version,
        case=case,
        data={"decision": decision.code, "outcome": outcome, "reports": answered},
    )
    if reports_tell(case_id=case.pk) == PORTION:
        wake_reporters(case_id=case.pk)
    return answered


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
            },
        )
    return len(reports)
