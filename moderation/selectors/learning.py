"""Labels, heads and the figures of a concept, and the questions that are asked about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Abs
from django.http import Http404

from moderation.models import (
    Account,
    AuditItem,
    Case,
    ConceptHead,
    ConceptReport,
    ConceptVector,
    Decision,
    Finding,
    HeadPlacement,
    Prompt,
    Report,
    Rule,
    Verdict,
)
from moderation.selectors.queue import require_team
from moderation.states import (
    LOOSENING,
    Action,
    Concern,
    EffectState,
    Outcome,
    VerdictAnswer,
    VerdictSource,
)

PROBE = "previews"
# How near to the review threshold a miss is near, in probability.
NEAR = 0.35
LABELS = 20_000


@dataclass(frozen=True)
class Label:
    """One person's word on whether a picture shows a concept."""

    sha256: str
    shows: bool
    source: str


def _scored(**of: str) -> Q:
    return Q(probe=PROBE, outcome=Outcome.SCORED, preview__isnull=False, **of)


def _of_concept(rule: str, concept: str) -> Q:
    return _scored(rule__slug=rule, evidence__deciding__concept=concept)


def labels_of(rule: str, concept: str) -> list[Label]:
    """Return every label of a concept.

    From verdicts: the last word of each person on each finding; “unsure” is none. From decisions
    in force, where nobody gave a verdict on the finding: an approval says that what was flagged
    does not show it; a restriction under the rule says that it does, if one preview alone was
    flagged, because of several nobody said which.
    """
    findings = Finding.objects.filter(_of_concept(rule, concept))
    latest: dict[tuple[int, int], tuple[str, str, str, str]] = {}
    verdicts = Verdict.objects.filter(finding__in=findings).order_by("given_at", "pk")
    for pk, by, answer, source, concern, sha256 in verdicts.values_list(
        "finding_id",
        "given_by_id",
        "answer",
        "source",
        "finding__concern",
        "finding__preview__sha256",
    ):
        latest[pk, by] = (answer, source, concern, sha256)
    labels = [
        Label(sha256, (answer == VerdictAnswer.RIGHT) == (concern != Concern.NONE), source)
        for answer, source, concern, sha256 in latest.values()
        if answer != VerdictAnswer.UNSURE
    ]
    judged = {pk for pk, _ in latest}
    said = _decided(rule)
    flagged: dict[int, list[str]] = {}
    rows = findings.exclude(concern=Concern.NONE).filter(version__decisions__isnull=False)
    for pk, version, sha256 in rows.values_list("pk", "version", "preview__sha256").distinct():
        if version in said and pk not in judged:
            flagged.setdefault(version, []).append(sha256)
    for version, digests in flagged.items():
        shows = said[version]
        if not shows or len(digests) == 1:
            labels += [Label(sha256, shows, VerdictSource.DECISION) for sha256 in digests]
    return labels[:LABELS]


def _decided(rule: str) -> dict[int, bool]:
    """Return what the last decision in force on each version says about a rule."""
    said: dict[int, bool] = {}
    decisions = Decision.objects.filter(
        effect__state=EffectState.IN_FORCE, version__findings__rule__slug=rule
    ).distinct()
    for decision in decisions.order_by("decided_at", "pk")[:LABELS]:
        if decision.action == Action.APPROVE:
            said[decision.version_id] = False
        elif decision.action in LOOSENING:
            said.pop(decision.version_id, None)
        elif rule in {clause["slug"] for clause in decision.clauses}:
            said[decision.version_id] = True
    return said


# --- Heads ----------------------------------------------------------------------------------


def live_heads() -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return, for each rule and concept, the head in place in each encoder's space."""
    last = HeadPlacement.objects.values("rule", "concept", "encoder", "revision").annotate(
        last=Max("pk")
    )
    placed = HeadPlacement.objects.filter(pk__in=[row["last"] for row in last], head__isnull=False)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for placement in placed.select_related("head"):
        head = placement.head
        if head is None:
            continue
        found.setdefault((head.rule, head.concept), []).append(
            {
                "code": head.code,
                "encoder": head.encoder,
                "revision": head.revision,
                "parameters": head.parameters,
                "labels": head.labels,
                "review": head.threshold.get("value") if head.threshold.get("guaranteed") else None,
            }
        )
    return found


# --- The pages ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConceptRow:
    """One concept in the list."""

    rule: Rule
    concept: str
    head: ConceptHead | None
    near_misses: int


@dataclass(frozen=True)
class ConceptPage:
    """All that is known of one concept."""

    rule: Rule
    concept: str
    head: ConceptHead | None
    heads: list[ConceptHead]
    placements: list[HeadPlacement]
    report: Mapping[str, Any]
    reported_at: Any
    labels: int
    positives: int
    by_source: list[tuple[str, int]]
    near_misses: int
    seen: dict[str, str]  # where what heads see differently can be looked at: cases by SHA-256


def concepts(account: Account) -> list[ConceptRow]:
    """List the concepts of the policy in force, for the team."""
    require_team(account)
    last = HeadPlacement.objects.values("rule", "concept").annotate(last=Max("pk"))
    heads = {
        (placed.rule, placed.concept): placed.head
        for placed in HeadPlacement.objects.filter(pk__in=last.values("last")).select_related(
            "head"
        )
    }
    rows = (
        _near_misses(_scored())
        .order_by()
        .values("rule__slug", concept=KT("evidence__deciding__concept"))
        .annotate(count=Count("pk"))
    )
    waiting = {(row["rule__slug"], row["concept"]): row["count"] for row in rows}
    return [
        ConceptRow(rule, concept, heads.get(key), waiting.get(key, 0))
        for rule, concept in _pairs()
        for key in [(rule.slug, concept)]
    ]


