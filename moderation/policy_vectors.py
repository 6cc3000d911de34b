"""Vectors in a file beside a policy: ``.npz`` or ``.safetensors``, never a pickle.

The arrays are ``values`` (vectors, numbers), ``thresholds`` (one a vector, cosines) and, if
wanted, ``weights``. Pure: no table, no Django.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

MAX_BYTES = 64_000_000  # a thousand vectors of 8192 numbers, twice
ARRAYS = ("values", "thresholds", "weights")


class VectorsError(Exception):
    """The file of vectors cannot be used. ``str()`` says why and what to do."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a file of vectors holds; each number as float32 has it."""

    values: list[list[float]]
    thresholds: list[float]
    weights: list[float]


def vectors_read(folder: Path, name: str) -> Vectors:
    """Read a file of vectors that lies in a folder. Raises VectorsError."""
    if Path(name).name != name or name in {".", ".."}:
        raise VectorsError(
            f"“{name}” is a path. Put the file beside the policy and write its name."
        )
    path = folder / name
    try:
        arrays = _arrays(path)
    except OSError as error:
        raise VectorsError(f"“{name}” cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        raise VectorsError(f"“{name}” cannot be read as arrays of numbers: {error}.") from error
    unknown = sorted(set(arrays) - set(ARRAYS))
    if unknown or "values" not in arrays:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise VectorsError(
            f"“{name}” holds {found}. Name the arrays values, thresholds and weights."
        )
    if arrays["values"].ndim != 2:
        raise VectorsError(f"“values” in “{name}” has to have one row a vector.")
    flat = {key: array for key, array in arrays.items() if key != "values"}
    for key, array in flat.items():
        if array.ndim != 1:
            raise VectorsError(f"“{key}” in “{name}” has to have one number a vector.")
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise VectorsError(f"“{key}” in “{name}” holds something that is no finite number.")
    return Vectors(
        values=[_numbers(row) for row in arrays["values"]],
        thresholds=_numbers(flat["thresholds"]) if "thresholds" in flat else [],
        weights=_numbers(flat["weights"]) if "weights" in flat else [],
    )


def vectors_write(path: Path, vectors: Vectors) -> None:
    """Write vectors as ``.npz``, so that ``vectors_read`` returns the same numbers."""
    np.savez(
        path,
        values=np.asarray(vectors.values, np.float32),
        thresholds=np.asarray(vectors.thresholds, np.float64),
        weights=np.asarray(vectors.weights, np.float64),
    )


def as_single(row: list[float]) -> list[float]:
    """Return numbers as fp32 has them."""
    return _numbers(np.asarray(row, np.float32))


def to_bytes(row: list[float]) -> bytes:
    """Return numbers as little-endian fp32."""
    return np.asarray(row, "<f4").tobytes()


def from_bytes(data: bytes) -> list[float]:
    """Return numbers from little-endian fp32."""
    return _numbers(np.frombuffer(data, "<f4"))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".safetensors":
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        return dict(load_file(path))
    if path.suffix != ".npz":
        raise ValueError("its name has to end in .npz or .safetensors")
    with zipfile.ZipFile(path) as archive:
        # Unpacked sizes: a small archive may unfold into a huge one.
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes")
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _numbers(row: NDArray[Any]) -> list[float]:
    return [float(number) for number in row]
