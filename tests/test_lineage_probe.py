"""The lineage probe: relatives of known models, found and judged."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.weight_files import Update, diffusers, kohya, mix, save, updates
from triage.known import Known, KnownCollection, KnownModel
from triage.probes.lineage import LineageProbe
from triage.sample import Finding, Outcome, Policy, Rule, Sample, Stage, WeightFile
from triage.sandbox import Limits
from triage.weights.fingerprints import fingerprints
from triage.weights.reading import read
from triage.weights.sketches import pack

RETURNS = Rule("returns", "Removed models stay removed", 0.5, 0.9, signals=("lineage.removed",))
COPIES = Rule("copies", "Other people's models", 0.5, 0.9, signals=("lineage.copy",))
POLICY = Policy("test", 1, (RETURNS, COPIES))
LIMITS = Limits(memory_mb=2048, seconds=120.0)


def known(
    path: Path,
    creator: str = "rui",
    state: Literal["removed", "published"] = "published",
    *,
    gone: bool = False,
    rule: str = "",
) -> KnownModel:
    weights = read(path)
    return KnownModel(
        key=path.stem,
        version=f"version of {path.stem}",
        title=path.stem.title(),
        creator=creator,
        state=state,
        sketch=pack(weights.sketch()),
        rule=rule,
        path=None if gone else path,
        digests=fingerprints(weights.tensors),
    )


def examine(
    path: Path,
    models: Sequence[KnownModel],
    policy: Policy = POLICY,
    limits: Limits = LIMITS,
    creator: str = "uma",
) -> list[Finding]:
    file = WeightFile("f1", path.name, path, 0, hashlib.sha256(b"").hexdigest())
    collection: Known = KnownCollection(models)
    probe = LineageProbe(lambda: collection, limits)
    found = list(probe.examine(Sample("v1", policy, files=(file,), creator=creator)))
    for finding in found:
        json.dumps(dict(finding.evidence))
        assert finding.reason.endswith(".")
        assert finding.subject.key == "f1"
    keys = [finding.rule for finding in found]
    assert len(keys) == len(set(keys))  # the database keeps one finding for each rule and file
    return found


def by_rule(found: Sequence[Finding]) -> dict[str, Finding]:
    return {finding.rule: finding for finding in found}


def relatives(finding: Finding) -> list[dict[str, Any]]:
    listed = finding.evidence["relatives"]
    assert isinstance(listed, list)
    return listed


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return save(tmp_path / "original.safetensors", diffusers(updates(1)))


def upload(tmp_path: Path, update: Update) -> Path:
    return save(tmp_path / "upload.safetensors", kohya(update))


@pytest.mark.parametrize("gone", [False, True])
def test_a_removed_model_that_comes_back_is_named(
    tmp_path: Path, original: Path, gone: bool
) -> None:
    model = known(original, state="removed", gone=gone, rule="returns")
    found = by_rule(examine(upload(tmp_path, updates(1)), [model]))["returns"]
    assert (found.outcome, found.score, found.code) == (Outcome.SCORED, 1.0, "lineage.removed")
    assert (found.review, found.hold) == (0.5, 0.9)
    assert "Original" in found.reason
    (relative,) = relatives(found)
    assert relative["model"] == "original"
    assert relative["relation"] == "same"
    assert relative["compared_exactly"] is not gone


def test_a_removed_model_inside_a_merge_is_found_with_its_share(
    tmp_path: Path, original: Path
) -> None:
    other = save(tmp_path / "other.safetensors", diffusers(updates(2)))
    merged = upload(tmp_path, mix([(0.3, updates(1)), (0.7, updates(2))]))
    models = [known(original, state="removed"), known(other)]
    found = by_rule(examine(merged, models))
    assert (found["returns"].score, found["copies"].score) == (1.0, 0.7)
    shares = {relative["model"]: relative["share"] for relative in relatives(found["returns"])}
    assert shares == pytest.approx({"original": 0.3, "other": 0.7}, abs=0.001)
    assert found["returns"].evidence["unexplained"] == pytest.approx(0.0, abs=1e-5)


def test_a_copy_of_somebody_elses_model_is_for_a_person(tmp_path: Path, original: Path) -> None:
    found = by_rule(examine(upload(tmp_path, updates(1)), [known(original)]))
    assert (found["copies"].score, found["copies"].code) == (0.7, "lineage.copy")
    assert "another creator" in found["copies"].reason
    assert (found["returns"].score, found["returns"].code) == (0.0, "lineage.none")


def test_a_new_version_of_ones_own_model_is_no_copy(tmp_path: Path, original: Path) -> None:
    found = by_rule(examine(upload(tmp_path, updates(1)), [known(original, creator="uma")]))
    assert (found["copies"].score, found["copies"].code) == (0.0, "lineage.own")
    (relative,) = relatives(found["copies"])
    assert relative["standing"] == "own"


def test_an_unknown_uploader_owns_nothing(tmp_path: Path, original: Path) -> None:
    found = by_rule(
        examine(upload(tmp_path, updates(1)), [known(original, creator="")], creator="")
    )
    assert found["copies"].code == "lineage.copy"


def test_ones_own_removed_model_does_not_come_back_either(tmp_path: Path, original: Path) -> None:
    model = known(original, creator="uma", state="removed")
    assert by_rule(examine(upload(tmp_path, updates(1)), [model]))["returns"].score == 1.0


def test_an_unrelated_upload_scores_nothing_under_each_rule(tmp_path: Path, original: Path) -> None:
    found = examine(upload(tmp_path, updates(2)), [known(original, state="removed")])
    assert {finding.rule: finding.score for finding in found} == {"returns": 0.0, "copies": 0.0}


def test_a_version_is_not_compared_with_itself(tmp_path: Path, original: Path) -> None:
    model = known(original)
    itself = KnownModel("f1", "v1", "Itself", "uma", "published", model.sketch, path=original)
    found = by_rule(examine(upload(tmp_path, updates(1)), [itself]))
    assert found["copies"].code == "lineage.none"


def test_a_hit_without_a_rule_fails(tmp_path: Path, original: Path) -> None:
    (found,) = examine(
        upload(tmp_path, updates(1)), [known(original, state="removed")], Policy("bare", 1, ())
    )
    assert (found.outcome, found.code) == (Outcome.FAILED, "lineage.no_rule")
    assert "Original" in found.reason


def test_a_removed_model_comes_back_under_the_rule_it_was_removed_under(
    tmp_path: Path, original: Path
) -> None:
    policy = Policy("test", 1, (Rule("gore", "Gore", 0.5, 0.9, signals=("previews",)),))
    model = known(original, state="removed", rule="gore")
    (found,) = examine(upload(tmp_path, updates(1)), [model], policy)
    assert (found.rule, found.score) == ("gore", 1.0)


def test_without_rules_and_relatives_the_probe_abstains(tmp_path: Path, original: Path) -> None:
    (found,) = examine(upload(tmp_path, updates(2)), [known(original)], Policy("bare", 1, ()))
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "lineage.no_rules")


def test_the_sketch_travels_with_the_finding(tmp_path: Path) -> None:
    path = upload(tmp_path, updates(2))
    (found,) = examine(path, [])
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "lineage.nothing_known")
    assert base64.b64decode(str(found.evidence["sketch"])) == pack(read(path).sketch())


def test_a_file_that_changes_nothing_is_not_compared(tmp_path: Path, original: Path) -> None:
    null = {layer: (down, 0 * up) for layer, (down, up) in updates(1).items()}
    (found,) = examine(upload(tmp_path, null), [known(original)])
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "lineage.null")


def test_a_file_cut_short_fails(tmp_path: Path, original: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(original.read_bytes()[:-1000])
    (found,) = examine(cut, [known(original)])
    assert found.outcome is Outcome.FAILED
    assert found.code.startswith("safetensors.")


def test_a_hostile_pickle_fails(shared_data: Path, original: Path) -> None:
    path = shared_data / "pickles" / "malicious1.zip"
    (found,) = examine(path, [known(original)])
    assert found.outcome is Outcome.FAILED


def test_a_file_that_takes_too_long_fails(tmp_path: Path, original: Path) -> None:
    limits = Limits(memory_mb=2048, seconds=0.01)
    (found,) = examine(upload(tmp_path, updates(1)), [known(original)], limits=limits)
    assert (found.outcome, found.code) == (Outcome.FAILED, "sandbox.time")


def test_when_a_known_file_is_damaged_its_sketch_still_speaks(
    tmp_path: Path, original: Path
) -> None:
    model = known(original, state="removed")
    original.write_bytes(b"no longer weights")
    found = by_rule(examine(upload(tmp_path, updates(1)), [model]))["returns"]
    assert found.score == 1.0
    assert "estimated" in found.reason


def test_full_models_of_one_base_are_not_copies_of_each_other(tmp_path: Path) -> None:
    tensors = {f"block.{i}.weight": updates(i)[next(iter(updates(i)))][1] for i in range(4)}
    base = save(tmp_path / "base.safetensors", tensors)
    tuned = {name: array * 1.0 for name, array in tensors.items()}
    tuned["block.0.weight"] = 1.1 * tuned["block.0.weight"] + tensors["block.1.weight"] / 10
    found = by_rule(examine(save(tmp_path / "tuned.safetensors", tuned), [known(base)]))
    assert found["copies"].code == "lineage.none"
    again = by_rule(examine(save(tmp_path / "again.safetensors", tensors), [known(base)]))
    assert again["copies"].code == "lineage.copy"


def test_a_version_without_files_is_abstained_from() -> None:
    probe = LineageProbe(KnownCollection)
    assert probe.stage is Stage.FILES
    (found,) = probe.examine(Sample("v1", POLICY))
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "lineage.no_files")


def test_a_real_lora_is_recognised_under_other_key_names(shared_data: Path) -> None:
    loras = shared_data / "loras"
    models = [
        known(loras / "timohavdk_2100-lora.safetensors", state="removed"),
        known(loras / "catundchat.bin"),
        known(loras / "lora_disney.safetensors"),
    ]
    found = by_rule(examine(loras / "timohavdk_new.safetensors", models))
    assert (found["returns"].score, found["copies"].score) == (1.0, 0.0)
