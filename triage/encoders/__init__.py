"""Encoders, chosen by one setting."""

from pathlib import Path
from threading import Lock

from triage.encoders.base import Encoder, EncoderError

DEMO_FOLDER = Path(__file__).parents[1] / "demo_encoder" / "model"

_loaded: dict[str, Encoder] = {}
_lock = Lock()


def load(spec: str) -> Encoder:
    """Return the encoder that a setting names, loaded once for the whole process.

    ``"demo"`` is the encoder that ships with the code, ``"onnx:FOLDER"`` an encoder folder.
    Raises ``EncoderError`` if the setting is unknown or the folder unusable.
    """
    with _lock:
        if spec not in _loaded:
            _loaded[spec] = _load(spec)
        return _loaded[spec]


def _load(spec: str) -> Encoder:
    # Imported here so that probes, which need only the protocol, do not load ONNX Runtime.
    from triage.encoders.onnx import OnnxEncoder

    kind, _, rest = spec.partition(":")
    if spec == "demo":
        return OnnxEncoder.load(DEMO_FOLDER)
    if kind == "onnx" and rest:
        return OnnxEncoder.load(Path(rest))
    raise EncoderError(
        f"There is no encoder “{spec}”. Set it to “demo”, or to “onnx:” and the path of an "
        "encoder folder."
    )
