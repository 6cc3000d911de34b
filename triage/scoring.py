"""Scores pictures against the prompts of a policy.

For a concept with prohibited prompts P and contrast prompts N (its own and the policy's neutral
ones), with the encoder's trained inverse temperature t:

    s = logmeanexp(t * cos(picture, P)) - logmeanexp(t * cos(picture, N))

Means and not sums, so that adding a prompt does not by itself move the score. A raw cosine says
little: cosines of CLIP lie in a narrow band that differs from concept to concept, and comparing
with contrast prompts takes the band away (the softmax of two prompt groups, as in Q16, Schramowski
et al. 2022). Each prompt is the renormalised mean of its templates' embeddings (Radford et al.
2021, section 3.1.4).

A concept may also be given as vectors v of the encoder's space, each with a threshold h on the
cosine and a weight w, as in the safety checker of Stable Diffusion (Rando et al. 2022, section 2):

    s = max(w * t * (cos(picture, v) - h))

which is zero exactly where that checker draws its line, so that a probability of one half means
the same for both kinds. Pure numpy.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from triage.encoders.base import Array, Encoder
from triage.learning.heads import Head, head_from
from triage.sample import Concept, ConceptVectors, LearnedHead, Policy, PromptsAlone, Rule

SIGNAL = "previews"


class ScoringError(Exception):
    """The policy's prompts cannot be scored: ``code`` for machines, ``str()`` for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class PromptMatch:
    """A prompt and the cosine between it and the picture, -1..1."""

    prompt: str
    cosine: float


@dataclass(frozen=True, slots=True)
class ConceptScore:
    """One picture against one concept. ``score`` is s, in natural-log units (log odds).

    ``winner`` is the prohibited prompt nearest to the picture, ``runner_up`` the contrast or
    neutral prompt. Where the concept is given ``by_vectors`` they are the vector that decides and
    its threshold. Where a head was learnt, ``score`` is the logit of its calibrated probability and
    ``zero_shot`` what the prompts alone would have said.
    """

    concept: str
    score: float
    winner: PromptMatch
    runner_up: PromptMatch
    by_vectors: bool = False
    zero_shot: float | None = None
    head: LearnedHead | None = None
    alone: PromptsAlone | None = None


@dataclass(frozen=True, slots=True)
class RuleScore:
    """One picture against one rule.

    ``probability`` is sigmoid(s) of the deciding concept; it is ``calibrated`` where that has a
    head. ``review`` is the threshold of that concept. The margins are ``probability`` minus the
    thresholds: at or above zero it is reached.
    """

    rule: str
    probability: float
    calibrated: bool
    deciding: ConceptScore
    concepts: tuple[ConceptScore, ...]
    review: float
    review_margin: float
    hold_margin: float


@dataclass(frozen=True, slots=True)
class _Row:
    """Where the prompts of one concept lie among the bank's columns."""

    rule: Rule
    concept: Concept
    prohibited: tuple[int, ...]
    contrast: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _VectorRow:
    """A concept that is given as vectors, its numbers in arrays."""

    rule: Rule
    concept: Concept
    names: tuple[str, ...]
    columns: Array
    thresholds: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, rule: Rule, concept: Concept, vectors: ConceptVectors) -> "_VectorRow":
        """Return the arrays of a concept's vectors."""
        return cls(
            rule,
            concept,
            tuple(vector.name for vector in vectors.vectors),
            unit_columns(vectors),
            *vector_bounds(vectors),
        )

    def score(self, image: Array, logit_scale: float) -> ConceptScore:
        """Score one picture."""
        cosines = (image @ self.columns).clip(-1.0, 1.0).astype(np.float64)
        scores = self.weights * logit_scale * (cosines - self.thresholds)
        place = int(scores.argmax())
        return ConceptScore(
            self.concept.slug,
            float(scores[place]),
            PromptMatch(self.names[place], float(cosines[place])),
            PromptMatch(f"the threshold of “{self.names[place]}”", float(self.thresholds[place])),
            by_vectors=True,
        )


