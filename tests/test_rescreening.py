"""Many remembered embeddings at once score as each of them did alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from triage.encoders.base import Array
from triage.learning.heads import Head, Platt
from triage.rescreening import rescreen
from triage.sample import Concept, LearnedHead, Policy, Rule
from triage.scoring import Calibration, ConceptBank

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


@pytest.mark.parametrize("calibrations", [{}, {"weapons": Calibration(0.3, -1.0)}])
def test_the_probabilities_are_those_of_pictures_scored_alone(
    calibrations: dict[str, Calibration],
) -> None:
    encoder = RandomEncoder()
    images = unit(np.random.default_rng(0).normal(size=(8300, 16)))
    slugs, found, reviews = rescreen(POLICY, encoder, images, calibrations)
    assert (slugs, found.shape) == (["weapons", "both"], (8300, 2))
    some = [*range(40), *range(8180, 8210), 8299]
    alone = ConceptBank(POLICY, encoder).score(images[some], calibrations)
    expected = [[rule.probability for rule in row] for row in alone]
    assert np.allclose(found[some], expected, atol=1e-4)
    assert (reviews == 0.5).all()


@pytest.mark.parametrize("own", [0.2, 0.95, None])
def test_a_learnt_head_brings_its_own_threshold_and_is_not_calibrated_twice(
    own: float | None,
) -> None:
    encoder = RandomEncoder()
    weights = tuple(np.random.default_rng(7).normal(size=16).tolist())
    head = Head("gun", "logistic", "1", weights, 0.5, 0.1, Platt())
    learned = LearnedHead("h1", "random", "1", head.as_dict(), 60, review=own)
    weapons, code, both = RULES
    gun, knife = weapons.concepts
    weapons = replace(weapons, concepts=(replace(gun, heads=(learned,)), knife))
    policy = replace(POLICY, rules=(weapons, code, both))
    images = unit(np.random.default_rng(1).normal(size=(60, 16)))
    calibrations = {"weapons": Calibration(0.3, -1.0)}
    _, found, reviews = rescreen(policy, encoder, images, calibrations)
    alone = ConceptBank(policy, encoder).score(images, calibrations)
    assert np.allclose(found, [[rule.probability for rule in row] for row in alone], atol=1e-4)
    assert reviews.tolist() == [[rule.review for rule in row] for row in alone]
    if own is not None:
        assert {row[0] for row in reviews.tolist()} == {0.5, min(own, 0.9)}


def test_nothing_remembered_is_nothing_to_score() -> None:
    _, found, _ = rescreen(POLICY, RandomEncoder(), np.zeros((0, 16), np.float32))
    assert found.shape == (0, 2)
