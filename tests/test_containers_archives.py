"""The zip reader: two readers must never see two different archives in one file."""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triage.containers.archives import read_archive
from triage.containers.check import check_file
from triage.containers.errors import ContainerError, ProblemList, Severity
from triage.containers.zip_directory import MAX_ENTRIES, read_directory

HOSTILE = b"\x80\x02cos\nsystem\n(X\x05\x00\x00\x00touchtR."
BENIGN = b"\x80\x02N."


def packed(
    *entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in entries:
            # Written as given: ZipInfo would clean the name.
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = method
            archive.writestr(info, data)
        archive.comment = comment
    return stream.getvalue()


def patched(data: bytes, signature: bytes, offset: int, replacement: bytes) -> bytes:
    """Return the bytes with a field of the first record of this kind replaced."""
    at = data.index(signature) + offset
    return data[:at] + replacement + data[at + len(replacement) :]


def problems(path: Path, data: bytes) -> ProblemList:
    path.write_bytes(data)
    with path.open("rb") as file:
        return read_archive(file).problems


def codes(path: Path, data: bytes) -> set[str]:
    return {problem.code for problem in problems(path, data)}


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_ordinary_archive_is_clean(tmp_path: Path, method: int) -> None:
    data = packed(
        ("archive/", b""), ("archive/version", b"3\n"), ("archive/data.pkl", BENIGN), method=method
    )
    assert codes(tmp_path / "file", data) == set()


def test_an_archive_with_a_comment_is_clean(tmp_path: Path) -> None:
    assert codes(tmp_path / "file", packed(("a", b"b"), comment=b"made by hand")) == set()


def test_an_empty_archive_is_clean(tmp_path: Path) -> None:
    assert codes(tmp_path / "file", packed()) == set()


def test_an_archive_written_to_a_stream_is_clean(tmp_path: Path) -> None:
    """Its sizes lie behind the data, as torch writes them."""

    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, offset: int, whence: int = 0) -> int:
            raise OSError

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", BENIGN)
        with archive.open("large", "w", force_zip64=True) as entry:
            entry.write(b"0123456789" * 10)
    assert codes(tmp_path / "file", stream.getvalue()) == set()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpys_archives_of_numbers_are_clean(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "file.npz"
    save(path, a=np.arange(6).reshape(2, 3), b=np.array(["text"]), c=np.float32(1))
    report = check_file(str(path))
    assert (report["format"], report["tensors"], report["problems"]) == ("zip", 3, [])


def test_numpys_archive_of_objects_is_read_as_the_pickle_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    np.savez(path, a=np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with path.open("rb") as file:
        found = {problem.code for problem in read_archive(file).problems}
    assert "npy.objects" in found


def test_an_archive_beyond_four_gigabytes_is_read_as_torch_writes_it(tmp_path: Path) -> None:
    """Entries that are large or lie far back have 64-bit fields; the file itself is a hole."""
    huge = 2**32 + 10
    path = tmp_path / "file"
    directory = b""
    with path.open("wb") as file:
        for name, data, size in (
            (b"archive/data.pkl", BENIGN, len(BENIGN)),
            (b"archive/data/0", b"", huge),
            (b"archive/version", b"3\n", 2),
        ):
            begin, crc = file.tell(), zlib.crc32(data)
            far = b"".join(struct.pack("<Q", value) for value in (size, size, begin) if value >> 32)
            extra = struct.pack("<HH", 1, len(far)) + far if far else b""
            sizes = (min(size, 2**32 - 1),) * 2
            file.write(struct.pack("<4s5H3L2H", LOCAL, 0, 0x808, 0, 0, 0, 0, 0, 0, len(name), 8))
            file.write(name + b"FB\x04\x00ZZZZ" + data)
            file.seek(size - len(data), 1)
            file.write(struct.pack("<4sL2Q" if far else "<4s3L", b"PK\x07\x08", crc, size, size))
            directory += struct.pack(
                "<4s6H3L5H2L", CENTRAL, 0, 0, 0x808, 0, 0, 0, crc, *sizes, len(name), len(extra), 0,
                0, 0, 0, min(begin, 2**32 - 1),
            ) + name + extra  # fmt: skip
        begin, length = file.tell(), len(directory)
        end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, length, begin)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, begin + length, 1)
        end = struct.pack("<4s4H2LH", END, 0, 0, 3, 3, length, 2**32 - 1, 0)
        file.write(directory + end64 + locator + end)
    with zipfile.ZipFile(path) as archive:
        assert [entry.file_size for entry in archive.infolist()] == [4, huge, 2]
    with path.open("rb") as file:
        report = read_archive(file)
    assert (report.entries, list(report.problems)) == (3, [])


