"""Checks an encoder folder: its hashes, its shapes, and that it says what its original says."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from triage.encoders.base import Array, Encoder, EncoderError
from triage.encoders.onnx import OnnxEncoder

PICTURES = 32
# The smallest cosine with the original that is still the same encoder.
FEWEST_ALIKE = {"fp32": 0.9999, "int8": 0.99}
_TEXTS = (
    "a photo of a cat",
    "It's the maker’s “best” work",
    "Zürich, naïve café — 日本語 🎉",
    "",
    "word " * 500,
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``passed`` is None where it could not be looked at."""

    name: str
    passed: bool | None
    detail: str


def verify(folder: Path) -> list[Check]:
    """Return every check of an encoder folder, in the order of a reader's questions."""
    try:
        encoder = OnnxEncoder.load(folder)
    except EncoderError as error:
        return [Check("loads", False, str(error))]
    config: Mapping[str, Any] = json.loads((folder / "config.json").read_bytes())
    checks = [
        Check("hashes", True, f"{len(config['files'])} files have their SHA-256"),
        _shapes(encoder),
        _patches(encoder),
    ]
    return checks + _parity(encoder, config)


def sample_pictures(count: int = PICTURES) -> list[Image.Image]:
    """Return pictures of varied shape and content: soft colours, noise, stripes; always the same.

    They need to be unlike each other, not to show anything.
    """
    random = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        width, height = random.integers(64, 512, 2).tolist()
        coarse = random.integers(0, 256, (2 + number % 7, 2 + number % 5, 3), dtype=np.uint8)
        soft = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pictures.append(Image.blend(soft, Image.fromarray(noise), number / count))
    return pictures


def _shapes(encoder: OnnxEncoder) -> Check:
    pictures, texts = encoder.embed_images(sample_pictures(3)), encoder.embed_texts(_TEXTS)
    lengths = np.linalg.norm(np.concatenate([pictures, texts]), axis=1)
    right = pictures.shape == (3, encoder.dim) and texts.shape == (len(_TEXTS), encoder.dim)
    return Check(
        "shapes",
        bool(right and np.allclose(lengths, 1, atol=1e-4)),
        f"pictures {pictures.shape}, texts {texts.shape}, unit length",
    )


def _patches(encoder: OnnxEncoder) -> Check:
    try:
        rows, columns, _ = encoder.embed_patches(sample_pictures(1)[0]).shape
    except EncoderError as error:
        return Check("patches", None, str(error))
    return Check("patches", True, f"{rows} by {columns}, for heat-maps")


def _parity(encoder: Encoder, config: Mapping[str, Any]) -> list[Check]:
    source = config.get("source")
    if not source:
        return [Check("parity", None, "The folder does not say what it was made from.")]
    if importlib.util.find_spec("open_clip") is None:
        return [Check("parity", None, "Install the extra “torch” to compare with the original.")]
    from triage.encoders.open_clip import OpenClipEncoder, load_model

    try:
        model = load_model(source["architecture"], source["pretrained"])
    except EncoderError as error:
        return [Check("parity", None, f"The original is not here: {error}")]
    if model.weights_sha256 != source["weights_sha256"]:
        return [Check("parity", None, "The original is another file than when it was exported.")]
    original = OpenClipEncoder(model, device="cpu")
    pictures = sample_pictures()
    wanted = FEWEST_ALIKE[config.get("precision", "fp32")]
    return [
        _alike("parity of pictures", wanted, encoder, original, pictures),
        _text_parity(encoder, original),
    ]


def _alike(
    name: str, wanted: float, encoder: Encoder, original: Encoder, pictures: list[Image.Image]
) -> Check:
    found = [
        _smallest_cosine(encoder.embed_images([picture]), original.embed_images([picture]))
        for picture in pictures
    ]
    return Check(
        name,
        min(found) >= wanted,
        f"smallest cosine {min(found):.6f} on {len(pictures)} pictures, wanted {wanted}",
    )


def _text_parity(encoder: Encoder, original: Encoder) -> Check:
    cosine = _smallest_cosine(encoder.embed_texts(_TEXTS), original.embed_texts(_TEXTS))
    wanted = FEWEST_ALIKE["fp32"]
    return Check(
        "parity of texts",
        cosine >= wanted,
        f"smallest cosine {cosine:.6f} on {len(_TEXTS)} texts, wanted {wanted}",
    )


def _smallest_cosine(these: Array, those: Array) -> float:
    return float((these * those).sum(axis=1).min())
