"""A few numbers for a file, so that one upload can be held against all that are known.

A sketch has 2,048 numbers whose cosine estimates how alike two files are: a count sketch of the
updates, in which every entry of every ΔW is added, with a random sign, to a random one of the
numbers. For a product ``up @ down`` this is a circular convolution of the sketches of the two
factors (Pham and Pagh, "Fast and scalable polynomial kernels via explicit feature maps", 2013),
so that no update is multiplied out. Its error has a standard deviation of about 1/√2048 = 0.022.

Each layer is brought to length one first. One layer with enormous values, which a loader would
ignore, could otherwise hide all others.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from triage.weights.adapter import Adapter
from triage.weights.deltas import inner_by_layer

SIZE: Final = 2048
Sketch = NDArray[np.float32]


def sketch(adapter: Adapter) -> Sketch:
    """Return a unit vector of 2,048 numbers, or zeros for an adapter that changes nothing."""
    energies = inner_by_layer(adapter, adapter)
    spectrum = np.zeros(SIZE // 2 + 1, dtype=np.complex128)
    for name, layer in adapter.layers.items():
        if energies[name] > 0.0:
            up = np.fft.rfft(count_sketch(layer.up.T, f"{name} out"))
            down = np.fft.rfft(count_sketch(layer.down, f"{name} in"))
            spectrum += (up * down).sum(axis=0) * (layer.scale / np.sqrt(energies[name]))
    return unit(np.fft.irfft(spectrum, SIZE))


def count_sketch(rows: NDArray[np.float32], seed: str) -> NDArray[np.float64]:
    """Add the columns of ``(N, d)`` into 2,048 with signs that ``seed`` chooses: ``(N, 2048)``."""
    bucket, sign = buckets(rows.shape[1], seed)
    order = np.argsort(bucket, kind="stable")
    places, starts = np.unique(bucket[order], return_index=True)
    sums = np.zeros((len(rows), SIZE))
    sums[:, places] = np.add.reduceat(rows[:, order] * sign[order], starts, axis=1)
    return sums


def buckets(length: int, seed: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return ``length`` random places and signs, the same on every machine and for ever."""
    # A hash function and not numpy's generators, whose streams may change between releases:
    # sketches are stored for years.
    stream = hashlib.shake_128(f"{seed} {length}".encode()).digest(4 * length)
    bits = np.frombuffer(stream, dtype="<u4")
    return (bits % SIZE).astype(np.int64), np.where(bits >> 31, -1, 1).astype(np.float32)


def unit(vector: NDArray[np.float64]) -> Sketch:
    """Bring a vector to length one; zeros stay zeros."""
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0.0 else vector).astype(np.float32)


def pack(values: Sketch) -> bytes:
    """Store a sketch in 4,096 bytes of half precision."""
    return values.astype("<f2").tobytes()


def unpack(data: bytes) -> Sketch:
    """Read a stored sketch as a unit vector, or zeros. Raises ``ValueError`` as ``unpack_all``."""
    return unit(unpack_all([data])[0].astype(np.float64))


def unpack_all(stored: Sequence[bytes]) -> NDArray[np.float32]:
    """Read N stored sketches, shape ``(N, 2048)``, of length one but for rounding.

    Raises ``ValueError`` when one has another length or holds what is no number.
    """
    for data in stored:
        if len(data) != 2 * SIZE:
            raise ValueError(f"A stored sketch has {2 * SIZE} bytes, not {len(data)}.")
    values = np.frombuffer(b"".join(stored), dtype="<f2").astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("A stored sketch holds values that are no numbers.")
    return values.reshape(-1, SIZE)
