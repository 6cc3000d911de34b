"""What anybody sees: the catalogue, a model, the policy and the figures."""

from django.core.files.storage import default_storage
from django.core.paginator import Paginator
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from moderation import selectors
from moderation.authz import Hidden
from moderation.downloads import download_link, download_name, downloaded
from moderation.models import Account
from moderation.public.country import country_of
from moderation.selectors.transparency import report_of_year, years_with_rows
from moderation.states import REACHABLE, Visibility


def person(request: HttpRequest) -> Account | None:
    """Return who is logged in, or None for a visitor."""
    return request.user if isinstance(request.user, Account) else None


def is_adult(request: HttpRequest) -> bool:
    """Return whether this visitor has said that they are an adult."""
    return bool(request.session.get("adult"))


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show the catalogue."""
    versions = selectors.public.catalogue(adult=is_adult(request), country=country_of(request))
    page = Paginator(versions, 24).get_page(request.GET.get("page"))
    return render(request, "public/home.html", {"page": page, "adult": is_adult(request)})


@require_GET
def model(request: HttpRequest, code: str) -> HttpResponse:
    """Show the page of one version."""
    version = selectors.public.version_for(person(request), code, country=country_of(request))
    asks_age = version.visibility == Visibility.AGE_RESTRICTED and not is_adult(request)
    return render(
        request,
        "public/model.html",
        {
            "version": version,
            "model": version.uploaded_model,
            "asks_age": asks_age,
            "reportable": version.visibility in REACHABLE,
            "is_own": version.uploaded_model.creator_id == request.user.pk,
        },
    )


@require_POST
def adult(request: HttpRequest) -> HttpResponse:
    """Remember that a visitor says they are an adult, or that they take it back."""
    request.session["adult"] = request.POST.get("adult") == "yes"
    return _back(request)


def _back(request: HttpRequest) -> HttpResponseRedirect:
    target = request.POST.get("next", "")
    safe = target.startswith("/") and not target.startswith(("//", "/\\"))
    return HttpResponseRedirect(target if safe else reverse("home"))


@require_GET
def preview(request: HttpRequest, code: str) -> FileResponse:
    """Serve the copy of a preview that carries no metadata."""
    row = selectors.public.preview_for(
        person(request), code, adult=is_adult(request), country=country_of(request)
    )
    name = row.shown.name or ""
    # Copies that were made before the first release are WebP.
    kind = "image/webp" if name.endswith(".webp") else "image/jpeg"
    response = FileResponse(default_storage.open(name), content_type=kind)
    # What is moderated must not stay behind in a browser once it is gone.
    response["Cache-Control"] = "no-store"
    return response


@require_GET
def download(request: HttpRequest, code: str, file: str) -> HttpResponse:
    """Lead to a file of weights by a link that is good for a minute."""
    version = selectors.public.version_for(person(request), code, country=country_of(request))
    if version.visibility == Visibility.AGE_RESTRICTED and not is_adult(request):
        raise Hidden
    row = next((row for row in version.files.all() if row.code == file), None)
    if row is None:
        raise Hidden
    response = HttpResponseRedirect(download_link(row))
    response["Cache-Control"] = "no-store"
    return response


@require_GET
def download_signed(request: HttpRequest, signed: str) -> FileResponse:
    """Serve a file of weights to whoever has a link that is less than a minute old."""
    row = downloaded(signed)
    response = FileResponse(
        default_storage.open(row.content.name or ""),
        as_attachment=True,
        filename=download_name(row),
        content_type="application/octet-stream",
    )
    response["Cache-Control"] = "no-store"
    return response


@require_GET
def policy(request: HttpRequest) -> HttpResponse:
    """Show the rules in plain words."""
    return render(request, "public/policy.html", {"policy": selectors.public.policy_in_force()})


@require_GET
def transparency(request: HttpRequest) -> HttpResponse:
    """Show the counts of a year: this one unless another one is asked for."""
    years = years_with_rows()
    asked = request.GET.get("year", "")
    known = [year for year in years if str(year) == asked]
    year = known[0] if known else timezone.now().year
    return render(
        request,
        "public/transparency.html",
        {"report": report_of_year(year), "years": years},
    )
