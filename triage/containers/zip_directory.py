"""The directory of a zip file, cross-checked so that every reader sees the same entries.

A zip names each entry twice, in the central directory and in a local header, and readers
disagree about which one counts; scanners have been passed by on exactly that. Here both must
say the same, the entries must lie one behind the other from the first byte to the directory,
and whatever is encrypted, doubled or path-like is reported. Reading goes on after a report
wherever it can, so that code behind a trick is still found. Source: PKWARE APPNOTE 6.3.10.
"""

import os
import struct
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

from triage.containers.errors import ContainerError, ProblemList, Severity

MAX_ENTRIES = 50_000  # the largest sharded checkpoints have a few thousand
MAX_DIRECTORY_BYTES = 16_000_000
MAX_RATIO = 100

STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2LH")  # 4.3.16
_END64_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_MAX_COMMENT = 65535

# General purpose flags (4.4.4): 1 and 2 tune deflate, 3 puts sizes behind the data, 11 is UTF-8.
_ENCRYPTED_FLAGS = 1 << 0 | 1 << 6 | 1 << 13
_USUAL_FLAGS = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 11
_SIZES_BEHIND = 1 << 3
_UTF8 = 1 << 11
_LIMIT = 2**62  # beyond any file, and still a position that can be sought
_LATEST_VERSION = 63  # 4.4.3: the last one described
_ZIP64_EXTRA = 0x0001
_UNICODE_PATH_EXTRA = 0x7075


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in the archive.

    ``begin`` is where its packed bytes start, ``compressed`` how many are really there; ``size``
    and ``crc`` are what the directory claims.
    """

    name: str
    method: int
    crc: int
    compressed: int
    size: int
    begin: int

    @property
    def is_folder(self) -> bool:
        """Tell whether the entry is a folder and has no contents."""
        return self.name.endswith("/") and not self.size and not self.compressed


@dataclass(frozen=True, slots=True)
class _Central:
    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    header: int
    mode: int


def read_directory(file: BinaryIO) -> tuple[list[Entry], ProblemList]:
    """Return the entries of a zip file in the order of their data, and what is wrong with them.

    The entries are those with a local header; their sizes and names are the directory's.

    Raises ``ContainerError`` where there is no directory that could be read.
    """
    size = file.seek(0, os.SEEK_END)
    problems = ProblemList()
    directory_begin, directory_size, count, shift = _find_directory(file, size, problems)
    central = _read_central(file, directory_begin, directory_size, count, problems)
    if shift:
        central = [_settled(file, item, shift) for item in central]
    entries = _read_locals(file, central, directory_begin, problems)
    _check_names(central, problems)
    for item in central:
        if item.size > MAX_RATIO * item.compressed:
            problems.note(
                "zip.ratio", f"{_shown(item.name)} unpacks to more than {MAX_RATIO} times."
            )
    return entries, problems


def _refuse(code: str, sentence: str, severity: Severity) -> ContainerError:
    return ContainerError(f"zip.{code}", sentence, severity)


def _shown(name: str) -> str:
    return f"Entry {name[:100]!r}"


def _find_directory(file: BinaryIO, size: int, problems: ProblemList) -> tuple[int, int, int, int]:
    """Return where the central directory begins, its size, its entries, and the offsets' shift."""
    tail_begin = max(0, size - _END.size - _MAX_COMMENT)
    file.seek(tail_begin)
    tail = file.read()
    found = []
    position = tail.find(b"PK\x05\x06")
    while position >= 0:
        if position + _END.size <= len(tail):
            fields = _END.unpack_from(tail, position)
            if position + _END.size + fields[7] == len(tail):
                found.append((tail_begin + position, fields))
        position = tail.find(b"PK\x05\x06", position + 1)
    if not found:
        raise _refuse(
            "no_directory",
            "The zip file has no directory at its end. It was probably cut short while it was"
            " copied; please upload it again.",
            Severity.UNREADABLE,
        )
    if len(found) > 1:
        problems.note("zip.two_directories", "The zip file can be read in two ways from its end.")
    end, (_, disk, first_disk, on_disk, count, length, offset, _) = found[-1]
    directory_end = end
    if disk or first_disk or on_disk != count:
        problems.note("zip.several_disks", "The zip file claims to be one part of several.")
    locator_at = end - _END64_LOCATOR.size
    locator = b""
    if locator_at >= 0:
        file.seek(locator_at)
        locator = file.read(_END64_LOCATOR.size)
    if locator[:4] == b"PK\x06\x07":
        directory_end = _END64_LOCATOR.unpack(locator)[2]
        file.seek(min(directory_end, locator_at))
        raw = file.read(_END64.size) if directory_end <= locator_at else b""
        if len(raw) < _END64.size or raw[:4] != b"PK\x06\x06":
            raise _refuse("no_directory", "The zip64 end record is missing.", Severity.UNVOUCHED)
        _, own, _, _, disk, first_disk, on_disk64, count64, length64, offset64 = _END64.unpack(raw)
        if directory_end + 12 + own != locator_at or disk or first_disk or on_disk64 != count64:
            problems.note("zip.contradiction", "The zip64 end record does not fit its place.")
        for short, full, limit in (
            (count, count64, 0xFFFF),
            (length, length64, 0xFFFFFFFF),
            (offset, offset64, 0xFFFFFFFF),
        ):
            if short not in (full, limit):
                problems.note("zip.contradiction", "The two end records of the zip file differ.")
        count, length, offset = count64, length64, offset64
    elif 0xFFFF in (count,) or 0xFFFFFFFF in (length, offset):
        problems.note("zip.contradiction", "The zip64 end record that is announced is missing.")
    if count > MAX_ENTRIES or length > MAX_DIRECTORY_BYTES:
        raise _refuse(
            "too_many_entries",
            f"The zip file lists {count} entries in {length} bytes; at most {MAX_ENTRIES} entries"
            f" in {MAX_DIRECTORY_BYTES} bytes are read.",
            Severity.UNVOUCHED,
        )
    begin = directory_end - length
    if begin < 0:
        raise _refuse(
            "no_directory", "The zip directory is larger than the file.", Severity.UNVOUCHED
        )
    if begin != offset:
        problems.note("zip.shifted", "The zip directory does not lie where the file says.")
    return begin, length, count, begin - offset


