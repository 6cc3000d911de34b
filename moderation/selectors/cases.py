"""What a moderator reads about one case: its evidence, its reports, its history."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404

from moderation.authz import REPORTED_IT, require_moderator, require_not_apart, took_part
from moderation.errors import Invalid, NotAllowed
from moderation.models import (
    Account,
    Appeal,
    AppealFile,
    AppealMessage,
    Case,
    Decision,
    Event,
    Finding,
    Hold,
    Inquiry,
    ModelFile,
    ModelVersion,
    PreviewImage,
    Report,
    Rule,
    TriageJob,
    Verdict,
)
from moderation.prepared import Prepared
from moderation.selectors.gathering import Gathered
from moderation.selectors.queue import require_team
from moderation.selectors.reporters import ReportRow, report_rows
from moderation.states import (
    COUNTED,
    HELD_CASES,
    LOOSENING,
    REVERSIBLE,
    Action,
    AppealState,
    CaseState,
    Concern,
    EffectState,
    JobState,
    Outcome,
    Side,
    Visibility,
)
from moderation.wellbeing import shown_now

_case_page = Prepared(
    lambda code: Case.objects.filter(code=code).select_related(
        "version__uploaded_model__creator", "claimed_by", "assigned_to"
    ),
    code=str,
)


def case_for(account: Account, code: str) -> Case:
    """Return a case for a member of the team. Raises NotAllowed or Http404 otherwise.

    Not for the creator of the model: the page names who reported it and what the team noted.
    """
    require_team(account)
    case = _case_page.first(code=code)
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


def decided_so(case: Case, *, action: str, facts: str, by: Account) -> bool:
    """Return whether somebody has decided a case in these very words, and that stands."""
    made = Decision.objects.filter(case=case, action=action, facts=facts.strip(), decided_by=by)
    return made.filter(effect__state__in=COUNTED | {EffectState.HELD}).exists()


def held_case_for(account: Account, code: str) -> Case:
    """Return a case that somebody has in their hands; any other as ``case_for`` does.

    Whoever has one that was held apart for child safety since can still give it back.
    """
    held = Case.objects.filter(code=code, state__in=sorted(HELD_CASES), claimed_by=account)
    return held.select_related("version").first() or case_for(account, code)


def assignee(name: str) -> Account | None:
    """Return the moderator of that user name; None for no name. Raises Invalid for any other."""
    if not name:
        return None
    account = Account.objects.filter(username=name).first()
    if account is None or not account.is_moderator:
        raise Invalid(f"No moderator is called “{name}”.", field="to")
    return account


# What the probe of banks calls a match of bytes, of a file or of its tensors.
EXACT_MATCHES = frozenset({"banks.sha256", "banks.data_sha256"})
APPROVAL = "A person looked at it and found nothing that the policy does not allow."


def appeal_on(case: Case, code: str) -> Appeal:
    """Return an appeal of a case that somebody may see. Raises Http404 where there is none."""
    appeal = case.appeals.filter(code=code).first()
    if appeal is None:
        raise Http404
    return appeal


@dataclass(frozen=True)
class Concerned:
    """What one probe found under one rule: the strongest finding, then the others."""

    strongest: Finding
    others: list[Finding]


@dataclass(frozen=True)
class Picture:
    """What the page shows of a preview."""

    id: int
    code: str
    position: int
    prompt: str
    width: int
    height: int


@dataclass(frozen=True)
class Seen:
    """A preview, with the findings about it; and whether any probe could look at it.

    Of the findings of one probe under one rule, the strongest.
    """

    preview: Picture
    findings: list[Finding]
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
    """Everything a moderator needs in front of them to decide a case.

    What is read beside it (relatives, look-alikes, the record, what was written) has pages of its
    own (``beside``, ``look_alikes``), which this one fetches.
    """

    case: Case
    version: ModelVersion
    concerns: list[Concerned]
    pointed_at: frozenset[str]
    clean: list[Finding]
    previews: list[Seen]
    files: list[dict[str, Any]]
    reports: list[Report]
    report_rows: list[ReportRow]
    decisions: list[Decision]
    reversible: frozenset[str]  # codes of those that can be taken back by a new one
    doubtful: frozenset[str]  # codes of those that can be looked at again in a new case
    appeal: Appeal | None  # the one that was asked for, or the open one that waits longest
    other_appeals: list[Appeal]  # those that wait beside it
    dead_jobs: list[dict[str, Any]]
    rules: list[Rule]
    creator_versions: int
    creator_removed: int
    has_words: bool
    note: str  # of whoever escalated it
    conflict: str
    took_part: bool  # in the decision of an appeal that waits
    verdicts: dict[int, str]
    sentences: dict[str, str]
    approval: str
    shown: frozenset[str]  # rules under which this person has its pictures open already
    rules_first: list[Rule]
    rules_other: list[Rule]

    @property
    def rules_concerned(self) -> list[Rule]:
        """The rules that a finding or a report on the case names, each once."""
        named = [concern.strongest.rule for concern in self.concerns]
        named += [report.rule for report in self.reports]
        return list({rule.pk: rule for rule in named if rule}.values())

    @property
    def is_known_exactly(self) -> bool:
        """Whether something of it is byte for byte what stands in a bank."""
        found = [row for one in self.concerns for row in (one.strongest, *one.others)]
        return any(finding.code in EXACT_MATCHES for finding in found)

    @property
    def who_reads_answer(self) -> str:
        """Who reads the answer to the appeal of the case."""
        if self.appeal and self.appeal.side == Side.REPORTER:
            return "Whoever appealed reads this; if something is done, the creator does, too."
        return "The creator reads this."

    @property
    def rules_first_count(self) -> int:
        """How many rules the evidence points at: the digits of the others begin after them."""
        return len(self.rules_first)


def case_file(case: Case, account: Account, *, appeal: str = "") -> CaseFile:
    """Gather the evidence of a case for its page, in six queries whatever there is of it.

    ``appeal`` is the code of the appeal that is read and answered there; without it, it is the
    open one that has waited longest, else the last.
    """
    version = case.version
    around = _around(case, account)
    findings = _findings(version, account)
    concerned = [finding for finding in findings if finding.concern != Concern.NONE]
    concerned.sort(key=lambda finding: finding.concern != Concern.HOLD)
    rows = report_rows(case)
    reports = [row.report for row in rows]
    rules_named = [finding.rule for finding in concerned] + [report.rule for report in reports]
    decisions = list(
        case.decisions.select_related(
            "decided_by", "policy", "effect__second_person", "effect__ended_by"
        ).order_by("decided_at")
    )
    appeals = list(
        case.appeals.select_related("answered_by", "appellant", "decision").order_by("filed_at")
    )
    waiting = [each for each in appeals if each.state == AppealState.OPEN]
    asked_for = [each for each in appeals if each.code == appeal]
    shown = next(iter([*asked_for, *waiting, *reversed(appeals)]), None)
    pointed_at = frozenset(rule.slug for rule in rules_named if rule)
    rules = [Rule(**row) for row in around["rules"]]
    return CaseFile(
        case=case,
        version=version,
        concerns=by_rule(concerned),
        pointed_at=pointed_at,
        clean=[finding for finding in findings if finding.concern == Concern.NONE],
        previews=_seen([Picture(**row) for row in around["pictures"]], findings, concerned),
        files=around["weights"],
        reports=reports,
        report_rows=rows,
        decisions=decisions,
        reversible=_reversible(decisions),
        doubtful=_doubtful(case, decisions),
        appeal=shown,
        other_appeals=[each for each in waiting if each is not shown],
        dead_jobs=[
            {**job, "stage": TriageJob.Stage(job["stage"]).label} for job in around["dead_jobs"]
        ],
        rules=rules,
        creator_versions=around["made"],
        creator_removed=around["removed"],
        has_words=around["has_words"],
        note=around["note"] or "",
        conflict=REPORTED_IT if around["reported"] else "",
        # Asked only where an appeal is offered.
        took_part=case.state == CaseState.APPEALED
        and any(took_part(account, each.decision, appeal=each) for each in waiting),
        verdicts={finding.pk: finding.said for finding in findings if finding.said},
        sentences=_sentences(rules, concerned, reports),
        approval=APPROVAL,
        shown=frozenset(row["rule"] for row in around["shown"]),
        rules_first=[rule for rule in rules if rule.slug in pointed_at],
        rules_other=[rule for rule in rules if rule.slug not in pointed_at],
    )


def _reversible(decisions: list[Decision]) -> frozenset[str]:
    """Return the codes of the decisions in force that none of the others takes back."""
    taken_back = {
        decision.overrides_id
        for decision in decisions
        if (decision.action == Action.REVERSE or decision.appeal_id is not None)
        and decision.effect.state not in {EffectState.UNDONE, EffectState.CANCELLED}
    }
    return frozenset(
        decision.code
        for decision in decisions
        if decision.action in REVERSIBLE
        and decision.effect.state == EffectState.IN_FORCE
        and decision.pk not in taken_back
    )


def _doubtful(case: Case, decisions: list[Decision]) -> frozenset[str]:
    """Return the codes of the decisions in force that restrict nothing, once their case is over."""
    if case.state not in {CaseState.DECIDED, CaseState.CLOSED}:
        return frozenset()
    return frozenset(
        decision.code
        for decision in decisions
        if decision.action in LOOSENING and decision.effect.state == EffectState.IN_FORCE
    )


def _around(case: Case, account: Account) -> dict[str, Any]:
    """Return the small things around a case in one row: files, previews, dead jobs, rules, figures.

    ``case_for`` lets nobody see a case about their own model, so who reported it is all that is
    left to ask of a conflict of interest.
    """
    version = ModelVersion.objects.filter(pk=case.version_id)
    own = OuterRef("pk")
    made = (
        ModelVersion.objects.filter(uploaded_model__creator=OuterRef("uploaded_model__creator"))
        .exclude(visibility=Visibility.DRAFT)
        .order_by()
        .values("uploaded_model__creator")
    )
    reported = Report.objects.filter(
        reporter=account, version__uploaded_model=OuterRef("uploaded_model")
    )
    found = version.values(
        weights=Gathered(
            ModelFile.objects.filter(version=own).order_by("pk"),
            *("code", "name", "size", "format", "sha256"),
        ),
        pictures=Gathered(
            PreviewImage.objects.filter(version=own).order_by("position", "pk"),
            *("id", "code", "position", "prompt", "width", "height"),
        ),
        dead_jobs=Gathered(
            TriageJob.objects.filter(version=own, state=JobState.DEAD).order_by("pk"),
            *("stage", "attempts", "error"),
        ),
        rules=Gathered(
            Rule.objects.filter(policy__is_active=True).order_by("position"),
            *("id", "slug", "title", "advice", "actions"),
        ),
        made=Coalesce(Subquery(made.annotate(all=Count("pk")).values("all")), 0),
        removed=Coalesce(
            Subquery(
                made.filter(visibility=Visibility.REMOVED).annotate(all=Count("pk")).values("all")
            ),
            0,
        ),
        note=Subquery(
            Event.objects.filter(case=case.pk, action="case.note")
            .order_by("-sequence")
            .values("data__note")[:1]
        ),
        has_words=Exists(Inquiry.objects.filter(case=case.pk))
        | Exists(AppealMessage.objects.filter(appeal__case=case.pk))
        | Exists(AppealFile.objects.filter(appeal__case=case.pk))
        | Exists(Hold.objects.filter(case=case.pk).exclude(objection="")),
        shown=Gathered(shown_now(account, case), "rule"),
        reported=Exists(reported),
    ).get()
    return dict(found)


def _findings(version: ModelVersion, account: Account) -> list[Any]:
    """Return the findings on a version, the strongest first, with ``said``: the own verdict."""
    own = Verdict.objects.filter(finding=OuterRef("pk"), given_by=account)
    return list(
        version.findings.select_related("rule", "file", "preview", "heat_map")
        .defer("heat_map__png")
        .annotate(said=Subquery(own.order_by("-given_at", "-pk").values("answer")[:1]))
        .order_by(F("score").desc(nulls_last=True), "pk")
    )


def rules_concerned(case: Case) -> list[Rule]:
    """Return the rules that a finding or a report on a case names, without reading the rest."""
    return _rules_named.rows(version=case.version_id, case=case.pk)


def _rules_of(version: int, case: int) -> QuerySet[Rule]:
    found = Finding.objects.filter(version=version).exclude(concern=Concern.NONE)
    reported = Report.objects.filter(case=case)
    named = Q(pk__in=found.values("rule")) | Q(pk__in=reported.values("rule"))
    return Rule.objects.filter(named).order_by("pk")


_rules_named = Prepared(_rules_of, version=int, case=int)


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
    require_not_apart(account, finding.version)
    return finding


def case_stamp(case: Case) -> str:
    """Return what changes whenever something happens to a case or its version."""
    last = Event.objects.filter(version_id=case.version_id).aggregate(last=Max("sequence"))["last"]
    return f"{case.pk}-{last}-{case.state}"


def _sentences(
    rules: list[Rule], concerned: list[Finding], reports: list[Report]
) -> dict[str, str]:
    """Compose, for each rule, the facts that the creator would be told.

    A draft, which the moderator reads, changes and signs. What would help, the rule says itself.
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
        sentences[rule.slug] = " ".join([f"{rule.title}:", *facts])
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


def _seen(pictures: list[Picture], findings: list[Finding], concerned: list[Finding]) -> list[Seen]:
    about: dict[int | None, list[Finding]] = {}
    for finding in concerned:
        about.setdefault(finding.preview_id, []).append(finding)
    looked_at = {finding.preview_id for finding in findings if finding.outcome == Outcome.SCORED}
    return [
        Seen(
            preview,
            [one.strongest for one in by_rule(about.get(preview.id, []))],
            preview.id in looked_at,
        )
        for preview in pictures
    ]
