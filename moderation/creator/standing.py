"""A creator's standing, the thread of an appeal, and taking a version down."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.appeals import appeal_write
from moderation.authz import Hidden
from moderation.creator.language import in_own_language, said_in
from moderation.creator.views import show_decision, show_version
from moderation.errors import Refusal
from moderation.intake import version_withdraw
from moderation.models import Account
from moderation.states import Side
from moderation.strikes import standing_of_account


@login_required
@require_GET
def standing(request: HttpRequest) -> HttpResponse:
    """Show a creator's points, strikes, and what comes next."""
    account = cast(Account, request.user)
    context = {
        "standing": standing_of_account(account),
        "decisions": selectors.creators.decisions_about_account(account),
    }
    return in_own_language(request, "creator/standing.html", context)


@login_required
@require_POST
def message(request: HttpRequest, code: str) -> HttpResponse:
    """Write to the person who hears one's appeal."""
    account = cast(Account, request.user)
    found = selectors.creators.own_decision(account, code)
    appeal = found.appeals.filter(appellant=account, side=Side.CREATOR).first()
    if appeal is None:
        raise Hidden
    try:
        appeal_write(
            appeal=appeal, text=request.POST.get("message", ""), actor=account, from_team=False
        )
    except Refusal as refusal:
        return show_decision(request, found, refusal)
    messages.success(request, said_in(request, "message_sent"))
    return redirect("creator:decision", code=code)


@login_required
@require_GET
def appeal_file(request: HttpRequest, code: str) -> FileResponse:
    """Serve a file of one's appeal, only ever as a download."""
    row = selectors.decisions.appeal_file_for(cast(Account, request.user), code)
    response = FileResponse(
        default_storage.open(row.content.name or ""),
        as_attachment=True,
        filename=row.name,
        content_type="application/octet-stream",
    )
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_POST
def withdraw(request: HttpRequest, code: str) -> HttpResponse:
    """Take a version down for good."""
    account = cast(Account, request.user)
    found = selectors.creators.own_version(account, code)
    try:
        version_withdraw(version=found, actor=account)
    except Refusal as refusal:
        return show_version(request, found, refusal)
    messages.success(request, said_in(request, "taken_down"))
    return redirect("creator:version", code=code)
