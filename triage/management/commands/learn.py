"""Learn each concept from moderators' verdicts; a head goes live only if it is better."""

import json
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from moderation.heads import Place, concept_report, head_in_place, head_record
from moderation.models import Embedding as StoredEmbedding
from moderation.models import Policy as StoredPolicy
from moderation.selectors.learning import audit_counts, labels_of
from moderation.selectors.workers import embeddings_of, policy_data
from triage import known_texts
from triage.embeddings import unpack
from triage.encoders.base import Encoder, EncoderError
from triage.learning.audit import miss_rate_estimate
from triage.learning.comparison import compare_heads
from triage.learning.guarantee import review_threshold
from triage.learning.heads import (
    Head,
    cross_validated_probabilities,
    fit_head,
    head_from,
    zero_shot_head,
)
from triage.learning.labels import Labels, settle
from triage.learning.space import Space, space_of
from triage.sample import Concept, Policy, Rule
from triage.scoring import SIGNAL, ConceptBank, ScoringError
from triage.tasks import policy_from

# Enough to know the mean and the spread of ordinary pictures.
_ORDINARY = 5_000


@dataclass(frozen=True, slots=True)
class Learnt:
    """What came of one concept."""

    rule: str
    concept: str
    labels: int
    positives: int
    outcome: str
    sentence: str
    threshold: str
    audit: str


