"""Concepts: what was learnt, how sure it is, and single questions about near misses."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.authz import require_policy_lead
from moderation.console.views.common import account_of, is_opened, opened_remember, private
from moderation.errors import Invalid, NotAllowed, Refusal
from moderation.heads import Place, head_place
from moderation.models import ConceptHead
from moderation.states import Concern, VerdictAnswer, VerdictSource
from moderation.verdicts import verdict_give
from moderation.wellbeing import exposure_continue, question_show


@login_required
@require_GET
def concepts(request: HttpRequest) -> HttpResponse:
    """List the concepts of the policy in force."""
    rows = selectors.learning.concepts(account_of(request))
    return private(render(request, "console/concepts.html", {"rows": rows}))


@login_required
@require_GET
def concept(request: HttpRequest, rule: str, concept: str) -> HttpResponse:
    """Show what is known of one concept."""
    return _show(request, rule, concept)


def _show(
    request: HttpRequest, rule: str, concept: str, refusal: Refusal | None = None
) -> HttpResponse:
    page = selectors.learning.concept_page(account_of(request), rule, concept)
    context = {"page": page, "refusal": refusal, "given": request.POST}
    status = refusal.status if refusal else 200
    return private(render(request, "console/concept.html", context, status=status))


@login_required
@require_POST
def place(request: HttpRequest, rule: str, concept: str) -> HttpResponse:
    """Put an earlier head in place, or none."""
    require_policy_lead(account_of(request))
    page = selectors.learning.concept_page(account_of(request), rule, concept)
    code = request.POST.get("head", "")
    head = get_object_or_404(ConceptHead, code=code, rule=rule, concept=concept) if code else None
    space = head or page.now or next(iter(page.heads), None)
    try:
        if space is None:
            raise Invalid("Nothing was learnt of this concept yet.", field="head")
        head_place(
            place=Place(rule, concept, space.encoder, space.revision),
            head=head,
            prompts=page.prompts,
            reason=request.POST.get("reason", ""),
            may_be_replaced="may_be_replaced" in request.POST,
            actor=account_of(request),
        )
    except Refusal as refusal:
        return _show(request, rule, concept, refusal)
    if page.used in {"", space.space}:
        messages.success(request, "Done. Uploads from now on are scored by it.")
    else:
        messages.warning(
            request,
            f"Done for the encoder {space.space}. The newest uploads were scored by {page.used}, "
            "for which this changes nothing.",
        )
    return redirect("console:concept", rule=rule, concept=concept)


@login_required
@require_GET
def questions(request: HttpRequest, rule: str, concept: str) -> HttpResponse:
    """Ask one question: does this preview show the concept?"""
    account = account_of(request)
    asked = selectors.learning.concept_rule(account, rule, concept)
    run = f"{rule}/{concept}"
    if "open" in request.GET:
        opened_remember(request, run)
        return redirect("console:questions", rule=rule, concept=concept)
    waiting = selectors.learning.near_misses(asked, concept, of=account)
    finding = waiting.first()
    if finding is not None and asked.is_severe and not is_opened(request, run):
        return private(render(request, "console/warning.html", {"severe": [asked], "run": concept}))
    refusal = None
    if finding is not None:
        try:
            question_show(account=account, finding=finding)
        except NotAllowed as refused:
            refusal = refused
    context: dict[str, Any] = {
        "rule": asked,
        "concept": concept,
        "meant": selectors.learning.meant_by(asked, concept),
        "finding": finding,
        "left": waiting.count(),
        "last": request.GET.get("last", ""),
        "refusal": refusal,
    }
    status = refusal.status if refusal else 200
    return private(render(request, "console/question.html", context, status=status))


@login_required
@require_POST
def judge(request: HttpRequest, finding: int) -> HttpResponse:
    """Take the answer to one question, and ask the next."""
    account = account_of(request)
    found = selectors.learning.question_for(account, finding)
    said = request.POST.get("answer", "")
    drawn = selectors.learning.is_audit(found)
    verdict_give(
        finding=found,
        answer=_verdict(said, flagged=found.concern != Concern.NONE),
        actor=account,
        source=VerdictSource.AUDIT if drawn else VerdictSource.QUESTION,
    )
    exposure_continue(account=account, finding=found)
    concept = found.evidence["deciding"]["concept"]
    address = redirect("console:questions", rule=found.rule.slug, concept=concept)  # type: ignore[union-attr]
    address["Location"] += f"?last={found.pk}"
    return address


def _verdict(said: str, *, flagged: bool) -> str:
    """Turn “yes, it shows it” into a verdict on what the finding says."""
    if said == "unsure":
        return VerdictAnswer.UNSURE
    if said not in {"yes", "no"}:
        raise Invalid("Answer yes, no or unsure.", code="bad_answer")
    return VerdictAnswer.RIGHT if (said == "yes") == flagged else VerdictAnswer.WRONG
