"""A short digest for each tensor of a file, by which equal tensors are found again."""

import hashlib
from typing import Final

import numpy as np

from triage.weights.tensors import Tensors

_HEX_DIGITS: Final = 16  # 64 bits: no two of a billion tensors agree by chance
_BLOCK: Final = 2**22  # entries rounded at a time, so that a large tensor costs no memory twice


def fingerprints(tensors: Tensors) -> tuple[str, ...]:
    """Return the sorted digests of a file's tensors, without their names.

    Values are rounded to half precision first, so that a file saved again in half precision
    keeps its digests. Raises ``ContainerError`` for damage.
    """
    digests = set()
    for _, array in tensors.read(sorted(tensors.shapes)):
        digest = hashlib.sha256(str(array.shape).encode())
        flat = array.reshape(-1)
        for begin in range(0, flat.size, _BLOCK):
            with np.errstate(over="ignore"):
                digest.update(flat[begin : begin + _BLOCK].astype("<f2").tobytes())
        digests.add(digest.hexdigest()[:_HEX_DIGITS])
    return tuple(sorted(digests))
