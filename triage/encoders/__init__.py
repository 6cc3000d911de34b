"""Encoders, chosen by one setting."""

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from triage.encoders.base import Encoder, EncoderError

if TYPE_CHECKING:
    from triage.encoders.text_tower import TextTower

DEMO_FOLDER = Path(__file__).parents[1] / "demo_encoder" / "model"

_loaded: dict[str, Encoder] = {}
_towers: "dict[str, TextTower]" = {}
_lock = Lock()
_threads: int | None = None
_batch = 32
_compiled = False


def use_threads(count: int) -> None:
    """Let encoders that are loaded from now on use so many cores of this process; 0: all."""
    global _threads
    _threads = count or None


def use_batches(most: int, *, compiled: bool) -> None:
    """Let encoders that are loaded from now on embed so many pictures at once.

    ``compiled`` runs the image side of those that torch runs through ``torch.compile``.
    """
    global _batch, _compiled
    _batch, _compiled = most, compiled


def load(spec: str) -> Encoder:
    """Return the encoder that a setting names, loaded once for the whole process.

    ``"demo"`` is the encoder that ships with the code, ``"onnx:FOLDER"`` an encoder folder, and
    ``"open_clip:MODEL:TAG_OR_FILE"`` a model that torch runs. All threads of the process share
    it, and their pictures go through it in common batches.
    Raises ``EncoderError`` if the setting is unknown or the folder unusable.
    """
    with _lock:
        if spec not in _loaded:
            _loaded[spec] = _load(spec)
        return _loaded[spec]


def load_text_tower(spec: str) -> "TextTower | None":
    """Return the text side of the encoder that a setting names, where torch serves it.

    None for encoder folders: their text side takes words only, no vectors and no layers. Raises
    ``EncoderError`` as ``load`` does.
    """
    kind, _, rest = spec.partition(":")
    architecture, _, pretrained = rest.partition(":")
    if kind != "open_clip" or not pretrained:
        return None
    load(spec)  # says what is missing, in a sentence
    from triage.encoders.text_tower import OpenClipTextTower

    with _lock:
        if spec not in _towers:
            _towers[spec] = OpenClipTextTower.load(architecture, pretrained)
        return _towers[spec]


def _load(spec: str) -> Encoder:
    # Imported here so that probes, which need only the protocol, do not load ONNX Runtime.
    from triage.encoders.batching import BatchingEncoder
    from triage.encoders.onnx import OnnxEncoder

    kind, _, rest = spec.partition(":")
    if spec == "demo":
        return BatchingEncoder(OnnxEncoder.load(DEMO_FOLDER, threads=_threads), max_batch=_batch)
    if kind == "onnx" and rest:
        return BatchingEncoder(OnnxEncoder.load(Path(rest), threads=_threads), max_batch=_batch)
    architecture, _, pretrained = rest.partition(":")
    if kind == "open_clip" and architecture and pretrained:
        return BatchingEncoder(_open_clip(architecture, pretrained), max_batch=_batch)
    raise EncoderError(
        f"There is no encoder “{spec}”. Set it to “demo”, to “onnx:” and the path of an "
        "encoder folder, or to “open_clip:MODEL:TAG_OR_FILE”."
    )


def _open_clip(architecture: str, pretrained: str) -> Encoder:
    try:
        from triage.encoders.open_clip import OpenClipEncoder
    except ImportError as error:
        raise EncoderError(
            f"The encoder “open_clip:{architecture}:{pretrained}” needs torch, which is not "
            f"installed ({error}). Install the extra “torch”, or use an encoder folder."
        ) from error
    if _threads:
        import torch

        torch.set_num_threads(_threads)
    return OpenClipEncoder.load(architecture, pretrained, compiled=_compiled)
