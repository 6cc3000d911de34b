"""Zip files of weights: torch's layout, .npz, and whatever else is zipped.

Every entry is looked at by its content. Pickles are read wherever they are; entries that torch
would map as plain numbers must have the size that the pickle gives them and must not be
pickles in disguise.
"""

import zlib
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import PurePosixPath
from typing import BinaryIO

from triage.containers.arrays import read_array_header
from triage.containers.errors import ContainerError, ProblemList, Severity
from triage.containers.pickle_values import Budget, Import, PickleReport, Storage
from triage.containers.pickles import code_in_data, read_pickle, read_what_follows, window
from triage.containers.sniff import SNIFFED_BYTES, Format, sniff_start
from triage.containers.zip_directory import DEFLATED, STORED, Entry, read_directory

# The index of a checkpoint of 2,500 tensors takes 400 kB.
MAX_UNPACKED_BYTES = 64_000_000
MAX_UNPACKED_IN_ALL = 256_000_000
_STEP_BYTES = 65536
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".p", ".pt", ".pth", ".bin", ".ckpt", ".joblib"}

# torch/serialization.py, ``_is_torchscript_zip``: loading such an archive runs what it says.
_TORCHSCRIPT = "constants.pkl"
# Linux, Windows and macOS programs, and scripts.
_PROGRAMS = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!")
_PROGRAM_SUFFIXES = {".py", ".pyc", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".ps1", ".js"}


@dataclass(slots=True)
class ArchiveReport:
    """What a zip file holds and what is wrong with it."""

    entries: int = 0
    tensors: int = 0
    imports: dict[Import, None] = field(default_factory=dict)
    dtypes: Counter[str] = field(default_factory=Counter)
    problems: ProblemList = field(default_factory=ProblemList)


def read_archive(file: BinaryIO) -> ArchiveReport:
    """Read a zip file, its pickles and its arrays included.

    Raises ``ContainerError`` where it has no directory that could be read.
    """
    entries, problems = read_directory(file)
    reader = _Reader(file, ArchiveReport(len(entries), problems=problems))
    reader.read([entry for entry in entries if not entry.is_folder])
    return reader.report


