"""What creators see: their models, drafts, notices, and decisions with the way back."""

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from moderation import intake, selectors
from moderation.accounts import account_set_language
from moderation.appeals import appeal_file, way_to_appeal
from moderation.creator.language import in_own_language, said_in
from moderation.errors import Refusal
from moderation.holds import hold_object
from moderation.inquiries import inquiry_answer
from moderation.misuse import measure_appeal
from moderation.models import Account, Decision, ModelVersion
from moderation.notices import notice_read, notices_read
from moderation.statements import statement_told
from moderation.states import Side, Visibility
from moderation.translations import known_language


def _account(request: HttpRequest) -> Account:
    return cast(Account, request.user)


def _texts(request: HttpRequest) -> dict[str, Any]:
    return {
        "title": request.POST.get("title", ""),
        "description": request.POST.get("description", ""),
        "tags": request.POST.get("tags", "").split(","),
        "trigger_words": request.POST.get("trigger_words", "").split(","),
        "base_model": request.POST.get("base_model", ""),
        "licence": request.POST.get("licence", ""),
    }


@login_required
@require_GET
def models(request: HttpRequest) -> HttpResponse:
    """List a creator's versions."""
    versions = selectors.creators.own_versions(_account(request))
    page = Paginator(versions, 20).get_page(request.GET.get("page"))
    return in_own_language(request, "creator/models.html", {"page": page})


