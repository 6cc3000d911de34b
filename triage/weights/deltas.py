"""Inner products and angles of updates, without multiplying an update out.

With ``ΔW = s·B A`` for each layer, ``<X, Y> = Σ s s' · sum((Bᵀ B') ∘ (A A'ᵀ))``: the traces of
two small products instead of one large one, ``O(r² (in + out))`` a layer.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from triage.weights.adapter import Adapter, Layer


def inner_by_layer(a: Adapter, b: Adapter) -> Mapping[str, float]:
    """Return ``<ΔW_a, ΔW_b>`` for each layer that both have in the same shape."""
    return {
        name: _inner(layer, b.layers[name])
        for name, layer in a.layers.items()
        if name in b.layers and _fits(layer, b.layers[name])
    }


def inner(a: Adapter, b: Adapter) -> float:
    """Return ``<ΔW_a, ΔW_b>`` over all layers; one that is missing counts as zero."""
    return sum(inner_by_layer(a, b).values())


def gram(adapters: list[Adapter]) -> NDArray[np.float64]:
    """Return the matrix of all inner products, shape ``(N, N)``."""
    products = np.empty((len(adapters), len(adapters)))
    for i, a in enumerate(adapters):
        for j, b in enumerate(adapters[: i + 1]):
            products[i, j] = products[j, i] = inner(a, b)
    return products


def _fits(a: Layer, b: Layer) -> bool:
    return (len(a.up), a.down.shape[1]) == (len(b.up), b.down.shape[1])


def _inner(a: Layer, b: Layer) -> float:
    # Double precision: a merge is explained to within 1e-7 of its energy, which single
    # precision would drown.
    up = a.up.astype(np.float64).T @ b.up.astype(np.float64)
    down = a.down.astype(np.float64) @ b.down.astype(np.float64).T
    return a.scale * b.scale * float(np.vdot(up, down))
