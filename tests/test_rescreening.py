"""Many remembered embeddings at once score as each of them did alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from triage.encoders.base import Array
from triage.rescreening import rescreen
from triage.sample import Concept, Policy, Rule
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
    slugs, found = rescreen(POLICY, encoder, images, calibrations)
    assert (slugs, found.shape) == (["weapons", "both"], (8300, 2))
    some = [*range(40), *range(8180, 8210), 8299]
    alone = ConceptBank(POLICY, encoder).score(images[some], calibrations)
    expected = [[rule.probability for rule in row] for row in alone]
    assert np.allclose(found[some], expected, atol=1e-4)


def test_nothing_remembered_is_nothing_to_score() -> None:
    _, found = rescreen(POLICY, RandomEncoder(), np.zeros((0, 16), np.float32))
    assert found.shape == (0, 2)
