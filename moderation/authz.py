"""Who may do what to which object: one function a question, one condition a line.

Each raises ``NotAllowed`` with a sentence, or ``Hidden`` where even the existence of the object
is no business of the person asking.
"""

from moderation.errors import NotAllowed, Refusal
from moderation.models import Account, Case, Decision, ModelVersion, Report, UploadedModel
from moderation.states import REACHABLE, SENIOR, Visibility


class Hidden(Refusal):
    """To this person the object does not exist."""

    status = 404
    code = "not_found"

    def __init__(self) -> None:
        super().__init__("There is nothing at this address, or it is not for you to see.")


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


def require_own(account: Account, uploaded_model: UploadedModel) -> None:
    """Let the creator of a model through."""
    if not account.is_active:
        raise NotAllowed("This account is suspended.")
    if uploaded_model.creator_id != account.pk:
        raise Hidden


def require_sight(account: Account | None, version: ModelVersion) -> None:
    """Let through whoever may open the page of a version."""
    if version.visibility in REACHABLE:
        return
    if account is not None and account.pk == version.uploaded_model.creator_id:
        return
    if account is not None and account.is_team and version.visibility != Visibility.DRAFT:
        return
    raise Hidden


def conflict_of_interest(account: Account, version: ModelVersion) -> str:
    """Return why this person may not judge this version, or an empty string."""
    if version.uploaded_model.creator_id == account.pk:
        return "You cannot judge your own model."
    if Report.objects.filter(
        reporter=account, version__uploaded_model_id=version.uploaded_model_id
    ).exists():
        return "You reported this model, so somebody else judges it."
    return ""


def require_impartial(account: Account, version: ModelVersion) -> None:
    """Let through a moderator who neither made nor reported the model."""
    require_moderator(account)
    reason = conflict_of_interest(account, version)
    if reason:
        raise NotAllowed(reason, code="conflict_of_interest")


def require_other_than_decider(account: Account, case: Case) -> None:
    """Let through a moderator who took no part in any decision on the case."""
    require_impartial(account, case.version)
    if Decision.objects.filter(case=case, decided_by=account).exists():
        raise NotAllowed(
            "You made this decision, so another moderator answers the appeal.",
            code="conflict_of_interest",
        )
