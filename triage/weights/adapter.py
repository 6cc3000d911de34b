"""Adapters (LoRA and its relatives) and textual-inversion embeddings as low-rank updates.

Every update of a layer is kept as ``scale · up @ down`` and never multiplied out; ``factors.py``
brings the other ways of writing an update to this one. An embedding of n vectors V is ``I V``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from triage.weights.errors import WeightsError
from triage.weights.factors import Matrix, low_rank
from triage.weights.names import Role, parse
from triage.weights.positions import POSITION, layer_names
from triage.weights.tensors import Array, Shape, Tensors

# CLIP's text encoder takes 77 tokens, so that no embedding can have more vectors.
_MOST_VECTORS: Final = 77
# Widths of the text encoders' token embeddings: CLIP ViT-L, OpenCLIP ViT-H, OpenCLIP ViT-bigG.
_EMBEDDING_WIDTHS: Final = (768, 1024, 1280)
# How the web UI's two formats and SDXL's trainers name them; diffusers takes any token as name.
_EMBEDDING_NAME: Final = re.compile(r"emb_params|clip_[lg]|string_to_param\..*")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer's update ``scale · up @ down``: shapes ``(out, rank)`` and ``(rank, in)``."""

    down: Matrix
    up: Matrix
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a file adds to a base model.

    ``layers`` are the updates by their common name. ``vectors`` counts the learned tokens of a
    textual-inversion embedding. ``skipped`` names layers of which a part is missing or whose
    rank is out of reach, ``unread`` tensors that nothing was made of.
    """

    layers: Mapping[str, Layer]
    vectors: int = 0
    skipped: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def is_embedding(shapes: Mapping[str, Shape]) -> bool:
    """Tell whether these tensors are learned tokens, by their names or by their shapes alone."""
    if any(_EMBEDDING_NAME.fullmatch(name) for name in shapes):
        return True
    return 0 < len(shapes) <= _MOST_VECTORS and all(map(_is_vectors, shapes.values()))


def is_adapter(shapes: Mapping[str, Shape]) -> bool:
    """Tell whether any of these tensors is part of an adapter."""
    return any(POSITION.fullmatch(name) or parse(name) for name in shapes)


def read_embedding(tensors: Tensors) -> Adapter:
    """Read learned tokens, one layer for each width of text encoder, whatever they are called.

    Raises ``WeightsError`` when there is something else in the file, more vectors than a text
    encoder takes, or a value that is not finite; ``ContainerError`` for damage.
    """
    others = [name for name, shape in tensors.shapes.items() if not _is_vectors(shape)]
    if others:
        raise WeightsError(
            "weights.mixed",
            f"The file holds an embedding and {len(others)} tensors that are none, such as"
            f" {others[0]!r}; please publish them as separate files.",
        )
    rows: dict[int, list[Matrix]] = {}
    for name, array in tensors.read(sorted(tensors.shapes)):
        vectors = _finite(name, array)
        rows.setdefault(vectors.shape[-1], []).append(vectors.reshape(-1, vectors.shape[-1]))
    layers = {f"embedding_{width}": _tokens(np.concatenate(rows[width])) for width in sorted(rows)}
    return Adapter(layers, vectors=max(layer.up.shape[1] for layer in layers.values()))


def read_adapter(tensors: Tensors) -> Adapter:
    """Read an adapter's updates, whichever tool wrote the file.

    Raises ``WeightsError`` when two tensors claim the same place, when parts do not fit each
    other, when values are not finite and when most of the file is something else;
    ``ContainerError`` for damage.
    """
    places, unread = _places(tensors.shapes)
    by_layer: dict[str, dict[Role, str]] = {}
    for name, (layer, role) in places.items():
        roles = by_layer.setdefault(layer, {})
        if role == "other":
            continue  # a bias or a whole matrix; without a low-rank update the layer is skipped
        if role in roles:
            raise WeightsError(
                "weights.ambiguous", f"{roles[role]!r} and {name!r} claim the same place."
            )
        roles[role] = name
    layers: dict[str, Layer] = {}
    skipped = []
    for layer, roles in sorted(by_layer.items()):
        arrays = dict(tensors.read(roles.values()))
        parts = {role: _finite(name, arrays[name]) for role, name in roles.items()}
        built = _layer(layer, parts)
        if built is None:
            skipped.append(layer)
        else:
            layers[layer] = built
    if len(skipped) + len(unread) > len(layers):
        # Otherwise a few planted layers could lead the comparison away from all the rest.
        raise WeightsError(
            "weights.mixed",
            f"{len(layers)} layers of an adapter could be read, but {len(skipped)} others and"
            f" {len(unread)} further tensors could not; please publish them as separate files.",
        )
    return Adapter(layers, skipped=tuple(skipped), unread=tuple(sorted(unread)))


def _places(shapes: Mapping[str, Shape]) -> tuple[dict[str, tuple[str, Role]], list[str]]:
    """Return layer and role of each tensor, and the names of those that have none."""
    numbered = layer_names(shapes)
    places: dict[str, tuple[str, Role]] = {}
    unread = []
    for name in shapes:
        if match := POSITION.fullmatch(name):
            key = f"{match[1]}:{match[2]}"
            role: Role = "up" if match[3] == "up" else "down"
            places[name] = (numbered.get(key, key.replace(":", "_")), role)
        elif part := parse(name):
            places[name] = (part.layer, part.role)
        else:
            unread.append(name)
    return places, unread


def _is_vectors(shape: Shape) -> bool:
    return (
        len(shape) in (1, 2)
        and shape[-1] in _EMBEDDING_WIDTHS
        and 0 < (shape[0] if len(shape) == 2 else 1) <= _MOST_VECTORS
    )


def _tokens(vectors: Matrix) -> Layer:
    """Return ``I V``, with as many rows for all embeddings, so that they can be compared."""
    if len(vectors) > _MOST_VECTORS:
        raise WeightsError(
            "weights.too_many_vectors",
            f"The embedding has {len(vectors)} vectors; a text encoder takes {_MOST_VECTORS}.",
        )
    return Layer(down=vectors, up=np.eye(_MOST_VECTORS, len(vectors), dtype=np.float32))


def _finite(name: str, array: Array) -> Matrix:
    if array.dtype.kind not in "fiu":
        raise WeightsError("weights.not_numbers", f"{name!r} does not hold real numbers.")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        # One such value would make every comparison undefined, and so hide a copy.
        raise WeightsError("weights.not_finite", f"{name!r} holds values that are not numbers.")
    return values


def _layer(name: str, parts: Mapping[Role, Matrix]) -> Layer | None:
    """Build one layer from its tensors; ``None`` when a part is missing or the rank too high."""
    try:
        product = low_rank(parts)
    except ValueError as error:  # numpy's word for shapes that do not fit
        raise WeightsError(
            "weights.shapes", f"The parts of layer {name!r} do not fit each other: {error}."
        ) from error
    if product is None:
        return None
    alpha = parts.get("alpha")
    if alpha is None or alpha.size != 1 or product.divisor == 0:
        return Layer(product.down, product.up)
    return Layer(product.down, product.up, float(alpha.ravel()[0]) / product.divisor)
