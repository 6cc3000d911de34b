"""What a moderator chooses for themselves, and what they were shown."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from moderation import selectors
from moderation.console.views.common import account_of, private
from moderation.queue import assignments_give_back
from moderation.wellbeing import looked_today, preference_choose, preference_of


@login_required
@require_http_methods(["GET", "POST"])
def me(request: HttpRequest) -> HttpResponse:
    """Show and store one's own limits."""
    account = account_of(request)
    selectors.queue.require_team(account)
    if request.method == "POST":
        preference_choose(
            account=account,
            shows_sharp="sharp" in request.POST,
            shows_colour="colour" in request.POST,
            opted_out=request.POST.getlist("out"),
        )
        given_back = assignments_give_back(actor=account)
        messages.success(
            request,
            f"Saved. {given_back} that had been assigned to you went back to the queue."
            if given_back
            else "Saved.",
        )
        return redirect("console:me")
    policy = selectors.public.policy_in_force()
    context = {
        "preference": preference_of(account),
        "rules": policy.rules.all() if policy else [],
        "exposures": selectors.wellbeing.exposures_of(account),
        "reviews": selectors.second_reviews.own_reviews(account),
        "a_day": settings.SEVERE_A_DAY,
        "an_hour": settings.SEVERE_AN_HOUR,
        "looked": looked_today(account),
        "minutes_a_day": settings.SEVERE_MINUTES_A_DAY,
        "minutes_an_hour": settings.SEVERE_MINUTES_AN_HOUR,
    }
    return private(render(request, "console/me.html", context))
