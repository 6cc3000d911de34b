"""Encoder folders: the one that ships, and every way in which a folder can be wrong."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from triage import encoders
from triage.encoders import DEMO_FOLDER
from triage.encoders.base import Array, EncoderError
from triage.encoders.batching import BatchingEncoder
from triage.encoders.onnx import OnnxEncoder
from triage.encoders.verify import sample_pictures, verify

RED, BLUE = Image.new("RGB", (90, 60), "red"), Image.new("RGB", (60, 90), "blue")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO_FOLDER, tmp_path / "encoder"))


def rewrite(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of a folder, and its sum, as an exporter would have written it."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    if name != "config.json":
        sign(folder, name)


def sign(folder: Path, name: str) -> None:
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    rewrite(folder, "config.json", lambda config: config["files"].update({name: digest}))


def refusal(folder: Path) -> str:
    with pytest.raises(EncoderError) as refused:
        OnnxEncoder.load(folder, threads=1)
    return str(refused.value)


def test_the_demo_encoder_gives_unit_rows_in_the_order_asked() -> None:
    encoder = encoders.load("demo")
    pictures = encoder.embed_images([RED, BLUE])
    texts = encoder.embed_texts(["a red shape", "a blue shape", "words nobody taught it"])
    assert (pictures.shape, texts.shape) == ((2, encoder.dim), (3, encoder.dim))
    assert pictures.dtype == texts.dtype == np.float32
    lengths = np.linalg.norm(np.concatenate([pictures, texts]), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_images([BLUE])[0], pictures[1], atol=1e-5)
    assert abs(float(pictures[0] @ pictures[1])) < 0.99
    assert encoder.demo


def test_nothing_to_embed_is_an_empty_answer() -> None:
    encoder = encoders.load("demo")
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, encoder.dim)


def test_a_text_longer_than_the_context_is_cut() -> None:
    encoder = encoders.load("demo")
    rows = encoder.embed_texts(["red " * 14, "red " * 500])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


def test_threads_share_an_encoder_without_mixing_their_pictures() -> None:
    encoder = encoders.load("demo")
    alone = {name: encoder.embed_images([image])[0] for name, image in (("r", RED), ("b", BLUE))}
    with ThreadPoolExecutor(4) as pool:
        wanted = ["r", "b"] * 10
        images = {"r": RED, "b": BLUE}
        rows = list(pool.map(lambda name: encoder.embed_images([images[name]])[0], wanted))
    for name, row in zip(wanted, rows, strict=True):
        np.testing.assert_allclose(row, alone[name], atol=1e-6)


def test_one_setting_chooses_and_the_process_loads_it_once(folder: Path) -> None:
    assert encoders.load("demo") is encoders.load("demo")
    own = encoders.load(f"onnx:{folder}")
    assert own is encoders.load(f"onnx:{folder}")
    assert own.revision == encoders.load("demo").revision


@pytest.mark.parametrize("spec", ["", "onnx", "onnx:", "open_clip:ViT-B-32", "Demo"])
def test_an_unknown_setting_is_refused_with_what_to_write(spec: str) -> None:
    with pytest.raises(EncoderError, match="Set it to “demo”"):
        encoders.load(spec)


@pytest.mark.parametrize(
    "name", ["visual/model.onnx", "textual/model.onnx", "tokenizer.json", "preprocess_cfg.json"]
)
def test_a_changed_or_missing_file_is_named(name: str, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert name in refusal(folder)
    assert "SHA-256" in refusal(folder)
    (folder / name).unlink()
    assert name in refusal(folder)


def test_a_file_that_no_sum_vouches_for_is_refused(folder: Path) -> None:
    (folder / "visual" / "weights.bin").write_bytes(b"0")
    assert "visual/weights.bin" in refusal(folder)


def test_a_required_file_without_a_sum_is_refused(folder: Path) -> None:
    rewrite(folder, "config.json", lambda config: config["files"].pop("tokenizer.json"))
    assert "tokenizer.json" in refusal(folder)


def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    assert "has no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[")
    assert "JSON" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "object" in refusal(tmp_path)


@pytest.mark.parametrize("key", ["name", "dim", "logit_scale", "context_length", "files"])
def test_a_missing_setting_is_named(key: str, folder: Path) -> None:
    rewrite(folder, "config.json", lambda config: config.pop(key))
    assert f"“{key}”" in refusal(folder)


def test_a_model_that_does_not_give_the_promised_dimension_is_refused(folder: Path) -> None:
    rewrite(folder, "config.json", lambda config: config.update(dim=7))
    assert "shape" in refusal(folder)


def test_a_model_that_takes_another_picture_size_is_refused(folder: Path) -> None:
    rewrite(folder, "preprocess_cfg.json", lambda settings: settings.update(size=32))
    assert "does not work" in refusal(folder)


@pytest.mark.parametrize("name", ["visual/model.onnx", "tokenizer.json", "preprocess_cfg.json"])
def test_a_file_of_another_kind_is_refused_even_with_the_right_sum(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"\x00 not what it should be")
    sign(folder, name)
    assert name in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [{"size": [64, 32]}, {"resize_mode": "longest"}, {"interpolation": "lanczos"}, {"mean": [0]}],
)
def test_preprocessing_that_we_cannot_do_is_refused(
    change: dict[str, object], folder: Path
) -> None:
    rewrite(folder, "preprocess_cfg.json", lambda settings: settings.update(change))
    assert "preprocess_cfg.json" in refusal(folder)


def test_the_revision_changes_with_preprocessing_and_temperature(folder: Path) -> None:
    revisions = {OnnxEncoder.load(folder, threads=1).revision}
    rewrite(folder, "preprocess_cfg.json", lambda settings: settings.update(mean=[0.4] * 3))
    revisions.add(OnnxEncoder.load(folder, threads=1).revision)
    rewrite(folder, "config.json", lambda config: config.update(logit_scale=3.0))
    revisions.add(OnnxEncoder.load(folder, threads=1).revision)
    assert len(revisions) == 3


def test_a_provider_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(EncoderError, match="NoSuchProvider"):
        OnnxEncoder.load(folder, providers=["NoSuchProvider"])


def test_a_card_that_cannot_be_used_is_said_and_not_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As where the build is for CUDA and its libraries are not there: it runs on the CPU.
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("triage.encoders.onnx.ort.get_available_providers", lambda: both)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        encoder = OnnxEncoder.load(folder)
    assert encoder.providers == ["CPUExecutionProvider"]
    assert "could not use CUDAExecutionProvider" in caplog.text
    with pytest.warns(UserWarning), pytest.raises(EncoderError, match="could not use CUDA"):
        OnnxEncoder.load(folder, providers=both)
    with pytest.warns(UserWarning):
        (check,) = [check for check in verify(folder) if check.name == "runs with"]
    assert (check.passed, check.detail.startswith("CPUExecutionProvider")) == (None, True)


@pytest.fixture
def batches() -> Iterator[Callable[..., None]]:
    yield encoders.use_batches
    encoders.use_batches(32, compiled=False)


def test_the_operator_says_how_many_pictures_are_embedded_at_once(
    folder: Path, batches: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches(2, compiled=False)
    encoder = encoders.load(f"onnx:{folder}")
    assert isinstance(encoder, BatchingEncoder)
    real, sizes = encoder.encoder.embed_prepared, []  # type: ignore[attr-defined]

    def counting(prepared: Sequence[Any]) -> Array:
        sizes.append(len(prepared))
        rows: Array = real(prepared)
        return rows

    monkeypatch.setattr(encoder.encoder, "embed_prepared", counting)
    encoder.embed_images(sample_pictures(5))
    assert (sum(sizes), max(sizes)) == (5, 2)


SIDE = 16


def model_file(onnx: Any, path: Path, kind: str, shape: list[object], nodes: list[Any]) -> None:
    """Write an ONNX model from "in" to "out" with as many numbers as a picture has."""
    helper, numbers = onnx.helper, 3 * SIDE**2
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("in", getattr(onnx.TensorProto, kind), shape)],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", numbers])],
        [onnx.numpy_helper.from_array(np.ones((16, numbers), np.float32), "ones")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opset), path)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_prepared_as_open_clip_prepares_them(
    resize_mode: str, interpolation: str, folder: Path
) -> None:
    onnx = pytest.importorskip("onnx", reason="the torch extra is not installed")
    transform = pytest.importorskip("open_clip.transform", reason="the torch extra is missing")
    settings = {
        "size": SIDE,
        "mean": (0.48, 0.46, 0.41),
        "std": (0.27, 0.26, 0.28),
        "interpolation": interpolation,
        "resize_mode": resize_mode,
    }
    # A visual side that hands its pixels back, so that what it was given can be seen.
    node = onnx.helper.make_node
    model_file(
        onnx,
        folder / "visual/model.onnx",
        "FLOAT",
        ["n", 3, SIDE, SIDE],
        [node("Flatten", ["in"], ["out"])],
    )
    model_file(
        onnx,
        folder / "textual/model.onnx",
        "INT64",
        ["n", 16],
        [node("Cast", ["in"], ["x"], to=1), node("MatMul", ["x", "ones"], ["out"])],
    )
    sign(folder, "visual/model.onnx")
    sign(folder, "textual/model.onnx")
    rewrite(folder, "config.json", lambda config: config.update(dim=3 * SIDE**2))
    rewrite(folder, "preprocess_cfg.json", lambda content: content.update(settings))
    encoder = OnnxEncoder.load(folder, threads=1)
    reference = transform.image_transform_v2(transform.PreprocessCfg(**settings), is_train=False)

    random = np.random.default_rng(3)
    for width, height in ((90, 61), (61, 90), (20, 33), (8, 8), (300, 17)):
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
        theirs = reference(image).numpy().ravel()
        np.testing.assert_allclose(
            encoder.embed_images([image])[0], theirs / np.linalg.norm(theirs), atol=1e-6
        )
