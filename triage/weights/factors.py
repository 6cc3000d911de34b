"""The ways in which tools write the update of a layer, all brought to ``up @ down`` exactly.

* LoRA: the two factors as they are. A convolution's kernel is flattened, and a Tucker core
  (``lora_mid``) goes into ``down``.
* LoHa, ``(w1_a w1_b) ∘ (w2_a w2_b)``: row-wise Khatri-Rao products of the factors.
* LoKr, ``w1 ⊗ w2``: Kronecker products of the factors.

Source: arXiv 2106.09685 (LoRA), 2108.06098 (LoHa), 2309.14859 (LyCORIS, for scales and LoKr).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from triage.weights.names import Role

Matrix = NDArray[np.float32]

# Beyond it a layer costs more than it tells; published LoRAs end at a few hundred.
_HIGHEST_RANK: Final = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """``up @ down``, and what the tools divide alpha by (0: they leave the scale alone)."""

    up: Matrix
    down: Matrix
    divisor: int


def low_rank(parts: Mapping[Role, Matrix]) -> Product | None:
    """Return a layer's update as a product of two matrices, given its tensors by role.

    Shapes: ``(out, rank)`` and ``(rank, in)``. ``None`` when a part is missing or the rank is
    above 2,048. Raises ``ValueError`` when the parts do not fit each other.
    """
    if "down" in parts and "up" in parts:
        product = _lora(parts)
    elif {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= parts.keys():
        product = _loha(parts)
    else:
        product = _lokr(parts)
    if product is not None and product.up.shape[1] != product.down.shape[0]:
        raise ValueError(f"{product.up.shape} cannot be multiplied with {product.down.shape}")
    return product


def _matrix(array: Matrix) -> Matrix:
    """Flatten a convolution's kernel ``(out, in, height, width)`` to ``(out, rest)``."""
    if array.ndim < 2 or not array.size:
        raise ValueError(f"a factor has the shape {array.shape}")
    return array.reshape(len(array), -1)


def _lora(parts: Mapping[Role, Matrix]) -> Product | None:
    down, up = _matrix(parts["down"]), _matrix(parts["up"])
    rank = len(down)
    if rank > _HIGHEST_RANK:
        return None
    if "mid" in parts:
        # (out, r)(r, s, height, width)(s, in): the core goes to the side of the input.
        down = _matrix(np.einsum("rs...,si->ri...", parts["mid"], down))
    return Product(up, down, rank)


def _loha(parts: Mapping[Role, Matrix]) -> Product | None:
    up1, down1 = _matrix(parts["hada_w1_a"]), _matrix(parts["hada_w1_b"])
    up2, down2 = _matrix(parts["hada_w2_a"]), _matrix(parts["hada_w2_b"])
    rank = up1.shape[1] * up2.shape[1]
    if rank > _HIGHEST_RANK:
        return None
    up = np.einsum("oi,oj->oij", up1, up2).reshape(len(up1), rank)
    down = np.einsum("in,jn->ijn", down1, down2).reshape(rank, -1)
    return Product(up, down, len(down1))


def _lokr(parts: Mapping[Role, Matrix]) -> Product | None:
    first = _two_factors(parts, "lokr_w1", "lokr_w1_a", "lokr_w1_b")
    second = _two_factors(parts, "lokr_w2", "lokr_w2_a", "lokr_w2_b")
    if first is None or second is None or first[1].shape[0] * second[1].shape[0] > _HIGHEST_RANK:
        return None
    divisor = 0
    for role in ("lokr_w1_b", "lokr_w2_b"):
        if role in parts:
            divisor = len(parts[role])
    return Product(np.kron(first[0], second[0]), np.kron(first[1], second[1]), divisor)


def _two_factors(
    parts: Mapping[Role, Matrix], whole: Role, left: Role, right: Role
) -> tuple[Matrix, Matrix] | None:
    """Return a matrix that is stored whole or in two factors as two factors."""
    if whole in parts:
        matrix = _matrix(parts[whole])
        return matrix, np.eye(matrix.shape[1], dtype=np.float32)
    if left in parts and right in parts:
        return _matrix(parts[left]), _matrix(parts[right])
    return None
