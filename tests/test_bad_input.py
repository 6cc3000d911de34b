"""What a stranger's picture, a broken encoder or a careless policy can do to the previews probe.

Never a pass and never a crash: a score where the picture can be seen, else a reason.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_previews_probe import POLICY, RED, drawing
from triage import encoders, pipeline
from triage.encoders.onnx import OnnxEncoder
from triage.known import KnownCollection
from triage.probes.previews import PreviewsProbe
from triage.sample import Concept, Finding, Outcome, Policy, Preview, Sample, Stage

Change = Callable[[Path], None]


def examine(preview: Preview, policy: Policy = POLICY) -> list[Finding]:
    """Run every probe that looks at previews, as a worker does."""
    among = pipeline.probes(encoder="demo", known=KnownCollection)
    found = pipeline.run(
        Sample("v", policy, previews=(preview,)), stage=Stage.PREVIEWS, among=among
    )
    return [finding for finding in found if finding.probe == "previews"]


def truncated_jpeg(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB").save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-400])


def strip(path: Path) -> None:
    Image.new("RGB", (1, 10_000), "red").save(path, "PNG")


def long_strip(path: Path) -> None:
    Image.new("RGB", (20, 10_000), "red").save(path, "PNG")


def above_forty_megapixels(path: Path) -> None:
    Image.new("L", (6325, 6325)).save(path, "PNG")


def text(path: Path) -> None:
    path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (truncated_jpeg, "picture.broken"),
        (strip, "picture.too_small"),
        (long_strip, "picture.strip"),
        (above_forty_megapixels, "picture.too_many_pixels"),
        (text, "picture.format"),
    ],
)
def test_a_picture_that_cannot_be_looked_at_fails_with_a_reason(
    tmp_path: Path, change: Change, code: str
) -> None:
    preview = drawing(tmp_path, "one", ("red", "circle"))
    change(preview.path)
    (finding,) = examine(preview)
    assert (finding.outcome, finding.code) == (Outcome.FAILED, code)
    assert finding.reason.endswith(".")


def sixteen_bit_grey(path: Path) -> None:
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path, "PNG")


def cmyk(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("CMYK").save(path, "JPEG", quality=95)


def animated(form: str) -> Change:
    def change(path: Path) -> None:
        with Image.open(path) as image:
            first = image.convert("RGB")
        other = Image.new("RGB", first.size, "black")
        first.save(path, form, save_all=True, append_images=[other], duration=100)

    return change


def lying_on_its_side(path: Path) -> None:
    with Image.open(path) as image:
        turned = image.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    turned.save(path, "JPEG", quality=95, exif=exif)


def just_below_forty_megapixels(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB").resize((6320, 6320), Image.Resampling.NEAREST).save(path, "JPEG")


@pytest.mark.parametrize(
    "change",
    [
        cmyk,
        animated("GIF"),
        animated("WEBP"),
        lying_on_its_side,
        just_below_forty_megapixels,
    ],
    ids=["cmyk", "animated GIF", "animated WebP", "EXIF rotation", "40 megapixels"],
)
def test_a_picture_of_another_kind_is_scored_like_the_plain_one(
    tmp_path: Path, change: Change
) -> None:
    preview = drawing(tmp_path, "one", ("red", "circle"))
    plain = examine(preview)
    change(preview.path)
    changed = examine(preview)
    assert {finding.outcome for finding in changed} == {Outcome.SCORED}
    assert [f.score for f in changed] == pytest.approx([f.score for f in plain], abs=0.25)


def test_sixteen_bit_grey_is_scored_like_eight_bit_grey(tmp_path: Path) -> None:
    preview = drawing(tmp_path, "one", ("red", "circle"))
    with Image.open(preview.path) as image:
        image.convert("L").save(preview.path, "PNG")
    eight = examine(preview)
    sixteen_bit_grey(preview.path)
    sixteen = examine(preview)
    assert [f.score for f in sixteen] == pytest.approx([f.score for f in eight], abs=0.02)


def test_an_encoder_folder_with_a_wrong_hash_fails_every_preview(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(encoders.DEMO_FOLDER, folder)
    model = folder / "visual" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    probe = PreviewsProbe(lambda: OnnxEncoder.load(folder))
    sample = Sample("v", POLICY, previews=(drawing(tmp_path, "one", ("red", "circle")),))
    (finding,) = probe.examine(sample)
    assert isinstance(finding, Finding)
    assert (finding.outcome, finding.code) == (Outcome.FAILED, "previews.no_encoder")
    assert "SHA-256" in finding.reason


def test_a_prompt_of_five_hundred_words_is_cut_and_scored(tmp_path: Path) -> None:
    words = " ".join(["a red circle"] * 167)
    concept = Concept("long", (words,), ("a blue circle",))
    policy = replace(POLICY, rules=(replace(RED, concepts=(concept,)),))
    (finding,) = examine(drawing(tmp_path, "one", ("red", "circle")), policy)
    assert finding.outcome == Outcome.SCORED


def test_a_concept_without_anything_to_contrast_with_fails_every_preview(tmp_path: Path) -> None:
    concept = Concept("lonely", ("a red circle",))
    policy = replace(POLICY, rules=(replace(RED, concepts=(concept,)),), neutral=())
    (finding,) = examine(drawing(tmp_path, "one", ("red", "circle")), policy)
    assert (finding.outcome, finding.code) == (Outcome.FAILED, "scoring.no_contrast")
    assert "contrast" in finding.reason
