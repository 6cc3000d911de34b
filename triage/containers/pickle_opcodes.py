"""The opcodes of a pickle, one after the other, read without loading anything.

``pickletools.genops`` reads whole arguments into memory and stops at nothing; this loop knows
the same table of opcodes, skips what is large, keeps to the frames and ends with one named
error wherever the stream stops making sense.
"""

import codecs
import pickletools
from collections.abc import Callable, Iterator
from typing import BinaryIO

from triage.containers.errors import ContainerError, Severity

# A longer string or line is no name of anything and is skipped unread.
MAX_KEPT_BYTES = 4096
MAX_LINE_BYTES = 1_000_000


class Opaque:
    """A value of which nothing is known but that it is there."""

    __slots__ = ()


OPAQUE = Opaque()


# One instruction: its name, its argument (``OPAQUE`` where it was not worth keeping), and where it
# begins. A plain tuple, because a checkpoint has a hundred thousand of them.
Opcode = tuple[str, object, int]
Reader = Callable[[BinaryIO], object]


class BrokenPickleError(ContainerError):
    """The stream does not make sense from here on."""

    def __init__(self, sentence: str, code: str = "pickle.broken") -> None:
        super().__init__(code, sentence, Severity.UNVOUCHED)


_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_OLD_TEXT = {"SHORT_BINSTRING", "BINSTRING"}
_NUMBERS = {"LONG1", "LONG4"}


def _end(stream: BinaryIO) -> int:
    position = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(position)
    return end


def _exactly(stream: BinaryIO, length: int) -> bytes:
    raw = stream.read(length)
    if len(raw) < length:
        raise BrokenPickleError("The pickle ends inside an instruction.")
    return raw


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise BrokenPickleError("The pickle has a line without an end.")
    return line[:-1]


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BrokenPickleError("The pickle imports a name that is not text.") from error


def _line_value(name: str, raw: bytes) -> object:
    """Read the value of an instruction whose argument is a line, as protocol 0 writes them."""
    if len(raw) > MAX_KEPT_BYTES:
        return OPAQUE
    if name == "UNICODE":
        try:
            return raw.decode("raw-unicode-escape")
        except UnicodeDecodeError as error:
            raise BrokenPickleError("The pickle holds a string that is not text.") from error
    if name == "STRING":
        if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b'"', b"'"):
            raise BrokenPickleError("The pickle holds a string without quotes.")
        try:
            return _old_text(codecs.escape_decode(raw[1:-1])[0])
        except ValueError as error:
            raise BrokenPickleError("The pickle holds a string with a broken escape.") from error
    if name in ("PUT", "GET", "INT", "LONG"):
        if name == "INT" and raw in (b"00", b"01"):
            return raw == b"01"
        digits = raw.removesuffix(b"L") if name == "LONG" else raw
        # Longer numbers are no index and no size, and turning them into integers is slow.
        if len(digits) > 40:
            return OPAQUE
        try:
            return int(digits)
        except ValueError as error:
            raise BrokenPickleError("The pickle holds a number that is none.") from error
    if name == "FLOAT":
        try:
            float(raw)
        except ValueError as error:
            raise BrokenPickleError("The pickle holds a number that is none.") from error
    return OPAQUE  # FLOAT, PERSID


def _counted_value(stream: BinaryIO, name: str, width: int, kind: int) -> object:
    signed = kind == pickletools.TAKEN_FROM_ARGUMENT4
    length = int.from_bytes(_exactly(stream, width), "little", signed=signed)
    if length < 0:
        raise BrokenPickleError("The pickle announces a value of negative length.")
    if length > MAX_KEPT_BYTES:
        position = stream.tell()
        if position + length > _end(stream):
            raise BrokenPickleError("The pickle announces a value longer than itself.")
        stream.seek(position + length)
        return OPAQUE
    raw = _exactly(stream, length)
    if name in _TEXT:
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise BrokenPickleError("The pickle holds a string that is not text.") from error
    if name in _OLD_TEXT:
        return _old_text(raw)
    if name in _NUMBERS and length <= 16:
        return int.from_bytes(raw, "little", signed=True)
    return OPAQUE  # bytes


def _old_text(raw: bytes) -> object:
    # Python 2 wrote bytes and text alike; only text can name something.
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        return OPAQUE


def _reader(info: pickletools.OpcodeInfo) -> Reader | None:
    """Return the function that reads this instruction's argument, or ``None`` if it has none."""
    if info.arg is None:
        return None
    name, length = info.name, info.arg.n
    if name in ("GLOBAL", "INST"):
        return lambda stream: (_utf8(_line(stream)), _utf8(_line(stream)))
    if length == pickletools.UP_TO_NEWLINE:
        return lambda stream: _line_value(name, _line(stream))
    if length in _LENGTH_BYTES:
        return lambda stream: _counted_value(stream, name, _LENGTH_BYTES[length], length)
    if info.arg.name == "float8":
        return lambda stream: OPAQUE if _exactly(stream, length) else None
    signed = info.arg.name == "int4"
    return lambda stream: int.from_bytes(_exactly(stream, length), "little", signed=signed)


_TABLE = {ord(info.code): (info.name, _reader(info)) for info in pickletools.opcodes}


def is_opcode(byte: int) -> bool:
    """Tell whether a pickle may hold this byte where an instruction begins."""
    return byte in _TABLE


def read_opcodes(stream: BinaryIO) -> Iterator[Opcode]:
    """Yield opcodes up to and with STOP from a seekable stream that stands at a pickle.

    Raises ``BrokenPickleError`` at the first byte that cannot be read.
    """
    frame_end: int | None = None
    while True:
        position = stream.tell()
        if frame_end is not None and position >= frame_end:
            if position > frame_end:
                raise BrokenPickleError(
                    f"An instruction before byte {position} crosses its frame's end."
                )
            frame_end = None
        code = stream.read(1)
        if not code:
            raise BrokenPickleError("The pickle ends without a STOP instruction.")
        if code[0] not in _TABLE:
            raise BrokenPickleError(f"Byte {code[0]:#04x} at {position} is no pickle instruction.")
        name, read_argument = _TABLE[code[0]]
        argument = None if read_argument is None else read_argument(stream)
        if name == "FRAME" and isinstance(argument, int):
            if frame_end is not None:
                raise BrokenPickleError(f"A frame begins inside another one at byte {position}.")
            frame_end = stream.tell() + argument
            if frame_end > _end(stream):
                raise BrokenPickleError(f"The frame at byte {position} is longer than the pickle.")
        yield name, argument, position
        if name == "STOP":
            if frame_end is not None and stream.tell() != frame_end:
                raise BrokenPickleError("The pickle stops before the end of its frame.")
            return
