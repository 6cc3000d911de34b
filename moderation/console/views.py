"""What moderators see: the queue, a case with its evidence, and the decision."""

from typing import Any, TypeVar, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.appeals import appeal_answer
from moderation.banks import bank_add_decided
from moderation.decisions import decision_make
from moderation.errors import Conflict, Invalid, Refusal
from moderation.models import Account, Case
from moderation.queue import case_claim, case_release, claim_renew, queue_claim_next
from moderation.states import HELD_CASES, Action, AppealState, CaseState

Choice = TypeVar("Choice", Action, AppealState)


def _account(request: HttpRequest) -> Account:
    return cast(Account, request.user)


@login_required
@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """Show what waits for a person, first one first."""
    selectors.require_team(_account(request))
    state, rule = request.GET.get("state", ""), request.GET.get("rule", "")
    context = {
        "rows": selectors.queue_rows(state=state, rule=rule),
        "tally": selectors.queue_tally(),
        "policy": selectors.policy_in_force(),
        "held": selectors.held_case(_account(request)),
        "state": state,
        "rule": rule,
    }
    template = "console/_queue.html" if request.htmx else "console/queue.html"  # type: ignore[attr-defined]
    return _private(render(request, template, context))


@login_required
@require_POST
def claim_next(request: HttpRequest) -> HttpResponse:
    """Give the moderator the first case that waits."""
    case = queue_claim_next(actor=_account(request))
    if case is None:
        messages.info(request, "Nothing waits for you.")
        return redirect("console:queue")
    return redirect("console:case", code=case.code)


@login_required
@require_GET
def case(request: HttpRequest, code: str) -> HttpResponse:
    """Show a case with its evidence."""
    return _show(request, selectors.case_for(_account(request), code))


def _show(request: HttpRequest, found: Case, refusal: Refusal | None = None) -> HttpResponse:
    found.refresh_from_db()
    context: dict[str, Any] = {
        "file": selectors.case_file(found, _account(request)),
        "case": found,
        "version": found.version,
        "model": found.version.uploaded_model,
        "is_mine": found.state in HELD_CASES and found.claimed_by_id == request.user.pk,
        "decides": found.state == CaseState.CLAIMED,
        "hears": found.state == CaseState.HEARING,
        "waits": found.state in {CaseState.QUEUED, CaseState.APPEALED},
        "refusal": refusal,
        "given": request.POST,
        "given_rules": request.POST.getlist("rules"),
    }
    page = render(request, "console/case.html", context, status=refusal.status if refusal else 200)
    return _private(page)


@login_required
@require_POST
def claim(request: HttpRequest, code: str) -> HttpResponse:
    """Take one case."""
    found = selectors.case_for(_account(request), code)
    try:
        case_claim(case=found, actor=_account(request))
    except Refusal as refusal:
        return _show(request, found, refusal)
    return redirect("console:case", code=code)


@login_required
@require_POST
def renew(request: HttpRequest, code: str) -> HttpResponse:
    """Keep a claim while the page is open."""
    found = selectors.case_for(_account(request), code)
    kept = claim_renew(case=found, actor=_account(request))
    found.refresh_from_db()
    return _private(render(request, "console/_claim.html", {"case": found, "is_mine": kept}))


@login_required
@require_POST
def release(request: HttpRequest, code: str) -> HttpResponse:
    """Give a case back to the queue."""
    found = selectors.case_for(_account(request), code)
    case_release(case=found, actor=_account(request))
    messages.info(request, "The case is back in the queue.")
    return redirect("console:queue")


@login_required
@require_POST
def decide(request: HttpRequest, code: str) -> HttpResponse:
    """Decide a case, then show the next one or the queue."""
    found = selectors.case_for(_account(request), code)
    try:
        decision = decision_make(
            case=found,
            action=_choice(Action, request.POST.get("action", ""), "action"),
            rules=request.POST.getlist("rules"),
            facts=request.POST.get("facts", ""),
            private_note=request.POST.get("private_note", ""),
            reports_seen=_count(request.POST.get("reports_seen", "")),
            actor=_account(request),
        )
    except Refusal as refusal:
        return _show(request, found, refusal)
    messages.success(
        request, f"{decision.get_action_display()}: {decision.version}. The creator has been told."
    )
    if request.POST.get("then") == "next":
        return claim_next(request)
    return redirect("console:queue")


@login_required
@require_POST
def answer(request: HttpRequest, code: str) -> HttpResponse:
    """Answer the appeal of a case."""
    found = selectors.case_for(_account(request), code)
    appeal = found.appeals.filter(state=AppealState.OPEN).first()
    try:
        if appeal is None:
            raise Conflict("This case has no appeal that waits for an answer.", code="no_appeal")
        appeal_answer(
            appeal=appeal,
            outcome=_choice(AppealState, request.POST.get("outcome", ""), "outcome"),
            answer=request.POST.get("answer", ""),
            actor=_account(request),
        )
    except Refusal as refusal:
        return _show(request, found, refusal)
    messages.success(request, "Answered. Everybody concerned has been told.")
    return redirect("console:queue")


@login_required
@require_POST
def bank(request: HttpRequest, code: str) -> HttpResponse:
    """Add what a decision removed to a bank, so that it is known when it comes back."""
    decision = selectors.removal_for(_account(request), code)
    tally = bank_add_decided(
        name=request.POST.get("name", ""), decision=decision, actor=_account(request)
    )
    messages.success(request, f"{tally.added} hashes added, {tally.present} were there already.")
    return redirect("console:case", code=decision.case.code)


def _choice(kind: type[Choice], value: str, field: str) -> Choice:
    try:
        return kind(value)
    except ValueError as error:
        raise Invalid("Choose one of the actions.", field=field) from error


def _count(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _private(response: HttpResponse) -> HttpResponse:
    """Keep what moderators see out of the browser's cache."""
    response["Cache-Control"] = "no-store"
    return response
