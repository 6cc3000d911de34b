"""What must hold for any bytes at all, once for each reader of strangers' files."""

import io
import pickletools
import zipfile
from collections.abc import Iterator

from safetensors import deserialize

from triage.containers.archives import read_archive
from triage.containers.errors import ContainerError
from triage.containers.pickle_imports import ALLOWED
from triage.containers.pickle_values import Budget
from triage.containers.pickles import read_pickles
from triage.containers.safetensors_header import parse_header


def safetensors_header(data: bytes) -> None:
    """Whatever is accepted the library accepts, with the same tensors at the same places."""
    try:
        header = parse_header(io.BytesIO(data), len(data))
    except ContainerError:
        return
    theirs = dict(deserialize(data))  # type: ignore[no-untyped-call]
    assert set(theirs) == set(header.tensors)
    for name, info in header.tensors.items():
        assert tuple(theirs[name]["shape"]) == info.shape
        assert theirs[name]["dtype"] == info.dtype
        assert theirs[name]["data"] == data[info.begin : info.end]


def pickle(data: bytes) -> None:
    """Every import that Python's own disassembler sees is allowed, or there is a problem."""
    report = read_pickles(io.BytesIO(data), Budget())
    if report.problems:
        return
    assert report.complete
    assert {item.key for item in report.imports} <= ALLOWED
    assert set(_imports(data)) <= ALLOWED


def _imports(data: bytes) -> Iterator[tuple[str, str]]:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            yield module, name


def zip_archive(data: bytes) -> None:
    """An archive without a problem is the same one for Python's reader, its pickles undamaged."""
    try:
        report = read_archive(io.BytesIO(data))
    except ContainerError:
        return
    if report.problems:
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.infolist()) == report.entries
        for entry in archive.infolist():
            # The checksum of plain numbers is not looked at: they are never read.
            if entry.filename.endswith(".pkl"):
                assert len(archive.read(entry)) == entry.file_size