def _read_central(
    file: BinaryIO, begin: int, length: int, count: int, problems: ProblemList
) -> list[_Central]:
    file.seek(begin)
    raw = file.read(length)
    entries: list[_Central] = []
    position = 0
    while position + _CENTRAL.size <= len(raw) and raw[position : position + 4] == b"PK\x01\x02":
        fields = _CENTRAL.unpack_from(raw, position)
        needed, flags, method, _, _, crc, compressed, size = fields[2:10]
        name_length, extra_length, comment, disk = fields[10:14]
        header, external = fields[16], fields[15]
        name_at = position + _CENTRAL.size
        extra_at = name_at + name_length
        position = extra_at + extra_length + comment
        if position > len(raw):
            break
        raw_name = raw[name_at:extra_at]
        name = _decode(raw_name, flags, problems)
        extra = raw[extra_at : extra_at + extra_length]
        size, compressed, header = _with_zip64(extra, name, (size, compressed, header), problems)
        if needed & 0xFF > _LATEST_VERSION or disk:
            problems.note("zip.flags", f"{_shown(name)} asks for what no reader of weights does.")
        entries.append(
            _Central(raw_name, name, flags, method, crc, compressed, size, header, external >> 16)
        )
        if len(entries) > MAX_ENTRIES:
            break
    if position != len(raw) or len(entries) != count:
        problems.note("zip.contradiction", "The zip directory does not hold the entries it counts.")
    return entries


def _settled(file: BinaryIO, item: _Central, shift: int) -> _Central:
    """Put an entry of a shifted archive where its header is: some readers shift, some do not."""
    for header in (item.header + shift, item.header):
        if 0 <= header < _LIMIT:
            file.seek(header)
            if file.read(4) == b"PK\x03\x04":
                return replace(item, header=header)
    return item


def _decode(raw: bytes, flags: int, problems: ProblemList) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        name = raw.decode("latin-1")
        problems.note("zip.name", f"{_shown(name)} has a name that is not text.")
    return name


