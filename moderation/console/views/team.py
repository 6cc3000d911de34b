"""The page of the team: what waits, how long deciding takes, how far people agree."""

import csv

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from moderation import selectors
from moderation.console.views.common import account_of, private
from moderation.selectors.team import PERIODS, TeamPage


@login_required
@require_GET
def team(request: HttpRequest) -> HttpResponse:
    """Show the figures of the team."""
    context = {"page": _page(request), "periods": PERIODS}
    return private(render(request, "console/team.html", context))


@login_required
@require_GET
def table(request: HttpRequest, table: str) -> HttpResponse:
    """Hand out one of its tables as CSV."""
    page = _page(request)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    try:
        csv.writer(response).writerows(selectors.team.team_table(page, table))
    except KeyError as error:
        raise Http404 from error
    response["Content-Disposition"] = f'attachment; filename="{table}-{page.days}-days.csv"'
    return private(response)


def _page(request: HttpRequest) -> TeamPage:
    asked = request.GET.get("days", "")
    days = int(asked) if asked in map(str, PERIODS) else PERIODS[1]
    return selectors.team.team_page(account=account_of(request), days=days)
