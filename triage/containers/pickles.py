"""Pickles, read and never loaded: alone in a file, several in a row, or torch's old layout."""

import io
from typing import BinaryIO

from triage.containers.errors import Problem, Severity
from triage.containers.pickle_machine import follow
from triage.containers.pickle_opcodes import is_opcode, read_opcodes
from triage.containers.pickle_values import Budget, PickleReport, Sequence, Table

# torch/serialization.py, ``MAGIC_NUMBER`` and ``PROTOCOL_VERSION`` of the layout before 1.6.
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001


class Window(io.RawIOBase):
    """Part of a file as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be sought."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move as ``io.IOBase.seek`` does."""
        base = (0, self._position, self._length)[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: object) -> int:
        """Fill the buffer as ``io.RawIOBase.readinto`` does."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        count = max(0, min(len(view), self._length - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def window(file: BinaryIO, start: int, length: int) -> BinaryIO:
    """Return ``length`` bytes of a file from ``start`` on as a buffered, seekable stream."""
    return io.BufferedReader(Window(file, start, length), 65536)


def read_pickle(stream: BinaryIO, budget: Budget) -> PickleReport:
    """Read one pickle from where the stream stands; it stands after the STOP then."""
    report = PickleReport()
    follow(read_opcodes(stream), report, budget)
    return report


def read_pickles(stream: BinaryIO, budget: Budget) -> PickleReport:
    """Read a whole stream of pickle: one pickle, or torch's layout from before version 1.6.

    That layout is five pickles (magic number, protocol, machine, object, storage keys) and then
    each storage with its number of elements before it. Anything after the end that the layout
    does not account for is reported, and looked through for more pickles.
    """
    first = read_pickle(stream, budget)
    if not first.complete:
        return first
    if first.value == _TORCH_MAGIC and not first.problems:
        return _read_torch(stream, budget)
    if first.storages:
        first.add("strange_reference", "The pickle refers to storages, but the file holds none.")
    read_what_follows(stream, first, budget)
    return first


def read_what_follows(stream: BinaryIO, report: PickleReport, budget: Budget) -> None:
    """Report whatever comes after a pickle's end, and read it as pickles as far as that goes."""
    position = stream.tell()
    trailing = stream.seek(0, 2) - position
    stream.seek(position)
    if not trailing:
        return
    report.add("trailing_bytes", f"{trailing} bytes follow after the end of the pickle.")
    end = position + trailing
    while stream.tell() < end and budget.opcodes > 0:
        following = read_pickle(stream, budget)
        _merge(report, following)
        if not following.complete:
            return


def _merge(report: PickleReport, other: PickleReport) -> None:
    report.imports.update(other.imports)
    report.tensors += other.tensors
    for problem in other.problems:
        report.problems.add(problem)


def _read_torch(stream: BinaryIO, budget: Budget) -> PickleReport:
    protocol = read_pickle(stream, budget)
    machine = read_pickle(stream, budget)
    report = read_pickle(stream, budget)
    keys = read_pickle(stream, budget)
    for part in (protocol, machine, keys):
        _merge(report, part)
    report.complete = all(part.complete for part in (protocol, machine, report, keys))
    if not report.complete:
        return report
    if protocol.value != _TORCH_PROTOCOL or _is_little_endian(machine.value) is not True:
        report.add("torch_layout", "The file says that it was written in a way not understood.")
    items = keys.value.items if isinstance(keys.value, Sequence) else []
    names = [item for item in items if isinstance(item, str)]
    if len(names) != len(items) or sorted(names) != sorted(report.storages):
        report.add("torch_layout", "The file's list of storages is not the one its object uses.")
        read_what_follows(stream, report, budget)
        return report
    position = stream.tell()
    end = stream.seek(0, 2)
    for name in names:
        storage = report.storages[name]
        stream.seek(min(position, end))
        if int.from_bytes(stream.read(8), "little") != storage.elements and position + 8 <= end:
            report.add("torch_layout", f"Storage {storage.key[:50]} has another length than said.")
            stream.seek(position)
            read_what_follows(stream, report, budget)
            return report
        position += 8 + storage.size
    if position > end:
        report.add(
            "cut_short",
            f"The file ends {position - end} bytes before its storages do. It was probably cut"
            " short while it was copied; please upload it again.",
            Severity.UNREADABLE,
        )
    elif position < end:
        report.add("trailing_bytes", f"{end - position} bytes follow after the last storage.")
    return report


def _is_little_endian(value: object) -> object:
    if not isinstance(value, Table):
        return None
    return {key: item for key, item in value.pairs if isinstance(key, str)}.get("little_endian")


def code_in_data(stream: BinaryIO, budget: Budget) -> list[Problem]:
    """Look whether bytes that should be plain data would import something if loaded as pickle.

    Data may begin like a pickle by chance, so only imports with printable names count, and a
    stream that goes on like a pickle until the budget is spent.
    """
    first = stream.read(1)
    stream.seek(0)
    if not first or not is_opcode(first[0]):
        return []
    report = read_pickle(stream, budget)
    named = any(
        item.module and item.name and item.module.isprintable() and item.name.isprintable()
        for item in report.imports
    )
    if not named and budget.opcodes >= 0:
        return []
    found = [
        problem
        for problem in report.problems
        if problem.code in ("pickle.dangerous_import", "pickle.unknown_import", "pickle.too_long")
    ]
    if found:
        found.append(
            Problem(
                "pickle.hidden",
                "Bytes that should be plain data can also be loaded as a pickle.",
                Severity.UNVOUCHED,
            )
        )
    return found
