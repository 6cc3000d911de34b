"""Whose a case is: taking over, assigning, escalating, and asking its creator."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from moderation import selectors
from moderation.console.views.case import show_case
from moderation.console.views.common import account_of, private
from moderation.errors import Refusal
from moderation.inquiries import inquiry_send
from moderation.queue import case_assign, case_escalate, case_take_over


@login_required
@require_http_methods(["GET", "POST"])
def take_over(request: HttpRequest, code: str) -> HttpResponse:
    """Ask before a case is taken out of somebody's hands, then take it."""
    case = selectors.cases.case_for(account_of(request), code)
    if request.method == "GET":
        if case.claimed_by is None or case.claimed_by == request.user:
            return redirect("console:case", code=code)
        return private(render(request, "console/take_over.html", {"case": case}))
    try:
        case_take_over(case=case, holder=request.POST.get("holder", ""), actor=account_of(request))
    except Refusal as refusal:
        return show_case(request, case, refusal)
    messages.info(request, "You have the case now. The record says from whom.")
    return redirect("console:case", code=code)


@login_required
@require_POST
def assign(request: HttpRequest, code: str) -> HttpResponse:
    """Make a case somebody's for good, or nobody's."""
    case = selectors.cases.case_for(account_of(request), code)
    try:
        to = selectors.cases.assignee(request.POST.get("to", ""))
        case_assign(case=case, to=to, actor=account_of(request))
    except Refusal as refusal:
        return show_case(request, case, refusal)
    messages.info(request, f"Assigned to {to.username}." if to else "The case is nobody's now.")
    return redirect("console:case", code=code)


@login_required
@require_POST
def escalate(request: HttpRequest, code: str) -> HttpResponse:
    """Hand a case to the senior moderators."""
    case = selectors.cases.case_for(account_of(request), code)
    try:
        case_escalate(case=case, note=request.POST.get("note", ""), actor=account_of(request))
    except Refusal as refusal:
        return show_case(request, case, refusal)
    messages.success(request, "Escalated. A senior moderator looks at it.", extra_tags=case.code)
    return redirect("console:queue")


@login_required
@require_POST
def ask(request: HttpRequest, code: str) -> HttpResponse:
    """Ask the creator, and put the case aside until the answer."""
    case = selectors.cases.case_for(account_of(request), code)
    try:
        inquiry_send(case=case, text=request.POST.get("text", ""), actor=account_of(request))
    except Refusal as refusal:
        return show_case(request, case, refusal)
    asked = "Asked. The case comes back with the answer, or after 5 days."
    messages.success(request, asked, extra_tags=case.code)
    return redirect("console:queue")