class Command(BaseCommand):
    """``manage.py learn``."""

    help = (
        "Fit a head for each concept of the policy in force from moderators' verdicts: anchored at "
        "the prompts from 8 labels, a logistic regression from 60, always calibrated by "
        "cross-validation. A new head is put in place only if its cross-validated log-loss and its "
        "recall at equal review load beat the one that is there; every head is kept with its "
        "report and can be put back on the page of its concept. Where the policy states a wanted "
        "miss rate (alpha), the review threshold is chosen to hold it. Needs the `learning` extra."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--concept", default="", metavar="RULE/CONCEPT", help="only this one")
        parser.add_argument("--dry-run", action="store_true", help="report, store nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        """Learn, then say what came of it."""
        active = StoredPolicy.objects.filter(is_active=True).first()
        if active is None:
            raise CommandError("No policy is in force. Import one with `manage.py policy import`.")
        policy = policy_from(policy_data(active))
        try:
            encoder = known_texts.load(settings.ENCODER)
        except EncoderError as error:
            raise CommandError(str(error)) from error
        pairs = list(_pairs(policy, options["concept"]))
        if not pairs:
            raise CommandError(
                f"The policy in force has no concept “{options['concept']}”. Name it as "
                "RULE/CONCEPT, as the page “Concepts” of the console lists them."
            )
        space = _ordinary(encoder)
        bar = tqdm(pairs, unit="concept", disable=None)
        learnt = [
            self._learn(rule, concept, policy, encoder, space, keep=not options["dry_run"])
            for rule, concept in bar
        ]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(each) for each in learnt], ensure_ascii=False))
            return
        for each in learnt:
            self.stdout.write(f"{each.rule}/{each.concept}: {each.sentence}")
            for line in (each.threshold, each.audit):
                if line:
                    self.stdout.write(f"    {line}")
        tally = Counter(each.outcome for each in learnt)
        kept = "" if not options["dry_run"] else " Nothing was stored (--dry-run)."
        self.stdout.write(
            ", ".join(f"{number} {outcome}" for outcome, number in sorted(tally.items()))
            + f".{kept}"
        )

    def _learn(
        self,
        rule: Rule,
        concept: Concept,
        policy: Policy,
        encoder: Encoder,
        space: Space | None,
        *,
        keep: bool,
    ) -> Learnt:
        place = Place(rule.slug, concept.slug, encoder.name, encoder.revision)
        try:
            labels, sources = _labels(rule, concept, policy, encoder)
        except ScoringError as error:
            return Learnt(rule.slug, concept.slug, 0, 0, "cannot be scored", str(error), "", "")
        audit = miss_rate_estimate(**audit_counts(rule.slug, concept.slug))
        report: dict[str, Any] = {"audit": audit.as_dict(), "sources": dict(sources)}
        head = fit_head(place.concept, labels, encoder_revision=encoder.revision, ordinary=space)
        if head is None:
            report["missing"] = labels.missing
            if keep:
                concept_report(rule=rule.slug, concept=concept.slug, data=report)
            return _learnt(place, labels, "without a head", labels.missing, "", audit.sentence)
        stored = head_in_place(place)
        in_place = (
            head_from(stored.parameters)
            if stored
            else zero_shot_head(place.concept, encoder_revision=encoder.revision)
        )
        if stored and head.labels_digest == in_place.labels_digest:
            sentence = f"Nothing new to learn from: {labels.positives} of {len(labels)} say yes."
            if keep:
                concept_report(rule=rule.slug, concept=concept.slug, data=report)
            return _learnt(place, labels, "unchanged", sentence, "", audit.sentence)
        comparison = compare_heads(head, in_place, labels, review=rule.review)
        threshold = _threshold(rule, head, labels)
        if keep:
            head_record(
                place=place,
                parameters=head.as_dict(),
                labels=len(labels),
                positives=labels.positives,
                threshold=threshold,
                comparison=comparison.as_dict(),
                goes_live=comparison.goes_live,
                reason=comparison.sentence,
            )
            concept_report(rule=rule.slug, concept=concept.slug, data=report)
        outcome = "put in place" if comparison.goes_live else "refused"
        said = str(threshold.get("sentence", ""))
        return _learnt(place, labels, outcome, comparison.sentence, said, audit.sentence)


def _learnt(
    place: Place, labels: Labels, outcome: str, sentence: str, threshold: str, audit: str
) -> Learnt:
    return Learnt(
        place.rule,
        place.concept,
        len(labels),
        labels.positives,
        outcome,
        sentence,
        threshold,
        audit,
    )


def _pairs(policy: Policy, wanted: str) -> Iterator[tuple[Rule, Concept]]:
    for rule in policy.rules_for(SIGNAL):
        for concept in rule.concepts:
            if wanted in {"", f"{rule.slug}/{concept.slug}"}:
                yield rule, concept


def _labels(
    rule: Rule, concept: Concept, policy: Policy, encoder: Encoder
) -> tuple[Labels, Counter[str]]:
    """Return the labels of a concept whose pictures this encoder has embedded, by source, too."""
    given = labels_of(rule.slug, concept.slug)
    vectors = {
        row["sha256"]: row["vector"]
        for row in embeddings_of(
            {label.sha256 for label in given}, kinds=[StoredEmbedding.Kind.PICTURE]
        )
        if (row["encoder"], row["revision"]) == (encoder.name, encoder.revision)
    }
    usable = [label for label in given if label.sha256 in vectors]
    sources = Counter(label.source for label in usable)
    if not usable:
        return settle([], np.zeros((0, encoder.dim)), [], []), sources
    rows = unpack([vectors[label.sha256] for label in usable])
    # The prompts alone: what a head learns beside must not be in what it learns from.
    bare = Rule(rule.slug, rule.title, rule.review, rule.hold, (SIGNAL,), (_bare(concept),))
    alone = Policy(policy.name, policy.version, (bare,), policy.neutral, policy.templates)
    scores = ConceptBank(alone, encoder).score(rows)
    zero_shot = [found[0].deciding.score for found in scores]
    digests = [label.sha256 for label in usable]
    return settle(digests, rows, zero_shot, [int(label.shows) for label in usable]), sources


def _bare(concept: Concept) -> Concept:
    return Concept(concept.slug, concept.prohibited, concept.contrast, concept.vectors)


def _threshold(rule: Rule, head: Head, labels: Labels) -> dict[str, Any]:
    """Return the review threshold that holds the wanted miss rate, if the rule wants one."""
    alpha = _alpha(rule)
    if alpha is None:
        return {}
    unseen = cross_validated_probabilities(head, labels)[labels.verdicts]
    return review_threshold(unseen, alpha, default=rule.review).as_dict()


def _alpha(rule: Rule) -> float | None:
    row = StoredPolicy.objects.get(is_active=True).rules.filter(slug=rule.slug).first()
    return row.alpha if row else None


def _ordinary(encoder: Encoder) -> Space | None:
    """Return the space of this house's pictures, labelled or not; None if there are too few."""
    rows = StoredEmbedding.objects.filter(
        kind=StoredEmbedding.Kind.PICTURE, encoder=encoder.name, revision=encoder.revision
    ).order_by("sha256")
    vectors = [bytes(row) for row in rows.values_list("vector", flat=True)[:_ORDINARY]]
    return space_of(unpack(vectors)) if len(vectors) >= 2 else None
