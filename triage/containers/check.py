"""Everything that can be said about a stranger's file of weights without trusting it.

``check_file`` is what runs inside the sandbox: a path goes in, JSON-able plain data comes out.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from triage.containers.archives import read_archive
from triage.containers.arrays import read_array_header
from triage.containers.errors import ContainerError, ProblemList, Severity
from triage.containers.pickle_values import Budget, Import, PickleReport
from triage.containers.pickles import code_in_data, read_pickle, read_pickles, window
from triage.containers.safetensors_header import parse_header, read_header
from triage.containers.sniff import UNOPENED, Format, sniff

MAX_LISTED = 100
MAX_SHOWN = 200
_ZIP_END_BYTES = 22
_MAX_COMMENT = 65535


def check_file(path: str) -> dict[str, object]:
    """Read a file of weights and say what it holds and what is wrong with it.

    Returns format, bytes, tensors, dtypes (name to count), metadata_keys, imports and problems
    (code, sentence, severity). No tensor is read.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        form = sniff(file)
        file.seek(0)
        report: dict[str, object] = {"format": form.value, "bytes": size}
        problems = ProblemList()
        try:
            report |= _READERS.get(form, _unreadable)(file, size, form, problems)
        except ContainerError as error:
            problems.add(error.problem)
        if form is not Format.PICKLE:
            for problem in code_in_data(window(file, 0, size), Budget()):
                problems.add(problem)
        report["problems"] = [problem.as_dict() for problem in problems]
        return report


def check_header(path: str) -> dict[str, object]:
    """Read a safetensors header; return the number of tensors, or the first problem as data."""
    try:
        return {"tensors": len(read_header(Path(path)).tensors)}
    except ContainerError as error:
        return {**error.problem.as_dict()}


def _safetensors(
    file: BinaryIO, size: int, form: Format, problems: ProblemList
) -> dict[str, object]:
    _look_for_zip_end(file, size, problems)
    file.seek(0)
    header = parse_header(file, size)
    return {
        "tensors": len(header.tensors),
        "dtypes": _counted(Counter(info.dtype for info in header.tensors.values())),
        "metadata_keys": [key[:MAX_SHOWN] for key in list(header.metadata)[:MAX_LISTED]],
    }


def _look_for_zip_end(file: BinaryIO, size: int, problems: ProblemList) -> None:
    """Report a zip that lies inside the last tensor, where zip readers look for it."""
    begin = max(0, size - _ZIP_END_BYTES - _MAX_COMMENT)
    file.seek(begin)
    tail = file.read()
    position = tail.find(b"PK\x05\x06")
    while 0 <= position <= len(tail) - _ZIP_END_BYTES:
        comment = int.from_bytes(tail[position + 20 : position + 22], "little")
        if position + _ZIP_END_BYTES + comment == len(tail):
            problems.note(
                "safetensors.zip_inside",
                "The file can also be opened as a zip archive, which hides what is in it.",
            )
        position = tail.find(b"PK\x05\x06", position + 1)


def _pickle(file: BinaryIO, size: int, form: Format, problems: ProblemList) -> dict[str, object]:
    found = read_pickles(file, Budget())
    problems.extend(found.problems)
    return {
        "tensors": found.tensors,
        "dtypes": _counted(Counter(storage.kind for storage in found.storages.values())),
        "imports": _listed(found.imports),
    }


def _zip(file: BinaryIO, size: int, form: Format, problems: ProblemList) -> dict[str, object]:
    found = read_archive(file)
    problems.extend(found.problems)
    return {
        "entries": found.entries,
        "tensors": found.tensors,
        "dtypes": _counted(found.dtypes),
        "imports": _listed(found.imports),
    }


def _npy(file: BinaryIO, size: int, form: Format, problems: ProblemList) -> dict[str, object]:
    header = read_array_header(file, size)
    found = PickleReport()
    if header.has_objects:
        problems.note("npy.objects", "The array holds Python objects, which are a pickle.")
        file.seek(header.data)
        found = read_pickle(file, Budget())
        problems.extend(found.problems)
    return {
        "tensors": 1,
        "dtypes": {header.dtype: 1},
        "imports": _listed(found.imports),
    }


def _unreadable(
    file: BinaryIO, size: int, form: Format, problems: ProblemList
) -> dict[str, object]:
    if form in UNOPENED:
        problems.note(
            "container.not_opened",
            f"The file is an archive of kind {form}, which is not opened here. Upload the weights"
            " themselves.",
        )
    else:
        problems.note(
            "container.unknown_format",
            "The file is of no kind that weights come in: safetensors, a PyTorch checkpoint or"
            " numpy arrays.",
            Severity.UNREADABLE,
        )
    return {}


_READERS = {
    Format.SAFETENSORS: _safetensors,
    Format.PICKLE: _pickle,
    Format.ZIP: _zip,
    Format.NPY: _npy,
}


def _listed(imports: Iterable[Import]) -> list[str]:
    return [str(item) for item in list(imports)[:MAX_LISTED]]


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name[:MAX_SHOWN]: count for name, count in list(counts.items())[:MAX_LISTED]}