class ConceptBank:
    """The prompts and vectors of one policy, embedded once by one encoder.

    ``unfit`` are the rules, each with a sentence why, that cannot be scored because their vectors
    belong to another encoder; the others are. ``scorer`` names, in 16 hex digits, the encoder, the
    heads in place and the thresholds that were learnt: what scores a picture beside the policy.
    Raises ``ScoringError`` for a rule without concepts, and for a concept without prohibited
    prompts or without anything to contrast them with; ``EncoderError`` if the encoder fails.
    """

    def __init__(self, policy: Policy, encoder: Encoder) -> None:
        self.policy = policy
        self.logit_scale = encoder.logit_scale
        space = (encoder.name, encoder.revision)
        self._heads = {
            (rule.slug, concept.slug): known
            for rule in policy.rules_for(SIGNAL)
            for concept in rule.concepts
            if (known := head_of(concept, space))
        }
        self._alone = {
            (rule.slug, concept.slug): alone_of(concept, space)
            for rule in policy.rules_for(SIGNAL)
            for concept in rule.concepts
        }
        self.scorer = _scorer(space, [known for known, _ in self._heads.values()], self._alone)
        columns: dict[str, int] = {}
        self._rows: list[_Row | _VectorRow] = []
        self.unfit = unfit_rules(policy, encoder)
        for rule in policy.rules_for(SIGNAL):
            if rule.slug in self.unfit:
                continue
            if not rule.concepts:
                raise ScoringError(
                    "scoring.no_concepts",
                    f"The rule “{rule.slug}” asks for previews to be looked at but has no "
                    "concepts. Give it one with prohibited prompts, or take the signal away.",
                )
            for concept in rule.concepts:
                if concept.vectors:
                    self._rows.append(_VectorRow.of(rule, concept, concept.vectors))
                    continue
                contrast = (*concept.contrast, *policy.neutral)
                _check_prompts(rule, concept, contrast)
                prompts = (*concept.prohibited, *contrast)
                numbers = [columns.setdefault(prompt, len(columns)) for prompt in prompts]
                split = len(concept.prohibited)
                self._rows.append(
                    _Row(rule, concept, tuple(numbers[:split]), tuple(numbers[split:]))
                )
        self._prompts = list(columns)
        self._embeddings = embed_prompts(encoder, self._prompts, policy.templates)

    def score(self, images: Array) -> list[tuple[RuleScore, ...]]:
        """Return for each picture one score per rule that looks at previews.

        ``images`` are unit rows of shape (pictures, dim). Each concept is held against its own
        threshold. Of a rule that combines its concepts by "any" the one that goes furthest
        decides: one that is held before any that is not, then the largest margin to its review
        threshold. By "all" it is the one that goes least far.
        """
        cosines = (images @ self._embeddings.T).clip(-1.0, 1.0).astype(np.float64)
        return [self._score_one(image, row) for image, row in zip(images, cosines, strict=True)]

    def _score_one(self, image: Array, cosines: NDArray[np.float64]) -> tuple[RuleScore, ...]:
        by_rule: dict[str, tuple[Rule, list[ConceptScore]]] = {}
        for row in self._rows:
            if isinstance(row, _VectorRow):
                found = row.score(image, self.logit_scale)
            else:
                found = self._score_prompts(row, cosines)
            place = (row.rule.slug, row.concept.slug)
            found = _learned(found, self._heads.get(place), self._alone[place], image)
            by_rule.setdefault(row.rule.slug, (row.rule, []))[1].append(found)
        return tuple(_rule_score(rule, concepts) for rule, concepts in by_rule.values())

    def _score_prompts(self, row: _Row, cosines: NDArray[np.float64]) -> ConceptScore:
        prohibited, contrast = cosines[list(row.prohibited)], cosines[list(row.contrast)]
        score = log_mean_exp(self.logit_scale * prohibited) - log_mean_exp(
            self.logit_scale * contrast
        )
        return ConceptScore(
            row.concept.slug,
            score,
            self._best(row.prohibited, prohibited),
            self._best(row.contrast, contrast),
        )

    def _best(self, numbers: Sequence[int], cosines: NDArray[np.float64]) -> PromptMatch:
        place = int(cosines.argmax())
        return PromptMatch(self._prompts[numbers[place]], float(cosines[place]))


def unfit_rules(policy: Policy, encoder: Encoder) -> dict[str, str]:
    """Return the rules about previews whose vectors belong to another encoder, and why."""
    found: dict[str, str] = {}
    for rule in policy.rules_for(SIGNAL):
        for concept in rule.concepts:
            made_for = concept.vectors
            if made_for is None:
                continue
            fits = (made_for.encoder, made_for.revision) == (encoder.name, encoder.revision)
            if not fits or any(len(one.values) != encoder.dim for one in made_for.vectors):
                found[rule.slug] = (
                    f"The vectors of the concept “{concept.slug}” were made for the encoder "
                    f"“{made_for.encoder} {made_for.revision}” and say nothing in the space of "
                    f"“{encoder.name} {encoder.revision}”. Run that encoder, or make the vectors "
                    "anew with this one."
                )
    return found


def unit_columns(vectors: ConceptVectors) -> Array:
    """Return the vectors of a concept as unit columns of shape (dim, vectors)."""
    rows = np.array([vector.values for vector in vectors.vectors], np.float64)
    columns: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T.astype(np.float32)
    return columns


