"""What kind of file this is, by its content; names and extensions are never asked."""

import os
from enum import StrEnum
from typing import BinaryIO

from triage.containers.pickle_machine import follow
from triage.containers.pickle_opcodes import is_opcode, read_opcodes
from triage.containers.pickle_values import Budget, PickleReport


class Format(StrEnum):
    """The kinds of files that are told apart."""

    SAFETENSORS = "safetensors"
    PICKLE = "pickle"
    ZIP = "zip"
    NPY = "npy"
    # Containers that weights come in but that are not opened here.
    SEVEN_ZIP = "7z"
    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTANDARD = "zstd"
    RAR = "rar"
    UNKNOWN = "unknown"


UNOPENED = frozenset(
    {
        Format.SEVEN_ZIP,
        Format.TAR,
        Format.GZIP,
        Format.BZIP2,
        Format.XZ,
        Format.ZSTANDARD,
        Format.RAR,
    }
)

SNIFFED_BYTES = 512  # a tar's mark ends at byte 263

_MAGIC = (
    (b"PK\x03\x04", Format.ZIP),
    (b"PK\x05\x06", Format.ZIP),  # a zip without entries
    (b"\x93NUMPY", Format.NPY),
    (b"7z\xbc\xaf\x27\x1c", Format.SEVEN_ZIP),
    (b"\x1f\x8b\x08", Format.GZIP),
    (b"BZh", Format.BZIP2),
    (b"\xfd7zXZ\x00", Format.XZ),
    (b"\x28\xb5\x2f\xfd", Format.ZSTANDARD),
    (b"Rar!\x1a\x07", Format.RAR),
)
# How far a pickle without a mark of its own is followed before it is believed.
_TRIED_OPCODES = 1000


def sniff(file: BinaryIO) -> Format:
    """Return the format of a file by its content; the file stands anywhere and is left so."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(SNIFFED_BYTES)
    form = sniff_start(start, size)
    if form is Format.UNKNOWN and _reads_as_pickle(file, start):
        return Format.PICKLE
    return form


def sniff_start(start: bytes, size: int) -> Format:
    """Return the format of ``size`` bytes that begin with ``start``.

    Pickles of protocols 0 and 1 have no mark and are ``UNKNOWN`` here.
    """
    for magic, form in _MAGIC:
        if start.startswith(magic):
            return form
    if start[257:262] == b"ustar":
        return Format.TAR
    if _is_safetensors(start, size):
        return Format.SAFETENSORS
    if len(start) > 2 and start[0] == 0x80 and start[1] <= 5 and is_opcode(start[2]):
        return Format.PICKLE
    return Format.UNKNOWN


def _is_safetensors(start: bytes, size: int) -> bool:
    """Tell a length and JSON, also where the length is wrong, so that it can be said exactly."""
    length = int.from_bytes(start[:8], "little")
    first = start[8:9]
    # No header ever needs more than five bytes of its eight-byte length. The sixth to eighth byte
    # of a pickle that has a brace as its ninth are hardly ever all zero.
    if first == b"{":
        return length < 1 << 40 or start[0] != 0x80
    return 2 <= length <= size - 8 and first in (b" ", b"\t", b"\r", b"\n", b"[")


def _reads_as_pickle(file: BinaryIO, start: bytes) -> bool:
    """Tell whether a file without a mark can be followed as a pickle."""
    if not start or not is_opcode(start[0]):
        return False
    file.seek(0)
    report, budget = PickleReport(), Budget(_TRIED_OPCODES)
    follow(read_opcodes(file), report, budget)
    return report.complete or bool(report.imports) or budget.opcodes < 0