def concept_page(account: Account, rule: str, concept: str) -> ConceptPage:
    """Return one concept for a member of the team. Raises NotAllowed or Http404 otherwise."""
    found = concept_rule(account, rule, concept)
    report = ConceptReport.objects.filter(rule=rule, concept=concept).first()
    labels = labels_of(rule, concept)
    heads = list(ConceptHead.objects.filter(rule=rule, concept=concept).order_by("-pk")[:30])
    placements = list(
        HeadPlacement.objects.filter(rule=rule, concept=concept)
        .select_related("head", "placed_by")
        .order_by("-pk")[:30]
    )
    sources = {label.source for label in labels}
    return ConceptPage(
        rule=found,
        concept=concept,
        head=placements[0].head if placements else None,
        heads=heads,
        placements=placements,
        report=report.data if report else {},
        reported_at=report.made_at if report else None,
        labels=len(labels),
        positives=sum(label.shows for label in labels),
        by_source=[
            (VerdictSource(source).label, sum(label.source == source for label in labels))
            for source in sorted(sources)
        ],
        near_misses=near_misses(found, concept).count(),
        seen=_cases_of({change["digest"] for head in heads for change in _changes(head)}),
    )


def _changes(head: ConceptHead) -> list[dict[str, Any]]:
    """Return what a head sees differently from the one before it."""
    changes: list[dict[str, Any]] = head.comparison.get("changes") or []
    return changes


def _cases_of(digests: set[str]) -> dict[str, str]:
    """Return the newest case on each picture, by SHA-256; not what is held apart."""
    if not digests:
        return {}
    cases = Case.objects.filter(
        version__previews__sha256__in=digests, version__isolated_at__isnull=True
    )
    return dict(cases.order_by("pk").values_list("version__previews__sha256", "code"))


def _pairs() -> list[tuple[Rule, str]]:
    rules = Rule.objects.filter(policy__is_active=True).prefetch_related("prompts", "vectors")
    return [
        (rule, concept)
        for rule in rules.order_by("position")
        if PROBE in rule.signals
        for concept in dict.fromkeys(
            [row.concept for row in rule.prompts.all()]
            + [row.concept for row in rule.vectors.all()]
        )
    ]


def concept_rule(account: Account, rule: str, concept: str) -> Rule:
    """Return the rule in force that has a concept, for the team. Raises NotAllowed or Http404."""
    require_team(account)
    found = Rule.objects.filter(policy__is_active=True, slug=rule).filter(
        Exists(Prompt.objects.filter(rule=OuterRef("pk"), concept=concept))
        | Exists(ConceptVector.objects.filter(rule=OuterRef("pk"), concept=concept))
    )
    row = found.first()
    if row is None or PROBE not in row.signals:
        raise Http404
    return row


def meant_by(rule: Rule, concept: str) -> list[str]:
    """Return what stands for a concept, where it is not its rule as a whole; else nothing."""
    if concept == rule.slug:
        return []
    prompts = Prompt.objects.filter(rule=rule, concept=concept, kind=Prompt.Kind.PROHIBITED)
    return list(prompts.values_list("text", flat=True))


# --- Questions ------------------------------------------------------------------------------


def near_misses(rule: Rule, concept: str, *, of: Account | None = None) -> Any:
    """Return findings worth a question: near to the threshold, or drawn for the audit.

    Not those that anybody has judged, that were decided or are held apart for child safety, or
    that this person made or reported. The two kinds cannot be told apart by whoever is asked.
    """
    found = _near_misses(_of_concept(rule.slug, concept))
    if of is not None:
        reported = Report.objects.filter(
            reporter=of, version__uploaded_model=OuterRef("version__uploaded_model")
        )
        found = found.exclude(version__uploaded_model__creator=of).exclude(Exists(reported))
    # Mixed by a number that says nothing about the score.
    return found.select_related("preview", "rule", "version").order_by("preview__code")


def _near_misses(of: Q) -> QuerySet[Finding]:
    judged = Verdict.objects.filter(finding=OuterRef("pk"))
    decided = Decision.objects.filter(version=OuterRef("version"))
    drawn = AuditItem.objects.filter(preview=OuterRef("preview"))
    return (
        Finding.objects.filter(of, version__isolated_at__isnull=True)
        .exclude(Exists(judged))
        .exclude(Exists(decided))
        .annotate(distance=Abs(F("score") - F("review")), is_drawn=Exists(drawn))
        .filter(Q(distance__lte=NEAR) | Q(is_drawn=True))
    )


def question_for(account: Account, pk: int) -> Finding:
    """Return a finding to be judged in a run. Raises NotAllowed or Http404 otherwise."""
    require_team(account)
    found = Finding.objects.filter(
        pk=pk, preview__isnull=False, version__isolated_at__isnull=True
    ).select_related("version__uploaded_model__creator", "preview", "rule")
    finding = found.first()
    if finding is None:
        raise Http404
    return finding


def is_audit(finding: Finding) -> bool:
    """Return whether a finding is asked about because its preview was drawn."""
    return AuditItem.objects.filter(preview=finding.preview).exists()


def audit_counts(rule: str, concept: str) -> dict[str, int]:
    """Return what the estimate of the miss rate is made from."""
    passed = Finding.objects.filter(_of_concept(rule, concept), concern=Concern.NONE)
    shows: dict[str, list[bool]] = {}
    flagged = 0
    for label in labels_of(rule, concept):
        if label.source == VerdictSource.AUDIT:
            shows.setdefault(label.sha256, []).append(label.shows)
        elif label.shows:
            flagged += 1
    found = sum(sum(said) * 2 > len(said) for said in shows.values())
    return {
        "sampled": len(shows),
        "found": found,
        "passed": max(passed.count(), len(shows)),
        "flagged_positives": flagged,
    }
