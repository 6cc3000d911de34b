"""Reporting: the forms, the private pages, and likeness requests. In each reporter's language."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from moderation import selectors
from moderation.errors import Refusal
from moderation.likeness import likeness_confirm, likeness_request
from moderation.models import Account, LikenessRequest, ModelVersion, Report
from moderation.models.codes import new_token
from moderation.public.appeals import appeal_context, appeal_take
from moderation.public.country import country_of
from moderation.report_changes import (
    likeness_edit,
    likeness_withdraw,
    report_edit,
    report_withdraw,
)
from moderation.reports import (
    AlreadyReported,
    Words,
    report_file,
)
from moderation.states import REACHABLE, Language, ReportState, Track
from moderation.throttle import address_digest
from moderation.translations import known_language, refusal_in, templates_in

# What a form can be opened for; trusted flaggers get their track by who they are.
FORMS = (Track.RULE, Track.ILLEGAL, Track.COPY)


def language_of(request: HttpRequest) -> Language:
    """Return the language of a page: as chosen, else of the account, else of the browser."""
    account = request.user.language if isinstance(request.user, Account) else ""
    browser = request.headers.get("Accept-Language", "").partition(",")[0]
    chosen = request.POST.get("language") or request.GET.get("language") or ""
    return known_language(chosen, account or browser)


def client_address(request: HttpRequest) -> str:
    """Return a digest of the network address a request came from.

    Behind proxies the address is the one that the outermost of them saw (``TRUSTED_PROXIES``);
    what stands further left in the header, anybody can have written.
    """
    address = request.META.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES:
        passed = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
        if len(passed) >= settings.TRUSTED_PROXIES:
            address = passed[-settings.TRUSTED_PROXIES] or address
    return address_digest(address)


def _show(
    request: HttpRequest,
    language: Language,
    template: str,
    context: dict[str, Any],
    refusal: Refusal | None = None,
) -> HttpResponse:
    if refusal is not None:
        refusal.sentence = refusal_in(language, refusal.code, refusal.sentence)
    context |= {"refusal": refusal, "language": language, "languages": Language.choices}
    if request.method == "POST":
        context["given"] = request.POST
    response = render(
        request,
        templates_in(language, template),
        context,
        status=refusal.status if refusal else 200,
    )
    response["Content-Language"] = language.value
    # Private words of a reporter stay in no cache.
    response["Cache-Control"] = "no-store"
    return response


def _person(request: HttpRequest) -> Account | None:
    return request.user if isinstance(request.user, Account) else None


@require_http_methods(["GET", "POST"])
def report(request: HttpRequest, code: str) -> HttpResponse:
    """Take a report on a version, one of its previews, or its whole page."""
    language = language_of(request)
    account = _person(request)
    country = country_of(request)
    version = selectors.public.version_for(account, code, country=country, with_parts=False)
    track = _track(request.POST.get("track") or request.GET.get("track") or "")
    context: dict[str, Any] = {
        "version": version,
        "model": version.uploaded_model,
        # Read only where the form is shown.
        "previews": version.previews.filter(is_disabled=False),
        "policy": selectors.public.policy_in_force,
        "track": track,
        "form_key": request.POST.get("form_key") or new_token(),
        "preview": request.GET.get("preview", ""),
        "place": settings.SITE_URL.rstrip("/") + reverse("model", args=[version.code]),
        "own": selectors.reporting.own_works(account) if track == Track.COPY else (),
    }
    if request.method != "POST":
        return _show(request, language, "public/report.html", context)
    try:
        filed = report_file(
            version=version,
            text="",
            track=track,
            words=_words(request, version),
            pictures=request.FILES.getlist("pictures"),
            language=language,
            address=client_address(request),
            form_key=request.POST.get("form_key", ""),
            actor=account,
        )
    except Refusal as refusal:
        if isinstance(refusal, AlreadyReported) and refusal.report is not None:
            if request.POST.get("text", "").strip() == refusal.report.text:
                # Sent twice: there is nothing new to keep.
                return redirect("report-status", token=refusal.report.token)
            # To the report that is there: what was written now can be put into it.
            return _status(request, refusal.report.token, refusal)
        return _show(request, language, "public/report.html", context, refusal)
    return redirect("report-status", token=filed.token)


def _track(given: str) -> Track:
    return Track(given) if given in FORMS else Track.RULE


def _words(request: HttpRequest, version: ModelVersion) -> Words:
    given = request.POST
    preview = given.get("preview", "")
    place = settings.SITE_URL.rstrip("/") + reverse("model", args=[version.code])
    if preview == "page":
        place += "#about"
    elif preview:
        place = settings.SITE_URL.rstrip("/") + reverse("preview", args=[preview])
    return Words(
        text=given.get("text", ""),
        rule=given.get("rule", ""),
        place=given.get("place") or ("" if "place" in given else place),
        preview=preview,
        email=given.get("email", ""),
        name=given.get("name", ""),
        law=given.get("law", ""),
        links=given.get("links", "").split(),
        good_faith="good_faith" in given,
        is_child_safety="is_child_safety" in given,
        original=given.get("original", ""),
    )


@require_GET
def report_status(request: HttpRequest, token: str) -> HttpResponse:
    """Show a reporter what became of their report."""
    return _status(request, token)


def _status(request: HttpRequest, token: str, refusal: Refusal | None = None) -> HttpResponse:
    found = selectors.public.report_by_token(token)
    language = known_language(request.GET.get("language", ""), found.language)
    context = {
        "report": found,
        **_as_it_would_be(request, found, refusal),
        "page": reverse("report-status", args=[token]),
        "visible": found.version.visibility in REACHABLE,
        "reversed": selectors.public.was_reversed(found),
        **appeal_context(found),
    }
    return _show(request, language, "public/report_status.html", context, refusal)


def _as_it_would_be(request: HttpRequest, found: Report, refusal: Refusal | None) -> dict[str, Any]:
    """Return what the form that changes a report is filled with beside its words.

    What was refused, or the report as it is. What a second report said is put to what the first
    one holds, so that saving loses nothing of either.
    """
    rule, links = found.rule.slug if found.rule else "", list(found.links)
    is_second = isinstance(refusal, AlreadyReported)
    if is_second:
        rule = request.POST.get("rule") or rule
        links = list(dict.fromkeys([*links, *request.POST.get("links", "").split()]))
    elif "links" in request.POST:
        rule, links = request.POST.get("rule", rule), request.POST["links"].split()
    return {
        "policy": selectors.public.policy_in_force,
        "names_rule": found.track in {Track.RULE, Track.FLAGGER},
        "rule": rule,
        "links": "\n".join(links),
        "is_second": is_second,
        # A browser fills in no files, and we keep none of what was refused.
        "pictures_lost": bool(refusal and request.FILES.getlist("pictures")),
    }


@require_POST
def report_appeal(request: HttpRequest, token: str) -> HttpResponse:
    """Take a reporter's appeal, or a message in its thread."""
    found = selectors.public.report_by_token(token)
    try:
        appeal_take(report=found, given=request.POST, uploads=request.FILES.getlist("files"))
    except Refusal as refusal:
        return _status(request, token, refusal)
    return redirect("report-status", token=token)


