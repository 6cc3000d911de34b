"""All reads: what the pages and the workers see. Access is checked here, not in views."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.files.storage import default_storage
from django.db.models import Count, F, Prefetch, Q, QuerySet
from django.http import Http404
from django.utils import timezone
from django.utils.text import get_text_list

from moderation.authz import (
    Hidden,
    conflict_of_interest,
    require_moderator,
    require_own,
    require_sight,
)
from moderation.errors import NotAllowed
from moderation.models import (
    Account,
    Appeal,
    BankEntry,
    Case,
    Consent,
    Decision,
    Event,
    Finding,
    ModelVersion,
    Notice,
    Person,
    Policy,
    PreviewImage,
    Prompt,
    Report,
    Rule,
    TriageJob,
    WeightSketch,
)
from moderation.states import (
    HELD_CASES,
    LISTED,
    REACHABLE,
    WAITING_CASES,
    Action,
    AppealState,
    CaseState,
    Concern,
    JobState,
    Outcome,
    Visibility,
)

# --- For the workers ------------------------------------------------------------------------


def triage_sample(*, job_id: int) -> dict[str, Any]:
    """Return the plain data of the version a triage job is about.

    Raises FileNotFoundError if a stored file is gone.
    """
    job = TriageJob.objects.select_related("version__uploaded_model__creator", "policy").get(
        pk=job_id
    )
    version, page = job.version, job.version.uploaded_model
    return {
        "key": version.code,
        "title": page.title,
        "description": page.description,
        "base_model": page.base_model,
        "tags": page.tags,
        "trigger_words": version.trigger_words,
        "files": [
            {
                "key": row.code,
                "name": row.name,
                "path": _existing_path(row.content.name),
                "size": row.size,
                "sha256": row.sha256,
            }
            for row in version.files.all()
        ],
        "previews": [
            {
                "key": row.code,
                "name": row.name,
                # The copy that people see, and that was read in the sandbox at the door.
                "path": _existing_path(row.shown.name),
                "sha256": row.sha256,
                "prompt": row.prompt,
            }
            for row in version.previews.all()
        ],
        "creator": page.creator.username,
        "people": _people(page.creator),
        "policy": _policy_data(job.policy),
    }


def _people(creator: Account) -> list[dict[str, Any]]:
    """Return the people list, each with the consents they gave to this creator."""
    consents = Consent.objects.filter(creator=creator)
    people = Person.objects.prefetch_related(Prefetch("consents", queryset=consents))
    return [
        {
            "name": person.name,
            "aliases": person.aliases,
            "consents": [
                {
                    "creator": creator.username,
                    "rules": consent.rules,
                    "until": consent.until,
                    "withdrawn": consent.withdrawn_at is not None,
                }
                for consent in person.consents.all()
            ],
        }
        for person in people.order_by("name")
    ]


@dataclass(frozen=True)
class KnownStamp:
    """Changes whenever what uploads are compared with has changed."""

    sketches: int
    entries: int
    removed: int
    visible: int
    decisions: int
    overturned: int


def known_stamp() -> KnownStamp:
    """Return the stamp, from six counts.

    The last two tell apart what leaves the others as they were: one version that is removed while
    another one is restored.
    """
    visible = WeightSketch.objects.filter(file__version__visibility__in=REACHABLE)
    removed = WeightSketch.objects.filter(file__version__visibility=Visibility.REMOVED)
    return KnownStamp(
        sketches=WeightSketch.objects.count(),
        entries=BankEntry.objects.count(),
        removed=removed.count(),
        visible=visible.count(),
        decisions=Decision.objects.count(),
        overturned=Appeal.objects.filter(state=AppealState.OVERTURNED).count(),
    )


def known_models() -> Iterator[dict[str, Any]]:
    """Yield the removed and published files of weights that lineage compares with."""
    rows = WeightSketch.objects.filter(
        file__version__visibility__in=REACHABLE | {Visibility.REMOVED}
    ).select_related("file__version__uploaded_model__creator")
    under: dict[int, str] = {
        decision.version_id: decision.clauses[0]["slug"]
        for decision in Decision.objects.filter(action=Action.REMOVE).order_by("decided_at")
    }
    for row in rows.iterator(2000):
        version = row.file.version
        removed = version.visibility == Visibility.REMOVED
        yield {
            "key": row.file.code,
            "version": version.code,
            "title": str(version),
            "creator": version.uploaded_model.creator.username,
            "state": "removed" if removed else "published",
            "sketch": bytes(row.sketch),
            "rule": under.get(version.pk, "") if removed else "",
            "path": default_storage.path(row.file.content.name or ""),
            "digests": (row.file.sha256, row.data_sha256),
        }


def known_entries() -> Iterator[dict[str, str]]:
    """Yield the entries of every bank."""
    for entry in BankEntry.objects.select_related("bank").iterator(2000):
        yield {
            "kind": entry.kind,
            "value": entry.value,
            "bank": entry.bank.name,
            "rule": entry.bank.rule,
        }


def _existing_path(name: str | None) -> str:
    if not name or not default_storage.exists(name):
        raise FileNotFoundError(name)
    return default_storage.path(name)


def _policy_data(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "version": policy.version,
        "neutral": policy.neutral_prompts,
        "templates": policy.templates,
        "rules": [
            {
                "slug": rule.slug,
                "title": rule.title,
                "review": rule.review,
                "hold": rule.hold,
                "signals": rule.signals,
                "combine": rule.combine,
                "terms": [term.text for term in rule.terms.all()],
                "conditions": rule.conditions,
                "concepts": _concepts(rule),
            }
            for rule in policy.rules.prefetch_related("prompts", "terms")
        ],
    }


def _concepts(rule: Rule) -> list[dict[str, Any]]:
    concepts: dict[str, dict[str, Any]] = {}
    for prompt in rule.prompts.all():
        concept = concepts.setdefault(
            prompt.concept, {"slug": prompt.concept, "prohibited": (), "contrast": ()}
        )
        kind = "prohibited" if prompt.kind == Prompt.Kind.PROHIBITED else "contrast"
        concept[kind] += (prompt.text,)
    return list(concepts.values())


# --- Public ---------------------------------------------------------------------------------


def catalogue(*, adult: bool) -> QuerySet[ModelVersion]:
    """Return the versions that are listed, newest first."""
    shown = LISTED if adult else LISTED - {Visibility.AGE_RESTRICTED}
    return (
        ModelVersion.objects.filter(visibility__in=shown)
        .select_related("uploaded_model__creator")
        .prefetch_related("previews")
        .order_by("-published_at", "-pk")
    )


def version_for(account: Account | None, code: str) -> ModelVersion:
    """Return a version that this person may open. Raises Hidden otherwise."""
    version = (
        ModelVersion.objects.filter(code=code)
        .select_related("uploaded_model__creator")
        .prefetch_related("previews", "files")
        .first()
    )
    if version is None:
        raise Hidden
    require_sight(account, version)
    return version


def preview_for(account: Account | None, code: str, *, adult: bool) -> PreviewImage:
    """Return a preview of a version that this person may open. Raises Hidden otherwise."""
    preview = (
        PreviewImage.objects.filter(code=code).select_related("version__uploaded_model").first()
    )
    if preview is None:
        raise Hidden
    require_sight(account, preview.version)
    if preview.version.visibility == Visibility.AGE_RESTRICTED and not adult:
        _require_part(account, preview.version)
    return preview


def _require_part(account: Account | None, version: ModelVersion) -> None:
    """Let through the creator and the team, who work with what is for adults only."""
    is_own = account is not None and account.pk == version.uploaded_model.creator_id
    if not is_own and not (account is not None and account.is_team):
        raise Hidden


def policy_in_force() -> Policy | None:
    """Return the active policy with its rules."""
    return Policy.objects.filter(is_active=True).prefetch_related("rules__prompts").first()


def report_by_token(token: str) -> Report:
    """Return a report by the private link its reporter was given. Raises Hidden otherwise."""
    report = (
        Report.objects.filter(token=token).select_related("version__uploaded_model", "rule").first()
    )
    if report is None:
        raise Hidden
    return report


def was_reversed(report: Report) -> bool:
    """Return whether a won appeal took back what was done about a report."""
    return Appeal.objects.filter(case=report.case_id, state=AppealState.OVERTURNED).exists()


# --- Creators -------------------------------------------------------------------------------


def own_versions(account: Account) -> QuerySet[ModelVersion]:
    """Return a creator's versions, newest first."""
    return (
        ModelVersion.objects.filter(uploaded_model__creator=account)
        .select_related("uploaded_model")
        .prefetch_related(
            "previews",
            Prefetch(
                "decisions",
                queryset=Decision.objects.select_related("appeal").order_by("-decided_at"),
            ),
        )
        .order_by("-pk")
    )


