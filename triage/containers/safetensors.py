"""Reading safetensors files: the strict header, and one tensor at a time."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triage.containers.errors import ContainerError, Severity
from triage.containers.safetensors_header import Header, TensorInfo, read_header

__all__ = ["Header", "TensorInfo", "read_header", "read_tensor"]

_NUMPY_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "C64": "<c8",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}
# Below a megabyte a copy is cheaper than a mapping.
_MAP_FROM_BYTES = 1_000_000


def _float8_table(exponent_bits: int, bias: int, special: str) -> NDArray[np.float32]:
    """Return the 256 values of an 8-bit float, shape ``(256,)``.

    ``special``: "ieee" has infinities and NaNs in the top exponent (E5M2), "fn" only one NaN
    per sign (E4M3), "fnuz" one NaN in place of minus zero. Source: OCP 8-bit Floating Point
    Specification 1.0, table 1; arXiv 2206.02915 for the "fnuz" forms.
    """
    mantissa_bits = 7 - exponent_bits
    codes = np.arange(256)
    sign = np.where(codes & 0x80, -1.0, 1.0)
    exponent = (codes & 0x7F) >> mantissa_bits
    mantissa = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    normal = (1.0 + mantissa) * 2.0 ** (exponent - float(bias))
    subnormal = mantissa * 2.0 ** (1.0 - bias)
    values = sign * np.where(exponent > 0, normal, subnormal)
    if special == "ieee":
        top = exponent == (1 << exponent_bits) - 1
        values = np.where(top, np.where(mantissa > 0, np.nan, sign * np.inf), values)
    elif special == "fn":
        values = np.where((codes & 0x7F) == 0x7F, np.nan, values)
    else:
        values = np.where(codes == 0x80, np.nan, values)
    return values.astype(np.float32)


def _scale_table() -> NDArray[np.float32]:
    """Return the 256 powers of two of E8M0 (OCP Microscaling Formats 1.0, section 5.4)."""
    with np.errstate(under="ignore"):
        values = 2.0 ** (np.arange(256) - 127.0)
    values[255] = np.nan
    return values.astype(np.float32)


_FLOAT8_TABLES = {
    "F8_E5M2": _float8_table(5, 15, "ieee"),
    "F8_E4M3": _float8_table(4, 7, "fn"),
    "F8_E5M2FNUZ": _float8_table(5, 16, "fnuz"),
    "F8_E4M3FNUZ": _float8_table(4, 8, "fnuz"),
    "F8_E8M0": _scale_table(),
}


def read_tensor(path: Path, info: TensorInfo) -> NDArray[np.generic]:
    """Read one tensor, shape ``info.shape``, read-only.

    BF16 and the 8-bit floats come back as float32 (each of their values is one exactly), all
    other dtypes as themselves; those of a megabyte and more are mapped, not copied.

    Raises ``ContainerError`` for the 4- and 6-bit dtypes, which numpy cannot hold, and where
    the file has become shorter than its header says.
    """
    if info.dtype in _NUMPY_DTYPES:
        return _raw(path, info, _NUMPY_DTYPES[info.dtype])
    if info.dtype == "BF16":
        widened: NDArray[np.uint32] = _raw(path, info, "<u2").astype(np.uint32) << np.uint32(16)
        return widened.view(np.float32)
    if info.dtype in _FLOAT8_TABLES:
        values: NDArray[np.float32] = _FLOAT8_TABLES[info.dtype][_raw(path, info, "u1")]
        return values
    raise ContainerError(
        "safetensors.dtype_not_read",
        f"Tensors of dtype {info.dtype} can be listed but not read.",
        Severity.MALFORMED,
    )


def _raw(path: Path, info: TensorInfo, dtype: str) -> NDArray[np.generic]:
    size = info.end - info.begin
    if path.stat().st_size < info.end:
        raise ContainerError(
            "safetensors.data_beyond_file",
            "The file has become shorter than its header says.",
            Severity.UNREADABLE,
        )
    if size >= _MAP_FROM_BYTES:
        return np.memmap(path, dtype=dtype, mode="r", offset=info.begin, shape=info.shape)
    with path.open("rb") as file:
        file.seek(info.begin)
        return np.frombuffer(file.read(size), dtype=dtype).reshape(info.shape)
