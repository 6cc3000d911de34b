"""One case: its evidence, the decision, the answer to an appeal."""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.banks import bank_add_decided
from moderation.console.views.common import (
    account_of,
    is_opened,
    opened_remember,
    private,
    undo_offered,
    undo_remember,
)
from moderation.console.views.queue import claim_next
from moderation.decisions import decision_make
from moderation.errors import Conflict, Invalid, NotAllowed, Refusal
from moderation.hearings import appeal_answer
from moderation.models import Account, Appeal, Case, Decision
from moderation.queue import case_claim, case_release, claim_renew, queue_after
from moderation.reasons import Terms, suspension_end
from moderation.statements import own_words, words_added
from moderation.states import (
    HELD_CASES,
    RESTRICTIONS,
    WAITING_CASES,
    Action,
    AppealState,
    CaseState,
    EffectState,
    Ground,
    Source,
    Visibility,
)
from moderation.strikes import standing_of_account
from moderation.verdicts import verdict_give
from moderation.wellbeing import exposure_continue, exposures_record, require_rested

# Beside the four that stand on the page by themselves.
OTHER_ACTIONS = tuple(
    action
    for action in Action
    if action
    not in {Action.APPROVE, Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE, Action.REVERSE}
)
Choice = TypeVar("Choice", Action, AppealState, Ground)


@login_required
@require_GET
def case(request: HttpRequest, code: str) -> HttpResponse:
    """Show a case with its evidence."""
    found = selectors.cases.case_for(account_of(request), code)
    if "open" in request.GET:
        opened_remember(request, found.code)
        return redirect("console:case", code=code)
    return show_case(request, found, warns=not is_opened(request, found.code))


@login_required
@require_GET
def peek(request: HttpRequest, code: str) -> HttpResponse:
    """Draw the case that would come after this one, as if it were taken; nothing is taken.

    Submitting takes it, if it is still free and nothing has happened to it since.
    """
    account = account_of(request)
    current = selectors.cases.case_for(account, code)
    found = queue_after(account, current)
    if found is None or found.state != CaseState.QUEUED:
        return private(HttpResponse(status=204))
    found = selectors.cases.case_for(account, found.code)
    stamp = selectors.cases.case_stamp(found)
    page = show_case(request, found, as_taken=True)
    if page.status_code == 200:
        page["X-Case"], page["X-Case-Stamp"] = found.code, stamp
    return page


def show_case(
    request: HttpRequest,
    found: Case,
    refusal: Refusal | None = None,
    *,
    as_taken: bool = False,
    warns: bool = False,
    reversing: str = "",
    teaching: str = "",
    banking: str = "",
    appeal: str = "",
    doubting: str = "",
) -> HttpResponse:
    """Draw the page.

    A form beside a decision that was refused is named by the code of that decision: one that
    takes it back, makes it a known answer, adds to a bank, or has it looked at again. ``appeal``
    is the code of the appeal that a refused form was about.
    """
    if refusal:
        # What it was refused for has just changed.
        found = selectors.cases.case_for(account_of(request), found.code)
    if as_taken:
        found.state, found.claimed_by = CaseState.CLAIMED, account_of(request)
        found.claimed_until = timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)
    appeal = appeal or request.GET.get("appeal", "")
    file = selectors.cases.case_file(found, account_of(request), appeal=appeal)
    severe = [rule for rule in file.rules_concerned if rule.is_severe]
    # A refused form is no request to look: what was not opened stays closed.
    unopened = severe and not is_opened(request, found.code)
    # Nor need anybody look at what is known byte for byte.
    known_exactly = not severe and file.is_known_exactly and not is_opened(request, found.code)
    without_pictures = (
        "without-pictures" in request.GET or bool(refusal and unopened) or known_exactly
    )
    tired = ""
    if severe and found.claimed_by_id != request.user.pk and not without_pictures:
        # Reading along is looking, too: the budget holds for every way to a picture.
        try:
            require_rested(account_of(request))
        except NotAllowed as refused:
            tired, without_pictures = refused.sentence, True
    if severe and as_taken:
        # Not drawn ahead: it is not opened before it is asked for.
        return private(HttpResponse(status=204))
    if severe and warns and not without_pictures:
        warning = {
            "case": found,
            "severe": severe,
            "is_mine": found.claimed_by_id == request.user.pk,
        }
        return private(render(request, "console/warning.html", warning))
    if file.previews and not without_pictures and not as_taken:
        anew = [rule for rule in file.rules_concerned if rule.slug not in file.shown]
        exposures_record(account=account_of(request), shown=[(found, anew)])
    given: Any = {} if reversing or teaching or banking or doubting else request.POST
    if not given and found.state == CaseState.CLAIMED:
        given = _undone(file, account_of(request))
    given_rules = given.getlist("rules") if given is request.POST else given.get("rules", [])
    context: dict[str, Any] = {
        "file": file,
        "without_pictures": without_pictures,
        "known_exactly": known_exactly,
        "tired": tired,
        "case": found,
        "version": found.version,
        "model": found.version.uploaded_model,
        "is_mine": found.state in HELD_CASES and found.claimed_by_id == request.user.pk,
        "decides": found.state == CaseState.CLAIMED,
        "hears": found.state == CaseState.HEARING,
        # Read only where the form is shown.
        "standing": partial(standing_of_account, found.version.uploaded_model.creator),
        "waits": found.state in WAITING_CASES | {CaseState.ASKED},
        "undoable": undo_offered(request),
        "actions": _offered(RESTRICTIONS),
        "others": _offered(
            # What waits in quarantine is approved or restricted.
            action
            for action in OTHER_ACTIONS
            if action != Action.DISMISS or found.version.visibility != Visibility.QUARANTINED
        ),
        "by_country": bool(settings.COUNTRY_HEADER),
        "other_actions": [action.value for action in OTHER_ACTIONS],
        "refusal": refusal,
        "given": given,
        "given_rules": given_rules,
        # The form of a decision has a field of that name, too, and always facts beside it.
        "asked_of_appellant": "" if "facts" in given else given.get("message", ""),
        "own_words": own_words(
            given.get("message", ""), [rule for rule in file.rules if rule.slug in given_rules]
        ),
        "reversing": reversing,
        "teaching": teaching,
        "banking": banking,
        "doubting": doubting,
        "reason": request.POST.get("facts") or request.POST.get("reason", ""),
        "bank_name": request.POST.get("name", ""),
    }
    page = render(request, "console/case.html", context, status=refusal.status if refusal else 200)
    return private(page)