def own_version(account: Account, code: str) -> ModelVersion:
    """Return a creator's version by its code. Raises Hidden for anybody else's."""
    version = (
        ModelVersion.objects.filter(code=code)
        .select_related("uploaded_model")
        .prefetch_related("previews", "files", "jobs", "decisions__appeal")
        .first()
    )
    if version is None:
        raise Hidden
    require_own(account, version.uploaded_model)
    return version


def own_decision(account: Account, code: str) -> Decision:
    """Return a decision about one of a creator's models. Raises Hidden for anybody else's."""
    decision = (
        Decision.objects.filter(code=code, creator=account)
        .select_related("version__uploaded_model", "policy", "decided_by", "appeal")
        .first()
    )
    if decision is None:
        raise Hidden
    return decision


def own_notices(account: Account) -> QuerySet[Notice]:
    """Return what an account was told, newest first."""
    return (
        Notice.objects.filter(recipient=account)
        .select_related("version", "decision", "report")
        .order_by("-created_at", "-pk")
    )


def unread_notices(account: Account) -> int:
    """Return how many notices an account has not opened."""
    return Notice.objects.filter(recipient=account, read_at__isnull=True).count()


def place_in_queue(version: ModelVersion) -> int | None:
    """Return how many cases wait before this version's, or None if it does not wait."""
    case = version.cases.filter(state__in=WAITING_CASES).first()
    if case is None:
        return None
    before = Q(priority__gt=case.priority) | Q(priority=case.priority, due_at__lt=case.due_at)
    return Case.objects.filter(before, state__in=WAITING_CASES).count()


