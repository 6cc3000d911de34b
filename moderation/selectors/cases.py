"""What a moderator reads about one case: its evidence, its reports, its history."""

from dataclasses import dataclass

from django.db.models import F
from django.http import Http404

from moderation.authz import (
    conflict_of_interest,
    require_moderator,
)
from moderation.errors import Invalid, NotAllowed
from moderation.models import (
    Account,
    Appeal,
    Case,
    Decision,
    Event,
    Finding,
    ModelVersion,
    PreviewImage,
    Report,
    Rule,
    TriageJob,
)
from moderation.selectors.public import policy_in_force
from moderation.selectors.queue import require_team
from moderation.states import (
    Action,
    Concern,
    JobState,
    Outcome,
    Visibility,
)


def case_for(account: Account, code: str) -> Case:
    """Return a case for a member of the team. Raises NotAllowed or Http404 otherwise.

    Not for the creator of the model: the page names who reported it and what the team noted.
    """
    require_team(account)
    case = (
        Case.objects.filter(code=code)
        .select_related("version__uploaded_model__creator", "claimed_by")
        .first()
    )
    if case is None:
        raise Http404
    if case.version.uploaded_model.creator_id == account.pk:
        raise NotAllowed(
            "You cannot judge your own model. What is said about it here is for others to read; "
            "what is decided about it you read among your models.",
            code="conflict_of_interest",
        )
    return case


def assignee(name: str) -> Account | None:
    """Return the moderator of that user name; None for no name. Raises Invalid for any other."""
    if not name:
        return None
    account = Account.objects.filter(username=name).first()
    if account is None or not account.is_moderator:
        raise Invalid(f"No moderator is called “{name}”.", field="to")
    return account


@dataclass(frozen=True)
class Concerned:
    """What one probe found under one rule: the strongest finding, then the others."""

    strongest: Finding
    others: list[Finding]


@dataclass(frozen=True)
class Seen:
    """A preview, with the strongest finding about it; and whether any probe could look at it."""

    preview: PreviewImage
    finding: Finding | None
    was_looked_at: bool


def removal_for(account: Account, code: str) -> Decision:
    """Return a removal for a moderator. Raises NotAllowed or Http404 otherwise."""
    require_moderator(account)
    removal = (
        Decision.objects.filter(code=code, action=Action.REMOVE)
        .select_related("case", "version")
        .first()
    )
    if removal is None:
        raise Http404
    return removal


def resembles_another(version: ModelVersion) -> bool:
    """Return whether the weights resemble another creator's published model."""
    return version.findings.filter(code="lineage.copy").exclude(concern=Concern.NONE).exists()


@dataclass(frozen=True)
class CaseFile:
    """Everything a moderator sees of a case."""

    case: Case
    version: ModelVersion
    concerns: list[Concerned]
    pointed_at: frozenset[str]
    clean: list[Finding]
    previews: list[Seen]
    reports: list[Report]
    decisions: list[Decision]
    appeal: Appeal | None
    events: list[Event]
    dead_jobs: list[TriageJob]
    rules: list[Rule]
    creator_versions: int
    creator_removed: int
    conflict: str
    took_part: bool


def case_file(case: Case, account: Account) -> CaseFile:
    """Gather the evidence of a case for its page."""
    version = case.version
    findings = list(
        version.findings.select_related("rule", "file", "preview", "heat_map")
        .defer("heat_map__png")
        .order_by(F("score").desc(nulls_last=True), "pk")
    )
    concerned = [finding for finding in findings if finding.concern != Concern.NONE]
    concerned.sort(key=lambda finding: finding.concern != Concern.HOLD)
    reports = list(case.reports.select_related("rule", "reporter").order_by("created_at"))
    rules_named = [finding.rule for finding in concerned] + [report.rule for report in reports]
    decisions = list(case.decisions.select_related("decided_by", "policy").order_by("decided_at"))
    policy = policy_in_force()
    made = ModelVersion.objects.filter(
        uploaded_model__creator=version.uploaded_model.creator
    ).exclude(visibility=Visibility.DRAFT)
    return CaseFile(
        case=case,
        version=version,
        concerns=_by_rule(concerned),
        pointed_at=frozenset(rule.slug for rule in rules_named if rule),
        clean=[finding for finding in findings if finding.concern == Concern.NONE],
        previews=_seen(version, findings, concerned),
        reports=reports,
        decisions=decisions,
        appeal=case.appeals.select_related("answered_by", "decision").order_by("-filed_at").first(),
        events=list(version.events.select_related("actor").order_by("sequence")),
        dead_jobs=list(version.jobs.filter(state=JobState.DEAD)),
        rules=list(policy.rules.all()) if policy else [],
        creator_versions=made.count(),
        creator_removed=made.filter(visibility=Visibility.REMOVED).count(),
        conflict=conflict_of_interest(account, version),
        took_part=any(decision.decided_by_id == account.pk for decision in decisions),
    )


def _by_rule(findings: list[Finding]) -> list[Concerned]:
    grouped: dict[tuple[int | None, str, str], list[Finding]] = {}
    for finding in findings:
        # What could not be looked at belongs to no rule; each such failure stands alone.
        failure = "" if finding.rule_id else finding.key
        grouped.setdefault((finding.rule_id, finding.probe, failure), []).append(finding)
    return [Concerned(group[0], group[1:]) for group in grouped.values()]


def _seen(version: ModelVersion, findings: list[Finding], concerned: list[Finding]) -> list[Seen]:
    strongest: dict[int | None, Finding] = {}
    for finding in concerned:
        strongest.setdefault(finding.preview_id, finding)
    looked_at = {finding.preview_id for finding in findings if finding.outcome == Outcome.SCORED}
    return [
        Seen(preview, strongest.get(preview.pk), preview.pk in looked_at)
        for preview in version.previews.all()
    ]
