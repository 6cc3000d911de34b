"""Labels, heads and the figures of a concept, and the questions that are asked about it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import Abs
from django.http import Http404

from moderation.models import (
    Account,
    AuditItem,
    Case,
    ConceptHead,
    ConceptReport,
    ConceptThreshold,
    ConceptVector,
    Decision,
    Finding,
    HeadPlacement,
    Policy,
    Prompt,
    Report,
    Rule,
    Verdict,
)
from moderation.selectors.policies import stored_rules
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
    given_at: datetime


@dataclass(frozen=True)
class Labels:
    """The newest words on a concept, newest first, and how many older ones are ``left_out``."""

    labels: list[Label]
    left_out: int


def _scored(**of: str) -> Q:
    return Q(probe=PROBE, outcome=Outcome.SCORED, preview__isnull=False, **of)


def _of_concept(rule: str, concept: str) -> Q:
    return _scored(rule__slug=rule, evidence__deciding__concept=concept)


def labels_of(rule: str, concept: str) -> Labels:
    """Return the labels of a concept, the newest ``LABELS`` of them.

    From verdicts: the last word of each person on each finding; “unsure” is none. From decisions
    in force, where nobody gave a verdict on the finding: an approval says that what was flagged
    does not show it; a restriction under the rule says that it does, if one preview alone was
    flagged, because of several nobody said which.
    """
    findings = Finding.objects.filter(_of_concept(rule, concept))
    latest: dict[tuple[int, int], Label | None] = {}
    verdicts = Verdict.objects.filter(finding__in=findings).order_by("-given_at", "-pk")
    words = verdicts.values_list(
        "finding_id",
        "given_by_id",
        "answer",
        "source",
        "given_at",
        "finding__concern",
        "finding__preview__sha256",
    )[:LABELS]
    for pk, by, answer, source, at, concern, sha256 in words:
        shows = (answer == VerdictAnswer.RIGHT) == (concern != Concern.NONE)
        word = None if answer == VerdictAnswer.UNSURE else Label(sha256, shows, source, at)
        latest.setdefault((pk, by), word)
    labels = [word for word in latest.values() if word is not None]
    judged = {pk for pk, _ in latest}
    decisions = _decisions(rule)
    newest = list(decisions[:LABELS])
    said = _decided(rule, newest)
    flagged: dict[int, list[str]] = {}
    rows = findings.exclude(concern=Concern.NONE).filter(version__decisions__isnull=False)
    for pk, version, sha256 in rows.values_list("pk", "version", "preview__sha256").distinct():
        if version in said and pk not in judged:
            flagged.setdefault(version, []).append(sha256)
    for version, digests in flagged.items():
        shows, at = said[version]
        if not shows or len(digests) == 1:
            labels += [Label(sha256, shows, VerdictSource.DECISION, at) for sha256 in digests]
    labels.sort(key=lambda label: label.given_at, reverse=True)
    unread = _unread(verdicts, len(words)) + _unread(decisions, len(newest))
    return Labels(labels[:LABELS], unread + len(labels[LABELS:]))


def _unread(rows: QuerySet[Any], read: int) -> int:
    """Return how many rows there are beyond those that were read; nobody counts a short list."""
    return rows.count() - read if read == LABELS else 0


def _decisions(rule: str) -> QuerySet[Decision]:
    """Return the decisions in force on what was weighed under a rule, newest first."""
    decisions = Decision.objects.filter(
        effect__state=EffectState.IN_FORCE, version__findings__rule__slug=rule
    )
    return decisions.distinct().order_by("-decided_at", "-pk")


def _decided(rule: str, decisions: list[Decision]) -> dict[int, tuple[bool, datetime]]:
    """Return what the last decision on each version says about a rule, and since when.

    ``decisions`` come newest first.
    """
    said: dict[int, tuple[bool, datetime]] = {}
    loosened: set[int] = set()
    for decision in decisions:
        version = decision.version_id
        if version in said or version in loosened:
            continue
        if decision.action == Action.APPROVE:
            said[version] = (False, decision.decided_at)
        elif decision.action in LOOSENING:
            loosened.add(version)
        elif rule in {clause["slug"] for clause in decision.clauses}:
            said[version] = (True, decision.decided_at)
    return said


# --- What is in place -----------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """What scores a concept in the space of one encoder, under one policy.

    ``head`` is the one that is applied, None for the prompts alone. ``left_out`` was put in place
    beside other prompts than this policy has, and is not applied. ``threshold`` was computed for
    this very head, these prompts and the wanted miss rate of this policy; None if there is none.
    """

    encoder: str
    revision: str
    head: ConceptHead | None
    left_out: ConceptHead | None
    placement: HeadPlacement | None
    threshold: ConceptThreshold | None

    @property
    def space(self) -> str:
        """The encoder as findings name it."""
        return f"{self.encoder} {self.revision}"

    @property
    def review(self) -> float | None:
        """The review threshold that holds the wanted miss rate, if one is known to."""
        return self.threshold.value if self.threshold else None


def standings(policy: Policy) -> dict[tuple[str, str], list[Standing]]:
    """Return what is in place for each rule and concept of a policy, by encoder."""
    return _standings(
        policy, _last(HeadPlacement.objects.all()), _last(ConceptThreshold.objects.all())
    )


def _standings(
    policy: Policy, placed_in_order: Iterable[HeadPlacement], made: Iterable[ConceptThreshold]
) -> dict[tuple[str, str], list[Standing]]:
    stored = stored_rules(policy)
    placements = {_place_of(row): row for row in placed_in_order}
    thresholds = {_place_of(row): row for row in made}
    found: dict[tuple[str, str], list[Standing]] = {}
    for place in sorted(placements.keys() | thresholds.keys()):
        rule, concept, encoder, revision = place
        prompts = stored.prompts.get((rule, concept))
        if prompts is None:
            continue
        placement, threshold = placements.get(place), thresholds.get(place)
        placed = placement.head if placement else None
        head = placed if placed and placed.prompts == prompts else None
        for_this = threshold and (
            (threshold.prompts, threshold.head_id, threshold.alpha)
            == (prompts, head.pk if head else None, stored.alphas.get(rule))
        )
        found.setdefault((rule, concept), []).append(
            Standing(
                encoder=encoder,
                revision=revision,
                head=head,
                left_out=placed if head is None else None,
                placement=placement,
                threshold=threshold if for_this else None,
            )
        )
    return found


def learnt_live(policy: Policy) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what workers need of what was learnt, for each rule and concept of a policy."""
    return {
        key: {
            "heads": [
                {
                    "code": each.head.code,
                    "encoder": each.encoder,
                    "revision": each.revision,
                    "parameters": _parameters(each.head.code),
                    "labels": each.head.labels,
                    "review": each.review,
                }
                for each in places
                if each.head
            ],
            "alone": [
                {
                    "encoder": each.encoder,
                    "revision": each.revision,
                    "review": each.review,
                    "left_out": each.left_out.code if each.left_out else "",
                }
                for each in places
                if each.head is None
            ],
        }
        for key, places in standings(policy).items()
    }


