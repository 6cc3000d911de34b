"""Decisions with their reasons, appeals against them, reports, and the policy."""

from django.http import HttpRequest
from ninja import Router, Status
from ninja.decorators import decorate_view

from moderation import selectors
from moderation.api.auth import TokenAuth, token_of
from moderation.api.models import PROBLEMS
from moderation.api.once import once
from moderation.api.pages import Limit, page_of
from moderation.api.schemas import (
    AppealIn,
    AppealOut,
    DecisionOut,
    DecisionPage,
    PolicyOut,
    ReportIn,
    ReportOut,
    RuleOut,
    VersionOut,
)
from moderation.appeals import appeal_file, appeal_file_by_reporter
from moderation.authz import Hidden
from moderation.errors import Conflict
from moderation.external import external_account
from moderation.holds import hold_object
from moderation.reports import report_file
from moderation.states import Scope

router = Router(tags=["decisions, appeals, reports"])
READ = TokenAuth(Scope.READ)


@router.get("/decisions", auth=READ, response={200: DecisionPage, **PROBLEMS})
def decisions(request: HttpRequest, cursor: str = "", limit: Limit = 50) -> DecisionPage:
    """List the decisions on your models, the newest first."""
    rows, following = page_of(
        selectors.marketplace.decisions_of(token_of(request).account), cursor=cursor, limit=limit
    )
    return DecisionPage(items=[DecisionOut.of(row) for row in rows], next=following)


@router.get("/decisions/{code}", auth=READ, response={200: DecisionOut, **PROBLEMS})
def decision(request: HttpRequest, code: str) -> DecisionOut:
    """Show one decision with its statement of reasons."""
    return DecisionOut.of(selectors.marketplace.decision_of(token_of(request).account, code))


@router.post(
    "/decisions/{code}/appeals",
    auth=TokenAuth(Scope.APPEAL),
    response={201: AppealOut, **PROBLEMS},
)
@decorate_view(once(Scope.APPEAL))
def appeal(request: HttpRequest, code: str, given: AppealIn) -> Status[AppealOut]:
    """Appeal against a decision for the creator it is about."""
    found = selectors.marketplace.decision_of(token_of(request).account, code)
    return Status(
        201, AppealOut.of(appeal_file(decision=found, text=given.text, actor=found.creator))
    )


@router.post(
    "/versions/{code}/objections",
    auth=TokenAuth(Scope.APPEAL),
    response={201: VersionOut, **PROBLEMS},
)
@decorate_view(once(Scope.APPEAL))
def objection(request: HttpRequest, code: str, given: AppealIn) -> Status[VersionOut]:
    """Say for the creator what speaks against what the clock hides; a person reads it."""
    account = token_of(request).account
    version = selectors.marketplace.version_of(account, code)
    hold = next(iter(version.clock_holds.all()), None)
    if hold is None:
        raise Conflict("The clock does not hide this version.", code="hold_over")
    hold_object(hold=hold, text=given.text, actor=version.uploaded_model.creator)
    return Status(201, VersionOut.of(selectors.marketplace.version_of(account, code)))


@router.get("/appeals/{code}", auth=READ, response={200: AppealOut, **PROBLEMS})
def appeal_status(request: HttpRequest, code: str) -> AppealOut:
    """Show an appeal and its answer."""
    return AppealOut.of(selectors.marketplace.appeal_of(token_of(request).account, code))


@router.post("/reports", auth=TokenAuth(Scope.REPORT), response={201: ReportOut, **PROBLEMS})
@decorate_view(once(Scope.REPORT))
def report(request: HttpRequest, given: ReportIn) -> Status[ReportOut]:
    """Report a published version for one of your users."""
    user = external_account(marketplace=token_of(request).account, external_id=given.on_behalf_of)
    with user as reporter:
        found = selectors.public.version_for(reporter, given.version, with_parts=False)
        filed = report_file(version=found, text=given.text, rule=given.rule, actor=reporter)
    return Status(201, ReportOut.of(filed))


@router.get("/reports/{code}", auth=READ, response={200: ReportOut, **PROBLEMS})
def report_status(request: HttpRequest, code: str) -> ReportOut:
    """Show a report that you filed and what became of it."""
    return ReportOut.of(selectors.marketplace.report_of(token_of(request).account, code))


@router.post(
    "/reports/{code}/appeals",
    auth=TokenAuth(Scope.APPEAL),
    response={201: AppealOut, **PROBLEMS},
)
@decorate_view(once(Scope.APPEAL))
def report_appeal(request: HttpRequest, code: str, given: AppealIn) -> Status[AppealOut]:
    """Appeal for the user who reported against "no action"."""
    found = selectors.marketplace.report_of(token_of(request).account, code)
    filed = appeal_file_by_reporter(report=found, text=given.text, actor=found.reporter)
    return Status(201, AppealOut.of(filed))


@router.get("/policy", auth=READ, response={200: PolicyOut, **PROBLEMS})
def policy(request: HttpRequest) -> PolicyOut:
    """Show the policy in force, to name its rules in reports."""
    found = selectors.public.policy_in_force()
    if found is None:
        raise Hidden
    return PolicyOut(
        name=found.name,
        version=found.version,
        rules=[RuleOut.from_orm(rule) for rule in found.rules.all()],
    )
