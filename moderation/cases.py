"""Cases: opens them and is the only writer of a case's state.

Writes ``Case`` and an ``Event`` for each move. Never decides.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.errors import Conflict, IllegalTransition
from moderation.models import Account, Case, Finding, ModelVersion, Rule
from moderation.states import OPEN_CASES, CaseState, Concern, Outcome, may_follow

# The clock of a case that no rule sets a shorter one for.
DEFAULT_DEADLINE_HOURS = 72


@transaction.atomic
def case_open(
    *, version: ModelVersion, source: Case.Source, actor: Account | None
) -> tuple[Case, bool]:
    """Return the open case on a version, opening one if there is none; and whether it is new."""
    # Locking the version makes two openers queue up instead of meeting at the constraint.
    # Without its key: every event refers to the version, and would have to wait for us.
    ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    case = Case.objects.filter(version=version, state__in=OPEN_CASES).first()
    if case is not None:
        return case, False
    case = Case.objects.create(
        version=version,
        source=source,
        due_at=timezone.now() + timedelta(hours=DEFAULT_DEADLINE_HOURS),
    )
    event_record(
        action="case.opened", actor=actor, version=version, case=case, data={"source": source}
    )
    return case, True


def case_weigh(*, case: Case) -> None:
    """Set the priority and the clock of a case from its findings and reports.

    Harm (1 to 5, from the rule) times how sure we are (2 at a hold threshold, else 1) gives
    tens of points; every report adds one, up to nine, so that a flood cannot outweigh harm.
    """
    findings = list(
        Finding.objects.filter(version=case.version)
        .exclude(concern=Concern.NONE)
        .select_related("rule")
    )
    reports = list(case.reports.select_related("rule"))
    weights = [
        (finding.rule.harm if finding.rule else 1) * (2 if finding.concern == Concern.HOLD else 1)
        for finding in findings
    ]
    weights += [report.rule.harm if report.rule else 1 for report in reports]
    rules = _rules_of(findings, (report.rule for report in reports))
    hours = min((rule.deadline_hours for rule in rules), default=DEFAULT_DEADLINE_HOURS)
    case.priority = max(weights, default=1) * 10 + min(len(reports), 9)
    case.due_at = case.opened_at + timedelta(hours=hours)
    case.is_incomplete = any(finding.outcome == Outcome.FAILED for finding in findings) or (
        case.version.jobs.filter(state="dead").exists()
    )
    case.save(update_fields=["priority", "due_at", "is_incomplete"])


def _rules_of(findings: Iterable[Finding], reported: Iterable[Rule | None]) -> list[Rule]:
    rules = [finding.rule for finding in findings] + list(reported)
    return [rule for rule in rules if rule is not None]


@transaction.atomic
def case_transition(
    *, case: Case, to: CaseState, actor: Account | None, action: str = "", **fields: Any
) -> None:
    """Move a case to another state, set ``fields`` with it, and record who moved it.

    Raises IllegalTransition if the table of transitions forbids the move, Conflict if somebody
    else moved the case first.
    """
    if not may_follow(CaseState, case.state, to):
        raise IllegalTransition(
            f"A case that is “{CaseState(case.state).label}” cannot become “{to.label}”. "
            "Reload the page to see where it stands."
        )
    # Two people may press the button at once; only one may win.
    moved = Case.objects.filter(pk=case.pk, state=case.state, claimed_by=case.claimed_by_id).update(
        state=to, **fields
    )
    if moved != 1:
        raise Conflict("Somebody else was quicker: this case has just changed.", code="stale_case")
    event_record(
        action=action or f"case.{to}",
        actor=actor,
        version=case.version,
        case=case,
        data={"from": case.state, "to": to},
    )
    case.refresh_from_db()