# A head is never edited, so that each process reads it once; some kilobytes each.
@lru_cache(maxsize=1024)
def _parameters(code: str) -> dict[str, Any]:
    parameters: dict[str, Any] = ConceptHead.objects.values_list("parameters", flat=True).get(
        code=code
    )
    return parameters


def _last(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the last row of each concept and encoder, with its head but not all it was made of."""
    last = rows.values("rule", "concept", "encoder", "revision").annotate(last=Max("pk"))
    found = rows.filter(pk__in=last.values("last")).select_related("head")
    return found.defer("head__parameters", "head__held_out", "head__comparison")


def _place_of(row: HeadPlacement | ConceptThreshold) -> tuple[str, str, str, str]:
    return row.rule, row.concept, row.encoder, row.revision


def _encoder_in_use() -> Subquery:
    """Ask for the encoder that made the newest finding on a preview, as “name revision”."""
    newest = Finding.objects.filter(_scored()).order_by("-pk")
    return Subquery(newest.values(encoder=KT("versions__encoder"))[:1])


def standing_in_use(places: Sequence[Standing], used: str) -> Standing | None:
    """Return what scores a concept now: in the space of the encoder that is ``used``.

    Before the first finding that is what was put in place last.
    """
    if used:
        return next((each for each in places if each.space == used), None)
    placed = [each for each in places if each.placement]
    return max(placed, key=lambda each: each.placement.pk, default=None)  # type: ignore[union-attr]


# --- The pages ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConceptRow:
    """One concept in the list."""

    rule: Rule
    concept: str
    head: ConceptHead | None
    left_out: ConceptHead | None
    near_misses: int


@dataclass(frozen=True)
class ConceptPage:
    """All that is known of one concept."""

    rule: Rule
    concept: str
    prompts: str  # a digest of those in force
    used: str  # the encoder in use, as findings name it
    now: Standing | None
    places: list[Standing]
    in_place: set[str]  # the codes of the heads that are applied, in whatever space
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
    policy = Policy.objects.filter(is_active=True).annotate(used=_encoder_in_use()).first()
    places = standings(policy) if policy else {}
    used = (policy.used if policy else None) or ""
    rows = (
        _near_misses(_scored())
        .order_by()
        .values("rule__slug", concept=KT("evidence__deciding__concept"))
        .annotate(count=Count("pk"))
    )
    waiting = {(row["rule__slug"], row["concept"]): row["count"] for row in rows}
    found = []
    for rule, concept in _pairs():
        key = (rule.slug, concept)
        now = standing_in_use(places.get(key, []), used)
        head, left_out = (now.head, now.left_out) if now else (None, None)
        found.append(ConceptRow(rule, concept, head, left_out, waiting.get(key, 0)))
    return found


def concept_page(account: Account, rule: str, concept: str) -> ConceptPage:
    """Return one concept for a member of the team. Raises NotAllowed or Http404 otherwise."""
    require_team(account)
    in_force = _in_force(rule, concept).select_related("policy")
    found = in_force.annotate(used=_encoder_in_use()).first()
    if found is None or PROBE not in found.signals:
        raise Http404
    report = ConceptReport.objects.filter(rule=rule, concept=concept).first()
    labels = labels_of(rule, concept).labels
    learnt = ConceptHead.objects.filter(rule=rule, concept=concept).defer("held_out")
    heads = list(learnt.order_by("-pk")[:30])
    placements = list(
        HeadPlacement.objects.filter(rule=rule, concept=concept)
        .select_related("head", "placed_by")
        .defer("head__parameters", "head__held_out", "head__comparison")
        .order_by("pk")
    )
    places = _standings(
        found.policy,
        placements,
        _last(ConceptThreshold.objects.filter(rule=rule, concept=concept)),
    ).get((rule, concept), [])
    used = found.used or ""
    sources = {label.source for label in labels}
    return ConceptPage(
        rule=found,
        concept=concept,
        prompts=stored_rules(found.policy).prompts[rule, concept],
        used=used,
        now=standing_in_use(places, used),
        places=places,
        in_place={each.head.code for each in places if each.head},
        heads=heads,
        placements=placements[:-31:-1],
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
    found = _in_force(rule, concept).first()
    if found is None or PROBE not in found.signals:
        raise Http404
    return found


def _in_force(rule: str, concept: str) -> QuerySet[Rule]:
    return Rule.objects.filter(policy__is_active=True, slug=rule).filter(
        Exists(Prompt.objects.filter(rule=OuterRef("pk"), concept=concept))
        | Exists(ConceptVector.objects.filter(rule=OuterRef("pk"), concept=concept))
    )


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
        _scored(), pk=pk, rule__isnull=False, version__isolated_at__isnull=True
    ).select_related("version__uploaded_model__creator", "preview", "rule")
    finding = found.first()
    if finding is None:
        raise Http404
    return finding


def is_audit(finding: Finding) -> bool:
    """Return whether a finding is asked about because its preview was drawn."""
    return AuditItem.objects.filter(preview=finding.preview).exists()


def audit_counts(rule: str, concept: str) -> dict[str, int]:
    """Return what the estimate of the miss rate is made from, in pictures and not in findings.

    As the door saw them, whatever was weighed again since: what learning found because the audit
    had shown it would else look as if it had never been missed. ``passed`` is what the audit draws
    from: what went unflagged in versions that were published as clean.
    """
    at_the_door = Finding.objects.filter(
        _of_concept(rule, concept), created_at__lte=F("version__triaged_at")
    )
    passed = at_the_door.filter(
        concern=Concern.NONE, version__published_at=F("version__triaged_at")
    ).order_by()
    drawn = set(
        passed.filter(preview__audit_item__isnull=False).values_list("preview__sha256", flat=True)
    )
    audited: dict[str, list[bool]] = {}
    others: dict[str, list[bool]] = {}
    for label in labels_of(rule, concept).labels:
        if label.source != VerdictSource.AUDIT:
            others.setdefault(label.sha256, []).append(label.shows)
        elif label.sha256 in drawn:
            audited.setdefault(label.sha256, []).append(label.shows)
    positives = {sha256 for sha256, words in others.items() if _mostly(words)} - audited.keys()
    flagged = at_the_door.exclude(concern=Concern.NONE).filter(preview__sha256__in=positives)
    return {
        "sampled": len(audited),
        "found": sum(_mostly(words) for words in audited.values()),
        "passed": passed.aggregate(number=Count("preview__sha256", distinct=True))["number"],
        "flagged_positives": flagged.order_by().values("preview__sha256").distinct().count(),
    }


def _mostly(words: list[bool]) -> bool:
    return sum(words) * 2 > len(words)
