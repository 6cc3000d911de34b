"""The second person, and second thoughts: confirm, withdraw, undo, take back, doubt."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse as reverse_address
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.appeals import appeal_write
from moderation.console.views.case import show_case
from moderation.console.views.child_safety import show_record
from moderation.console.views.common import account_of, private, undo_offered, undo_remember
from moderation.decisions import (
    decision_cancel,
    decision_confirm,
    decision_doubt,
    decision_reverse,
    decision_undo,
)
from moderation.errors import Refusal
from moderation.models import Case


@login_required
@require_GET
def held(request: HttpRequest) -> HttpResponse:
    """Show what waits for a second person."""
    return _show(request)


def _show(request: HttpRequest, refusal: Refusal | None = None, refused: str = "") -> HttpResponse:
    """Draw the page; ``refused`` is the decision of a refused form."""
    waiting = selectors.decisions.held_decisions(account_of(request))
    context = {
        "held": waiting,
        "refused": refused,
        "is_still_held": any(each.decision.code == refused for each in waiting),
        "undoable": undo_offered(request),
        "refusal": refusal,
        "given": request.POST,
    }
    page = render(request, "console/held.html", context, status=refusal.status if refusal else 200)
    return private(page)


@login_required
@require_POST
def confirm(request: HttpRequest, code: str) -> HttpResponse:
    """Confirm a held decision."""
    decision = selectors.decisions.decision_for(account_of(request), code)
    seen = request.POST.get("reports_seen", "")
    try:
        decision_confirm(
            decision=decision,
            reports_seen=int(seen) if seen.isascii() and seen.isdigit() else None,
            actor=account_of(request),
        )
    except Refusal as refusal:
        return _show(request, refusal)
    decision.effect.refresh_from_db()
    undo_remember(request, decision)
    messages.success(request, f"Confirmed: {decision.get_action_display()}, {decision.version}.")
    return redirect("console:held")


@login_required
@require_POST
def cancel(request: HttpRequest, code: str) -> HttpResponse:
    """Withdraw a held decision without a verdict."""
    decision = selectors.decisions.decision_for(account_of(request), code)
    try:
        decision_cancel(
            decision=decision, reason=request.POST.get("reason", ""), actor=account_of(request)
        )
    except Refusal as refusal:
        return _show(request, refusal, code)
    messages.info(
        request, f"Withdrawn. {decision.version} waits for a person again.", extra_tags=code
    )
    return redirect("console:held")


@login_required
@require_POST
def undo(request: HttpRequest, code: str) -> HttpResponse:
    """Undo a decision that nobody has been told of yet."""
    decision = selectors.decisions.decision_for(account_of(request), code)
    decision_undo(decision=decision, actor=account_of(request))
    request.session.pop("undo", None)
    case = Case.objects.select_related("claimed_by").get(pk=decision.case_id)
    holder = case.claimed_by
    if holder is None or holder == request.user:
        whose = "the case is yours"
    else:
        whose = f"{holder.username} has the case"
    messages.info(request, f"Undone. Nobody was told, and {whose} again.")
    return redirect("console:case", code=case.code)


@login_required
@require_POST
def reverse(request: HttpRequest, code: str) -> HttpResponse:
    """Take a decision back by a new one."""
    account = account_of(request)
    decision = selectors.decisions.decision_for(account, code)
    is_apart = decision.version.isolated_at is not None
    record = selectors.child_safety.code_for(decision.version) if account.is_child_safety else ""
    try:
        reversal = decision_reverse(
            decision=decision, facts=request.POST.get("facts", ""), actor=account
        )
    except Refusal as refusal:
        if not is_apart:
            return show_case(request, decision.case, refusal, reversing=decision.code)
        if not record:
            raise
        return show_record(request, record, refusal, reversing=decision.code)
    messages.success(
        request,
        "A second person has to confirm that it is taken back."
        if reversal.needs_second_person
        else "Taken back. Everybody who was told is told.",
        extra_tags=code,
    )
    if is_apart:
        # Nobody else's page shows it until a second person has confirmed.
        return redirect("console:child-safety-record", code=record)
    return redirect("console:case", code=decision.case.code)


@login_required
@require_POST
def doubt(request: HttpRequest, code: str) -> HttpResponse:
    """Have looked at again what a decision that restricts nothing was about."""
    decision = selectors.decisions.decision_for(account_of(request), code)
    try:
        case = decision_doubt(
            decision=decision, reason=request.POST.get("reason", ""), actor=account_of(request)
        )
    except Refusal as refusal:
        if decision.version.isolated_at is not None:
            raise
        return show_case(request, decision.case, refusal, doubting=code)
    messages.success(request, "It waits in the queue again, with what you wrote.")
    return redirect("console:case", code=case.code)


@login_required
@require_POST
def message(request: HttpRequest, code: str, appeal: str) -> HttpResponse:
    """Write to whoever appealed."""
    found = selectors.cases.case_for(account_of(request), code)
    asked = selectors.cases.appeal_on(found, appeal)
    try:
        appeal_write(
            appeal=asked,
            text=request.POST.get("message", ""),
            actor=account_of(request),
            from_team=True,
        )
    except Refusal as refusal:
        return show_case(request, found, refusal, appeal=appeal)
    messages.success(request, "Sent.", extra_tags=found.code)
    return redirect(reverse_address("console:case", args=[code]) + f"?appeal={appeal}")


@login_required
@require_GET
def appeal_file(request: HttpRequest, code: str) -> FileResponse:
    """Serve a file that came with an appeal, only ever as a download."""
    row = selectors.decisions.appeal_file_for(account_of(request), code)
    response = FileResponse(
        default_storage.open(row.content.name or ""),
        as_attachment=True,
        filename=row.name,
        content_type="application/octet-stream",
    )
    response["Cache-Control"] = "no-store"
    return response
