"""What stands around reports: requests of depicted persons, evidence, and who reports how well."""

from django.db.models import Prefetch, QuerySet

from moderation.authz import Hidden, has_reported, is_hidden_by_clock, require_moderator
from moderation.models import (
    Account,
    LikenessRequest,
    ModelVersion,
    Notice,
    Report,
    ReportEvidence,
    ReportingMeasure,
)
from moderation.selectors.cases import case_for
from moderation.states import (
    REACHABLE,
    MeasureState,
    NoticeState,
    ReportState,
    Visibility,
)

EXAMPLES = 20


def own_works(account: Account | None) -> QuerySet[ModelVersion]:
    """Return the versions that a creator can say were copied, newest first."""
    return (
        ModelVersion.objects.filter(uploaded_model__creator=account)
        .exclude(visibility=Visibility.DRAFT)
        .select_related("uploaded_model")
        .order_by("-pk")
        if account is not None
        else ModelVersion.objects.none()
    )


def request_by_token(token: str) -> LikenessRequest:
    """Return a likeness request by its private link. Raises Hidden otherwise."""
    request = LikenessRequest.objects.filter(token=token).first()
    if request is None:
        raise Hidden
    return request


def request_rows(request: LikenessRequest) -> list[Report]:
    """Return what a request is about, each with ``is_hidden``: whether anybody can see it now."""
    rows = list(
        request.reports.select_related("version__uploaded_model").order_by("found_by", "pk")
    )
    for row in rows:
        seen = row.version.visibility in REACHABLE and not is_hidden_by_clock(row.version)
        row.is_hidden = not seen  # type: ignore[attr-defined]
    return rows


def evidence_for(account: Account, code: str) -> ReportEvidence:
    """Return a picture that a reporter sent, for a moderator who may see the case.

    Raises NotAllowed or Hidden, the latter also where it was erased.
    """
    require_moderator(account)
    evidence = (
        ReportEvidence.objects.filter(code=code, purged_at__isnull=True)
        .select_related("report__case")
        .first()
    )
    if evidence is None:
        raise Hidden
    case_for(account, evidence.report.case.code)
    return evidence


def report_for(account: Account, code: str) -> Report:
    """Return a report for a moderator who may see its case. Raises Hidden otherwise."""
    report = Report.objects.filter(code=code).select_related("case", "version", "reporter").first()
    if report is None:
        raise Hidden
    case_for(account, report.case.code)
    return report


def measures_waiting(account: Account) -> QuerySet[ReportingMeasure]:
    """Return the measures that wait for a moderator: proposals and appeals, oldest first.

    The account of each has ``unfounded``: the newest reports that the measure rests on, without
    those about what is held apart. Whose model somebody has reported judges no measure against
    them, and does not read who it was.
    """
    require_moderator(account)
    examples = (
        Report.objects.filter(
            unfounded_at__isnull=False,
            state=ReportState.NO_ACTION,
            version__isolated_at__isnull=True,
        )
        .select_related("version__uploaded_model", "rule")
        .order_by("-created_at")[:EXAMPLES]
    )
    waiting = [MeasureState.PROPOSED, MeasureState.APPEALED]
    return (
        ReportingMeasure.objects.filter(state__in=waiting)
        .exclude(account=account)
        .exclude(account__in=who_reported(account))
        .select_related("account", "decided_by")
        .prefetch_related(Prefetch("account__reports", queryset=examples, to_attr="unfounded"))
        .order_by("proposed_at")
    )


def who_reported(creator: Account) -> QuerySet[Report, int | None]:
    """Return the accounts that have reported a model of this creator, for a query."""
    return Report.objects.filter(
        version__uploaded_model__creator=creator, reporter__isnull=False
    ).values_list("reporter", flat=True)


def measure_for(account: Account, code: str) -> ReportingMeasure:
    """Return a measure for a moderator whose models its person has not reported. Raises Hidden."""
    require_moderator(account)
    measure = ReportingMeasure.objects.filter(code=code).select_related("account").first()
    if measure is None or has_reported(measure.account, account):
        raise Hidden
    return measure


def own_measure(account: Account, code: str) -> ReportingMeasure:
    """Return a measure to the person it is about, once a person has decided it."""
    measure = (
        ReportingMeasure.objects.filter(account=account, code=code)
        .exclude(state__in=[MeasureState.PROPOSED, MeasureState.DISMISSED])
        .first()
    )
    if measure is None:
        raise Hidden
    return measure


def dead_letters(account: Account) -> QuerySet[Notice]:
    """Return the letters that could not be sent, newest first."""
    require_moderator(account)
    return (
        Notice.objects.filter(state=NoticeState.DEAD)
        .exclude(email="")
        .only("code", "kind", "subject", "error", "attempts", "created_at", "recipient_id", "state")
        .order_by("-created_at")
    )
