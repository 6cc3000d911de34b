"""Where in a preview a finding's concept is."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from moderation import selectors
from moderation.console.views.common import (
    account_of,
    picture_shown,
    private,
    require_may_look,
)
from moderation.heat_maps import heat_map_ask


@login_required
@require_http_methods(["GET", "POST"])
def heat_map(request: HttpRequest, code: str, finding: int) -> HttpResponse:
    """Ask for a heat-map (POST), or show how far it is (GET): waiting, drawn, or why not."""
    found = selectors.heat_maps.finding_for(account_of(request), code, finding)
    require_may_look(request, selectors.cases.case_for(account_of(request), code))
    if request.method == "POST":
        heat_map_ask(finding=found)
        if "HX-Request" not in request.headers:
            return redirect("console:heatmap", code=code, finding=finding)
        found = selectors.heat_maps.finding_for(account_of(request), code, finding)
    context = {"finding": found, "case": {"code": code}}
    if "HX-Request" in request.headers:
        return private(render(request, "console/_heatmap.html", context))
    return private(render(request, "console/heatmap.html", context))


@login_required
@require_GET
def drawing(request: HttpRequest, code: str, finding: int) -> HttpResponse:
    """Serve the picture, and note that it was shown."""
    png = selectors.heat_maps.drawing_for(account_of(request), code, finding)
    picture_shown(request, selectors.cases.case_for(account_of(request), code))
    return private(HttpResponse(png, content_type="image/png"))
