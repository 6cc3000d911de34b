"""Many remembered embeddings at once score as each of them did alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from triage.encoders.base import Array
from triage.learning.heads import Head, Platt
from triage.rescreening import rescreen
from triage.sample import Concept, LearnedHead, Policy, PromptsAlone, Rule
from triage.scoring import ConceptBank

RULES = (
    Rule(
        "weapons", "Weapons", 0.5, 0.9, ("previews",),
        (Concept("gun", ("a gun", "a rifle"), ("a toy",)), Concept("knife", ("a knife",), ())),
    ),
    Rule("code", "Code", 0.5, 0.9, ("container.code",)),
    Rule(
        "both", "Both", 0.5, 0.9, ("previews",),
        (Concept("a", ("a gun",), ("a toy",)), Concept("b", ("a tree",), ("a toy", "a toy"))),
        combine="all",
    ),
)  # fmt: skip
POLICY = Policy("test", 1, RULES, neutral=("a picture", "a photo"), templates=("{}", "some {}"))


@dataclass
class RandomEncoder:
    """Each text has a direction of its own, drawn from its letters."""

    name: str = "random"
    revision: str = "1"
    dim: int = 16
    logit_scale: float = 100.0
    demo: bool = False

    def embed_texts(self, texts: Sequence[str]) -> Array:
        return unit(
            np.stack([np.random.default_rng(list(text.encode())).normal(size=16) for text in texts])
        )

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        raise AssertionError("not needed here")


def unit(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Array:
    rows_of_one: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows_of_one


def test_the_probabilities_are_those_of_pictures_scored_alone() -> None:
    encoder = RandomEncoder()
    images = unit(np.random.default_rng(0).normal(size=(8300, 16)))
    slugs, found, reviews = rescreen(POLICY, encoder, images)
    assert (slugs, found.shape) == (["weapons", "both"], (8300, 2))
    some = [*range(40), *range(8180, 8210), 8299]
    alone = ConceptBank(POLICY, encoder).score(images[some])
    expected = [[rule.probability for rule in row] for row in alone]
    assert np.allclose(found[some], expected, atol=1e-4)
    assert (reviews == 0.5).all()


def learnt(concept: Concept, seed: int, review: float | None) -> Concept:
    weights = tuple(np.random.default_rng(seed).normal(size=16).tolist())
    head = Head(concept.slug, "logistic", "1", weights, 0.5, 0.1, Platt())
    learned = LearnedHead(f"h{seed}", "random", "1", head.as_dict(), 60, review=review)
    return replace(concept, heads=(learned,))


@pytest.mark.parametrize("own", [0.2, 0.95, None])
def test_each_concept_is_held_against_the_threshold_of_its_own_head(own: float | None) -> None:
    encoder = RandomEncoder()
    weapons, code, both = RULES
    rules = (
        replace(weapons, concepts=(learnt(weapons.concepts[0], 7, own), weapons.concepts[1])),
        code,
        replace(
            both, concepts=(learnt(both.concepts[0], 8, own), learnt(both.concepts[1], 9, 0.7))
        ),
    )
    policy = replace(POLICY, rules=rules)
    images = unit(np.random.default_rng(1).normal(size=(400, 16)))
    _, found, reviews = rescreen(policy, encoder, images)
    alone = ConceptBank(policy, encoder).score(images)
    assert np.allclose(found, [[rule.probability for rule in row] for row in alone], atol=1e-4)
    assert reviews.tolist() == [[rule.review for rule in row] for row in alone]
    if own is not None:
        assert {row[0] for row in reviews.tolist()} == {0.5, min(own, 0.9)}
        assert {row[1] for row in reviews.tolist()} == {0.7, min(own, 0.9)}


def test_the_prompts_alone_bring_the_threshold_that_was_computed_for_them() -> None:
    encoder = RandomEncoder()
    weapons, code, both = RULES
    gun, knife = weapons.concepts
    alone = (PromptsAlone("random", "1", 0.2), PromptsAlone("random", "of before", 0.01))
    weapons = replace(weapons, concepts=(replace(gun, alone=alone), knife))
    policy = replace(POLICY, rules=(weapons, code, both))
    images = unit(np.random.default_rng(1).normal(size=(60, 16)))
    _, _, reviews = rescreen(policy, encoder, images)
    bank = ConceptBank(policy, encoder)
    assert reviews.tolist() == [[rule.review for rule in row] for row in bank.score(images)]
    assert {row[0] for row in reviews.tolist()} == {0.2, 0.5}
    # What was weighed without it is weighed again.
    assert bank.scorer != ConceptBank(POLICY, encoder).scorer


def test_nothing_remembered_is_nothing_to_score() -> None:
    _, found, _ = rescreen(POLICY, RandomEncoder(), np.zeros((0, 16), np.float32))
    assert found.shape == (0, 2)