# --- Code -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["data.pkl", "archive/data.pkl", "data.txt", "README", "archive/data/0", "a.pt", ".x"]
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_hostile_pickle_is_found_under_any_name(tmp_path: Path, name: str, method: int) -> None:
    found = problems(tmp_path / "file", packed(("a", b"b"), (name, HOSTILE), method=method))
    assert Severity.DANGEROUS in {problem.severity for problem in found}


@pytest.mark.parametrize("name", ["payload", "data.pkl"])
def test_a_hostile_pickle_without_a_mark_is_found(tmp_path: Path, name: str) -> None:
    found = problems(tmp_path / "file", packed((name, b"cos\nsystem\n(S'x'\ntR.")))
    assert Severity.DANGEROUS in {problem.severity for problem in found}


def test_a_pickle_after_the_pickle_is_found(tmp_path: Path) -> None:
    found = codes(tmp_path / "file", packed(("archive/data.pkl", BENIGN + HOSTILE)))
    assert {"pickle.trailing_bytes", "pickle.dangerous_import"} <= found


@pytest.mark.parametrize("suffix", [".pkl", ".bin", ".PT"])
def test_an_entry_that_should_be_a_pickle_and_is_none_is_reported(
    tmp_path: Path, suffix: str
) -> None:
    assert "pickle.broken" in codes(tmp_path / "file", packed((f"a{suffix}", b"hello")))


@pytest.mark.parametrize(
    "inner", [packed(("a", HOSTILE)), b"7z\xbc\xaf\x27\x1c" + bytes(50), b"\x1f\x8b\x08" + bytes(9)]
)
def test_a_container_inside_the_archive_is_not_vouched_for(tmp_path: Path, inner: bytes) -> None:
    assert "zip.nested" in codes(tmp_path / "file", packed(("inner", inner)))


