"""Second reviews: the evidence of a decision without the decision, and one answer."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from moderation import selectors
from moderation.console.views.case import show_case
from moderation.console.views.common import account_of, private
from moderation.errors import Conflict, Refusal
from moderation.second_reviews import (
    known_answer_give,
    second_review_give,
)
from moderation.states import Answer
from moderation.wellbeing import exposure_record, require_rested


@login_required
@require_GET
def following(request: HttpRequest) -> HttpResponse:
    """Go to the next one, or say that there is none."""
    item = selectors.second_reviews.next_review(account_of(request))
    if item is None:
        return private(render(request, "console/second_review_none.html"))
    return redirect("console:second-review", code=item.code)


@login_required
@require_http_methods(["GET", "POST"])
def review(request: HttpRequest, code: str) -> HttpResponse:
    """Show what is asked, and take the answer."""
    account = account_of(request)
    item = selectors.second_reviews.review_item_for(account, code)
    refusal = None
    if request.method == "POST":
        try:
            second_review_give(
                item=item,
                answer=request.POST.get("answer", ""),
                rules=request.POST.getlist("rules"),
                note=request.POST.get("note", ""),
                actor=account,
            )
        except Conflict as taken:
            if request.POST.get("note"):
                # The page of the refusal shows what was typed.
                raise
            messages.info(request, str(taken))
            return redirect("console:second-reviews")
        except Refusal as found:
            refusal = found
        else:
            done = "Thank you. Nothing about the model changes by it."
            messages.success(request, done, extra_tags=item.code)
            return redirect("console:second-reviews")
    file = selectors.second_reviews.review_file(item)
    severe = [rule for rule in file.rules_concerned if rule.is_severe]
    if severe and refusal is None:
        # What was shown already, and written about, is not taken away.
        require_rested(account)
    if severe and "open" not in request.GET and refusal is None:
        return private(
            render(request, "console/second_review_warning.html", {"item": item, "severe": severe})
        )
    if file.previews:
        exposure_record(account=account, case=file.case, rules=file.rules_concerned)
    context = {
        "file": file,
        "version": file.version,
        "model": file.version.uploaded_model,
        "answers": Answer.choices,
        "refusal": refusal,
        "given": request.POST,
        "given_rules": request.POST.getlist("rules"),
    }
    status = refusal.status if refusal else 200
    return private(render(request, "console/second_review.html", context, status=status))


@login_required
@require_POST
def known_answer(request: HttpRequest, code: str) -> HttpResponse:
    """Make a decision a known answer."""
    decision = selectors.second_reviews.decision_to_teach(account_of(request), code)
    try:
        known_answer_give(
            decision=decision, reason=request.POST.get("reason", ""), actor=account_of(request)
        )
    except Refusal as refused:
        return show_case(request, decision.case, refused, teaching=code)
    messages.success(
        request, "It comes to moderators as a known answer from now on.", extra_tags=code
    )
    return redirect("console:case", code=decision.case.code)
