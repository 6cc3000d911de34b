"""The header of numpy's .npy files: enough to tell plain numbers from pickled objects."""

import ast
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

from triage.containers.errors import ContainerError, Severity

MAGIC = b"\x93NUMPY"
# numpy itself refuses longer headers unless it is told to trust the file.
MAX_HEADER_BYTES = 10_000
_ITEM_BYTES = {"U": 4, "S": 1, "V": 1, "a": 1}


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What a .npy file says about itself. ``data`` is where the numbers begin."""

    dtype: str
    shape: tuple[int, ...]
    has_objects: bool
    data: int


def read_array_header(stream: BinaryIO, size: int) -> ArrayHeader:
    """Read the header of a .npy stream of ``size`` bytes (numpy/lib/format.py, versions 1 to 3).

    Raises ``ContainerError`` where it is cut short or malformed.
    """
    prefix = stream.read(8)
    if len(prefix) < 8 or prefix[:6] != MAGIC or prefix[6] not in (1, 2, 3):
        raise _malformed("header", "The numpy array has no header that numpy would read.")
    width = 2 if prefix[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > MAX_HEADER_BYTES:
        raise _malformed("header", f"The numpy array announces a header of {length} bytes.")
    raw = stream.read(length)
    if len(raw) < length:
        raise ContainerError(
            "npy.cut_short", "The numpy array ends inside its header.", Severity.UNREADABLE
        )
    try:
        fields = ast.literal_eval(raw.decode("utf-8" if prefix[6] == 3 else "latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise _malformed("header", "The header of the numpy array is not a literal.") from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise _malformed("header", "The header of the numpy array lacks its three fields.")
    descr, shape = fields["descr"], fields["shape"]
    if not isinstance(shape, tuple) or not all(type(item) is int and item >= 0 for item in shape):
        raise _malformed("shape", "The shape of the numpy array is not a tuple of numbers.")
    header = ArrayHeader(str(descr)[:200], shape, _has_objects(descr), 8 + width + length)
    item_size = _item_size(descr)
    if not header.has_objects and item_size is not None:
        _check_size(header, item_size, size)
    return header


def _malformed(code: str, sentence: str) -> ContainerError:
    return ContainerError(f"npy.{code}", sentence, Severity.MALFORMED)


def _has_objects(descr: object) -> bool:
    """Tell whether a dtype holds Python objects, anywhere; what is not understood does."""
    if isinstance(descr, str):
        return "O" in descr
    if isinstance(descr, list):
        return any(
            not isinstance(field, tuple) or len(field) < 2 or _has_objects(field[1])
            for field in descr
        )
    if isinstance(descr, tuple) and len(descr) == 2:
        return _has_objects(descr[0])
    return True


def _item_size(descr: object) -> int | None:
    """Return the bytes of one element of a plain dtype such as "<f4" or "<U10"."""
    if not isinstance(descr, str):
        return None
    kind, digits = descr.lstrip("<>|=")[:1], descr.lstrip("<>|=")[1:].partition("[")[0]
    if kind == "?" and not digits:
        return 1
    return (
        int(digits) * _ITEM_BYTES.get(kind, 1) if digits.isdecimal() and len(digits) < 10 else None
    )


def _check_size(header: ArrayHeader, item_size: int, size: int) -> None:
    needed = header.data + item_size * prod(header.shape)
    if needed > size:
        raise ContainerError(
            "npy.cut_short", "The numpy array ends before its last number.", Severity.UNREADABLE
        )
    if needed < size:
        raise _malformed(
            "trailing_bytes", f"{size - needed} bytes after the numpy array are unused."
        )
