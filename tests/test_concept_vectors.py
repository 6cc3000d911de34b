"""Concepts given as vectors of one encoder: from the file through the store to the finding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from django.core.management import CommandError, call_command
from PIL import Image
from safetensors.numpy import save_file

from moderation.models import Account, ConceptVector
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.policy_vectors import from_bytes
from moderation.selectors.workers import triage_sample
from tests import factories
from tests.test_scoring import SCALE, WordEncoder
from triage.policy_files import read_policy
from triage.probes.previews import PreviewsProbe
from triage.rescreening import rescreen
from triage.sample import Concept, Finding, Outcome, Policy, Preview, Rule, Sample
from triage.sample import ConceptVector as Vector
from triage.sample import ConceptVectors as Vectors
from triage.scoring import ConceptBank
from triage.tasks import sample_from

GUN = Vector("gun", (1, 0, 0, 0, 0), threshold=0.3)
KNIFE = Vector("knife", (0, 2, 0, 0, 0), threshold=0.2, weight=2.0)  # its length says nothing


def policy_of(*vectors: Vector, revision: str = "1") -> Policy:
    concept = Concept("weapons", vectors=Vectors("words", revision, vectors))
    prompts = Concept("tree", ("a tree",), ("a toy",))
    return Policy(
        "test",
        1,
        (
            Rule("weapons", "Weapons", 0.5, 0.9, ("previews",), (concept,)),
            Rule("trees", "Trees", 0.5, 0.9, ("previews",), (prompts,)),
        ),
        neutral=("a gun",),
    )


def test_a_vector_scores_one_half_exactly_at_its_own_threshold() -> None:
    encoder = WordEncoder()
    bank = ConceptBank(policy_of(GUN), encoder)
    ((at, _),) = bank.score(encoder.picture(gun=0.3, tree=(1 - 0.09) ** 0.5))
    assert at.probability == pytest.approx(0.5, abs=1e-6)
    ((above, _),) = bank.score(encoder.picture(gun=0.6, tree=0.8))
    assert above.deciding.score == pytest.approx(SCALE * 0.3, abs=1e-5)


def test_the_strongest_vector_decides_and_its_threshold_is_kept() -> None:
    encoder = WordEncoder()
    ((weapons, _),) = ConceptBank(policy_of(GUN, KNIFE), encoder).score(
        encoder.picture(gun=0.6, knife=0.8)
    )
    assert weapons.deciding.by_vectors
    assert weapons.deciding.winner.prompt == "knife"
    assert weapons.deciding.winner.cosine == pytest.approx(0.8, abs=1e-6)
    assert weapons.deciding.runner_up.cosine == 0.2
    assert weapons.deciding.score == pytest.approx(2 * SCALE * 0.6, abs=1e-5)


def test_remembered_embeddings_get_the_same_scores() -> None:
    encoder = WordEncoder()
    policy = policy_of(GUN, KNIFE)
    images = np.concatenate(
        [encoder.picture(gun=0.6, knife=0.8), encoder.picture(tree=1), encoder.picture(toy=1)]
    )
    rules, probabilities, _ = rescreen(policy, encoder, images)
    alone = ConceptBank(policy, encoder).score(images)
    assert rules == ["weapons", "trees"]
    expected = [[score.probability for score in row] for row in alone]
    assert np.allclose(probabilities, expected, atol=1e-6)


def test_vectors_of_another_encoder_fail_their_rule_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (64, 64), "green").save(path)

    class Seeing(WordEncoder):
        def embed_images(self, images: Any) -> Any:
            return np.repeat(self.picture(tree=1), len(images), axis=0)

    shown = Preview(key="p", name="picture.png", path=path, sha256="")
    policy = policy_of(GUN, revision="another")
    found = [
        finding
        for finding in PreviewsProbe(Seeing).examine(Sample("v", policy, previews=(shown,)))
        if isinstance(finding, Finding)
    ]
    by_rule = {finding.rule: finding for finding in found}
    assert by_rule["weapons"].outcome == Outcome.FAILED
    assert by_rule["weapons"].code == "scoring.other_encoder"
    assert "words another" in by_rule["weapons"].reason
    assert by_rule["trees"].outcome == Outcome.SCORED
    assert rescreen(policy, Seeing(), np.zeros((0, 5), np.float32))[0] == ["trees"]


def written(folder: Path, **vectors: Any) -> Path:
    """Return a policy file whose first rule has vectors instead of prompts."""
    content = yaml.safe_load((POLICY_DIR / "demo.yaml").read_text())
    content["name"] = "vectors"
    rule = content["rules"][0]
    rule["signals"] = ["previews"]
    made_for = {"encoder": "words", "revision": "1", "dim": 3, "names": ["one", "two"]}
    rule["concepts"] = [{"slug": "red-star", "vectors": {**made_for, **vectors}}]
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


NUMBERS = {"values": [[0.1, 0.2, 0.3], [1.0, 0.0, 0.0]], "thresholds": [0.19, 0.2]}


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_vectors_beside_the_policy_mean_the_same_as_written_out(
    suffix: str, tmp_path: Path
) -> None:
    inline = read_policy(written(tmp_path, **NUMBERS))
    arrays = {name: np.array(rows, np.float64) for name, rows in NUMBERS.items()}
    if suffix == "npz":
        np.savez(tmp_path / "vectors.npz", **arrays)  # type: ignore[arg-type]
    else:
        save_file(arrays, tmp_path / "vectors.safetensors")
    assert read_policy(written(tmp_path, file=f"vectors.{suffix}")) == inline


@pytest.mark.django_db
def test_vectors_reach_the_probes_as_they_were_written(tmp_path: Path, uma: Account) -> None:
    path = written(tmp_path, **NUMBERS)
    policy_import(content=policy_read(path), activate=True, actor=None)
    assert from_bytes(bytes(ConceptVector.objects.get(name="two").values)) == [1.0, 0.0, 0.0]
    version = factories.submitted(uma)
    job = version.jobs.first()
    assert job is not None
    stored = sample_from(triage_sample(job_id=job.pk)).policy.rules[0].concepts
    assert stored == read_policy(path).rules[0].concepts


def test_files_of_vectors_are_refused_with_the_reason(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", values=np.array([{}, {}], dtype=object))
    np.savez(tmp_path / "flat.npz", values=np.zeros(3))
    np.savez(tmp_path / "endless.npz", values=np.array([[np.nan, 1, 1], [1, 1, 1]]))
    np.savez(tmp_path / "strange.npz", weird=np.zeros((2, 3)))
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "torn.safetensors").write_bytes(b"\xff" * 20)
    (tmp_path / "list.pt").write_bytes(b"\x80\x04.")
    cases = {
        "pickled.npz": "cannot be read as arrays",
        "flat.npz": "one row a vector",
        "endless.npz": "no finite number",
        "strange.npz": "holds weird",
        "torn.npz": "cannot be read",
        "torn.safetensors": "cannot be read",
        "list.pt": "has to end in .npz",
        "missing.npz": "No such file",
        "../outside.npz": "is a path",
    }
    for name, words in cases.items():
        with pytest.raises(CommandError, match=words) as refused:
            call_command("policy", "check", str(written(tmp_path, file=name)))
        assert "vectors › file" in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"values": [[0.1, 0.2, 0.3]], "thresholds": [0.1, 0.2]}, "2 names and 1 values"),
        ({"values": [[0.1, 0.2], [0.1, 0.2]], "thresholds": [0.1, 0.2]}, "has 2 numbers"),
        ({**NUMBERS, "thresholds": [0.1]}, "2 names and 1 thresholds"),
        ({**NUMBERS, "values": [[0, 0, 0], [1, 0, 0]]}, "all zeros"),
        ({**NUMBERS, "names": ["one", "one"]}, "twice"),
        ({**NUMBERS, "weights": [1.0, -1.0]}, "out of bounds"),
    ],
)
def test_vectors_that_do_not_fit_together_are_refused(
    wrong: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("policy", "check", str(written(tmp_path, **wrong)))
