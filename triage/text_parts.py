"""What a file of weights adds to a text encoder: learned words, and updates of its layers.

Both are small beside the rest of a file. They are read in a child process, which sends them
back as text in answers of a few megabytes.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage import sandbox
from triage.containers.errors import ContainerError
from triage.weights.adapter import Layer, is_embedding, read_adapter
from triage.weights.errors import WeightsError
from triage.weights.names import parse
from triage.weights.positions import POSITION
from triage.weights.tensors import Array, Shape, Tensors, open_tensors

Matrix = NDArray[np.float32]

# CLIP's context, so that no word is made of more vectors; DreamBooth tools learn a few words.
MAX_VECTORS = 77
MAX_WORDS = 64

# Half of what the sandbox lets through, since an answer ends with the part that crosses this.
_ANSWER_BYTES = 6_000_000
# All of a LoRA of rank 128 in CLIP's ViT-L is 90 MB in float32. More is no update but a model.
MAX_BYTES = 200_000_000

# What tools call the learned vectors; others use the word itself in angle brackets.
_VECTOR_NAMES = ("emb_params", "string_to_param.*", "clip_l", "clip_g")


@dataclass(frozen=True, slots=True, eq=False)
class TextParts:
    """Learned words by name, each of shape ``(vectors, width)``, and updates of layers by name.

    A layer's name says which encoder it belongs to: ``text_encoder_…``, ``text_encoder_2_…``.
    """

    words: Mapping[str, Matrix]
    layers: Mapping[str, Layer]


def read_text_parts(path: Path) -> TextParts:
    """Read the text side of a file of weights, in a child process with limits.

    Raises ``ContainerError`` or ``WeightsError`` for a file that cannot be read, and
    ``SandboxError`` where the child gave no answer.
    """
    words: dict[str, Matrix] = {}
    layers: dict[str, Layer] = {}
    start: int | None = 0
    received = 0
    while start is not None:
        answer = sandbox.run(text_parts_data, str(path), start)
        if "refused" in answer:
            raise ContainerError(str(answer["code"]), str(answer["refused"]))
        try:
            for name, packed in answer["words"]:
                matrix = words[str(name)] = _matrix(packed)
                received += matrix.nbytes
            for name, up, down, scale in answer["layers"]:
                layer = layers[str(name)] = Layer(_matrix(down), _matrix(up), float(scale))
                received += layer.up.nbytes + layer.down.nbytes
            following = answer["next"]
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise _nonsense() from error
        if following is not None and (not isinstance(following, int) or following <= start):
            raise _nonsense()
        if received > MAX_BYTES:
            raise WeightsError(
                "text_parts.too_large",
                "What the file adds to the text encoder is too large to be an adapter.",
            )
        start = following
    return TextParts(words, layers)


def parse_text_parts(path: Path) -> TextParts:
    """Read the text side of a file of weights in this process. Raises as ``read_text_parts``."""
    parts = dict(_parts(open_tensors(path)))
    return TextParts(
        {name: part for name, part in parts.items() if not isinstance(part, Layer)},
        {name: part for name, part in parts.items() if isinstance(part, Layer)},
    )


def text_parts_data(path: str, start: int) -> dict[str, object]:
    """Read the parts from number ``start`` on as JSON-able data; this runs in the child."""
    try:
        parts = list(_parts(open_tensors(Path(path))))
    except (ContainerError, WeightsError) as error:
        return {"refused": error.sentence, "code": error.code}
    words: list[list[object]] = []
    layers: list[list[object]] = []
    size = 0
    for number, (name, part) in enumerate(parts[start:], start):
        if size > _ANSWER_BYTES:
            return {"words": words, "layers": layers, "next": number}
        if isinstance(part, Layer):
            layers.append([name, _encoded(part.up), _encoded(part.down), part.scale])
            size += part.up.nbytes + part.down.nbytes
        else:
            words.append([name, _encoded(part)])
            size += part.nbytes
    return {"words": words, "layers": layers, "next": None}


class _TextTensors:
    """Only the tensors of some names, so that the rest of a large file is not read."""

    def __init__(self, tensors: Tensors, names: Iterable[str]) -> None:
        self._tensors = tensors
        self.shapes: Mapping[str, Shape] = {name: tensors.shapes[name] for name in names}

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Array]]:
        """Yield ``(name, array)`` for each name."""
        return self._tensors.read(names)


def _parts(tensors: Tensors) -> Iterator[tuple[str, Matrix | Layer]]:
    """Yield words and layers in an order that is the same each time."""
    shapes = tensors.shapes
    learned = sorted(name for name in shapes if _is_word(name, shapes))
    if len(learned) > MAX_WORDS:
        raise WeightsError("text_parts.too_many", f"The file holds {len(learned)} learned words.")
    for name, array in tensors.read(learned):
        vectors = array.astype(np.float32)
        if not np.isfinite(vectors).all():
            raise WeightsError(
                "text_parts.not_finite",
                f"The learned word {name!r} holds values that are no numbers.",
            )
        yield name.removeprefix("string_to_param."), vectors.reshape(-1, vectors.shape[-1])
    names = [name for name in shapes if _is_text_layer(name)]
    if names:
        yield from sorted(read_adapter(_TextTensors(tensors, names)).layers.items())


def _is_word(name: str, shapes: Mapping[str, Shape]) -> bool:
    shape = shapes[name]
    if len(shape) not in (1, 2) or shape[-1] < 1 or (len(shape) == 2 and not shape[0]):
        return False
    if len(shape) == 2 and shape[0] > MAX_VECTORS:
        return False
    return name in _VECTOR_NAMES or name.startswith("<") or is_embedding(shapes)


def _is_text_layer(name: str) -> bool:
    position = POSITION.fullmatch(name)
    if position:
        return position[1] == "text_encoder"
    part = parse(name)
    return part is not None and part.layer.startswith("text_encoder")


def _encoded(matrix: Matrix) -> list[object]:
    packed = np.ascontiguousarray(matrix, "<f4").tobytes()
    return [list(matrix.shape), base64.b64encode(packed).decode()]


def _matrix(data: Any) -> Matrix:
    (rows, columns), packed = data
    values = np.frombuffer(base64.b64decode(packed, validate=True), "<f4").astype(np.float32)
    matrix: Matrix = values.reshape(int(rows), int(columns))
    if not np.isfinite(matrix).all():
        raise ValueError("not finite")
    return matrix


def _nonsense() -> ContainerError:
    return ContainerError(
        "text_parts.answer", "The process that read the file gave an answer that makes no sense."
    )
