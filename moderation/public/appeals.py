"""A reporter's appeal against "no action", by the private link of the report."""

from collections.abc import Mapping
from typing import Any

from django.core.files.storage import default_storage
from django.http import FileResponse, HttpRequest
from django.urls import reverse
from django.views.decorators.http import require_GET

from moderation import selectors
from moderation.appeal_files import Upload
from moderation.appeals import (
    appeal_file_by_reporter,
    appeal_write,
    way_to_appeal,
)
from moderation.models import Report
from moderation.selectors.public import decision_on_report
from moderation.states import Side


def appeal_context(report: Report) -> dict[str, Any]:
    """Return what the page of a report shows of the way to appeal.

    The last decision can be appealed, also where an earlier one was.
    """
    decision = decision_on_report(report)
    if decision is not None and decision.appeals.filter(report=report).exists():
        decision = None
    appeal = report.appeals.order_by("-filed_at").prefetch_related("files", "messages").first()
    return {
        "appeal": appeal,
        "way": way_to_appeal(decision=decision, side=Side.REPORTER, report=report)
        if decision
        else None,
        "file_page": reverse("report-status", args=[report.token]) + "files/",
    }


def appeal_take(*, report: Report, given: Mapping[str, str], uploads: list[Upload]) -> None:
    """Take a reporter's appeal, or a message in the thread of the one there is."""
    appeal = report.appeals.order_by("-filed_at").first()
    if "message" in given and appeal is not None:
        appeal_write(appeal=appeal, text=given["message"], actor=appeal.appellant, from_team=False)
        return
    appeal_file_by_reporter(
        report=report, text=given.get("text", ""), uploads=uploads, actor=report.reporter
    )


@require_GET
def report_appeal_file(request: HttpRequest, token: str, code: str) -> FileResponse:
    """Serve a file of the appeal to whoever sent it, only ever as a download."""
    row = selectors.decisions.appeal_file_for(None, code, token=token)
    response = FileResponse(
        default_storage.open(row.content.name or ""),
        as_attachment=True,
        filename=row.name,
        content_type="application/octet-stream",
    )
    response["Cache-Control"] = "no-store"
    return response
