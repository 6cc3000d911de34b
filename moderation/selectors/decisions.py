"""What the team reads of decisions: what waits for a second person, and what can be undone."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from moderation.authz import REPORTED_IT, Hidden, parts_taken, require_moderator
from moderation.models import Account, Appeal, AppealFile, Decision, Report
from moderation.selectors.queue import require_team
from moderation.selectors.reporters import Said, reports_gathered, said_of
from moderation.states import CHILD_SAFETY_TEAM, Action, EffectState


@dataclass(frozen=True)
class Held:
    """A decision that waits for a second person, and why this one may not be it."""

    decision: Decision
    reports: list[Said]
    why_not: str


def _shown_to(account: Account) -> QuerySet[Decision]:
    """Return what is not about one's own model, nor held apart for child safety.

    That is for its specialists, and for who decided it; nobody else has to see it.
    """
    decisions = Decision.objects.exclude(creator=account).select_related(
        *("version__uploaded_model__creator", "case__version", "decided_by", "effect"),
        *("overrides", "appeal"),
    )
    if account.role in CHILD_SAFETY_TEAM:
        return decisions
    apart = Q(action=Action.CHILD_SAFETY) | Q(version__isolated_at__isnull=False)
    return decisions.filter(~apart | Q(decided_by=account))


def held_decisions(account: Account) -> list[Held]:
    """Return the decisions that wait for a second person, the oldest first. For the team."""
    require_team(account)
    reported = Report.objects.filter(
        reporter=account, version__uploaded_model=OuterRef("version__uploaded_model")
    )
    taken = parts_taken(
        account,
        case=OuterRef("overrides__case"),
        chain=OuterRef("overrides__chain"),
        bulk=OuterRef("overrides__bulk"),
        pk=OuterRef("overrides"),
    ).exclude(appeal=OuterRef("appeal"))
    held = _shown_to(account).filter(effect__state=EffectState.HELD)
    held = held.annotate(
        reports=reports_gathered(OuterRef("case")),
        is_reported=Exists(reported),
        took_part=Exists(taken),
    )
    return [
        Held(each, said_of(each.reports), _why_not(account, each))
        for each in held.order_by("decided_at", "pk")[:100]
    ]


def _why_not(account: Account, decision: Any) -> str:
    """Return why somebody cannot confirm a decision, or an empty string."""
    if not account.is_moderator:
        return "Only moderators confirm."
    if decision.decided_by_id == account.pk:
        return "You made it, so somebody else confirms it."
    if decision.overrides_id and decision.appeal_id and decision.took_part:
        return "You took part in the decision that it takes back, so somebody else confirms it."
    # One's own models are not in the list.
    return REPORTED_IT if decision.is_reported else ""


def decision_for(account: Account, code: str) -> Decision:
    """Return a decision for a moderator. Raises Hidden, also about one's own model.

    And about what is held apart for child safety, to all but who decided it and the specialists.
    """
    require_moderator(account)
    decision = _shown_to(account).filter(code=code).first()
    if decision is None:
        raise Hidden
    return decision


def appeal_file_for(account: Account | None, code: str, *, token: str = "") -> AppealFile:
    """Return a file of an appeal for who sent it and for the team. Raises Hidden otherwise.

    ``token`` is the private link of the report that a visitor appealed by.
    """
    file = (
        AppealFile.objects.filter(code=code, purged_at__isnull=True)
        .select_related("appeal__report", "appeal__decision__version__uploaded_model")
        .first()
    )
    if file is None or not _may_see(account, file.appeal, token):
        raise Hidden
    return file


def _may_see(account: Account | None, appeal: Appeal, token: str) -> bool:
    if token and appeal.report and appeal.report.token == token:
        return True
    if account is None:
        return False
    if appeal.appellant_id == account.pk:
        return True
    # A reporter's appeal is as private as the report: its creator never sees it.
    own = appeal.decision.version.uploaded_model.creator_id == account.pk
    apart = appeal.decision.version.isolated_at is not None and not account.is_child_safety
    return account.is_moderator and not own and not apart
