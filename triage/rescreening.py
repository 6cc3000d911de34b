"""Scores many remembered embeddings at once, as after a change of the policy.

The same numbers as ``triage.scoring`` without its evidence: two matrix products, so that a
hundred thousand pictures take seconds. Pure numpy.
"""

import numpy as np
from numpy.typing import NDArray

from triage.encoders.base import Array, Encoder
from triage.sample import Concept, LearnedHead, Policy, PromptsAlone, Rule
from triage.scoring import (
    SIGNAL,
    alone_of,
    embed_prompts,
    head_of,
    log_odds,
    review_of,
    unfit_rules,
    unit_columns,
    vector_bounds,
)

_ROWS = 8192  # in one product: about 20 MB for 300 prompts, small enough for the cache to help


def rescreen(
    policy: Policy, encoder: Encoder, images: Array
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return the slugs of the rules that look at previews, the probabilities, the thresholds.

    ``images`` are unit rows of shape (pictures, dim). The probabilities have the shape
    (pictures, rules), and so have the review thresholds, since a head that decides brings its own;
    both are those of ``ConceptBank.score``, which refuses a policy that cannot be scored: build
    one first. A rule whose vectors belong to another encoder (``unfit`` of the bank) is left out.
    """
    unfit = unfit_rules(policy, encoder)
    rules = [rule for rule in policy.rules_for(SIGNAL) if rule.slug not in unfit]
    # In two groups, so that the scores of each stand side by side.
    concepts = [(rule, each) for rule in rules for each in rule.concepts if not each.vectors]
    by_vectors = [(rule, each) for rule in rules for each in rule.concepts if each.vectors]
    prompts, groups = _groups([concept for _, concept in concepts], policy.neutral)
    columns = embed_prompts(encoder, prompts, policy.templates).T
    scores = np.concatenate(
        [
            np.hstack(
                [
                    _scores(images[at : at + _ROWS] @ columns, groups, encoder.logit_scale),
                    *(
                        _vector_scores(images[at : at + _ROWS], concept, encoder.logit_scale)
                        for _, concept in by_vectors
                    ),
                ]
            )
            for at in range(0, len(images), _ROWS)
        ]
        or [np.zeros((0, len(concepts) + len(by_vectors)))]
    )
    concepts += by_vectors
    learned: dict[int, LearnedHead | PromptsAlone | None] = {}
    space = (encoder.name, encoder.revision)
    for number, (_, concept) in enumerate(concepts):
        known = head_of(concept, space)
        learned[number] = known[0] if known else alone_of(concept, space)
        if known is not None and len(images):
            scores[:, number] = log_odds(known[1].probabilities(images, scores[:, number]))
    probabilities = np.empty((len(images), len(rules)))
    reviews = np.empty((len(images), len(rules)))
    for number, rule in enumerate(rules):
        places = np.array([place for place, (of, _) in enumerate(concepts) if of is rule])
        own = np.array([review_of(rule, learned[place]) for place in places])
        found = 0.5 * (1 + np.tanh(0.5 * scores[:, places]))
        deciding = _deciding(rule, scores[:, places], found, own)
        probabilities[:, number] = np.take_along_axis(found, deciding[:, None], axis=1)[:, 0]
        reviews[:, number] = own[deciding]
    return [rule.slug for rule in rules], probabilities, reviews


def _deciding(
    rule: Rule,
    scores: NDArray[np.float64],
    found: NDArray[np.float64],
    reviews: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Return which of a rule's concepts decides for each picture, as ``ConceptBank.score`` says.

    ``scores`` and their probabilities ``found`` have the shape (pictures, concepts).
    """
    order: NDArray[np.intp]
    if (reviews == reviews[0]).all():
        # With one threshold for all of them the largest margin is the largest score.
        order = scores.argmax(axis=1) if rule.combine == "any" else scores.argmin(axis=1)
        return order
    order = np.lexsort((scores, found - reviews, found >= rule.hold), axis=1)
    return order[:, -1] if rule.combine == "any" else order[:, 0]


def _groups(
    concepts: list[Concept], neutral: tuple[str, ...]
) -> tuple[list[str], NDArray[np.float64]]:
    """Return all prompts, and what each weighs in the mean of each group.

    Shape (prompts, 2 * concepts): first the prohibited group of each concept, then the contrast.
    """
    columns: dict[str, int] = {}
    members = [concept.prohibited for concept in concepts]
    members += [(*concept.contrast, *neutral) for concept in concepts]
    for group in members:
        for prompt in group:
            columns.setdefault(prompt, len(columns))
    weights = np.zeros((len(columns), len(members)))
    for number, group in enumerate(members):
        for prompt in group:
            weights[columns[prompt], number] += 1 / len(group)
    return list(columns), weights


def _scores(cosines: Array, groups: NDArray[np.float64], logit_scale: float) -> NDArray[np.float64]:
    """Return one log odds per picture and concept."""
    logits = logit_scale * cosines.clip(-1, 1).astype(np.float64)
    # Shifted by the largest, so that nothing overflows; in fp64 nothing of weight underflows.
    if not groups.size:
        return np.zeros((len(cosines), 0))
    means = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)) @ groups)
    prohibited, contrast = np.split(means, 2, axis=1)
    odds: NDArray[np.float64] = prohibited - contrast
    return odds


def _vector_scores(images: Array, concept: Concept, logit_scale: float) -> NDArray[np.float64]:
    """Return one log odds per picture for a concept given as vectors, shape (pictures, 1)."""
    if concept.vectors is None:
        raise ValueError(f"The concept “{concept.slug}” has no vectors.")
    cosines = (images @ unit_columns(concept.vectors)).clip(-1, 1).astype(np.float64)
    thresholds, weights = vector_bounds(concept.vectors)
    odds: NDArray[np.float64] = (weights * logit_scale * (cosines - thresholds)).max(
        axis=1, keepdims=True
    )
    return odds
