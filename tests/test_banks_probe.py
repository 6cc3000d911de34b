"""The banks probes: known prohibited files and pictures, however they are disguised."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from safetensors.numpy import save_file

from triage.containers.digests import digests
from triage.known import BankEntry, KnownCollection
from triage.perceptual import pdq
from triage.probes.banks import FileBanksProbe, PreviewBanksProbe
from triage.sample import Finding, Outcome, Policy, Preview, Rule, Sample, Stage, WeightFile

RULE = Rule("banned", "Known material", 0.5, 0.9)
OTHER = Rule("other", "Another rule", 0.6, 0.8)
POLICY = Policy("test", 1, (RULE, OTHER))
SOMETHING_ELSE = BankEntry("sha256", "00" * 32, "elsewhere", "banned")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(path: Path, metadata: dict[str, str] | None = None, seed: int = 1) -> Path:
    values = np.random.default_rng(seed).standard_normal((4, 4), dtype=np.float32)
    save_file({"a.weight": values}, path, metadata)
    return path


def checked(found: Sequence[Finding]) -> Sequence[Finding]:
    for finding in found:
        json.dumps(dict(finding.evidence))
        assert finding.reason.endswith(".")
    keys = [(finding.subject.key, finding.rule) for finding in found]
    assert len(keys) == len(set(keys))  # the database keeps one finding for each rule and subject
    return found


def examine_file(
    path: Path, *entries: BankEntry, digest: str = "", policy: Policy = POLICY
) -> Sequence[Finding]:
    file = WeightFile("f1", path.name, path, 0, digest or sha256(path))
    probe = FileBanksProbe(lambda: KnownCollection((), entries))
    return checked(list(probe.examine(Sample("v1", policy, files=(file,)))))


def examine_preview(path: Path, *entries: BankEntry, policy: Policy = POLICY) -> Sequence[Finding]:
    preview = Preview("p1", path.name, path, sha256(path))
    probe = PreviewBanksProbe(lambda: KnownCollection((), entries))
    answers = list(probe.examine(Sample("v1", policy, previews=(preview,))))
    found = [answer for answer in answers if isinstance(answer, Finding)]
    remembered = tuple(answer for answer in answers if not isinstance(answer, Finding))
    if remembered:
        # What is remembered says the same, without a look at the picture.
        again = Preview("p1", path.name, path.with_name("gone"), sha256(path))
        sample = Sample("v1", policy, previews=(again,), embeddings=remembered)
        assert list(probe.examine(sample)) == found
    return checked(found)


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)


def pdq_entry(image: Image.Image, rule: str = "banned", bank: str = "pictures") -> BankEntry:
    return BankEntry("pdq", pdq(image).hash.hex(), bank, rule)


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


# Files.


def test_a_banked_file_is_recognised_byte_for_byte(tmp_path: Path) -> None:
    path = weights(tmp_path / "a.safetensors")
    entry = BankEntry("sha256", sha256(path).upper(), "shared list", "banned")
    (found,) = examine_file(path, SOMETHING_ELSE, entry)
    assert (found.outcome, found.score, found.rule) == (Outcome.SCORED, 1.0, "banned")
    assert (found.review, found.hold, found.code) == (0.5, 0.9, "banks.sha256")
    assert "shared list" in found.reason


def test_other_metadata_does_not_hide_banked_weights(tmp_path: Path) -> None:
    data = digests(weights(tmp_path / "a.safetensors"))[1]
    assert data is not None
    edited = weights(tmp_path / "b.safetensors", {"title": "a lovely landscape"})
    (found,) = examine_file(edited, BankEntry("data_sha256", data, "shared list", "banned"))
    assert (found.score, found.code) == (1.0, "banks.data_sha256")


def test_other_weights_do_not_match(tmp_path: Path) -> None:
    data = digests(weights(tmp_path / "a.safetensors"))[1]
    assert data is not None
    other = weights(tmp_path / "b.safetensors", seed=2)
    (found,) = examine_file(other, BankEntry("data_sha256", data, "shared list", "banned"))
    assert (found.outcome, found.score, found.rule) == (Outcome.SCORED, 0.0, "")


def test_a_match_without_a_rule_fails(tmp_path: Path) -> None:
    path = weights(tmp_path / "a.safetensors")
    entries = [
        BankEntry("sha256", sha256(path), "one", "a rule that is gone"),
        BankEntry("sha256", sha256(path), "two", "other"),
    ]
    found = {finding.rule: finding for finding in examine_file(path, *entries)}
    assert (found[""].outcome, found[""].code) == (Outcome.FAILED, "banks.no_rule")
    assert "a rule that is gone" in found[""].reason
    assert (found["other"].score, found["other"].hold) == (1.0, 0.8)


def test_a_stored_file_that_has_changed_fails(tmp_path: Path) -> None:
    path = weights(tmp_path / "a.safetensors")
    (found,) = examine_file(path, SOMETHING_ELSE, digest="11" * 32)
    assert (found.outcome, found.code) == (Outcome.FAILED, "banks.changed")


def test_a_stored_file_that_is_gone_fails_unless_its_digest_is_banked(tmp_path: Path) -> None:
    gone = tmp_path / "gone.safetensors"
    (found,) = examine_file(gone, SOMETHING_ELSE, digest="11" * 32)
    assert (found.outcome, found.code) == (Outcome.FAILED, "banks.unreadable")
    entry = BankEntry("sha256", "11" * 32, "shared list", "banned")
    (hit,) = examine_file(gone, entry, digest="11" * 32)
    assert hit.score == 1.0


# Previews.


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_banked_picture_is_recognised_turned_and_edited(
    tmp_path: Path, turns: int, mirrored: bool
) -> None:
    image = picture(1)
    copy = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
    copy = copy.rotate(90 * turns, expand=True).resize((200, 200)).filter(ImageFilter.SHARPEN)
    path = saved(copy, tmp_path / "preview.jpg")
    (found,) = examine_preview(path, pdq_entry(picture(2), "other"), pdq_entry(image))
    assert (found.rule, found.score, found.code) == ("banned", 1.0, "banks.pdq")
    matches = found.evidence["matches"]
    assert isinstance(matches, list)
    (match,) = matches
    assert match["bank"] == "pictures"
    assert match["distance"] <= 31


def test_another_picture_does_not_match(tmp_path: Path) -> None:
    path = saved(picture(1), tmp_path / "preview.png")
    (found,) = examine_preview(path, pdq_entry(picture(2)))
    assert (found.score, found.rule) == (0.0, "")
    assert found.evidence["pdq_matched"] is True


def test_a_picture_without_structure_is_not_matched_by_sight(tmp_path: Path) -> None:
    flat = Image.new("RGB", (300, 200), (200, 30, 30))
    path = saved(flat, tmp_path / "flat.png")
    (found,) = examine_preview(path, pdq_entry(flat))
    assert found.score == 0.0
    assert found.evidence["pdq_matched"] is False
    assert "too little structure" in found.reason
    entry = BankEntry("sha256", sha256(path), "exact", "banned")
    (exact,) = examine_preview(path, pdq_entry(flat), entry)
    assert (exact.score, exact.code) == (1.0, "banks.sha256")


def test_a_broken_preview_fails_unless_its_digest_is_banked(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(saved(picture(1), tmp_path / "a.png").read_bytes()[:500])
    (found,) = examine_preview(path, SOMETHING_ELSE)
    assert found.outcome is Outcome.FAILED
    assert found.code.startswith("picture.")
    (hit,) = examine_preview(path, BankEntry("sha256", sha256(path), "exact", "banned"))
    assert hit.score == 1.0


def test_real_edits_flips_and_rotations_match_and_photographs_do_not(shared_data: Path) -> None:
    with Image.open(shared_data / "pdq" / "bridge-mods_aaa-orig.jpg") as original:
        entry = pdq_entry(original)
    for path in sorted((shared_data / "pdq").iterdir()):
        assert [finding.score for finding in examine_preview(path, entry)] == [1.0], path.name
    for path in sorted((shared_data / "photos").iterdir())[:12]:
        assert [finding.score for finding in examine_preview(path, entry)] == [0.0], path.name


# Nothing to do.


def test_without_files_or_previews_the_probes_abstain() -> None:
    collection = KnownCollection((), [SOMETHING_ELSE])
    probes = (FileBanksProbe(lambda: collection), PreviewBanksProbe(lambda: collection))
    assert [probe.stage for probe in probes] == [Stage.FILES, Stage.PREVIEWS]
    for probe in probes:
        (found,) = probe.examine(Sample("v1", POLICY))
        assert found.outcome is Outcome.ABSTAINED


def test_empty_banks_are_said_to_be_empty(tmp_path: Path) -> None:
    (found,) = examine_file(weights(tmp_path / "a.safetensors"))
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "banks.empty")