def vector_bounds(vectors: ConceptVectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the thresholds and the weights of a concept's vectors."""
    return (
        np.array([vector.threshold for vector in vectors.vectors]),
        np.array([vector.weight for vector in vectors.vectors]),
    )


def embed_prompts(encoder: Encoder, prompts: Sequence[str], templates: Sequence[str]) -> Array:
    """Return one unit row per prompt: the mean over the templates, renormalised.

    Each template holds ``{}`` once. Shape ``(len(prompts), dim)``.
    """
    if not prompts:
        return np.zeros((0, encoder.dim), np.float32)
    # Not str.format: a prompt or template is somebody's text, and braces in it mean nothing.
    texts = [template.replace("{}", prompt) for prompt in prompts for template in templates]
    rows = encoder.embed_texts(texts).reshape(len(prompts), len(templates), encoder.dim)
    means = rows.mean(axis=1)
    unit: Array = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    return unit


def log_mean_exp(values: NDArray[np.float64]) -> float:
    """Return log(mean(exp(values))) of one dimension, without overflow."""
    largest = values.max()
    return float(largest + np.log(np.mean(np.exp(values - largest))))


def policy_digest(policy: Policy) -> str:
    """Return a SHA-256 over everything in a policy; it changes when any of it changes.

    A head counts by its code, for what has one is never edited: it is worked out for each job.
    """
    rules = tuple(
        replace(rule, concepts=tuple(_by_code(concept) for concept in rule.concepts))
        for rule in policy.rules
    )
    named = asdict(replace(policy, rules=rules))
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def _by_code(concept: Concept) -> Concept:
    return replace(concept, heads=tuple(replace(head, parameters={}) for head in concept.heads))


def _scorer(
    space: tuple[str, str],
    heads: Sequence[LearnedHead],
    alone: Mapping[tuple[str, str], PromptsAlone | None],
) -> str:
    made_of: list[object] = [*space, *((head.code, head.review) for head in heads)]
    made_of += [
        (place, each.review)
        for place, each in alone.items()
        if each is not None and each.review is not None
    ]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


_KEPT_BANKS = 8  # one in use, a few drafts that somebody is trying out
_banks: OrderedDict[tuple[str, str], ConceptBank] = OrderedDict()
_lock = Lock()


def concept_bank(policy: Policy, encoder: Encoder) -> ConceptBank:
    """Return the bank of a policy, embedding its prompts only the first time."""
    key = (policy_digest(policy), encoder.revision)
    with _lock:
        if key not in _banks:
            _banks[key] = ConceptBank(policy, encoder)
            while len(_banks) > _KEPT_BANKS:
                _banks.popitem(last=False)
        _banks.move_to_end(key)
        return _banks[key]


def _check_prompts(rule: Rule, concept: Concept, contrast: tuple[str, ...]) -> None:
    if not concept.prohibited:
        raise ScoringError(
            "scoring.no_prohibited",
            f"The concept “{concept.slug}” of the rule “{rule.slug}” has no prohibited prompts. "
            "Write at least one sentence that describes what is not allowed.",
        )
    if not contrast:
        raise ScoringError(
            "scoring.no_contrast",
            f"The concept “{concept.slug}” of the rule “{rule.slug}” has neither contrast prompts "
            "nor neutral ones. Write at least one sentence about something harmless that looks "
            "similar; a score only says which of the two a picture is nearer to.",
        )


def head_of(concept: Concept, space: tuple[str, str]) -> tuple[LearnedHead, Head] | None:
    """Return the head of a concept for the encoder and revision in use, or None."""
    for learned in concept.heads:
        if (learned.encoder, learned.revision) == space:
            return learned, head_from(learned.parameters)
    return None


def alone_of(concept: Concept, space: tuple[str, str]) -> PromptsAlone | None:
    """Return what was learnt of a concept without a head for the encoder in use, or None."""
    return next((each for each in concept.alone if (each.encoder, each.revision) == space), None)


def log_odds(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), kept finite."""
    bounded = np.clip(np.asarray(probabilities, np.float64), 1e-9, 1 - 1e-9)
    odds: NDArray[np.float64] = np.log(bounded) - np.log1p(-bounded)
    return odds


def _learned(
    found: ConceptScore,
    known: tuple[LearnedHead, Head] | None,
    alone: PromptsAlone | None,
    image: Array,
) -> ConceptScore:
    if known is None:
        return replace(found, alone=alone)
    learned, head = known
    probability = head.probability(image, found.score)
    return replace(
        found,
        score=float(log_odds(probability)),
        zero_shot=found.score,
        head=learned,
    )


def review_of(rule: Rule, learned: LearnedHead | PromptsAlone | None) -> float:
    """Return the review threshold of a concept of a rule, given what was learnt of it."""
    if learned is None or learned.review is None:
        return rule.review
    # Never above the hold threshold: what is held is looked at, too.
    return min(learned.review, rule.hold)


def _rule_score(rule: Rule, concepts: list[ConceptScore]) -> RuleScore:
    def reach(concept: ConceptScore) -> tuple[bool, float, float]:
        # Margins and not scores: thresholds of heads differ, and the concept with the largest
        # score may be below its own while another has reached its.
        found = _sigmoid(concept.score)
        own = review_of(rule, concept.head or concept.alone)
        return found >= rule.hold, found - own, concept.score

    choose = max if rule.combine == "any" else min
    deciding = choose(concepts, key=reach)
    review = review_of(rule, deciding.head or deciding.alone)
    probability = _sigmoid(deciding.score)
    return RuleScore(
        rule=rule.slug,
        probability=probability,
        calibrated=deciding.head is not None,
        deciding=deciding,
        concepts=tuple(concepts),
        review=review,
        review_margin=probability - review,
        hold_margin=probability - rule.hold,
    )


def _sigmoid(value: float) -> float:
    # By tanh, which overflows nowhere.
    return float(0.5 * (1.0 + np.tanh(0.5 * value)))
