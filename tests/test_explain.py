"""Where in a picture a concept is."""

import io

import numpy as np
import pytest
from PIL import Image

from triage.explain import heat_map, paint

CAT, DOG, GRASS = np.eye(3, dtype=np.float32)


def grid() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return patches of a field with a cat in one corner and a dog in the other."""
    patches = np.tile(GRASS, (2, 3, 1)).astype(np.float32)
    patches[0, 2], patches[1, 0] = CAT, DOG
    return patches


def test_the_map_is_hottest_where_the_concept_is_and_coldest_where_the_contrast_is() -> None:
    heat = heat_map(grid(), CAT[None], DOG[None])
    assert heat.shape == (2, 3)
    assert heat.argmax() == 2  # first row, third column
    assert heat.argmin() == 3  # second row, first column
    assert (heat.min(), heat.max()) == (0.0, 1.0)


def test_what_prompts_of_both_groups_share_does_not_light_up() -> None:
    shared = (CAT + GRASS) / np.sqrt(2).astype(np.float32)
    heat = heat_map(grid(), shared[None], GRASS[None], logit_scale=10)
    assert heat[0, 2] == 1.0
    assert heat[0, 0] < 0.5


def test_the_same_prompt_twice_does_not_move_the_map() -> None:
    once = heat_map(grid(), CAT[None], DOG[None])
    twice = heat_map(grid(), np.stack([CAT, CAT]), DOG[None])
    assert np.allclose(once, twice, atol=1e-5)


def test_a_picture_without_differences_is_cold_everywhere() -> None:
    even = np.tile(GRASS, (2, 2, 1)).astype(np.float32)
    assert not heat_map(even, CAT[None], DOG[None]).any()


@pytest.mark.parametrize(
    ("prohibited", "contrast", "message"),
    [
        (np.zeros((0, 3)), DOG[None], "both groups"),
        (CAT[None], np.zeros((0, 3)), "both groups"),
        (np.ones((1, 4)), DOG[None], "another encoder"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(
    prohibited: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    contrast: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        heat_map(grid(), prohibited, contrast)


def test_a_painted_picture_keeps_its_size_and_is_inked_where_it_is_hot() -> None:
    white = Image.new("RGB", (60, 40), "white")
    heat = np.array([[0, 0, 1], [0, 0, 0]], np.float32)
    painted = Image.open(io.BytesIO(paint(white, heat)))
    assert (painted.format, painted.size) == ("PNG", (60, 40))
    red, green, blue = np.asarray(painted)[5, 55].tolist()
    assert red > green > blue
    assert np.asarray(painted)[35, 5].tolist() == [255, 255, 255]


def test_what_was_not_looked_at_is_dimmed() -> None:
    white = Image.new("RGB", (60, 40), "white")
    painted = np.asarray(
        Image.open(io.BytesIO(paint(white, np.zeros((2, 2), np.float32), seen=(10, 0, 50, 40))))
    )
    assert painted[20, 5].max() < 200
    assert painted[20, 30].tolist() == [255, 255, 255]