@login_required
@require_http_methods(["GET", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """Create a model with the draft of its first version."""
    if request.method == "POST":
        try:
            version = intake.model_create(**_texts(request), actor=_account(request))
        except Refusal as refusal:
            return render(
                request,
                "creator/create.html",
                {"refusal": refusal, "given": request.POST},
                status=refusal.status,
            )
        return redirect("creator:version", code=version.code)
    return render(request, "creator/create.html")


@login_required
@require_GET
def version(request: HttpRequest, code: str) -> HttpResponse:
    """Show a draft to work on, or where a submitted version stands."""
    found = selectors.creators.own_version(_account(request), code)
    return show_version(request, found)


def show_version(
    request: HttpRequest, found: ModelVersion, refusal: Refusal | None = None
) -> HttpResponse:
    """Draw a draft to work on, or the page of a submitted version."""
    context: dict[str, Any] = {
        "version": found,
        "model": found.uploaded_model,
        "refusal": refusal,
        "given": request.POST,
    }
    if found.visibility == Visibility.DRAFT:
        # Drafts are there in English alone.
        status = refusal.status if refusal else 200
        return render(request, "creator/draft.html", context, status=status)
    template = "creator/version.html"
    context["place"] = selectors.creators.place_in_queue(found)
    context["inquiry"] = selectors.creators.open_inquiry(found)
    context["resembles"] = selectors.cases.resembles_another(found)
    context["holds"] = found.clock_holds.filter(statement__isnull=False)
    context["decisions"] = selectors.creators.decisions_told(found)
    if request.htmx and refusal is None:  # type: ignore[attr-defined]
        template = "creator/_state.html"
    return in_own_language(request, template, context, refusal)


@login_required
@require_POST
def next_version(request: HttpRequest, code: str) -> HttpResponse:
    """Open the draft of the model's next version."""
    found = selectors.creators.own_version(_account(request), code)
    draft = intake.version_create(uploaded_model=found.uploaded_model, actor=_account(request))
    return redirect("creator:version", code=draft.code)


@login_required
@require_POST
def edit(request: HttpRequest, code: str) -> HttpResponse:
    """Change the texts of a draft."""
    found = selectors.creators.own_version(_account(request), code)
    refused = _take(request, found)
    if refused is not None:
        return show_version(
            request, selectors.creators.own_version(_account(request), code), refused
        )
    messages.success(request, "Saved.")
    return redirect("creator:version", code=code)


def _take(request: HttpRequest, draft: ModelVersion) -> Refusal | None:
    """Take everything that came with the form of a draft; return the first refusal.

    Texts, weights and pictures stand on one page, and whichever button is pressed, none of them
    is lost. Each file is kept or refused on its own.
    """
    first: Refusal | None = None
    for upload in request.FILES.getlist("file"):
        try:
            intake.version_add_file(version=draft, upload=upload, actor=_account(request))
        except Refusal as refusal:
            first = first or refusal
    for upload in request.FILES.getlist("preview"):
        try:
            intake.version_add_preview(
                version=draft,
                upload=upload,
                prompt=request.POST.get("prompt", ""),
                actor=_account(request),
            )
        except Refusal as refusal:
            first = first or refusal
    if "title" in request.POST:
        try:
            intake.draft_edit(version=draft, **_texts(request), actor=_account(request))
        except Refusal as refusal:
            first = first or refusal
    return first


@login_required
@require_POST
def add(request: HttpRequest, code: str) -> HttpResponse:
    """Add files of weights and previews to a draft."""
    found = selectors.creators.own_version(_account(request), code)
    refused = _take(request, found)
    if refused is not None:
        return show_version(
            request, selectors.creators.own_version(_account(request), code), refused
        )
    return redirect("creator:version", code=code)


@login_required
@require_POST
def remove(request: HttpRequest, code: str, item: str) -> HttpResponse:
    """Take a file or preview off a draft."""
    found = selectors.creators.own_version(_account(request), code)
    intake.version_remove_file(version=found, code=item, actor=_account(request))
    return redirect("creator:version", code=code)


@login_required
@require_POST
def submit(request: HttpRequest, code: str) -> HttpResponse:
    """Submit a draft."""
    found = selectors.creators.own_version(_account(request), code)
    refused = _take(request, found)
    if refused is None:
        found = selectors.creators.own_version(_account(request), code)
        try:
            intake.version_submit(version=found, actor=_account(request))
        except Refusal as refusal:
            refused = refusal
    if refused is not None:
        return show_version(
            request, selectors.creators.own_version(_account(request), code), refused
        )
    messages.success(request, "Submitted. It is being weighed now.")
    return redirect("creator:version", code=code)


@login_required
@require_POST
def answer_inquiry(request: HttpRequest, version: str, code: str) -> HttpResponse:
    """Take the creator's answer to a moderator's question."""
    inquiry = selectors.creators.own_inquiry(_account(request), version, code)
    try:
        inquiry_answer(
            inquiry=inquiry, text=request.POST.get("answer", ""), actor=_account(request)
        )
    except Refusal as refusal:
        found = selectors.creators.own_version(_account(request), version)
        return show_version(request, found, refusal)
    messages.success(request, said_in(request, "answered"))
    return redirect("creator:version", code=version)


@login_required
@require_GET
def notices(request: HttpRequest) -> HttpResponse:
    """List what the account was told."""
    page = Paginator(selectors.creators.own_notices(_account(request)), 20).get_page(
        request.GET.get("page")
    )
    return in_own_language(request, "creator/notices.html", {"page": page})


@login_required
@require_GET
def notice(request: HttpRequest, code: str) -> HttpResponse:
    """Show one notice, and mark it as read."""
    found = selectors.creators.own_notice(_account(request), code)
    notice_read(notice=found)
    return in_own_language(request, "creator/notice.html", {"notice": found})


@login_required
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    """Mark everything the account was told as read."""
    notices_read(account=_account(request))
    return redirect("creator:notices")


@login_required
@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Choose the language in which one is told things."""
    account = _account(request)
    account_set_language(account=account, language=known_language(request.POST.get("language", "")))
    account.refresh_from_db()
    messages.success(request, said_in(request, "language_chosen"))
    return redirect("creator:notices")


@login_required
@require_http_methods(["GET", "POST"])
def measure(request: HttpRequest, code: str) -> HttpResponse:
    """Show a measure against misuse of reporting, and take an appeal against it."""
    found = selectors.reporting.own_measure(_account(request), code)
    refusal: Refusal | None = None
    if request.method == "POST":
        try:
            measure_appeal(
                measure=found, text=request.POST.get("text", ""), actor=_account(request)
            )
        except Refusal as error:
            refusal = error
        else:
            return redirect("creator:measure", code=code)
    context = {"measure": found, "given": request.POST}
    return in_own_language(request, "creator/measure.html", context, refusal)


@login_required
@require_http_methods(["GET", "POST"])
def hold(request: HttpRequest, code: str) -> HttpResponse:
    """Show why a clock hid a version, as it was said, and take what its creator says against it."""
    found = selectors.creators.own_hold(_account(request), code)
    refusal: Refusal | None = None
    if request.method == "POST":
        try:
            hold_object(hold=found, text=request.POST.get("text", ""), actor=_account(request))
        except Refusal as error:
            refusal = error
        else:
            messages.success(request, said_in(request, "objected"))
            return redirect("creator:hold", code=code)
    context = {
        "hold": found,
        "statement": found.statement.content,
        "given": request.POST,
    }
    return in_own_language(request, "creator/hold.html", context, refusal)


@login_required
@require_http_methods(["GET", "POST"])
def decision(request: HttpRequest, code: str) -> HttpResponse:
    """Show a decision with its reasons, and take an appeal against it."""
    found = selectors.creators.own_decision(_account(request), code)
    # The page says all that the notice says.
    notices_read(account=_account(request), decision=found)
    if request.method == "POST":
        try:
            appeal_file(
                decision=found,
                text=request.POST.get("text", ""),
                uploads=request.FILES.getlist("files"),
                actor=_account(request),
            )
        except Refusal as refusal:
            return show_decision(request, found, refusal)
        messages.success(request, said_in(request, "appeal_filed"))
        return redirect("creator:decision", code=code)
    return show_decision(request, found)


def show_decision(
    request: HttpRequest, found: Decision, refusal: Refusal | None = None
) -> HttpResponse:
    """Draw the page of a decision, with what was typed into a form of it that was refused."""
    appeal = found.appeals.filter(appellant=request.user.pk, side=Side.CREATOR).first()
    way = way_to_appeal(decision=found, side=Side.CREATOR)
    return in_own_language(
        request,
        "creator/decision.html",
        {
            "decision": found,
            "statement": statement_told(found),
            "appeal": appeal,
            "file_page": reverse("creator:models") + "appeal-files/",
            "can_appeal": way.is_open and appeal is None,
            "way": way,
            "taken_back": way.code == "already_overturned",
            "is_late": way.code == "appeal_too_late",
            "is_superseded": way.code == "superseded",
            "given": request.POST,
        },
        refusal,
    )