def _with_zip64(
    extra: bytes, name: str, values: tuple[int, int, int], problems: ProblemList
) -> tuple[int, int, int]:
    """Return size, compressed size and offset with those that were too large looked up."""
    position = 0
    wide: list[int] = []
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        body = extra[position + 4 : position + 4 + length]
        if len(body) < length:
            break
        if kind == _ZIP64_EXTRA:
            wide = [value for (value,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
        elif kind == _UNICODE_PATH_EXTRA:
            problems.note("zip.contradiction", f"{_shown(name)} has a second name.")
        position += 4 + length
    result = []
    for value in values:
        if value == 0xFFFFFFFF and wide:
            result.append(wide.pop(0))
        else:
            result.append(value)
    return result[0], result[1], result[2]


def _read_locals(
    file: BinaryIO, central: list[_Central], directory_begin: int, problems: ProblemList
) -> list[Entry]:
    """Check each local header against the directory, and that the data leaves no gaps."""
    entries: list[Entry] = []
    ordered = sorted(central, key=lambda item: item.header)
    expected = 0
    for index, item in enumerate(ordered):
        after = ordered[index + 1].header if index + 1 < len(ordered) else directory_begin
        if item.header >= directory_begin:
            problems.note(
                "zip.contradiction", f"{_shown(item.name)} lies behind the directory or nowhere."
            )
            continue
        if item.header < expected:
            problems.note("zip.overlap", f"{_shown(item.name)} lies on top of another entry.")
        elif item.header > expected:
            problems.note(
                "zip.gap",
                f"{item.header - expected} bytes before {_shown(item.name)} belong to no entry.",
            )
        begin = _check_local(file, item, problems)
        if begin is None:
            expected = max(expected, item.header)
            continue
        end = begin + item.compressed
        if end > directory_begin:
            problems.note("zip.overlap", f"{_shown(item.name)} reaches into the directory.")
        behind = after - end
        if item.flags & _SIZES_BEHIND:
            if _descriptor_fits(file, end, behind, item):
                end = after
            else:
                problems.note(
                    "zip.contradiction", f"{_shown(item.name)} has other sizes behind it."
                )
        expected = max(expected, end)
        there = max(0, min(item.compressed, directory_begin - begin))
        entries.append(Entry(item.name, item.method, item.crc, there, item.size, begin))
    if ordered and expected < directory_begin:
        problems.note("zip.gap", "Bytes before the zip directory belong to no entry.")
    return entries


def _check_local(file: BinaryIO, item: _Central, problems: ProblemList) -> int | None:
    """Compare one local header; return where the data begins, or ``None`` without a header."""
    file.seek(max(0, item.header))
    raw = file.read(_LOCAL.size) if item.header >= 0 else b""
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04":
        problems.note(
            "zip.contradiction", f"{_shown(item.name)} does not lie where the directory says."
        )
        return None
    _, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = _LOCAL.unpack(raw)
    rest = file.read(name_length + extra_length)
    if len(rest) < name_length + extra_length:
        problems.note("zip.contradiction", f"{_shown(item.name)} ends inside its own header.")
        return None
    size, compressed, _ = _with_zip64(
        rest[name_length:], item.name, (size, compressed, 0), problems
    )
    told = (crc, compressed, size)
    # With the sizes behind the data, writers leave zeros here.
    absent = flags & _SIZES_BEHIND and all(
        value in (0, known)
        for value, known in zip(told, (item.crc, item.compressed, item.size), strict=True)
    )
    same = told == (item.crc, item.compressed, item.size) or absent
    if rest[:name_length] != item.raw_name or flags != item.flags or method != item.method:
        same = False
    if not same:
        problems.note(
            "zip.contradiction", f"{_shown(item.name)} is described in two ways that differ."
        )
    if (flags | item.flags) & _ENCRYPTED_FLAGS:
        problems.note("zip.encrypted", f"{_shown(item.name)} is encrypted or says so.")
    if (flags | item.flags) & ~(_USUAL_FLAGS | _ENCRYPTED_FLAGS):
        problems.note("zip.flags", f"{_shown(item.name)} has flags that weights never have.")
    if item.method not in (STORED, DEFLATED):
        problems.note("zip.method", f"{_shown(item.name)} is packed in a way that is not read.")
    if item.method == STORED and item.compressed != item.size:
        problems.note("zip.contradiction", f"{_shown(item.name)} has two sizes.")
    return item.header + _LOCAL.size + len(rest)


def _descriptor_fits(file: BinaryIO, begin: int, length: int, item: _Central) -> bool:
    """Check the sizes behind the data (4.3.9): with or without signature, 32 or 64 bits."""
    if length not in (12, 16, 20, 24):
        return False
    file.seek(begin)
    raw = file.read(length)
    if length in (16, 24):
        if raw[:4] != b"PK\x07\x08":
            return False
        raw = raw[4:]
    layout = "<LLL" if len(raw) == 12 else "<LQQ"
    return struct.unpack(layout, raw) == (item.crc, item.compressed, item.size)


def _check_names(central: list[_Central], problems: ProblemList) -> None:
    seen: set[str] = set()
    for item in central:
        name = item.name
        path = PurePosixPath(name)
        if (
            not name
            or path.is_absolute()
            or ".." in path.parts
            or "\\" in name
            or name[1:2] == ":"
            or any(ord(letter) < 32 for letter in name)
        ):
            problems.note("zip.path", f"{_shown(name)} points outside of the archive.")
        # Some file systems do not tell large letters from small ones.
        folded = name.rstrip("/").casefold()
        if folded in seen:
            problems.note("zip.duplicate", f"{_shown(name)} is there twice.")
        seen.add(folded)
        if item.mode & 0o170000 == 0o120000:
            problems.note("zip.link", f"{_shown(name)} is a link to another file.")
