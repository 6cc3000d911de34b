"""Encoder folders written from open_clip models, and what `manage.py encoder` says of them.

The models are tiny and their weights random; they are saved and read like real ones.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from tests.conftest import require
from tests.tiny_clip import TINY, TINY_RESNET, checkpoint, have_torch, register
from triage.encoders.base import EncoderError
from triage.encoders.onnx import OnnxEncoder
from triage.encoders.verify import sample_pictures, verify
from triage.explain import heat_map


@pytest.fixture(scope="module", autouse=True)
def _torch() -> None:
    require(have_torch(), "the extra “torch”, which exports encoders")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("weights")
    register(folder)
    yield checkpoint(folder, TINY)


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    said = encoder("export", model=TINY, pretrained=str(weights), out=folder)
    assert f"verify {folder}" in said
    return folder


def encoder(verb: str, *args: Any, **options: Any) -> str:
    out = StringIO()
    command = [f"--{name}={value}" for name, value in options.items() if value is not True]
    flags = [f"--{name}" for name, value in options.items() if value is True]
    call_command("encoder", verb, *map(str, args), *command, *flags, stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.fixture
def broken(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "broken"))


def test_an_exported_folder_says_what_its_original_says(exported: Path) -> None:
    checks = {check.name: check for check in verify(exported)}
    assert [name for name, check in checks.items() if not check.passed] == []
    assert set(checks) == {
        "hashes",
        "runs with",
        "shapes",
        "patches",
        "settings",
        "parity of pictures",
        "parity in a batch with extreme pictures",
        "parity of texts",
    }


def test_verify_notices_weights_that_say_something_else(broken: Path) -> None:
    onnx = pytest.importorskip("onnx")
    config = json.loads((broken / "config.json").read_text())
    # The same graph over other numbers, with a hash that fits: only the comparison can tell.
    model = broken / "visual" / "model.onnx"
    graph = onnx.load(model)
    largest = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    numbers = np.frombuffer(largest.raw_data, np.float32)
    largest.raw_data = np.roll(numbers, 7).tobytes()
    onnx.save(graph, model)
    config["files"]["visual/model.onnx"] = hashlib.sha256(model.read_bytes()).hexdigest()
    (broken / "config.json").write_text(json.dumps(config))
    wrong = [check.name for check in verify(broken) if check.passed is False]
    assert wrong == ["parity of pictures", "parity in a batch with extreme pictures"]
    with pytest.raises(CommandError, match="not to be used"):
        encoder("verify", broken)


def test_verify_notices_a_changed_file(broken: Path) -> None:
    with (broken / "tokenizer.json").open("a") as file:
        file.write(" ")
    (check,) = verify(broken)
    assert check.passed is False
    assert "SHA-256" in check.detail


def test_verify_says_what_it_could_not_compare(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    config["source"]["pretrained"] = "/nowhere/tiny.pt"
    (broken / "config.json").write_text(json.dumps(config))
    found = json.loads(encoder("verify", broken, json=True))
    assert found["ok"]
    assert [check["name"] for check in found["checks"] if check["passed"] is None] == ["parity"]


@pytest.mark.parametrize(
    ("changes", "passed", "said"),
    [
        ({"precision": "int4"}, False, "int4"),
        ({"source": {"architecture": TINY}}, None, "in full"),
        ({"source": "somewhere"}, None, "in full"),
    ],
)
def test_verify_says_what_is_odd_in_a_configuration(
    broken: Path, changes: dict[str, Any], passed: bool | None, said: str
) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, **changes}))
    parity = verify(broken)[-1]
    assert (parity.name, parity.passed) == ("parity", passed)
    assert said in parity.detail


def test_the_integer_form_is_smaller_and_nearly_the_same(
    weights: Path, exported: Path, tmp_path: Path
) -> None:
    said = json.loads(
        encoder(
            "export", model=TINY, pretrained=str(weights), out=tmp_path / "i", int8=True, json=True
        )
    )
    assert said["precision"] == "int8"
    assert [check.name for check in verify(tmp_path / "i") if check.passed is not True] == []
    smaller, whole = (f / "visual" / "model.onnx" for f in (tmp_path / "i", exported))
    assert smaller.stat().st_size < whole.stat().st_size * 0.7
    onnx = pytest.importorskip("onnx")
    # Every matrix of the blocks (64 by 64 and larger) is rounded; one that the exporter leaves
    # to be cut up at run time would stay as it was.
    left = [
        (tensor.name, tuple(tensor.dims))
        for tensor in onnx.load(smaller).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
        if np.prod(tensor.dims) >= 64 * 64
    ]
    assert left == []
    one, other = OnnxEncoder.load(tmp_path / "i"), OnnxEncoder.load(exported)
    assert one.revision != other.revision
    assert not np.array_equal(
        one.embed_images(sample_pictures(2)), other.embed_images(sample_pictures(2))
    )


def test_patches_lie_in_the_space_of_texts_and_become_a_map(exported: Path) -> None:
    folder = OnnxEncoder.load(exported)
    patches = folder.embed_patches(sample_pictures(1)[0])
    assert patches.shape == (4, 4, folder.dim)
    assert np.allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-4)
    texts = folder.embed_texts(["a cat", "a dog"])
    heat = heat_map(patches, texts[:1], texts[1:], logit_scale=folder.logit_scale)
    assert (heat.min(), heat.max()) == (0.0, 1.0)


def test_a_network_that_is_no_transformer_is_exported_without_patches(
    weights: Path, tmp_path: Path
) -> None:
    file = checkpoint(weights.parent, TINY_RESNET)
    said = encoder("export", model=TINY_RESNET, pretrained=str(file), out=tmp_path / "rn")
    assert "without patches" in said
    checks = {check.name: check.passed for check in verify(tmp_path / "rn")}
    assert (checks.pop("patches"), set(checks.values())) == (None, {True})
    with pytest.raises(EncoderError, match="no patches"):
        OnnxEncoder.load(tmp_path / "rn").embed_patches(sample_pictures(1)[0])


def test_nothing_is_written_over_and_nothing_is_left_half_done(
    weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(CommandError, match="not empty"):
        encoder("export", model=TINY, pretrained=str(weights), out=tmp_path / "full")
    with pytest.raises(CommandError, match="cannot be written"):
        encoder("export", model=TINY, pretrained=str(weights), out=tmp_path / "full/mine.txt/a")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_list_names_what_is_there_what_is_in_use_and_what_is_broken(
    exported: Path, tmp_path: Path, settings: Any
) -> None:
    shutil.copytree(exported, tmp_path / "tiny")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    settings.ENCODER = f"onnx:{tmp_path / 'tiny'}"
    found = {
        entry["setting"]: entry
        for entry in json.loads(encoder("list", tmp_path, json=True))["encoders"]
    }
    assert found[settings.ENCODER]["in_use"]
    assert found[settings.ENCODER]["precision"] == "fp32"
    assert "not usable" in found[f"onnx:{tmp_path / 'bad'}"]["problem"]
    assert found["demo"]["demo"]
    assert not found["demo"]["in_use"]
    assert "3 encoders" in encoder("list", tmp_path)
    with pytest.raises(CommandError, match="no folder .*nowhere"):
        encoder("list", tmp_path / "nowhere")