@require_POST
def report_change(request: HttpRequest, token: str) -> HttpResponse:
    """Change an open report, or take it back."""
    found = selectors.public.report_by_token(token)
    try:
        if "withdraw" in request.POST:
            report_withdraw(report=found)
        else:
            given = request.POST
            report_edit(
                report=found,
                text=given.get("text", ""),
                rule=given.get("rule"),
                links=given["links"].split() if "links" in given else None,
                pictures=request.FILES.getlist("pictures"),
            )
    except Refusal as refusal:
        return _status(request, token, refusal)
    return redirect("report-status", token=token)


@require_http_methods(["GET", "POST"])
def likeness(request: HttpRequest) -> HttpResponse:
    """Take the request of a depicted person, without an account."""
    language = language_of(request)
    context: dict[str, Any] = {"models": request.GET.get("model", "")}
    if context["models"]:
        path = reverse("model", args=[context["models"]])
        context["models"] = settings.SITE_URL.rstrip("/") + path
    if request.method != "POST":
        return _show(request, language, "public/likeness.html", context)
    given = request.POST
    try:
        likeness_request(
            models=given.get("models", ""),
            email=given.get("email", ""),
            signature=given.get("signature", ""),
            text=given.get("text", ""),
            is_intimate=given.get("is_intimate") == "yes",
            agrees="agrees" in given,
            language=language,
            address=client_address(request),
        )
    except Refusal as refusal:
        return _show(request, language, "public/likeness.html", context, refusal)
    # So that a page that is loaded again sends nothing again.
    request.session["likeness_email"] = given.get("email", "")
    return redirect(reverse("likeness-sent") + f"?language={language.value}")


@require_GET
def likeness_sent(request: HttpRequest) -> HttpResponse:
    """Say where the link went that makes a request valid."""
    email = request.session.get("likeness_email", "")
    if not email:
        return redirect("likeness")
    return _show(request, language_of(request), "public/likeness_sent.html", {"email": email})


@require_http_methods(["GET", "POST"])
def likeness_page(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm a request, and show what became of everything it names."""
    found = selectors.reporting.request_by_token(token)
    if request.method == "POST":
        # By a button and not by the link alone: mail programs open links to look at them.
        likeness_confirm(request=found)
        return redirect("likeness-page", token=token)
    return _likeness_status(request, found)


def _likeness_status(
    request: HttpRequest, found: LikenessRequest, refusal: Refusal | None = None
) -> HttpResponse:
    language = known_language(request.GET.get("language", ""), found.language)
    rows = selectors.reporting.request_rows(found)
    context = {
        "page": reverse("likeness-page", args=[found.token]),
        "request_": found,
        "rows": rows,
        "is_open": found.withdrawn_at is None
        and (found.valid_at is None or any(row.state == ReportState.OPEN for row in rows)),
    }
    return _show(request, language, "public/likeness_page.html", context, refusal)


@require_POST
def likeness_change(request: HttpRequest, token: str) -> HttpResponse:
    """Change the words of a request that is open, or take it back."""
    found = selectors.reporting.request_by_token(token)
    try:
        if "withdraw" in request.POST:
            likeness_withdraw(request=found)
        else:
            likeness_edit(request=found, text=request.POST.get("text", ""))
    except Refusal as refusal:
        return _likeness_status(request, found, refusal)
    return redirect("likeness-page", token=token)
