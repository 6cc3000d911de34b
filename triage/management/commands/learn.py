"""Learn each concept from moderators' verdicts; a head goes live only if it is better."""

import json
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import numpy as np
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from moderation.heads import (
    Place,
    concept_report,
    head_fitted,
    head_record,
    head_win,
    placement_last,
    threshold_record,
)
from moderation.models import ConceptHead, HeadPlacement
from moderation.models import Embedding as StoredEmbedding
from moderation.models import Policy as StoredPolicy
from moderation.selectors.learning import LABELS, audit_counts, labels_of
from moderation.selectors.policies import StoredRules, stored_rules
from moderation.selectors.workers import embeddings_of, policy_data
from triage import known_texts
from triage.embeddings import unpack
from triage.encoders.base import Encoder, EncoderError
from triage.learning.audit import miss_rate_estimate
from triage.learning.comparison import compare_heads
from triage.learning.guarantee import review_threshold
from triage.learning.heads import Head, fit_head, head_from, zero_shot_head
from triage.learning.labels import Labels, settle
from triage.learning.space import Space, space_of
from triage.sample import Concept, Policy, Rule
from triage.scoring import SIGNAL, ConceptBank, ScoringError, alone_of, head_of, review_of
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
    left_out: str


class Command(BaseCommand):
    """``manage.py learn``."""

    help = (
        "Fit a head for each concept of the policy in force from moderators' verdicts: anchored at "
        "the prompts from 8 labels, a logistic regression from 60, always calibrated by "
        "cross-validation. A new head is put in place only if its cross-validated log-loss and its "
        "recall at equal review load beat the one that is there, and never over what a person put "
        "there to stay; every head is kept with its report and can be put back on the page of its "
        "concept. Where the policy states a wanted miss rate (alpha), the review threshold is "
        "computed anew each time, with a head or without. Needs the `learning` extra."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--concept", default="", metavar="RULE/CONCEPT", help="only this one")
        parser.add_argument("--dry-run", action="store_true", help="report, store nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        """Learn, then say what came of it."""
        try:
            for name in ("scipy", "sklearn"):
                import_module(name)
        except ImportError as error:
            raise CommandError(f"Learning needs the extra “learning” ({error}).") from error
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
        house = _House(policy, stored_rules(active), encoder, _ordinary(encoder))
        bar = tqdm(pairs, unit="concept", disable=None)
        keep = not options["dry_run"]
        learnt = [_learn(rule, concept, house, keep=keep) for rule, concept in bar]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(each) for each in learnt], ensure_ascii=False))
            return
        for each in learnt:
            self.stdout.write(f"{each.rule}/{each.concept}: {each.sentence}")
            for line in (each.left_out, each.threshold, each.audit):
                if line:
                    self.stdout.write(f"    {line}")
        tally = Counter(each.outcome for each in learnt)
        kept = "" if not options["dry_run"] else " Nothing was stored (--dry-run)."
        self.stdout.write(
            ", ".join(f"{number} {outcome}" for outcome, number in sorted(tally.items()))
            + f".{kept}"
        )


@dataclass(frozen=True, slots=True)
class _House:
    """What all concepts are learnt beside. ``ordinary`` is the space of this house's pictures."""

    policy: Policy
    stored: StoredRules
    encoder: Encoder
    ordinary: Space | None


def _learn(rule: Rule, concept: Concept, house: _House, *, keep: bool) -> Learnt:
    """Fit, compare, put in place and compute the threshold of one concept, and say so."""
    encoder = house.encoder
    place = Place(rule.slug, concept.slug, encoder.name, encoder.revision)
    try:
        labels, sources, left_out = _labels(rule, concept, house.policy, encoder)
    except ScoringError as error:
        return Learnt(rule.slug, concept.slug, 0, 0, "cannot be scored", str(error), "", "", "")
    audit = miss_rate_estimate(**audit_counts(rule.slug, concept.slug))
    report: dict[str, Any] = {"audit": audit.as_dict(), "sources": dict(sources)}
    if left_out:
        report["left_out"] = left_out
    if labels.missing:
        report["missing"] = labels.missing
    step = _step(rule, concept, place, labels, house, keep=keep)
    threshold = _threshold(rule, place, step, labels, house, keep=keep)
    if keep:
        concept_report(rule=rule.slug, concept=concept.slug, data=report)
    return Learnt(
        rule.slug,
        concept.slug,
        len(labels),
        labels.positives,
        step.outcome,
        step.sentence,
        threshold,
        audit.sentence,
        left_out,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """What scores a concept from now on. ``stored`` is its row; None for the prompts alone."""

    outcome: str
    sentence: str
    head: Head
    stored: ConceptHead | None = None


def _step(
    rule: Rule, concept: Concept, place: Place, labels: Labels, house: _House, *, keep: bool
) -> _Step:
    """Fit a head if there is anything new to learn from; put it in place if it may be."""
    prompts = house.stored.prompts[rule.slug, concept.slug]
    last = placement_last(place)
    placed = last.head if last else None
    stored = placed if placed and placed.prompts == prompts else None
    in_place = (
        _head(stored) if stored else zero_shot_head(place.concept, encoder_revision=place.revision)
    )
    fitted = head_fitted(place, prompts=prompts, labels_digest=labels.digest)
    # The prompts have changed since; nothing that was said of that head is about these.
    lapsed = placed is not None and stored is None
    if fitted and not lapsed:
        sentence = f"Nothing new to learn from: {labels.positives} of {len(labels)} say yes."
        return _Step("unchanged", sentence, in_place, stored)
    head = (
        _head(fitted)
        if fitted
        else fit_head(
            place.concept, labels, encoder_revision=place.revision, ordinary=house.ordinary
        )
    )
    if head is None:
        return _Step("without a head", labels.missing, in_place, stored)
    space = (place.encoder, place.revision)
    known = head_of(concept, space)
    review = review_of(rule, known[0] if known else alone_of(concept, space))
    comparison = compare_heads(head, in_place, labels, review=review)
    kept = "" if lapsed or last is None else _kept_by(last)
    if keep and fitted is None:
        parameters = head.as_dict()
        fitted = head_record(
            place=place,
            prompts=prompts,
            held_out=parameters.pop("held_out"),
            parameters=parameters,
            labels=len(labels),
            positives=labels.positives,
            comparison=comparison.as_dict(),
        )
    if not comparison.goes_live:
        return _Step("refused", comparison.sentence, in_place, stored)
    if kept:
        return _Step("kept back", f"{comparison.sentence} {kept}", in_place, stored)
    if keep and fitted:
        head_win(place=place, head=fitted, reason=comparison.sentence)
    return _Step("put in place", comparison.sentence, head, fitted)


def _head(row: ConceptHead) -> Head:
    return head_from({**row.parameters, "held_out": row.held_out})


def _kept_by(last: HeadPlacement) -> str:
    """Say that a person keeps in place what is there; nothing where nobody does."""
    if last.placed_by is None or last.may_be_replaced:
        return ""
    what = f"head {last.head.number}" if last.head else "the prompts alone"
    return (
        f"It waits: {last.placed_by} put {what} in place on {last.placed_at:%-d %B %Y} to stay. "
        "A policy lead can put the new head in place on the page of its concept."
    )


def _threshold(
    rule: Rule, place: Place, step: _Step, labels: Labels, house: _House, *, keep: bool
) -> str:
    """Compute the review threshold that holds the wanted miss rate, if the rule wants one.

    For what is in place now, with a head or without: a label that the head learnt from counts as
    one that had not seen it scored it. Returns the sentence about it.
    """
    alpha = house.stored.alphas.get(rule.slug)
    if alpha is None:
        return ""
    unseen = step.head.held_out_probabilities(labels)[labels.verdicts]
    threshold = review_threshold(unseen, alpha, default=rule.review)
    if keep:
        threshold_record(
            place=place,
            prompts=house.stored.prompts[place.rule, place.concept],
            head=step.stored,
            alpha=alpha,
            positives=threshold.n,
            value=threshold.value if threshold.guaranteed else None,
            sentence=threshold.sentence,
        )
    return threshold.sentence


def _pairs(policy: Policy, wanted: str) -> Iterator[tuple[Rule, Concept]]:
    for rule in policy.rules_for(SIGNAL):
        for concept in rule.concepts:
            if wanted in {"", f"{rule.slug}/{concept.slug}"}:
                yield rule, concept


def _labels(
    rule: Rule, concept: Concept, policy: Policy, encoder: Encoder
) -> tuple[Labels, Counter[str], str]:
    """Return the labels of a concept that can be used, by source, too, and which were left out.

    Raises ``ScoringError`` if the concept cannot be scored by this encoder.
    """
    # The prompts alone: what a head learns beside must not be in what it learns from.
    bare = Rule(rule.slug, rule.title, rule.review, rule.hold, (SIGNAL,), (_bare(concept),))
    alone = Policy(policy.name, policy.version, (bare,), policy.neutral, policy.templates)
    bank = ConceptBank(alone, encoder)
    if rule.slug in bank.unfit:
        raise ScoringError("scoring.other_encoder", bank.unfit[rule.slug])
    found = labels_of(rule.slug, concept.slug)
    given = found.labels
    vectors = {
        row["sha256"]: row["vector"]
        for row in embeddings_of(
            {label.sha256 for label in given}, kinds=[StoredEmbedding.Kind.PICTURE]
        )
        if (row["encoder"], row["revision"]) == (encoder.name, encoder.revision)
    }
    usable = [label for label in given if label.sha256 in vectors]
    sources = Counter(label.source for label in usable)
    left_out = _left_out(len(given) - len(usable), found.left_out, encoder)
    if not usable:
        return settle([], np.zeros((0, encoder.dim)), [], []), sources, left_out
    rows = unpack([vectors[label.sha256] for label in usable])
    zero_shot = [row[0].deciding.score for row in bank.score(rows)]
    digests = [label.sha256 for label in usable]
    shows = [int(label.shows) for label in usable]
    return settle(digests, rows, zero_shot, shows), sources, left_out


def _left_out(not_embedded: int, older: int, encoder: Encoder) -> str:
    """Say how many labels were not used, and why."""
    said = []
    if not_embedded:
        said.append(
            f"{not_embedded} labels are left out: nothing is remembered of their pictures by the "
            f"encoder {encoder.name} {encoder.revision}. Learn with the workers’ ENCODER, on their "
            "kind of device; after a change of it run `manage.py rescreen` first."
        )
    if older:
        said.append(f"The newest {LABELS:,} words count; {older:,} older ones are left out.")
    return " ".join(said)


def _bare(concept: Concept) -> Concept:
    return Concept(concept.slug, concept.prohibited, concept.contrast, concept.vectors)


def _ordinary(encoder: Encoder) -> Space | None:
    """Return the space of this house's pictures, labelled or not; None if there are too few."""
    rows = StoredEmbedding.objects.filter(
        kind=StoredEmbedding.Kind.PICTURE, encoder=encoder.name, revision=encoder.revision
    ).order_by("sha256")
    vectors = [bytes(row) for row in rows.values_list("vector", flat=True)[:_ORDINARY]]
    return space_of(unpack(vectors)) if len(vectors) >= 2 else None