@login_required
@require_POST
def claim(request: HttpRequest, code: str) -> HttpResponse:
    """Take one case."""
    found = selectors.cases.case_for(account_of(request), code)
    try:
        case_claim(case=found, actor=account_of(request))
    except Refusal as refusal:
        return show_case(request, found, refusal)
    return redirect("console:case", code=code)


@login_required
@require_POST
def renew(request: HttpRequest, code: str) -> HttpResponse:
    """Keep a claim while the page is open."""
    found = selectors.cases.case_for(account_of(request), code)
    kept = claim_renew(case=found, actor=account_of(request))
    exposure_continue(account=account_of(request), case=found)
    found.refresh_from_db()
    return private(render(request, "console/_claim.html", {"case": found, "is_mine": kept}))


@login_required
@require_POST
def release(request: HttpRequest, code: str) -> HttpResponse:
    """Give a case back to the queue."""
    found = selectors.cases.held_case_for(account_of(request), code)
    case_release(case=found, actor=account_of(request))
    exposure_continue(account=account_of(request), case=found)
    messages.info(request, "The case is back in the queue.")
    return redirect("console:queue")


@login_required
@require_POST
def decide(request: HttpRequest, code: str) -> HttpResponse:
    """Decide a case, then show the next one or the queue."""
    found = selectors.cases.case_for(account_of(request), code)
    try:
        decision = decision_make(
            case=found,
            action=_choice(Action, request.POST.get("action", ""), "action"),
            rules=request.POST.getlist("rules"),
            facts=request.POST.get("facts", ""),
            message=request.POST.get("message", ""),
            private_note=request.POST.get("private_note", ""),
            terms=_terms(request),
            reports_seen=_count(request.POST.get("reports_seen", "")),
            actor=account_of(request),
        )
    except Refusal as refusal:
        # Pressed twice at once: it is done, and the first press says so.
        if isinstance(refusal, Conflict) and selectors.cases.decided_so(
            found,
            action=request.POST.get("action", ""),
            facts=request.POST.get("facts", ""),
            by=account_of(request),
        ):
            return _onwards(request)
        return show_case(request, found, refusal)
    messages.success(request, _told(decision), extra_tags=found.code)
    exposure_continue(account=account_of(request), case=found)
    undo_remember(request, decision)
    return _onwards(request)


def _onwards(request: HttpRequest) -> HttpResponse:
    if request.POST.get("then") == "next":
        return _next(request)
    return redirect("console:queue")


def _next(request: HttpRequest) -> HttpResponse:
    """Take the next case; say so if it is the one that the page has drawn already."""
    code, stamp = request.headers.get("X-Fetched-Case"), request.headers.get("X-Fetched-Stamp")
    drawn = Case.objects.filter(code=code).select_related("version").first() if code else None
    unchanged = drawn is not None and selectors.cases.case_stamp(drawn) == stamp
    taken = claim_next(request)
    address = reverse("console:case", args=[code]) if code else ""
    if not code:
        return taken
    if drawn is None or not unchanged or taken["Location"] != address:
        # The page goes there itself: a redirect would be followed, and its messages lost.
        response = HttpResponse(status=204)
        response["X-Go"] = taken["Location"]
        return private(response)
    if drawn.version.previews.exists():
        # Its page was drawn before it was anybody's; only now is it looked at.
        rules = selectors.cases.rules_concerned(drawn)
        exposures_record(account=account_of(request), shown=[(drawn, rules)])
    offered = undo_offered(request)
    response = private(render(request, "console/_after.html", {"undoable": offered}))
    response["X-Use-Fetched"] = address
    return response


