"""What is read beside a case: each a page of its own, and a part that the case's page fetches."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from moderation import selectors
from moderation.console.views.common import account_of, opened_in, private
from moderation.models import Case
from moderation.states import CaseState


@login_required
@require_GET
def look_alikes(request: HttpRequest, code: str) -> HttpResponse:
    """Show the nearest decided previews, unless this person has not opened the case's pictures."""
    account, opened = account_of(request), opened_in(request)
    case = selectors.cases.case_for(account, code)
    is_severe = selectors.beside.is_severe(case)
    is_closed = is_severe and case.code not in opened
    found = []
    if not is_closed:
        found = selectors.look_alikes.look_alikes(
            case.version, account, opened=opened, is_severe=is_severe
        )
    return _show(request, case, "look_alikes", {"look_alikes": found, "is_closed": is_closed})


@login_required
@require_GET
def related(request: HttpRequest, code: str) -> HttpResponse:
    """Show the models with related weights side by side, and those that share bytes."""
    case = selectors.cases.case_for(account_of(request), code)
    found = selectors.beside.related(case)
    decides = case.state == CaseState.CLAIMED and case.claimed_by_id == request.user.pk
    return _show(request, case, "related", {"related": found, "decides": decides})


@login_required
@require_GET
def history(request: HttpRequest, code: str) -> HttpResponse:
    """Show what happened to it, and what its creator has made and been told before."""
    case = selectors.cases.case_for(account_of(request), code)
    return _show(request, case, "history", {"history": selectors.beside.history(case)})


@login_required
@require_GET
def conversation(request: HttpRequest, code: str) -> HttpResponse:
    """Show what the team and the people concerned wrote to each other."""
    case = selectors.cases.case_for(account_of(request), code)
    return _show(
        request, case, "conversation", {"conversation": selectors.beside.conversation(case)}
    )


def _show(request: HttpRequest, case: Case, part: str, context: dict[str, Any]) -> HttpResponse:
    context |= {"case": case, "model": case.version.uploaded_model, "version": case.version}
    if request.htmx:  # type: ignore[attr-defined]
        return private(render(request, f"console/_{part}.html", context))
    context["part"] = f"console/_{part}.html"
    return private(render(request, "console/beside.html", context))
