"""Addresses for load balancers, orchestrators and Prometheus."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST

from moderation.operations.health import answers
from moderation.operations.metrics import metrics as measured


@never_cache
@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that this process answers; it asks nobody else."""
    return HttpResponse("alive\n", content_type="text/plain")


@never_cache
@require_GET
def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether work can be taken in (200) or not (503), and what each part answered.

    Absent workers make it “degraded”, which is still 200: uploads and reports are kept and done
    later, and a site that is taken off the air for want of workers helps nobody. With
    ``?strict`` everything has to be well.
    """
    found = answers()
    unready = any(answer.needed and not answer.is_well for answer in found)
    degraded = any(not answer.is_well for answer in found)
    status = "unready" if unready else "degraded" if degraded else "ready"
    checks = {answer.name: {"ok": answer.is_well, "says": answer.says} for answer in found}
    refused = unready or (degraded and "strict" in request.GET)
    return JsonResponse({"status": status, "checks": checks}, status=503 if refused else 200)


@never_cache
@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Return every measure to whoever has the token; without one set, nobody has."""
    given = request.headers.get("Authorization", "")
    wanted = f"Bearer {settings.METRICS_TOKEN}"
    if not settings.METRICS_TOKEN or not constant_time_compare(given, wanted):
        raise Http404
    return HttpResponse(measured(), content_type=CONTENT_TYPE_LATEST)