@login_required
@require_POST
def verdict(request: HttpRequest, finding: int) -> HttpResponse:
    """Note what a moderator says about one finding."""
    account = account_of(request)
    found = selectors.cases.finding_for(account, finding)
    verdict_give(finding=found, answer=request.POST.get("answer", ""), actor=account)
    if not request.htmx:  # type: ignore[attr-defined]
        case = found.version.cases.order_by("-pk").first()
        if case is None:
            return redirect("console:queue")
        address = reverse("console:case", args=[case.code])
        return redirect(f"{address}#finding-{found.pk}")
    context = {
        "finding": found,
        "file": {"verdicts": selectors.cases.verdicts_by(account, found.version)},
    }
    return private(render(request, "console/_verdict.html", context))


@login_required
@require_POST
def answer(request: HttpRequest, code: str, appeal: str) -> HttpResponse:
    """Answer one appeal of a case."""
    found = selectors.cases.case_for(account_of(request), code)
    heard = selectors.cases.appeal_on(found, appeal)
    try:
        reply = appeal_answer(
            appeal=heard,
            outcome=_choice(AppealState, request.POST.get("outcome", ""), "outcome"),
            answer=request.POST.get("answer", ""),
            action=_optional_action(request.POST.get("action", "")),
            rules=request.POST.getlist("rules"),
            terms=_terms(request),
            actor=account_of(request),
        )
    except Refusal as refusal:
        return show_case(request, found, refusal, appeal=appeal)
    messages.success(request, _answered(reply), extra_tags=found.code)
    return redirect("console:queue")


@login_required
@require_POST
def bank(request: HttpRequest, code: str) -> HttpResponse:
    """Add what a decision removed to a bank, so that it is known when it comes back."""
    decision = selectors.cases.removal_for(account_of(request), code)
    try:
        tally = bank_add_decided(
            name=request.POST.get("name", ""), decision=decision, actor=account_of(request)
        )
    except Refusal as refusal:
        return show_case(request, decision.case, refusal, banking=code)
    messages.success(request, f"{tally.added} hashes added, {tally.present} were there already.")
    return redirect("console:case", code=decision.case.code)


def _choice(kind: type[Choice], value: str, field: str) -> Choice:
    try:
        return kind(value)
    except ValueError as error:
        raise Invalid("Choose one of the actions.", field=field) from error


def _told(decision: Decision) -> str:
    what = f"{decision.get_action_display()}: {decision.version}."
    state = decision.effect.state
    if state == EffectState.HELD:
        return f"{what} It waits for a second person; nobody has been told."
    if state == EffectState.DUE:
        seconds = settings.UNDO_SECONDS
        return f"{what} People are told in {seconds} seconds; until then you can undo it."
    return f"{what} The creator has been told."


def _offered(actions: Iterable[Action]) -> list[tuple[str, str]]:
    # Where nobody can tell from which country somebody comes, it would only be refused.
    return [
        (action.value, action.label)
        for action in actions
        if action != Action.GEO_RESTRICT or settings.COUNTRY_HEADER
    ]


def _answered(appeal: Appeal) -> str:
    granted = appeal.outcomes.select_related("effect").order_by("-decided_at").first()
    state = granted.effect.state if granted else EffectState.IN_FORCE
    if state == EffectState.HELD:
        return "Answered. What it changes waits for a second person; nobody has been told."
    if state == EffectState.DUE:
        return f"Answered. People are told in {settings.UNDO_SECONDS} seconds."
    return "Answered. Everybody concerned has been told."


def _undone(file: selectors.cases.CaseFile, account: Account) -> dict[str, Any]:
    """Return what somebody had filled in, if what they undid is the last decision of a case."""
    last = file.decisions[-1] if file.decisions else None
    if (
        last is None
        or last.effect.state != EffectState.UNDONE
        or last.decided_by_id != account.pk
        or last.appeal_id
    ):
        return {}
    return {
        "action": last.action,
        "rules": [clause["slug"] for clause in last.clauses],
        "facts": last.facts,
        "message": words_added(last),
        "private_note": last.private_note,
        "label": last.label,
        "countries": " ".join(last.territories),
        "preview": last.preview.code if last.preview else "",
        "days": (last.until - last.decided_at).days if last.until else "",
        "ground": last.ground,
        "source": last.source,
        "legal_ground": last.legal_ground,
    }


def _optional_action(value: str) -> Action | None:
    return _choice(Action, value, "action") if value else None


def _terms(request: HttpRequest) -> Terms:
    """Read what qualifies an action: words, countries, preview, an end in days."""
    days = _count(request.POST.get("days", "")) or None
    return Terms(
        label=request.POST.get("label", ""),
        countries=request.POST.get("countries", "").replace(",", " ").split(),
        preview=request.POST.get("preview", ""),
        until=suspension_end(days),
        is_order=request.POST.get("source") == Source.ORDER,
        ground=_choice(Ground, request.POST.get("ground") or Ground.POLICY, "ground"),
        legal_ground=request.POST.get("legal_ground", ""),
    )


def _count(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
