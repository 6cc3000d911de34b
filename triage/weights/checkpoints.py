"""Full models, which are compared tensor by tensor, since none fits into memory twice."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from triage.weights.errors import WeightsError
from triage.weights.names import canonical
from triage.weights.sketches import SIZE, Sketch, buckets, unit
from triage.weights.tensors import Shape, Tensors

# Entries of a tensor that its part of the sketch is made of; 64 thousand of each tensor tell
# two models apart as well as all do, and keep the work on a large model to seconds.
_SAMPLED: Final = 65_536
# Entries in memory at a time for each model: 8 MB in double precision.
_BLOCK: Final = 2**20


def sketch(tensors: Tensors) -> Sketch:
    """Return a unit vector of 2,048 numbers for a full model; see ``sketches.py``.

    Each matrix is brought to length one first. Raises ``WeightsError`` for values that are not
    finite, ``ContainerError`` for damage.
    """
    total = np.zeros(SIZE)
    for name, array in tensors.read(_matrices(tensors)):
        flat = array.reshape(-1)
        sample = flat[:: max(1, -(-flat.size // _SAMPLED))].astype(np.float64)
        length = float(np.linalg.norm(sample))
        if not np.isfinite(length):
            raise _not_finite(name)
        if length > 0.0:
            place, sign = buckets(sample.size, canonical(name))
            total += np.bincount(place, sample * sign / length, SIZE)
    return unit(total)


def gram(models: Sequence[Tensors]) -> NDArray[np.float64]:
    """Return the inner products of full models over all their matrices, shape ``(N, N)``.

    A matrix that a model does not have, or not in the shape that the first to have it gives it,
    counts as zero there. Raises ``WeightsError`` for values that are not finite,
    ``ContainerError`` for damage.
    """
    products = np.zeros((len(models), len(models)))
    names = [_by_common_name(model) for model in models]
    for common in sorted(set().union(*names)):
        shape: Shape | None = None
        found: dict[int, NDArray[np.generic]] = {}
        for index, (model, of_model) in enumerate(zip(models, names, strict=True)):
            if common not in of_model:
                continue
            shape = shape or model.shapes[of_model[common]]
            if model.shapes[of_model[common]] == shape:
                ((_, array),) = model.read([of_model[common]])
                found[index] = array.reshape(-1)
        products += _products(common, len(models), found)
    return products


def _products(
    name: str, count: int, found: Mapping[int, NDArray[np.generic]]
) -> NDArray[np.float64]:
    """Return the inner products of a few long vectors, a block at a time."""
    products = np.zeros((count, count))
    length = next(iter(found.values())).size
    for begin in range(0, length, _BLOCK):
        rows = np.zeros((count, min(_BLOCK, length - begin)))
        for index, flat in found.items():
            rows[index] = flat[begin : begin + _BLOCK]
        if not np.isfinite(rows).all():
            raise _not_finite(name)
        products += rows @ rows.T
    return products


def _matrices(tensors: Tensors) -> list[str]:
    """Return the names of all tensors but vectors, whose values are alike in unrelated models."""
    return sorted(name for name, shape in tensors.shapes.items() if len(shape) >= 2)


def common_names(tensors: Tensors) -> frozenset[str]:
    """Return the common names of the matrices that are compared."""
    return frozenset(_by_common_name(tensors))


def _by_common_name(tensors: Tensors) -> Mapping[str, str]:
    names: dict[str, str] = {}
    for name in _matrices(tensors):
        if names.setdefault(canonical(name), name) != name:
            raise WeightsError(
                "weights.ambiguous",
                f"{names[canonical(name)]!r} and {name!r} claim the same place.",
            )
    return names


def _not_finite(name: str) -> WeightsError:
    return WeightsError("weights.not_finite", f"{name!r} holds values that are not numbers.")