# --- The console ----------------------------------------------------------------------------


def require_team(account: Account) -> None:
    """Let the moderation team into the console."""
    if not account.is_team:
        raise NotAllowed("The console is for the moderation team.")


@dataclass(frozen=True)
class Tally:
    """The counters above the queue."""

    waiting: int
    in_review: int
    appeals: int
    overdue: int
    jobs: int


def queue_tally() -> Tally:
    """Count what waits, in one query for cases and one for jobs."""
    now = timezone.now()
    counts = Case.objects.filter(state__in=WAITING_CASES | HELD_CASES).aggregate(
        waiting=Count("pk", filter=Q(state=CaseState.QUEUED)),
        in_review=Count("pk", filter=Q(state__in=HELD_CASES)),
        appeals=Count("pk", filter=Q(state=CaseState.APPEALED)),
        overdue=Count("pk", filter=Q(due_at__lt=now)),
    )
    jobs = TriageJob.objects.filter(state__in=[JobState.QUEUED, JobState.RUNNING]).count()
    return Tally(jobs=jobs, **counts)


@dataclass(frozen=True)
class Row:
    """One line of the queue: the case, and in words why it stands where it does."""

    case: Case
    concerns: tuple[tuple[str, Concern], ...]
    why: str
    used: int
    left: timedelta
    bar: str


