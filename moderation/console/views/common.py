"""What every view of the console needs."""

from datetime import datetime
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from moderation import selectors
from moderation.errors import NotAllowed
from moderation.models import Account, Case, Decision
from moderation.states import EffectState
from moderation.wellbeing import exposure_record, require_rested


def account_of(request: HttpRequest) -> Account:
    """Return who is logged in."""
    return cast(Account, request.user)


def private(response: HttpResponse) -> HttpResponse:
    """Keep what moderators see out of the browser's cache."""
    response["Cache-Control"] = "no-store"
    return response


def is_opened(request: HttpRequest, what: str) -> bool:
    """Return whether this person went past the warning of a case, or a run, in this session."""
    return what in opened_in(request)


def opened_in(request: HttpRequest) -> list[str]:
    """Return the codes of the cases, and the runs, whose warning this person went past."""
    return list(request.session.get("opened", []))


def opened_remember(request: HttpRequest, what: str) -> None:
    """Remember that this person has asked for a case, by its code, or for a run of questions."""
    # The last ones are enough: a session is no archive.
    request.session["opened"] = [*opened_in(request), what][-200:]


# --- Pictures that are served beside a case ----------------------------------------------------


def require_may_look(request: HttpRequest, case: Case) -> None:
    """Let through whoever may be shown pictures of a case; raises NotAllowed otherwise.

    Those of a severe one only after its warning, and only to who holds it or has not seen too
    much, as on its page.
    """
    if not selectors.beside.is_severe(case):
        return
    if not is_opened(request, case.code):
        raise NotAllowed("You have not opened the pictures of this case.", code="not_opened")
    if case.claimed_by_id != account_of(request).pk:
        require_rested(account_of(request))


def picture_shown(request: HttpRequest, case: Case) -> None:
    """Note that a picture of a case is shown. Raises NotAllowed where it may not be."""
    require_may_look(request, case)
    exposure_record(
        account=account_of(request), case=case, rules=selectors.cases.rules_concerned(case)
    )


# --- What can still be undone -----------------------------------------------------------------
# Kept in the session of who decided, so that no page has to ask the database for it.


def undo_remember(request: HttpRequest, decision: Decision) -> None:
    """Let the next pages offer to undo a decision, as long as nobody has been told of it."""
    effect = decision.effect
    if effect.state == EffectState.DUE and effect.due_at is not None:
        request.session["undo"] = {
            "code": decision.code,
            "says": f"{decision.get_action_display()}: {decision.version}.",
            "until": effect.due_at.isoformat(),
        }


def undo_offered(request: HttpRequest) -> dict[str, Any] | None:
    """Return what this person can still undo: its code, what it is, and until when."""
    offered = request.session.get("undo")
    if offered is None or datetime.fromisoformat(offered["until"]) <= timezone.now():
        return None
    return {**offered, "until": datetime.fromisoformat(offered["until"])}
