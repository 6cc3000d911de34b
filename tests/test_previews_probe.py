"""The previews probe, run on drawings with the encoder that ships."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triage import encoders
from triage.demo_encoder.scenes import compose, draw
from triage.encoders.base import Encoder, EncoderError
from triage.probes.previews import PreviewsProbe
from triage.sample import (
    Concept,
    Finding,
    Outcome,
    Policy,
    Preview,
    Rule,
    Sample,
    Stage,
    Subject,
)
from triage.scoring import concept_bank

RED = Rule(
    "red",
    "Red things",
    0.5,
    0.9,
    ("previews",),
    (Concept("red", ("a red shape",), ("a blue shape", "a green shape")),),
)
BLUE = replace(
    RED,
    slug="blue",
    title="Blue things",
    concepts=(Concept("blue", ("a blue shape",), ("a red shape", "a green shape")),),
)
CODE = Rule("code", "Code that runs", 0.5, 0.9, ("container.code",))
POLICY = Policy("drawings", 3, (RED, BLUE, CODE), neutral=("some shapes",), templates=("{}",))


def demo() -> Encoder:
    return encoders.load("demo")


def drawing(folder: Path, name: str, *kinds: tuple[str, str]) -> Preview:
    random = np.random.default_rng(5)
    scene = compose(list(kinds), random, background="white", pattern="plain")
    draw(scene, 256).save(folder / name, "PNG")
    return Preview(key=name, name=f"{name}.png", path=folder / name, sha256="")


def examine(*previews: Preview, policy: Policy = POLICY) -> list[Finding]:
    sample = Sample("version-1", policy, previews=previews)
    return list(PreviewsProbe(demo).examine(sample))


def test_each_preview_is_scored_under_each_rule_that_looks_at_previews(tmp_path: Path) -> None:
    found = examine(
        drawing(tmp_path, "one", ("red", "circle")), drawing(tmp_path, "two", ("blue", "circle"))
    )
    assert [(f.subject, f.rule) for f in found] == [
        (Subject("preview", key), rule) for key in ("one", "two") for rule in ("red", "blue")
    ]
    assert {(f.outcome, f.code) for f in found} == {(Outcome.SCORED, "previews.scored")}
    assert [(f.score or 0.0) > 0.5 for f in found] == [True, False, False, True]
    assert {(f.review, f.hold) for f in found} == {(0.5, 0.9)}


def test_the_evidence_explains_the_score_and_can_be_stored(tmp_path: Path) -> None:
    finding = examine(drawing(tmp_path, "one", ("red", "square")))[0]
    evidence = json.loads(json.dumps(asdict(finding)))["evidence"]
    assert evidence["deciding"]["prompt"] == "a red shape"
    assert evidence["deciding"]["contrast"] in ("a blue shape", "a green shape", "some shapes")
    assert evidence["deciding"]["prompt_cosine"] > evidence["deciding"]["contrast_cosine"]
    assert finding.score is not None
    assert evidence["review_margin"] == pytest.approx(finding.score - 0.5)
    assert evidence["hold_margin"] == pytest.approx(finding.score - 0.9)
    assert evidence["calibrated"] is False
    assert evidence["demo_encoder"] is True
    assert "a red shape" in finding.reason


def test_what_made_the_finding_is_on_record(tmp_path: Path) -> None:
    finding = examine(drawing(tmp_path, "one", ("red", "square")))[0]
    assert finding.versions == {
        "probe": PreviewsProbe.version,
        "policy": "drawings v3",
        "encoder": f"{demo().name} {demo().revision}",
        "scorer": concept_bank(POLICY, demo()).scorer,
    }
    assert (PreviewsProbe.name, PreviewsProbe.stage) == ("previews", Stage.PREVIEWS)


def test_a_preview_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    good = drawing(tmp_path, "good", ("red", "circle"))
    broken = drawing(tmp_path, "broken", ("red", "circle"))
    broken.path.write_bytes(broken.path.read_bytes()[:200])
    gone = replace(good, key="gone", path=tmp_path / "gone")
    found = examine(broken, good, gone)
    assert sorted((f.subject.key, f.outcome.value, f.code) for f in found) == [
        ("broken", "failed", "picture.broken"),
        ("gone", "failed", "picture.missing"),
        ("good", "scored", "previews.scored"),
        ("good", "scored", "previews.scored"),
    ]


def test_of_an_animation_the_first_frame_is_scored_and_the_evidence_says_so(
    tmp_path: Path,
) -> None:
    first, second = drawing(tmp_path, "a", ("red", "circle")), drawing(tmp_path, "b")
    path = tmp_path / "animation"
    with Image.open(first.path) as one, Image.open(second.path) as two:
        one.save(path, "GIF", save_all=True, append_images=[two])
    still = examine(first)[0]
    moving = examine(replace(first, path=path))[0]
    assert json.loads(json.dumps(moving.evidence))["picture"]["animated"] is True
    assert json.loads(json.dumps(still.evidence))["picture"]["animated"] is False
    assert moving.score == pytest.approx(still.score, abs=0.2)


def test_without_an_encoder_every_preview_fails_and_none_passes(tmp_path: Path) -> None:
    def unavailable() -> Encoder:
        raise EncoderError("The encoder folder is gone. Point the setting at another.")

    previews = (drawing(tmp_path, "one", ("red", "star")), drawing(tmp_path, "two"))
    found = list(PreviewsProbe(unavailable).examine(Sample("v", POLICY, previews=previews)))
    assert [(f.subject.key, f.outcome, f.code) for f in found] == [
        ("one", Outcome.FAILED, "previews.no_encoder"),
        ("two", Outcome.FAILED, "previews.no_encoder"),
    ]
    assert "folder is gone" in found[0].reason


def test_prompts_that_cannot_be_scored_fail_every_preview_with_the_reason(tmp_path: Path) -> None:
    lonely = replace(POLICY, rules=(replace(RED, concepts=()),))
    (finding,) = examine(drawing(tmp_path, "one", ("red", "star")), policy=lonely)
    assert (finding.outcome, finding.code) == (Outcome.FAILED, "scoring.no_concepts")


def test_a_version_without_previews_is_abstained_on() -> None:
    (finding,) = examine()
    assert (finding.outcome, finding.code) == (Outcome.ABSTAINED, "previews.none")
    assert finding.subject == Subject("version", "version-1")


def test_a_policy_without_rules_on_previews_is_abstained_on(tmp_path: Path) -> None:
    (finding,) = examine(
        drawing(tmp_path, "one", ("red", "star")), policy=replace(POLICY, rules=(CODE,))
    )
    assert (finding.outcome, finding.code) == (Outcome.ABSTAINED, "previews.no_rules")


def test_with_nothing_to_look_at_the_encoder_is_not_asked_for() -> None:
    def unavailable() -> Encoder:
        raise AssertionError("asked for")

    assert list(PreviewsProbe(unavailable).examine(Sample("v", POLICY)))


def test_a_thumbnail_inside_a_file_is_scored_like_a_preview(tmp_path: Path) -> None:
    import base64

    from tests.factories import safetensors_bytes
    from tests.test_flow import drawing
    from triage.encoders import load
    from triage.policy_files import read_policy
    from triage.probes.thumbnails import ThumbnailsProbe
    from triage.sample import WeightFile

    star = base64.b64encode(drawing(("red", "star"), ("red", "star")).read()).decode()
    files = []
    for key, url in (
        ("star", f"data:image/png;base64,{star}"),
        ("torn", "data:image/png;base64,AAAA"),
    ):
        path = tmp_path / f"{key}.safetensors"
        path.write_bytes(safetensors_bytes(metadata={"modelspec.thumbnail": url}))
        files.append(WeightFile(key, path.name, path, path.stat().st_size, ""))
    policy = read_policy(Path(__file__).parents[1] / "moderation" / "policies" / "demo.yaml")
    probe = ThumbnailsProbe(lambda: load("demo"))
    found = list(probe.examine(Sample(key="v", policy=policy, files=tuple(files))))
    scores = {finding.rule: finding.score for finding in found if finding.subject.key == "star"}
    assert (scores["red-star"] or 0) > 0.5
    assert {f.outcome.value for f in found if f.subject.key == "torn"} == {"failed"}


def test_no_process_is_started_for_files_that_carry_no_picture(tmp_path: Path) -> None:
    from tests.factories import safetensors_bytes
    from triage.claims import Claims
    from triage.probes.thumbnails import ThumbnailsProbe
    from triage.sample import WeightFile

    read: list[str] = []

    def noted(path: Path) -> Claims:
        read.append(path.stem)
        return Claims()

    contents = {
        "plain": safetensors_bytes(metadata={"ss_output_name": "Evening sky"}),
        "named": safetensors_bytes(metadata={"modelspec.thumbnail": "data:,"}),
        # The same name in JSON's other spelling, which a search for the name would miss.
        "escaped": safetensors_bytes(metadata={"modelspec.thumbnail12345": "data:,"}).replace(
            b"modelspec.thumbnail12345", b"modelspec.thumb\\u006eail"
        ),
        "pickled": b"\x80\x02}.",
    }
    files = []
    for key, content in contents.items():
        path = tmp_path / key
        path.write_bytes(content)
        files.append(WeightFile(key, key, path, len(content), ""))
    probe = ThumbnailsProbe(demo, read=noted)
    (finding,) = probe.examine(Sample(key="v", policy=POLICY, files=tuple(files)))
    assert (finding.outcome, finding.code) == (Outcome.ABSTAINED, "thumbnails.none")
    assert sorted(read) == ["escaped", "named", "pickled"]


def test_each_picture_is_decoded_once_for_all_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triage import pictures, pipeline
    from triage.known import BankEntry, KnownCollection

    opened: list[Path] = []
    real = pictures.open_picture
    monkeypatch.setattr(pictures, "open_picture", lambda path: opened.append(path) or real(path))
    known = KnownCollection(entries=[BankEntry("pdq", "0" * 64, "bank", "red")])
    previews = (drawing(tmp_path, "one", ("red", "star")), drawing(tmp_path, "two"))
    sample = Sample("v", POLICY, previews=previews)
    probes = pipeline.probes(encoder="demo", known=lambda: known)
    found = pipeline.run(sample, stage=Stage.PREVIEWS, among=probes)
    assert {finding.probe for finding in found} == {"previews", "thumbnails", "banks"}
    assert sorted(opened) == sorted(preview.path for preview in previews)