def queue_rows(*, state: str = "", rule: str = "", limit: int = 50) -> list[Row]:
    """Return the cases that are open, first one first, with the reasons for their order."""
    cases = Case.objects.filter(state__in=WAITING_CASES | HELD_CASES)
    if state in set(WAITING_CASES | HELD_CASES):
        cases = cases.filter(state=state)
    if rule:
        cases = cases.filter(
            Q(version__findings__rule__slug=rule) & ~Q(version__findings__concern=Concern.NONE)
            | Q(reports__rule__slug=rule)
        ).distinct()
    concerned = (
        Finding.objects.exclude(concern=Concern.NONE)
        .select_related("rule", "preview")
        # Where there is no score, PostgreSQL would put it first and SQLite last.
        .order_by(F("score").desc(nulls_last=True))
    )
    rows = (
        cases.select_related("version__uploaded_model__creator", "claimed_by")
        .prefetch_related(
            Prefetch("version__findings", queryset=concerned, to_attr="concerned"),
            Prefetch("reports", queryset=Report.objects.select_related("rule")),
            "version__previews",
        )
        .order_by("-priority", "due_at", "pk")
    )
    return [_row(case) for case in rows[:limit]]


def _row(case: Case) -> Row:
    findings: list[Finding] = getattr(case.version, "concerned", [])
    reports = list(case.reports.all())
    length = (case.due_at - case.opened_at).total_seconds()
    left = case.due_at - timezone.now()
    used = round(100 * (1 - left.total_seconds() / length)) if length > 0 else 100
    bars = [bar for bar in (90, 75, 50) if used >= bar]
    return Row(
        case=case,
        concerns=_titles(findings, reports, case.is_incomplete),
        why=_why(case, findings, reports),
        used=max(0, min(used, 100)),
        left=left,
        bar=f"used-{bars[0]}" if bars else "",
    )


def _titles(
    findings: list[Finding], reports: list[Report], is_incomplete: bool
) -> tuple[tuple[str, Concern], ...]:
    """Return what the case is about, each with its gravest concern, the gravest first."""
    titles: dict[str, Concern] = {}
    for concern in (Concern.HOLD, Concern.REVIEW):
        for finding in findings:
            if finding.rule and finding.concern == concern:
                titles.setdefault(finding.rule.title, concern)
    for report in reports:
        titles.setdefault(report.rule.title if report.rule else "A report", Concern.REVIEW)
    if is_incomplete or not titles:
        titles.setdefault("Not everything could be seen", Concern.REVIEW)
    return tuple(titles.items())


def _why(case: Case, findings: list[Finding], reports: list[Report]) -> str:
    parts = []
    if case.state in {CaseState.APPEALED, CaseState.HEARING}:
        parts.append("the creator appeals")
    scored = [finding for finding in findings if finding.score is not None]
    if scored:
        parts.append(_scored(max(scored, key=lambda finding: finding.concern == Concern.HOLD)))
    if case.is_incomplete:
        parts.append("something could not be looked at")
    if reports:
        people = "1 person" if len(reports) == 1 else f"{len(reports)} people"
        parts.append(f"{people} reported it")
    text = get_text_list(parts, "and") or "it waits for a person"
    return f"Here because {text}."


def _scored(finding: Finding) -> str:
    if finding.preview:
        subject = f"preview {finding.preview.position + 1}"
    else:
        subject = "a file" if finding.file_id else "the page"
    if finding.concern == Concern.HOLD and finding.hold is not None:
        return f"{subject} scored {finding.score:.2f} (hold from {finding.hold:.2f})"
    if finding.review is not None:
        return f"{subject} scored {finding.score:.2f} (review from {finding.review:.2f})"
    return f"{subject} scored {finding.score:.2f}"


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
        version.findings.select_related("rule", "file", "preview").order_by(
            F("score").desc(nulls_last=True), "pk"
        )
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


def held_case(account: Account) -> Case | None:
    """Return the case this moderator holds, if any."""
    return Case.objects.filter(claimed_by=account, state__in=HELD_CASES).first()
