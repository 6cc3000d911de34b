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
from triage.encoders.onnx import OnnxEncoder, available_providers

PICTURES = 32
# The smallest cosine with the original that is still the same encoder.
FEWEST_ALIKE = {"fp32": 0.9999, "int8": 0.99}
_SOURCE = ("architecture", "pretrained", "weights_sha256")
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
        _runs_on(encoder),
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


def _runs_on(encoder: OnnxEncoder) -> Check:
    wanted, provider = available_providers()[0], encoder.providers[0]
    if provider == wanted:
        return Check("runs with", True, provider)
    return Check("runs with", None, f"{provider}, though this build has {wanted}")


def extreme_pictures() -> list[Image.Image]:
    """Return pictures whose numbers lie as far apart as they can: bare colours, hard grain."""
    random = np.random.default_rng(0)
    bare = [
        Image.new("RGB", (224, 224), each) for each in ("black", "white", "red", "lime", "blue")
    ]
    hard = [random.integers(0, 2, (224, 224, 3), dtype=np.uint8) * 255 for _ in range(3)]
    return bare + [Image.fromarray(pixels) for pixels in hard]


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
    source, precision = config.get("source"), config.get("precision", "fp32")
    if precision not in FEWEST_ALIKE:
        known = " or ".join(FEWEST_ALIKE)
        return [
            Check("parity", False, f"config.json gives “{precision}” as precision, not {known}")
        ]
    if not isinstance(source, dict) or not set(_SOURCE) <= set(source):
        return [Check("parity", None, "The folder does not say in full what it was made from.")]
    if importlib.util.find_spec("open_clip") is None:
        return [Check("parity", None, "Install the extra “torch” to compare with the original.")]
    from triage.encoders.open_clip import OpenClipEncoder, disagreement, load_model

    architecture, pretrained, like = (
        source["architecture"],
        source["pretrained"],
        source.get("like"),
    )
    try:
        model = load_model(architecture, pretrained, like=like or "")
    except EncoderError as error:
        return [Check("parity", None, f"The original is not here: {error}")]
    if model.weights_sha256 != source["weights_sha256"]:
        return [Check("parity", None, "The original is another file than when it was exported.")]
    doubt = "" if like else disagreement(architecture, pretrained)
    original = OpenClipEncoder(model, device="cpu")
    pictures = sample_pictures()
    originals = np.concatenate([original.embed_images([picture]) for picture in pictures])
    alone = np.concatenate([encoder.embed_images([picture]) for picture in pictures])
    # A worker embeds strangers' pictures together, and int8 has one scale for all of a batch.
    extreme = extreme_pictures()
    together = encoder.embed_images([*extreme, *pictures])[len(extreme) :]
    wanted = FEWEST_ALIKE[precision]
    return [
        # The original is read with the same settings, so that parity does not tell.
        Check("settings", None if doubt else True, doubt or model.settings),
        _alike("parity of pictures", wanted, alone, originals),
        _alike("parity in a batch with extreme pictures", wanted, together, originals),
        _text_parity(encoder, original),
    ]


def _alike(name: str, wanted: float, these: Array, those: Array) -> Check:
    cosine = _smallest_cosine(these, those)
    return Check(
        name,
        cosine >= wanted,
        f"smallest cosine {cosine:.6f} on {len(these)} pictures, wanted {wanted}",
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
