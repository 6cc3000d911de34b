"""Around reports: evidence, misuse of reporting, and letters that could not be sent."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.core.paginator import Paginator
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.console.views.common import account_of, picture_shown, private
from moderation.errors import Refusal
from moderation.misuse import (
    LONGEST_DAYS,
    measure_answer,
    measure_decide,
    report_mark_unfounded,
)
from moderation.outbox import notice_revive
from moderation.states import MeasureState


@login_required
@require_GET
def evidence(request: HttpRequest, code: str) -> FileResponse:
    """Serve the copy of a picture that a reporter sent along, and note that it was shown."""
    found = selectors.reporting.evidence_for(account_of(request), code)
    picture_shown(request, found.report.case)
    response = FileResponse(
        default_storage.open(found.content.name or ""), content_type="image/jpeg"
    )
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_POST
def unfounded(request: HttpRequest, code: str) -> HttpResponse:
    """Note that a report had no ground at all."""
    found = selectors.reporting.report_for(account_of(request), code)
    report_mark_unfounded(report=found, actor=account_of(request))
    messages.success(request, "Noted. If it happens often, a warning is proposed.")
    return redirect("console:case", code=found.case.code)


@login_required
@require_GET
def misuse(request: HttpRequest) -> HttpResponse:
    """Show the measures that wait for a person: proposals and appeals."""
    return _misuse(request)


def _misuse(request: HttpRequest, refusal: Refusal | None = None, code: str = "") -> HttpResponse:
    waiting = list(selectors.reporting.measures_waiting(account_of(request)))
    context = {
        "measures": waiting,
        "still_waits": any(measure.code == code for measure in waiting),
        "longest": LONGEST_DAYS,
        "refusal": refusal,
        "refused": code,
        "given": request.POST,
        "written": [words] if (words := request.POST.get("words", "").strip()) else [],
    }
    page = render(
        request, "console/misuse.html", context, status=refusal.status if refusal else 200
    )
    return private(page)


@login_required
@require_POST
def settle(request: HttpRequest, code: str) -> HttpResponse:
    """Decide a proposed measure, or answer an appeal against one."""
    account = account_of(request)
    measure = selectors.reporting.measure_for(account, code)
    words, agrees = request.POST.get("words", ""), request.POST.get("verdict") == "yes"
    days = request.POST.get("days", "")
    try:
        if measure.state == MeasureState.APPEALED:
            measure_answer(measure=measure, uphold=agrees, answer=words, actor=account)
        else:
            measure_decide(
                measure=measure,
                accept=agrees,
                reason=words,
                days=int(days) if days.isdecimal() else 0,
                actor=account,
            )
    except Refusal as refusal:
        return _misuse(request, refusal, code)
    messages.success(request, "Done. The person concerned is told.", extra_tags=code)
    return redirect("console:misuse")


@login_required
@require_GET
def letters(request: HttpRequest) -> HttpResponse:
    """Show the letters that could not be sent, without what they say."""
    found = selectors.reporting.dead_letters(account_of(request))
    page = Paginator(found, 50).get_page(request.GET.get("page"))
    return private(render(request, "console/letters.html", {"page": page}))


@login_required
@require_POST
def resend(request: HttpRequest, code: str) -> HttpResponse:
    """Try a dead letter again from the start."""
    notice_revive(code=code, actor=account_of(request))
    messages.success(request, "It is being sent again.")
    return redirect("console:letters")