def test_numbers_of_another_size_than_the_pickle_says_are_reported(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "file"
    torch.save({"a": torch.zeros(5)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    assert codes(path, packed(*entries)) == set()
    longer = [(name, data + b"x" * name.endswith("data/0")) for name, data in entries]
    assert codes(path, packed(*longer)) == {"zip.storage_size"}
    missing = [(name, data) for name, data in entries if not name.endswith("data/0")]
    assert codes(path, packed(*missing)) == {"zip.storage_missing"}


def test_torchscript_is_a_program_and_not_vouched_for(tmp_path: Path) -> None:
    data = packed(("archive/constants.pkl", BENIGN), ("archive/data.pkl", BENIGN))
    assert codes(tmp_path / "file", data) == {"zip.torchscript"}


@pytest.mark.parametrize(
    ("name", "data"),
    [("setup.py", b"print()"), ("model", b"\x7fELF\x02"), ("a.SO", b"x"), ("run", b"#!/bin/sh\n")],
)
def test_a_program_beside_the_weights_is_not_vouched_for(
    tmp_path: Path, name: str, data: bytes
) -> None:
    assert codes(tmp_path / "file", packed((name, data))) == {"zip.program"}


# --- Tricks ---------------------------------------------------------------------------------

ORDINARY = packed(("data.pkl", HOSTILE))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (patched(ORDINARY, CENTRAL, 8, b"\x01\x00"), "zip.encrypted"),
        (patched(ORDINARY, LOCAL, 6, b"\x01\x00"), "zip.encrypted"),
        (patched(ORDINARY, LOCAL, 6, b"\x40\x00"), "zip.encrypted"),
        (patched(ORDINARY, LOCAL, 6, b"\x20\x00"), "zip.flags"),
        (patched(ORDINARY, CENTRAL, 8, b"\x20\x00"), "zip.contradiction"),
        (patched(ORDINARY, LOCAL, 8, b"\x08\x00"), "zip.contradiction"),
        (patched(ORDINARY, LOCAL, 14, b"\0\0\0\0"), "zip.contradiction"),
        (patched(ORDINARY, LOCAL, 18, b"\x05\0\0\0"), "zip.contradiction"),
        (patched(ORDINARY, LOCAL, 22, b"\x05\0\0\0"), "zip.contradiction"),
        (patched(ORDINARY, LOCAL, 30, b"data.txt"), "zip.contradiction"),
        (patched(ORDINARY, CENTRAL, 46, b"datap.kl"), "zip.contradiction"),
        (patched(ORDINARY, CENTRAL, 16, b"\0\0\0\0"), "zip.checksum"),
        (patched(ORDINARY, CENTRAL, 6, b"\x40\x00"), "zip.flags"),
        (patched(ORDINARY, CENTRAL, 34, b"\x01\x00"), "zip.flags"),
        (patched(ORDINARY, END, 10, b"\x02\x00"), "zip.contradiction"),
        (patched(ORDINARY, END, 8, b"\x02\x00"), "zip.several_disks"),
        (patched(ORDINARY, END, 4, b"\x01\x00"), "zip.several_disks"),
        (b"#!/bin/sh\n" + ORDINARY, "zip.shifted"),
        (ORDINARY.replace(CENTRAL, b"gap!" + CENTRAL), "zip.shifted"),
    ],
    ids=range(19),
)
def test_a_header_that_lies_is_reported_and_the_code_behind_it_still_found(
    tmp_path: Path, data: bytes, code: str
) -> None:
    found = problems(tmp_path / "file", data)
    assert code in {problem.code for problem in found}
    assert Severity.DANGEROUS in {problem.severity for problem in found}


def test_a_bad_checksum_in_both_headers_is_reported(tmp_path: Path) -> None:
    data = patched(patched(ORDINARY, CENTRAL, 16, b"abcd"), LOCAL, 14, b"abcd")
    assert {"zip.checksum", "pickle.dangerous_import"} <= codes(tmp_path / "file", data)


@pytest.mark.parametrize("position", [0xFFFFFFF0, 2**63 - 1, 2**64 - 1])
def test_a_position_beyond_the_file_is_reported(tmp_path: Path, position: int) -> None:
    far = patched(ORDINARY, CENTRAL, 42, b"\xff" * 4)
    far = patched(far, CENTRAL, 30, b"\x0c\x00")
    name = far.rindex(b"data.pkl") + 8
    far = far[:name] + struct.pack("<HHQ", 1, 8, position) + far[name:]
    far = patched(far, END, 12, struct.pack("<L", 46 + 8 + 12))
    assert "zip.contradiction" in codes(tmp_path / "file", far)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, position, 1)
    end = ORDINARY.index(END)
    path = tmp_path / "file"
    path.write_bytes(ORDINARY[:end] + locator + ORDINARY[end:])
    with path.open("rb") as file, pytest.raises(ContainerError) as caught:
        read_archive(file)
    assert caught.value.code == "zip.no_directory"


def test_bytes_between_the_entries_are_reported(tmp_path: Path) -> None:
    first, whole = packed(("a", b"1")), packed(("a", b"1"), ("b", b"2"))
    at = first.index(CENTRAL)
    shifted = whole[:at] + b"hidden" + whole[at:]
    second = shifted.rindex(CENTRAL)
    begin = struct.unpack_from("<L", shifted, second + 42)[0]
    shifted = shifted[: second + 42] + struct.pack("<L", begin + 6) + shifted[second + 46 :]
    end = shifted.index(END)
    offset = struct.unpack_from("<L", shifted, end + 16)[0]
    shifted = shifted[: end + 16] + struct.pack("<L", offset + 6) + shifted[end + 20 :]
    with zipfile.ZipFile(io.BytesIO(shifted)) as archive:
        assert archive.read("b") == b"2"
    assert codes(tmp_path / "file", shifted) == {"zip.gap"}


