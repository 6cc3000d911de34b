"""Who may do what to which object: one function a question, one condition a line.

Each raises ``NotAllowed`` with a sentence, or ``Hidden`` where even the existence of the object
is no business of the person asking.
"""

from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from moderation.errors import NotAllowed, Refusal
from moderation.models import Account, Appeal, Case, Decision, ModelVersion, Report, UploadedModel
from moderation.states import POLICY_LEADING, REACHABLE, SENIOR, Action, AppealState, Visibility

OWN = "You cannot judge your own model."
REPORTED_IT = "You reported this model, so somebody else judges it."


class Hidden(Refusal):
    """To this person the object does not exist."""

    status = 404
    code = "not_found"

    def __init__(self) -> None:
        super().__init__("There is nothing at this address, or it is not for you to see.")


def has_power(account: Account) -> bool:
    """Return whether an account may do something to others: see them, or decide about them."""
    return bool(account.is_team or account.is_staff or account.is_superuser)


def needs_second_factor(account: Account) -> bool:
    """Return whether an account has power over others, and so gets in by a second factor only."""
    return bool(settings.REQUIRE_MFA) and has_power(account)


def require_moderator(account: Account) -> None:
    """Let moderators, senior moderators and admins through."""
    if not account.is_active:
        raise NotAllowed("This account is suspended.")
    if not account.is_moderator:
        raise NotAllowed("Only moderators can do this.")


def require_senior(account: Account) -> None:
    """Let senior moderators and admins through."""
    require_moderator(account)
    if account.role not in SENIOR:
        raise NotAllowed("This case was escalated: it waits for a senior moderator.")


def require_policy_lead(account: Account) -> None:
    """Let policy leads and admins through."""
    if not account.is_active:
        raise NotAllowed("This account is suspended.")
    if account.role not in POLICY_LEADING:
        raise NotAllowed("Only policy leads can do this.")


def require_admin(account: Account) -> None:
    """Let through whoever may enter Django's admin."""
    if not account.is_active or not account.is_staff:
        raise NotAllowed("Only those who run the house can do this.")


def require_own(account: Account, uploaded_model: UploadedModel) -> None:
    """Let the creator of a model through."""
    if not account.is_active:
        raise NotAllowed("This account is suspended.")
    if uploaded_model.creator_id != account.pk:
        raise Hidden


def is_hidden_by_clock(version: ModelVersion) -> bool:
    """Return whether the clock of a likeness request has hidden a version until a decision."""
    return version.hidden_from is not None and version.hidden_from <= timezone.now()


def require_sight(account: Account | None, version: ModelVersion) -> None:
    """Let through whoever may open the page of a version."""
    if version.isolated_at is not None:
        # Held apart for child safety: shown in the place apart, and nowhere else.
        raise Hidden
    if version.visibility in REACHABLE and not is_hidden_by_clock(version):
        return
    if account is not None and account.pk == version.uploaded_model.creator_id:
        return
    if account is not None and account.is_team and version.visibility != Visibility.DRAFT:
        return
    raise Hidden


def require_not_apart(account: Account, version: ModelVersion) -> None:
    """Keep what is held apart for child safety from everybody but its specialists."""
    if version.isolated_at is not None and not account.is_child_safety:
        raise NotAllowed(
            "This is held apart for child safety. Its specialists see it in their own place.",
            code="held_apart",
        )


def conflict_of_interest(account: Account, version: ModelVersion) -> str:
    """Return why this person may not judge this version, or an empty string."""
    if version.uploaded_model.creator_id == account.pk:
        return OWN
    if Report.objects.filter(
        reporter=account, version__uploaded_model_id=version.uploaded_model_id
    ).exists():
        return REPORTED_IT
    return ""


def require_impartial(account: Account, version: ModelVersion) -> None:
    """Let through a moderator who neither made nor reported the model."""
    require_moderator(account)
    reason = conflict_of_interest(account, version)
    if reason:
        raise NotAllowed(reason, code="conflict_of_interest")


def has_reported(reporter: Account, account: Account) -> bool:
    """Return whether somebody has reported a model of another, who so cannot judge them."""
    return Report.objects.filter(
        reporter=reporter, version__uploaded_model__creator=account
    ).exists()


def knows_answer(account: Account, decision: Decision) -> bool:
    """Return whether somebody made or confirmed a decision, and cannot answer it anew blind."""
    return account.pk in {decision.decided_by_id, decision.effect.second_person_id}


def took_part(account: Account, decision: Decision, *, appeal: Appeal | None = None) -> bool:
    """Return whether somebody took part in a decision: made or confirmed it, or one beside it.

    Beside it are the decisions on the same case, undone ones too, those of the same chain, and
    those made at the same stroke; not what grants the very ``appeal`` that is being answered. Who
    took a decision of the chain back, on another case, judged in its favour and not it.
    """
    decisions = parts_taken(
        account, case=decision.case_id, chain=decision.chain, bulk=decision.bulk, pk=decision.pk
    )
    if appeal is not None:
        decisions = decisions.exclude(appeal=appeal)
    return decisions.exists()


def parts_taken(
    account: Account, *, case: Any, chain: Any, bulk: Any, pk: Any
) -> QuerySet[Decision]:
    """Return what somebody decided or confirmed of a decision and of what stands beside it.

    The decision is given by its fields, or by references to those of an outer query.
    """
    beside = Q(case=case) | (Q(chain=chain) & ~Q(chain="") & ~Q(action=Action.REVERSE))
    beside |= Q(bulk=bulk) & ~Q(bulk="")
    return Decision.objects.filter(beside | Q(pk=pk)).filter(
        Q(decided_by=account) | Q(effect__second_person=account)
    )


def require_no_part_in(
    account: Account, decision: Decision, *, appeal: Appeal | None = None
) -> None:
    """Let through whoever took no part in a decision, its chain, its case or its bulk."""
    if took_part(account, decision, appeal=appeal):
        raise NotAllowed(
            "You took part in this decision, so another moderator answers the appeal.",
            code="conflict_of_interest",
        )


def require_other_than_decider(account: Account, case: Case) -> None:
    """Let through a moderator who took no part in any decision of the case that is appealed."""
    require_impartial(account, case.version)
    for appeal in case.appeals.filter(state=AppealState.OPEN).select_related("decision"):
        require_no_part_in(account, appeal.decision, appeal=appeal)


def require_may_publish(account: Account) -> None:
    """Let through whoever may upload and change drafts. Raises NotAllowed for the suspended."""
    if account.is_suspended:
        until = account.suspended_until
        raise NotAllowed(
            "Your account is suspended"
            + (f" until {until:%d %B %Y, %H:%M} UTC" if until else "")
            + ". The decision and the way to appeal it stand on the page of your standing.",
            code="suspended",
        )


def require_may_speak(account: Account) -> None:
    """Let through whoever may submit and report. Raises NotAllowed for suspended and muted."""
    require_may_publish(account)
    if account.is_muted:
        raise NotAllowed(
            f"Your account may not submit or report until {account.muted_until:%d %B %Y, %H:%M} "
            "UTC. The decision and the way to appeal it stand on the page of your standing.",
            code="muted",
        )
