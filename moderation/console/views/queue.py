"""The queue: see what waits, and take it; keep views of it."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.console.views.common import account_of, private, undo_offered
from moderation.errors import Refusal
from moderation.filters import filter_forget, filter_save
from moderation.queue import queue_claim_next
from moderation.selectors.queue import COUNTED, TABS
from moderation.selectors.queue_filters import STATES, filter_read

MENUS = (
    ("rule", "Rule", "any rule"),
    ("source", "Opened by", "anything"),
    ("track", "Report", "any report"),
    ("probe", "Found by", "any probe"),
    ("language", "Language", "any language"),
    ("age", "Age", "any age"),
    ("assigned", "Assigned to", "anybody"),
)


@login_required
@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """Show what waits for a person, first one first."""
    return _show(request, request.GET)


def _show(request: HttpRequest, query: QueryDict, refusal: Refusal | None = None) -> HttpResponse:
    page = selectors.queue.queue_page(account=account_of(request), query=query)
    context = {
        "page": page,
        "tally": page.tally,
        "held": page.held,
        "here": query.urlencode(),
        "links": {
            "here": page.asked.query(),
            "all": page.asked.query(state=""),
            "decided": page.asked.query(state="decided"),
            "closed": page.asked.query(state="closed"),
        },
        "tabs": [
            {
                "state": state,
                "label": STATES[state][0],
                "count": getattr(page.tally, state),
                "query": page.asked.query(state=state),
            }
            for state in TABS
        ],
        "menus": [
            {"name": name, "label": label, "any": empty, "choices": page.choices[name]}
            for name, label, empty in MENUS
        ],
        "counted": COUNTED,
        "takes_over": account_of(request).is_moderator,
        "refusal": refusal,
        "given": request.POST,
        "undoable": undo_offered(request),
    }
    template = "console/_queue.html" if request.htmx else "console/queue.html"  # type: ignore[attr-defined]
    return private(render(request, template, context, status=refusal.status if refusal else 200))


@login_required
@require_POST
def claim_next(request: HttpRequest) -> HttpResponse:
    """Give the moderator the first case that waits."""
    case = queue_claim_next(actor=account_of(request))
    if case is None:
        messages.info(request, "Nothing waits for you.")
        return redirect("console:queue")
    return redirect("console:case", code=case.code)


@login_required
@require_POST
def save_filter(request: HttpRequest) -> HttpResponse:
    """Keep the filters of the page under a name."""
    # Read and written back, so that nothing but filters is kept.
    query = filter_read(QueryDict(request.POST.get("query", "")), {}).query()
    try:
        saved = filter_save(
            name=request.POST.get("name", ""), query=query, actor=account_of(request)
        )
    except Refusal as refusal:
        return _show(request, QueryDict(query), refusal)
    return redirect(f"{reverse('console:queue')}?{saved.query}")


@login_required
@require_POST
def forget_filter(request: HttpRequest, saved: int) -> HttpResponse:
    """Forget a saved view."""
    filter_forget(saved=saved, actor=account_of(request))
    return redirect("console:queue")