def test_two_entries_on_the_same_bytes_are_reported(tmp_path: Path) -> None:
    data = packed(("a", b"1"), ("b", b"2"))
    second = data.rindex(CENTRAL)
    overlapping = data[: second + 42] + bytes(4) + data[second + 46 :]
    assert "zip.overlap" in codes(tmp_path / "file", overlapping)


@pytest.mark.parametrize(
    "name",
    ["../a", "a/../../b", "/etc/passwd", "C:\\a", "a\\b", "c:a", "a\nb", "a\x1bb"],
)
def test_a_name_that_leaves_the_archive_is_reported(tmp_path: Path, name: str) -> None:
    assert "zip.path" in codes(tmp_path / "file", packed((name, b"x")))


@pytest.mark.parametrize("second", ["a", "A", "a/"])
def test_a_name_that_is_there_twice_is_reported(tmp_path: Path, second: str) -> None:
    warned: AbstractContextManager[object] = nullcontext()
    if second == "a":
        warned = pytest.warns(UserWarning, match="Duplicate")
    with warned:
        data = packed(("a", b"1"), (second, b"2"))
    assert "zip.duplicate" in codes(tmp_path / "file", data)


def test_a_link_is_reported(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system = 3
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "zip.link" in codes(tmp_path / "file", stream.getvalue())


def test_a_second_name_in_the_extra_field_is_reported(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("a.txt")
        info.extra = struct.pack("<HHBL", 0x7075, 9, 1, 0) + b"evil"
        archive.writestr(info, b"x")
    assert "zip.contradiction" in codes(tmp_path / "file", stream.getvalue())


def test_an_entry_that_unpacks_to_a_hundred_times_its_size_is_reported(tmp_path: Path) -> None:
    data = packed(("zeros", bytes(1_000_000)), method=zipfile.ZIP_DEFLATED)
    assert "zip.ratio" in codes(tmp_path / "file", data)


def test_an_archive_that_can_be_read_in_two_ways_from_its_end_is_reported(tmp_path: Path) -> None:
    inner = packed(("other", HOSTILE))
    data = packed(("data.pkl", BENIGN), comment=inner)
    assert "zip.two_directories" in codes(tmp_path / "file", data)


def test_a_packing_that_is_not_read_is_reported(tmp_path: Path) -> None:
    data = packed(("data.pkl", HOSTILE), method=zipfile.ZIP_BZIP2)
    assert "zip.method" in codes(tmp_path / "file", data)


def test_broken_packing_is_reported(tmp_path: Path) -> None:
    data = packed(("data.pkl", HOSTILE), method=zipfile.ZIP_DEFLATED)
    at = data.index(b"data.pkl") + 8
    assert {"zip.packing", "zip.checksum"} <= codes(
        tmp_path / "file", data[:at] + b"\xff\xff" + data[at + 2 :]
    )


def test_more_entries_than_the_cap_are_refused_before_they_are_read(tmp_path: Path) -> None:
    end = struct.pack("<4s4H2LH", END, 0, 0, 0xFFFF, 0xFFFF, 0, 0, 0)
    path = tmp_path / "file"
    path.write_bytes(end)
    assert MAX_ENTRIES < 0xFFFF
    with path.open("rb") as file, pytest.raises(ContainerError) as caught:
        read_archive(file)
    assert caught.value.code == "zip.too_many_entries"


@pytest.mark.parametrize("cut", [1, 10, 30, 100])
def test_an_archive_that_is_cut_short_is_unreadable(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(ORDINARY[:-cut])
    report = check_file(str(path))
    found = report["problems"]
    assert isinstance(found, list)
    assert [(item["code"], item["severity"]) for item in found] == [
        ("zip.no_directory", "unreadable")
    ]


# --- Numpy arrays ---------------------------------------------------------------------------


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (npy(np.arange(6).reshape(2, 3)), set()),
        (npy(np.array(["ab", "c"])), set()),
        (npy(np.zeros(2, dtype=[("a", "<f4"), ("b", "<i8", (2,))])), set()),
        (npy(np.array([{}], dtype=object), allow_pickle=True), {"npy.objects"}),
        (npy(np.arange(6))[:-1], {"npy.cut_short"}),
        (npy(np.arange(6)) + b"x", {"npy.trailing_bytes"}),
        (npy(np.arange(6))[:20], {"npy.cut_short"}),
        (npy(np.arange(6)).replace(b"\x01\x00v\x00", b"\x09\x00v\x00"), {"npy.header"}),
        (npy(np.arange(6)).replace(b"'<i8'", b"f(1) "), {"npy.header"}),
        (npy(np.arange(6)).replace(b"(6,)", b"(-6)"), {"npy.shape"}),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, {"npy.header"}),
        (b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10000, {"npy.header"}),
    ],
    ids=range(12),
)
def test_an_array_is_clean_exactly_when_it_holds_all_its_numbers_and_no_objects(
    tmp_path: Path, data: bytes, expected: set[str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    report = check_file(str(path))
    found = report["problems"]
    assert isinstance(found, list)
    assert report["format"] == "npy"
    assert {item["code"] for item in found} >= expected
    assert bool(found) == bool(expected)


def test_objects_nested_in_a_structured_array_are_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    array = np.zeros(1, dtype=[("a", "<f4"), ("b", [("c", "O")])])
    path.write_bytes(npy(array, allow_pickle=True))
    found = check_file(str(path))["problems"]
    assert isinstance(found, list)
    assert "npy.objects" in {item["code"] for item in found}


def test_a_dangerous_pickle_in_an_array_of_objects_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = npy(np.array([None], dtype=object), allow_pickle=True)
    at = data.index(b"\x80", 10)
    path.write_bytes(data[:at] + HOSTILE)
    found = check_file(str(path))["problems"]
    assert isinstance(found, list)
    assert "dangerous" in {item["severity"] for item in found}


# --- General --------------------------------------------------------------------------------

FILE = HealthCheck.function_scoped_fixture


@settings(max_examples=150, deadline=None, suppress_health_check=[FILE])
@given(
    entries=st.dictionaries(
        st.text("abc/._-é", min_size=1, max_size=8), st.binary(max_size=60), max_size=4
    ),
    deflated=st.booleans(),
    position=st.integers(0, 10_000),
    value=st.none() | st.integers(0, 255),
)
def test_an_archive_without_problems_is_the_one_that_pythons_reader_sees(
    tmp_path: Path,
    entries: dict[str, bytes],
    deflated: bool,
    position: int,
    value: int | None,
) -> None:
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    data = bytearray(packed(*entries.items(), method=method))
    if value is not None:
        data[position % len(data)] = value
    path = tmp_path / "file"
    path.write_bytes(data)
    try:
        with path.open("rb") as file:
            ours, found = read_directory(file)
    except ContainerError:
        return
    if found:
        return
    with zipfile.ZipFile(path) as archive:
        theirs = archive.infolist()
        assert sorted((item.filename, item.file_size, item.CRC) for item in theirs) == sorted(
            (item.name, item.size, item.crc) for item in ours
        )


@settings(max_examples=200, deadline=None, suppress_health_check=[FILE])
@given(
    data=st.binary(max_size=100)
    | st.builds(
        lambda body, tail: LOCAL + body + CENTRAL + tail + END + bytes(18),
        st.binary(max_size=80),
        st.binary(max_size=80),
    )
)
def test_no_bytes_break_the_reader(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert "problems" in check_file(str(path))


def test_a_pickled_value_survives_being_zipped_and_read(tmp_path: Path) -> None:
    data = packed(("archive/data.pkl", pickle.dumps({"a": [1, 2]}, 2)))
    assert codes(tmp_path / "file", data) == set()
