"""A moderator's own keys."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from moderation import selectors
from moderation.console.views.common import account_of, private
from moderation.errors import Refusal
from moderation.keys import keys_choose


@login_required
@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """Show and store which key does what."""
    selectors.queue.require_team(account_of(request))
    refusal: Refusal | None = None
    if request.method == "POST":
        chosen = {} if "usual" in request.POST else request.POST.dict()
        try:
            keys_choose(account=account_of(request), chosen=chosen)
        except Refusal as error:
            refusal = error
        else:
            messages.success(request, "Saved.")
            return redirect("console:keys")
    status = refusal.status if refusal else 200
    context = {"refusal": refusal, "given": request.POST}
    return private(render(request, "console/keys.html", context, status=status))
