"""The perceptual hash of pictures, against published hashes and real edits of one picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from triage.perceptual import (
    MATCH_DISTANCE,
    MINIMUM_QUALITY,
    ORIENTATIONS,
    distance,
    distances,
    pack,
    pdq,
    pdq_dihedral,
)

# Hashes that the method's authors publish in the tests of their own implementation. Two
# implementations agree, by their words, when they differ by at most 10 bits.
PUBLISHED = {
    "dih_bridge-1-original": "d8f8f0cce0f4a84f0e370a22028f67f0b36e2ed596623e1d33e6b39c4e9c9b22",
    "dih_bridge-2-rotate-90": "38a50efd71c83f429013d68d0ffffc52e34e0e15ada952a9d29684214aa9e5af",
    "dih_bridge-3-rotate-180": "2dadda64b5a142e5d362209057da895ae63b8c7fc277b4b766b319361f893188",
    "dih_bridge-4-rotate-270": "a5f0a457248995e8c9065c275aaa54d8b61ba4bdf8fcfc0387c32f8b0bfc4f05",
    "dih_bridge-5-flipx": "d8f80f31e0f417b00e37f5dd028f980fb36ed12a9662c1e233e64c634e9c64dd",
    "dih_bridge-6-flipy": "0dad259bb1a1bd18d362576556da32a1e63b7380c2374b4866b3c6c91b89ce77",
    "dih_bridge-7-flip-plus-1": "f0a5e10271dcc0bd9c5309720fff018de34ef1e8ada9a956d2967ade1ea91a50",
    "dih_bridge-8-flip-minus-1": "69f05aa8a4996a17c146a2da5aaaab07b61b5b60f8fc07fc83c3d0740bfcb0fa",
}


def drawing(seed: int, width: int = 300, height: int = 200) -> Image.Image:
    """Draw a smooth random picture with plenty of structure."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", PUBLISHED)
def test_hashes_agree_with_the_published_ones(shared_data: Path, name: str) -> None:
    with Image.open(shared_data / "pdq" / f"{name}.jpg") as image:
        ours = pdq(image)
    assert distance(ours.hash, bytes.fromhex(PUBLISHED[name])) <= 10
    assert ours.quality >= 80


def test_every_photometric_edit_matches_the_original(shared_data: Path) -> None:
    edits = sorted((shared_data / "pdq").glob("bridge-mods_*"))
    hashes = []
    for path in edits:
        with Image.open(path) as image:
            hashes.append(pdq(image).hash)
    assert len(hashes) == 12
    assert max(distance(hashes[0], other) for other in hashes) <= 16


def test_flips_and_rotations_match_only_through_the_eight_hashes(shared_data: Path) -> None:
    paths = sorted((shared_data / "pdq").glob("dih_*"))
    with Image.open(paths[0]) as original:
        eight = [variant.hash for variant in pdq_dihedral(original)]
    for path in paths[1:]:
        with Image.open(path) as image:
            turned = pdq(image).hash
        assert distance(eight[0], turned) > 100
        assert min(distance(variant, turned) for variant in eight) <= 10


def test_no_photograph_matches_another_in_any_orientation(shared_data: Path) -> None:
    hashes = []
    for path in sorted((shared_data / "photos").iterdir()):
        with Image.open(path) as image:
            hashes.append([variant.hash for variant in pdq_dihedral(image)])
    assert len(hashes) > 50
    upright = pack([eight[0] for eight in hashes])
    for index, eight in enumerate(hashes):
        for variant in eight:
            others = np.delete(distances(variant, upright), index)
            assert others.min() > 2 * MATCH_DISTANCE


def test_each_orientation_is_the_hash_of_the_picture_turned_that_way() -> None:
    image = drawing(1)
    eight = pdq_dihedral(image)
    assert len(eight) == len(ORIENTATIONS)
    for turns in range(4):
        turned = image.rotate(90 * turns, expand=True)
        assert distance(pdq(turned).hash, eight[turns].hash) == 0
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90 * turns, expand=True)
        assert distance(pdq(mirrored).hash, eight[4 + turns].hash) == 0


def test_a_blurred_and_smaller_copy_matches_and_another_picture_does_not() -> None:
    image = drawing(2)
    copy = image.filter(ImageFilter.GaussianBlur(2)).resize((150, 100))
    assert distance(pdq(image).hash, pdq(copy).hash) <= MATCH_DISTANCE
    assert distance(pdq(image).hash, pdq(drawing(3)).hash) > MATCH_DISTANCE


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_mode_of_pixels_can_be_hashed(mode: str) -> None:
    image = drawing(4)
    other = pdq(image.convert("L").convert("RGB") if mode == "L" else image)
    assert distance(pdq(image.convert(mode)).hash, other.hash) <= MATCH_DISTANCE


def test_a_picture_of_one_colour_has_no_quality() -> None:
    assert pdq(Image.new("RGB", (600, 300), "red")).quality < MINIMUM_QUALITY


@pytest.mark.parametrize(("level", "quality"), [(255, 71), (128, 35), (2, 0)])
def test_quality_counts_steps_of_brightness_in_hundredths(level: int, quality: int) -> None:
    # 64 by 64 pixels are not blurred: 64 steps of level / 255, in whole hundredths, over 90.
    half = np.zeros((64, 64), dtype=np.uint8)
    half[:, 32:] = level
    assert pdq(Image.fromarray(half)).quality == quality


def test_a_picture_too_small_to_hash_has_quality_zero() -> None:
    tiny = pdq(Image.new("RGB", (4, 900)))
    assert (tiny.hash, tiny.quality) == (bytes(32), 0)


def test_one_hash_against_many_gives_the_same_distances_as_one_by_one() -> None:
    hashes = [pdq(drawing(seed)).hash for seed in range(5)]
    expected = [distance(hashes[0], other) for other in hashes]
    assert distances(hashes[0], pack(hashes)).tolist() == expected
    assert distances(hashes[0], pack([])).tolist() == []


def test_a_hash_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        pack([b"short"])