class _Reader:
    def __init__(self, file: BinaryIO, report: ArchiveReport) -> None:
        self.file = file
        self.report = report
        self.budget = Budget()
        self.unpacked = 0

    def read(self, entries: list[Entry]) -> None:
        """Read the pickles first: they say which of the other entries are plain numbers."""
        storages: dict[str, Storage] = {}
        rest = []
        for entry in entries:
            if PurePosixPath(entry.name).name == _TORCHSCRIPT:
                self.note(
                    "zip.torchscript",
                    "The archive is TorchScript, a program with weights in it. Upload the weights.",
                )
            start = self.start(entry)
            form = sniff_start(start, entry.size)
            path = PurePosixPath(entry.name)
            marked = form is Format.PICKLE and not _is_storage(path)
            named = form is Format.UNKNOWN and path.suffix.lower() in _PICKLE_SUFFIXES
            if marked or named:
                self.pickle(entry, path, storages)
            else:
                rest.append((entry, form))
        for entry, form in rest:
            storage = storages.pop(entry.name, None)
            if storage is not None:
                self.storage(entry, storage)
            else:
                self.other(entry, form)
        for name, storage in storages.items():
            if storage.size:
                self.note(
                    "zip.storage_missing",
                    f"The numbers of {name[:100]!r} are missing.",
                    Severity.UNREADABLE,
                )

    def pickle(self, entry: Entry, path: PurePosixPath, storages: dict[str, Storage]) -> None:
        data = self.contents(entry)
        if data is None:
            return
        found = read_pickle(data, self.budget)
        if found.complete:
            read_what_follows(data, found, self.budget)
        self.take(entry, found)
        folder = path.parent / "data"
        for key, storage in found.storages.items():
            storages[str(folder / key)] = storage

    def take(self, entry: Entry, found: PickleReport) -> None:
        self.report.imports.update(found.imports)
        self.report.tensors += found.tensors
        self.report.dtypes.update(storage.kind for storage in found.storages.values())
        for problem in found.problems:
            self.note(
                problem.code, f"In {entry.name[:100]!r}: {problem.sentence}", problem.severity
            )

    def storage(self, entry: Entry, storage: Storage) -> None:
        if entry.size != storage.size:
            self.note(
                "zip.storage_size",
                f"Entry {entry.name[:100]!r} has {entry.size} bytes; the checkpoint says"
                f" {storage.size}.",
                Severity.MALFORMED,
            )
        self.plain(entry)

    def other(self, entry: Entry, form: Format) -> None:
        """Look at an entry that is neither a pickle nor numbers that a pickle refers to."""
        path = PurePosixPath(entry.name)
        if form is Format.NPY:
            self.array(entry)
            return
        if not _is_storage(path):
            if form is not Format.UNKNOWN:
                self.note(
                    "zip.nested",
                    f"Entry {entry.name[:100]!r} is a file of kind {form} in itself;"
                    " it was not opened.",
                )
            elif path.suffix.lower() in _PROGRAM_SUFFIXES or self.start(entry).startswith(
                _PROGRAMS
            ):
                self.note("zip.program", f"Entry {entry.name[:100]!r} is a program.")
        self.plain(entry)

    def array(self, entry: Entry) -> None:
        data = self.stream(entry)
        if data is None:
            return
        try:
            header = read_array_header(data, entry.size)
        except ContainerError as error:
            self.note(error.code, f"In {entry.name[:100]!r}: {error.sentence}", error.severity)
            return
        self.report.tensors += 1
        self.report.dtypes[header.dtype] += 1
        if header.has_objects:
            self.note(
                "npy.objects",
                f"The array {entry.name[:100]!r} holds Python objects, which are a pickle.",
            )
            data = self.contents(entry)
            if data is not None:
                data.seek(header.data)
                self.take(entry, read_pickle(data, self.budget))

    def plain(self, entry: Entry) -> None:
        data = self.stream(entry)
        if data is None:
            return
        for problem in code_in_data(data, self.budget):
            self.note(
                problem.code, f"In {entry.name[:100]!r}: {problem.sentence}", problem.severity
            )

    # Bytes.

    def start(self, entry: Entry) -> bytes:
        return self._unpack(entry, SNIFFED_BYTES) or b""

    def stream(self, entry: Entry) -> BinaryIO | None:
        """Return the entry's bytes: all of a stored one, the first 64 kB of a packed one."""
        if entry.method == STORED:
            return window(self.file, entry.begin, entry.compressed)
        data = self._unpack(entry, _STEP_BYTES)
        return None if data is None else BytesIO(data)

    def contents(self, entry: Entry) -> BinaryIO | None:
        """Return all bytes of an entry, checked against its checksum."""
        if entry.size > min(MAX_UNPACKED_BYTES, MAX_UNPACKED_IN_ALL - self.unpacked):
            self.note(
                "zip.too_large", f"Entry {entry.name[:100]!r} is too large to be looked through."
            )
            return self.stream(entry)
        data = self._unpack(entry, entry.size + 1)
        if data is None:
            return None
        self.unpacked += len(data)
        if len(data) != entry.size or zlib.crc32(data) != entry.crc:
            self.note("zip.checksum", f"Entry {entry.name[:100]!r} is not what its checksum says.")
        return BytesIO(data)

    def _unpack(self, entry: Entry, limit: int) -> bytes | None:
        self.file.seek(entry.begin)
        if entry.method == STORED:
            return self.file.read(min(entry.compressed, limit))
        if entry.method != DEFLATED:
            return None  # reported with the directory
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacked = bytearray()
        left = entry.compressed
        try:
            while left > 0 and len(unpacked) < limit and not inflate.eof:
                packed = self.file.read(min(left, _STEP_BYTES))
                left -= len(packed)
                if not packed:
                    break
                unpacked += inflate.decompress(packed, limit - len(unpacked))
        except zlib.error:
            self.note("zip.packing", f"Entry {entry.name[:100]!r} cannot be unpacked.")
        return bytes(unpacked)

    def note(self, code: str, sentence: str, severity: Severity = Severity.UNVOUCHED) -> None:
        self.report.problems.note(code, sentence, severity)


def _is_storage(path: PurePosixPath) -> bool:
    """Tell torch's place for plain numbers, "<root>/data/<number>"."""
    return path.parent.name == "data" and path.name.isdecimal()
