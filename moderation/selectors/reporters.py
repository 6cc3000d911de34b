"""The reports on a case as a moderator reads them, each with its sender's record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, OuterRef, Subquery

from moderation.models import Case, Report, ReportEvidence
from moderation.reporters import Accuracy, accuracies, kind_of
from moderation.selectors.gathering import Gathered
from moderation.states import ReportState, Track


@dataclass(frozen=True)
class ReportRow:
    """A report on the page of a case, and how often its sender was right before.

    ``of_kind`` counts reports of the same kind, ``of_all`` all of them; both are None for a
    visitor, of whom nothing is known.
    """

    report: Report
    of_kind: Accuracy | None
    of_all: Accuracy | None


def report_rows(case: Case) -> list[ReportRow]:
    """Return the reports of a case for a moderator, with their senders' records, in few queries."""
    evidence = ReportEvidence.objects.filter(report=OuterRef("pk")).order_by("pk")
    reports = list(
        case.reports.select_related("rule", "reporter__trusted_flagger", "request", "preview")
        .annotate(
            pictures=Gathered(evidence, "code"),
            # Those of one report are erased together.
            pictures_purged_at=Subquery(evidence.values("purged_at")[:1]),
        )
        .order_by("created_at")
    )
    known = accuracies({report.reporter_id for report in reports if report.reporter_id})
    return [
        ReportRow(
            report=report,
            of_kind=known.get(report.reporter_id, {}).get(kind_of(report), Accuracy())
            if report.reporter_id
            else None,
            of_all=known.get(report.reporter_id, {}).get("", Accuracy())
            if report.reporter_id
            else None,
        )
        for report in reports
    ]


@dataclass(frozen=True)
class Said:
    """What a report says, where many cases stand on one page: its words without its sender."""

    about: str
    text: str
    place: str
    language: str
    pictures: int
    is_withdrawn: bool


def reports_gathered(case: OuterRef) -> Gathered:
    """Return the reports of a case as a column, for ``said_of``."""
    evidence = ReportEvidence.objects.filter(report=OuterRef("pk")).order_by().values("report")
    reports = Report.objects.filter(case=case).annotate(
        pictures=Subquery(evidence.annotate(all=Count("pk")).values("all"))
    )
    return Gathered(
        reports.order_by("pk"),
        *("track", "rule__title", "text", "place", "language", "state", "pictures"),
    )


def said_of(gathered: Iterable[Mapping[str, Any]]) -> list[Said]:
    """Return what the gathered reports of a case say, the first one first."""
    return [
        Said(
            about=row["rule__title"] or Track(row["track"]).label,
            text=row["text"],
            place=row["place"],
            language=row["language"],
            pictures=row["pictures"] or 0,
            is_withdrawn=row["state"] == ReportState.WITHDRAWN,
        )
        for row in gathered
    ]
