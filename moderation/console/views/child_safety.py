"""The place apart: what is held for child safety, and what was done to report it."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.appeals import appeal_write_apart
from moderation.child_safety import STEPS, picture_open, report_sent, step_tick
from moderation.console.views.common import account_of, private
from moderation.errors import Invalid, Refusal
from moderation.hearings import appeal_answer_apart
from moderation.states import Action, AppealState

# What can take the place of holding it apart, and needs no words of its own.
MILDER = (Action.REMOVE, Action.LIMIT, Action.AGE_RESTRICT)


@login_required
@require_GET
def records(request: HttpRequest) -> HttpResponse:
    """List what is held apart, without pictures and without titles."""
    found = selectors.child_safety.records(account_of(request))
    return private(render(request, "console/child_safety.html", {"records": found}))


@login_required
@require_GET
def record(request: HttpRequest, code: str) -> HttpResponse:
    """Show one record; no picture is shown unless it is asked for."""
    return show_record(request, code)


def show_record(
    request: HttpRequest, code: str, refusal: Refusal | None = None, *, reversing: str = ""
) -> HttpResponse:
    """Draw a record; ``reversing`` is the decision that a refused form wanted to take back."""
    found = selectors.child_safety.record_for(account_of(request), code)
    steps = [
        {"name": name, "sentence": sentence, "done": found.checklist.get(name)}
        for name, sentence in STEPS.items()
    ]
    context = {
        "record": found,
        "steps": steps,
        "appeals": selectors.child_safety.appeals_of(account_of(request), found),
        "milder": MILDER,
        "reversible": selectors.child_safety.reversible(account_of(request), found),
        "reversing": reversing,
        "reason": request.POST.get("facts", ""),
        "refusal": refusal,
        "given": request.POST,
    }
    return private(
        render(
            request,
            "console/child_safety_record.html",
            context,
            status=refusal.status if refusal else 200,
        )
    )


@login_required
@require_POST
def step(request: HttpRequest, code: str) -> HttpResponse:
    """Tick a step of the checklist."""
    found = selectors.child_safety.record_for(account_of(request), code)
    step_tick(record=found, step=request.POST.get("step", ""), actor=account_of(request))
    return redirect("console:child-safety-record", code=code)


@login_required
@require_POST
def sent(request: HttpRequest, code: str) -> HttpResponse:
    """Record that a person has reported it."""
    found = selectors.child_safety.record_for(account_of(request), code)
    try:
        report_sent(
            record=found,
            authority=request.POST.get("authority", ""),
            reference=request.POST.get("reference", ""),
            actor=account_of(request),
        )
    except Refusal as refusal:
        return show_record(request, code, refusal)
    messages.success(
        request, "Recorded. The material is kept for a year from now.", extra_tags=code
    )
    return redirect("console:child-safety-record", code=code)


@login_required
@require_POST
def appeal(request: HttpRequest, code: str, appeal: str) -> HttpResponse:
    """Answer an appeal against what is held apart."""
    found = selectors.child_safety.appeal_of(account_of(request), code, appeal)
    try:
        outcome, action = _outcome(request.POST.get("outcome", ""))
        appeal_answer_apart(
            appeal=found,
            outcome=outcome,
            answer=request.POST.get("answer", ""),
            action=action,
            actor=account_of(request),
        )
    except Refusal as refusal:
        return show_record(request, code, refusal)
    messages.success(
        request, "Answered. Whoever appealed is told once it is in force.", extra_tags=code
    )
    return redirect("console:child-safety-record", code=code)


@login_required
@require_POST
def message(request: HttpRequest, code: str, appeal: str) -> HttpResponse:
    """Write to whoever appealed against what is held apart."""
    found = selectors.child_safety.appeal_of(account_of(request), code, appeal)
    try:
        appeal_write_apart(
            appeal=found, text=request.POST.get("message", ""), actor=account_of(request)
        )
    except Refusal as refusal:
        return show_record(request, code, refusal)
    messages.success(
        request, "Sent. You hear the appeal for the length of a claim.", extra_tags=code
    )
    return redirect("console:child-safety-record", code=code)


def _outcome(given: str) -> tuple[AppealState, Action | None]:
    if given in MILDER:
        return AppealState.MODIFIED, Action(given)
    if given not in {AppealState.UPHELD, AppealState.OVERTURNED}:
        raise Invalid("Choose what becomes of the decision.", field="outcome")
    return AppealState(given), None


@login_required
@require_POST
def preview(request: HttpRequest, code: str, preview: str) -> FileResponse:
    """Hand out one picture as a download, on request, and record who asked for it."""
    row = selectors.child_safety.preview_of(account_of(request), code, preview)
    picture_open(preview=row, actor=account_of(request))
    response = FileResponse(
        default_storage.open(row.shown.name or ""),
        as_attachment=True,
        filename=f"{row.code}.bin",
        content_type="application/octet-stream",
    )
    response["Cache-Control"] = "no-store"
    return response
