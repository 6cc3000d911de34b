"""What the team reads of decisions: what waits for a second person, and what can be undone."""

from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils import timezone

from moderation.authz import Hidden, conflict_of_interest, require_moderator, took_part
from moderation.models import Account, Appeal, AppealFile, Decision
from moderation.selectors.queue import require_team
from moderation.states import CHILD_SAFETY_TEAM, Action, EffectState


@dataclass(frozen=True)
class Held:
    """A decision that waits for a second person, and why this one may not be it."""

    decision: Decision
    reports: int
    why_not: str


def _held_for(account: Account) -> QuerySet[Decision]:
    held = (
        Decision.objects.filter(effect__state=EffectState.HELD)
        .exclude(creator=account)
        .select_related(
            *("version__uploaded_model__creator", "case", "decided_by", "effect"),
            *("overrides", "appeal"),
        )
    )
    if account.role not in CHILD_SAFETY_TEAM:
        # Shown to who decided and to the specialists; nobody else has to see it.
        held = held.filter(~Q(action=Action.CHILD_SAFETY) | Q(decided_by=account))
    return held


def held_decisions(account: Account) -> list[Held]:
    """Return the decisions that wait for a second person, the oldest first. For the team."""
    require_team(account)
    return [_held(account, each) for each in _held_for(account).order_by("decided_at", "pk")[:100]]


def _held(account: Account, decision: Decision) -> Held:
    return Held(decision, decision.case.reports.count(), _why_not(account, decision))


def _why_not(account: Account, decision: Decision) -> str:
    """Return why somebody cannot confirm a decision, or an empty string."""
    if not account.is_moderator:
        return "Only moderators confirm."
    if decision.decided_by_id == account.pk:
        return "You made it, so somebody else confirms it."
    if (
        decision.overrides
        and decision.appeal_id
        and took_part(account, decision.overrides, appeal=decision.appeal)
    ):
        return "You took part in the decision that it takes back, so somebody else confirms it."
    return conflict_of_interest(account, decision.version)


def decision_for(account: Account, code: str) -> Decision:
    """Return a decision for a moderator. Raises Hidden, also about one's own model."""
    require_moderator(account)
    decision = (
        Decision.objects.filter(code=code)
        .exclude(creator=account)
        .select_related(
            *("version__uploaded_model", "case__version", "effect", "decided_by", "appeal"),
            "overrides",
        )
        .first()
    )
    if decision is None:
        raise Hidden
    return decision


def undoable_decision(account: Account) -> Decision | None:
    """Return the last decision that this person can still undo, if there is one."""
    return (
        Decision.objects.filter(
            Q(decided_by=account) | Q(effect__second_person=account),
            effect__state=EffectState.DUE,
            effect__due_at__gt=timezone.now(),
        )
        .select_related("version__uploaded_model", "effect")
        .order_by("-effect__due_at")
        .first()
    )


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
    return account.is_moderator and not own
