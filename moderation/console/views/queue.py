"""The queue: see what waits, and take it."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.console.views.common import account_of, private
from moderation.queue import queue_claim_next


@login_required
@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """Show what waits for a person, first one first."""
    selectors.queue.require_team(account_of(request))
    state, rule = request.GET.get("state", ""), request.GET.get("rule", "")
    context = {
        "rows": selectors.queue.queue_rows(state=state, rule=rule),
        "tally": selectors.queue.queue_tally(),
        "policy": selectors.public.policy_in_force(),
        "held": selectors.queue.held_case(account_of(request)),
        "state": state,
        "rule": rule,
    }
    template = "console/_queue.html" if request.htmx else "console/queue.html"  # type: ignore[attr-defined]
    return private(render(request, template, context))


@login_required
@require_POST
def claim_next(request: HttpRequest) -> HttpResponse:
    """Give the moderator the first case that waits."""
    case = queue_claim_next(actor=account_of(request))
    if case is None:
        messages.info(request, "Nothing waits for you.")
        return redirect("console:queue")
    return redirect("console:case", code=case.code)
