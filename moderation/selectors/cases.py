"""What a moderator reads about one case: its evidence, its reports, its history."""

from dataclasses import dataclass

from django.db.models import Count, F, Max, Q, prefetch_related_objects
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
    Verdict,
)
from moderation.selectors.groups import Relative, relatives_of
from moderation.selectors.queue import require_team
from moderation.selectors.reporters import ReportRow, report_rows
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
    if case.version.isolated_at is not None:
        raise NotAllowed(
            "This case is held apart for child safety. Its specialists see it in their own place.",
            code="held_apart",
        )
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


APPROVAL = "A person looked at it and found nothing that the policy does not allow."


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
    report_rows: list[ReportRow]
    decisions: list[Decision]
    appeal: Appeal | None
    events: list[Event]
    dead_jobs: list[TriageJob]
    rules: list[Rule]
    creator_versions: int
    creator_removed: int
    conflict: str
    took_part: bool
    same: list[Relative]
    same_open: bool
    verdicts: dict[int, str]
    sentences: dict[str, str]
    approval: str
    rules_first: list[Rule]
    rules_other: list[Rule]

    @property
    def rules_concerned(self) -> list[Rule]:
        """The rules that a finding or a report on the case names, each once."""
        named = [concern.strongest.rule for concern in self.concerns]
        named += [report.rule for report in self.reports]
        return list({rule.pk: rule for rule in named if rule}.values())

    @property
    def rules_first_count(self) -> int:
        """How many rules the evidence points at: the digits of the others begin after them."""
        return len(self.rules_first)


def case_file(case: Case, account: Account) -> CaseFile:
    """Gather the evidence of a case for its page."""
    version = case.version
    prefetch_related_objects([version], "files", "previews")
    findings = list(
        version.findings.select_related("rule", "file", "preview", "heat_map")
        .defer("heat_map__png")
        .order_by(F("score").desc(nulls_last=True), "pk")
    )
    concerned = [finding for finding in findings if finding.concern != Concern.NONE]
    concerned.sort(key=lambda finding: finding.concern != Concern.HOLD)
    rows = report_rows(case)
    reports = [row.report for row in rows]
    rules_named = [finding.rule for finding in concerned] + [report.rule for report in reports]
    decisions = list(
        case.decisions.select_related("decided_by", "policy", "effect").order_by("decided_at")
    )
    made = ModelVersion.objects.filter(
        uploaded_model__creator=version.uploaded_model.creator
    ).exclude(visibility=Visibility.DRAFT)
    pointed_at = frozenset(rule.slug for rule in rules_named if rule)
    rules = list(Rule.objects.filter(policy__is_active=True).order_by("position"))
    same = relatives_of(version, findings)
    counts = made.aggregate(
        all=Count("pk"), removed=Count("pk", filter=Q(visibility=Visibility.REMOVED))
    )
    return CaseFile(
        case=case,
        version=version,
        concerns=by_rule(concerned),
        pointed_at=pointed_at,
        clean=[finding for finding in findings if finding.concern == Concern.NONE],
        previews=_seen(version, findings, concerned),
        reports=reports,
        report_rows=rows,
        decisions=decisions,
        appeal=case.appeals.select_related("answered_by", "decision").order_by("-filed_at").first(),
        events=list(version.events.select_related("actor").order_by("sequence")),
        dead_jobs=list(version.jobs.filter(state=JobState.DEAD)) if case.is_incomplete else [],
        rules=rules,
        creator_versions=counts["all"],
        creator_removed=counts["removed"],
        conflict=conflict_of_interest(account, version),
        took_part=any(decision.decided_by_id == account.pk for decision in decisions),
        same=same,
        same_open=any(relative.case for relative in same),
        verdicts=verdicts_by(account, version),
        sentences=_sentences(rules, concerned, reports),
        approval=APPROVAL,
        rules_first=[rule for rule in rules if rule.slug in pointed_at],
        rules_other=[rule for rule in rules if rule.slug not in pointed_at],
    )


def verdicts_by(account: Account, version: ModelVersion) -> dict[int, str]:
    """Return what a person last said about each finding of a version."""
    given = Verdict.objects.filter(given_by=account, finding__version=version)
    return dict(given.order_by("given_at", "pk").values_list("finding_id", "answer"))


def finding_for(account: Account, pk: int) -> Finding:
    """Return a finding for a moderator. Raises NotAllowed or Http404 otherwise."""
    require_moderator(account)
    finding = (
        Finding.objects.filter(pk=pk)
        .select_related("version__uploaded_model__creator", "rule")
        .first()
    )
    if finding is None:
        raise Http404
    return finding


def case_stamp(case: Case) -> str:
    """Return what changes whenever something happens to a case or its version."""
    last = Event.objects.filter(version_id=case.version_id).aggregate(last=Max("sequence"))["last"]
    return f"{case.pk}-{last}-{case.state}"


def _sentences(
    rules: list[Rule], concerned: list[Finding], reports: list[Report]
) -> dict[str, str]:
    """Compose, for each rule, what the creator would be told: the facts, then what would help.

    A draft of a message, which the moderator reads, changes and signs.
    """
    found: dict[int | None, list[Finding]] = {}
    for finding in concerned:
        found.setdefault(finding.rule_id, []).append(finding)
    reported = {report.rule_id for report in reports}
    sentences = {}
    for rule in rules:
        facts = [_fact(finding) for finding in found.get(rule.pk, [])[:3]]
        if not facts and rule.pk in reported:
            facts = ["It was reported."]
        advice = f"What would change this: {rule.advice}" if rule.advice else ""
        sentences[rule.slug] = " ".join([f"{rule.title}:", *facts, advice]).strip()
    return sentences


def _fact(finding: Finding) -> str:
    if finding.preview:
        return f"Preview {finding.preview.position + 1} shows it."
    reason = finding.reason.strip()
    return reason if reason.endswith(".") else f"{reason}."


def by_rule(findings: list[Finding]) -> list[Concerned]:
    """Group findings by rule and probe, each group in the order given."""
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
