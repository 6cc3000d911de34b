"""The strict safetensors reader: what it refuses, and that the library takes what it takes."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from triage.containers.digests import digests
from triage.containers.errors import ContainerError, Severity
from triage.containers.safetensors import TensorInfo, read_header, read_tensor
from triage.containers.safetensors_header import (
    DTYPE_BITS,
    MAX_HEADER_BYTES,
    MAX_METADATA_BYTES,
    MAX_METADATA_VALUE_BYTES,
    MAX_TENSORS,
)

ONE = {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def refusal(path: Path) -> ContainerError:
    with pytest.raises(ContainerError) as caught:
        read_header(path)
    assert caught.value.sentence.endswith(".")
    return caught.value


def tensor(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes}}


def test_an_ordinary_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    arrays: dict[str, NDArray[Any]] = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": np.array([1, -2], dtype=np.int16),
        "flag": np.array(True),
        "nothing": np.zeros((0, 4), dtype=np.float64),
    }
    save_file(arrays, path, {"format": "np", "ss_tag_frequency": '{"a": {"b": 1}}'})
    header = read_header(path)
    assert header.metadata == {"format": "np", "ss_tag_frequency": '{"a": {"b": 1}}'}
    assert set(header.tensors) == set(arrays)
    for name, array in arrays.items():
        read = read_tensor(path, header.tensors[name])
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_a_large_tensor_is_mapped_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "file"
    array = np.arange(500_000, dtype=np.float32)
    save_file({"a": array}, path)
    read = read_tensor(path, read_header(path).tensors["a"])
    assert isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("dtype", "torch_name"),
    [
        ("BF16", "bfloat16"),
        ("F8_E4M3", "float8_e4m3fn"),
        ("F8_E5M2", "float8_e5m2"),
        ("F8_E4M3FNUZ", "float8_e4m3fnuz"),
        ("F8_E5M2FNUZ", "float8_e5m2fnuz"),
        ("F8_E8M0", "float8_e8m0fnu"),
    ],
)
def test_every_value_of_a_short_float_is_read_as_torch_reads_it(
    tmp_path: Path, dtype: str, torch_name: str
) -> None:
    torch = pytest.importorskip("torch")
    size = DTYPE_BITS[dtype] // 8
    raw = np.arange(256 if size == 1 else 65536, dtype=f"<u{size}")
    entry = {"dtype": dtype, "shape": [raw.size], "data_offsets": [0, raw.nbytes]}
    path = write(tmp_path / "file", {"a": entry}, raw.tobytes())
    expected = torch.frombuffer(bytearray(raw.tobytes()), dtype=getattr(torch, torch_name)).float()
    read = read_tensor(path, read_header(path).tensors["a"])
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected.numpy())


def test_a_six_bit_tensor_is_listed_but_its_values_are_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}
    path = write(tmp_path / "file", {"a": entry}, b"abc")
    info = read_header(path).tensors["a"]
    with pytest.raises(ContainerError, match="F6_E2M3"):
        read_tensor(path, info)


@pytest.mark.parametrize("size", range(8))
def test_a_file_without_room_for_the_length_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"{}{}{}{}"[:size])
    error = refusal(path)
    assert (error.code, error.severity) == ("safetensors.too_short", Severity.UNREADABLE)


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (0, "no_header"),
        (1, "no_header"),
        (100, "header_beyond_file"),
        (MAX_HEADER_BYTES, "header_beyond_file"),
        (MAX_HEADER_BYTES + 1, "header_too_long"),
        (100_000_001, "header_too_long"),
        (100 << 30, "header_too_long"),
        (2**64 - 1, "header_too_long"),
    ],
)
def test_an_impossible_length_is_refused_before_anything_else_is_read(
    tmp_path: Path, length: int, code: str
) -> None:
    path = write(tmp_path / "file", b"{}", length=length)
    error = refusal(path)
    assert (error.code, error.severity) == (f"safetensors.{code}", Severity.UNREADABLE)


@pytest.mark.parametrize(
    ("raw", "code", "severity"),
    [
        (b"[]", "not_json", Severity.UNREADABLE),
        (b" {}", "leading_space", Severity.MALFORMED),
        (b"\n{}", "leading_space", Severity.MALFORMED),
        (b"{}\n", "not_json", Severity.UNREADABLE),
        (b"{}\0\0", "not_json", Severity.UNREADABLE),
        (b"{}{}", "not_json", Severity.UNREADABLE),
        (b"\xef\xbb\xbf{}", "not_json", Severity.UNREADABLE),
        (b'{"\xff": 1}', "not_json", Severity.UNREADABLE),
        (b'{"a": NaN}', "not_json", Severity.UNREADABLE),
        (b'{"a": -Infinity}', "not_json", Severity.UNREADABLE),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "not_json", Severity.UNREADABLE),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not_json", Severity.UNREADABLE),
        (b'{"a":[' + b"[]," * 4_000_000 + b"1]}", "too_many_tensors", Severity.MALFORMED),
        (b'{"a":[' + b"{}," * 1_900_000 + b"1]}", "too_many_tensors", Severity.MALFORMED),
        (b'{"a":[' + b"1," * 4_000_000 + b"1]}", "too_many_tensors", Severity.MALFORMED),
        (b'{"a":' + b"9" * 5000 + b"}", "overflow", Severity.MALFORMED),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_header_that_is_no_plain_json_object_is_refused(
    tmp_path: Path, raw: bytes, code: str, severity: Severity
) -> None:
    error = refusal(write(tmp_path / "file", raw))
    assert (error.code, error.severity) == (f"safetensors.{code}", severity)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
        b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        b'{"__metadata__":{"k":"v","k":"w"}}',
        b'{"__metadata__":{},"__metadata__":{}}',
    ],
)
def test_a_key_that_is_there_twice_is_refused_at_every_depth(tmp_path: Path, raw: bytes) -> None:
    assert refusal(write(tmp_path / "file", raw)).code == "safetensors.duplicate_key"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (tensor(dtype="F99"), "dtype"),
        (tensor(dtype=["U8"]), "dtype"),
        (tensor(dtype=None), "dtype"),
        (tensor(shape=[5]), "size"),
        (tensor(shape="4"), "shape"),
        (tensor(shape=[4.0]), "shape"),
        (tensor(shape=[True, 4]), "shape"),
        (tensor(shape=[1] * 65), "shape"),
        (tensor(shape=[-4]), "negative_number"),
        (tensor(shape=[2**63, 2**63]), "overflow"),
        (tensor(shape=[2**62, 2**62, 0]), "overflow"),
        (tensor(shape=[2**70]), "overflow"),
        (tensor(data_offsets=[0]), "offsets"),
        (tensor(data_offsets=[0, 4, 8]), "offsets"),
        (tensor(data_offsets=[4, 0]), "offsets"),
        (tensor(data_offsets=[0, "4"]), "offsets"),
        (tensor(shape=[2**60], data_offsets=[2**63, 2**63 + 2**60]), "overflow"),
        (tensor(surprise=1), "entry"),
        ({"a": {"dtype": "U8", "shape": [4]}}, "entry"),
        ({"a": [1]}, "entry"),
        ({"__metadata__": {"a": 1}}, "metadata_not_strings"),
        ({"__metadata__": {"a": {"b": "c"}}}, "metadata_not_strings"),
        ({"__metadata__": None}, "metadata_not_strings"),
        ({"__metadata__": ["a"]}, "metadata_not_strings"),
        ({"__metadata__": {"a": "\ud800"}}, "metadata_not_unicode"),
    ],
    ids=str,
)
def test_an_entry_that_breaks_a_rule_is_refused(
    tmp_path: Path, header: Mapping[str, object], code: str
) -> None:
    error = refusal(write(tmp_path / "file", header, b"abcd"))
    assert (error.code, error.severity) == (f"safetensors.{code}", Severity.MALFORMED)


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "/etc/passwd", "a..b", "a\0b", "a b\n", "a\\b", "x" * 257, "‮"]
)
def test_a_name_that_could_be_taken_for_a_path_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "file", {name: ONE["a"]}, b"abcd")
    assert refusal(path).code == "safetensors.name"


@pytest.mark.parametrize("name", ["unet:0:up", "<s1>", "*", "lora_unet_down.0/attn-1.weight", "é"])
def test_names_that_training_programs_write_are_accepted(tmp_path: Path, name: str) -> None:
    assert list(read_header(write(tmp_path / "file", {name: ONE["a"]}, b"abcd")).tensors) == [name]


@pytest.mark.parametrize(
    ("first", "second", "code", "severity"),
    [
        ([0, 4], [6, 10], "hole", Severity.MALFORMED),
        ([1, 5], [5, 9], "hole", Severity.MALFORMED),
        ([0, 4], [0, 4], "overlap", Severity.MALFORMED),
        ([0, 4], [3, 7], "overlap", Severity.MALFORMED),
        ([0, 4], [4, 8], "trailing_bytes", Severity.MALFORMED),
        ([0, 8], [8, 16], "data_beyond_file", Severity.UNREADABLE),
    ],
)
def test_tensors_must_fill_the_file_exactly(
    tmp_path: Path, first: list[int], second: list[int], code: str, severity: Severity
) -> None:
    header = {
        name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for name, (begin, end) in {"a": first, "b": second}.items()
    }
    error = refusal(write(tmp_path / "file", header, bytes(10)))
    assert (error.code, error.severity) == (f"safetensors.{code}", severity)


def test_more_tensors_than_the_cap_are_refused(tmp_path: Path) -> None:
    header = {f"{index}": 1 for index in range(MAX_TENSORS + 1)}
    assert refusal(write(tmp_path / "file", header)).code == "safetensors.too_many_tensors"


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "x" * (MAX_METADATA_VALUE_BYTES + 1)},
        {"a": "é" * (MAX_METADATA_VALUE_BYTES // 2 + 1)},
        {str(index): "x" * 900_000 for index in range(MAX_METADATA_BYTES // 900_000 + 1)},
        {"x" * (MAX_METADATA_BYTES + 1): ""},
    ],
    ids=["one value", "bytes, not letters", "all values", "a key"],
)
def test_metadata_beyond_the_caps_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = write(tmp_path / "file", {"__metadata__": metadata})
    assert refusal(path).code == "safetensors.metadata_too_long"


def test_a_file_that_shrinks_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "file", ONE, b"abcd")
    info = read_header(path).tensors["a"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ContainerError, match="shorter"):
        read_tensor(path, info)


def test_positions_are_those_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "file", ONE, b"abcd")
    info = read_header(path).tensors["a"]
    assert path.read_bytes()[info.begin : info.end] == b"abcd"
    assert info == TensorInfo("U8", (4,), info.begin, info.begin + 4)


def test_every_real_safetensors_file_is_accepted_and_read_as_the_library_reads_it(
    shared_data: Path,
) -> None:
    paths = sorted(shared_data.glob("*/*.safetensors"))
    assert paths
    for path in paths:
        header = read_header(path)
        expected = load_file(path)
        assert set(header.tensors) == set(expected)
        for name, info in header.tensors.items():
            np.testing.assert_array_equal(read_tensor(path, info), expected[name])


# --- The library agrees with everything that is accepted ------------------------------------

LENGTHS = st.integers(0, 3) | st.sampled_from([2**31, 2**40, 2**62, 2**63, 2**64])
OFFSETS = st.integers(0, 24) | st.sampled_from([-1, 2**62, 2**64])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPE_BITS, "F99"]),
        "shape": st.lists(LENGTHS, max_size=4),
        "data_offsets": st.lists(OFFSETS, min_size=2, max_size=2),
    }
)
# Letters that JSON readers are known to differ about.
TEXTS = st.text("ab.:/\\ \0\x7f\ud800\U0001f600é", max_size=4)


@st.composite
def consistent_headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Return tensors that fill their data exactly, in any order."""
    header: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(TEXTS, max_size=4, unique=True)):
        dtype = draw(st.sampled_from(list(DTYPE_BITS)))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        size = DTYPE_BITS[dtype] * int(np.prod(shape, dtype=np.int64)) // 8
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [position, position + size],
        }
        position += size
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(TEXTS, TEXTS, max_size=2))
    shuffled = dict(draw(st.permutations(list(header.items()))))
    return shuffled, bytes(position + draw(st.sampled_from([0, 0, 0, 0, 1])))


@st.composite
def broken_headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Return entries made of the numbers at which arithmetic breaks."""
    header: dict[str, Any] = draw(st.dictionaries(st.sampled_from("abc"), ENTRIES, max_size=3))
    return header, bytes(draw(st.integers(0, 24)))


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    content=consistent_headers() | broken_headers(),
    layout=st.sampled_from(
        [dict[str, Any](), {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]
    ),
    mutation=st.none() | st.tuples(st.integers(0, 400), st.sampled_from(b'{}[]",:0-1eE. \n\\\xff')),
)
def test_whatever_is_accepted_the_library_accepts_with_the_same_tensors(
    tmp_path: Path,
    content: tuple[dict[str, Any], bytes],
    layout: dict[str, Any],
    mutation: tuple[int, int] | None,
) -> None:
    header, data = content
    raw = bytearray(json.dumps(header, **layout).encode("utf-8", "surrogatepass"))
    if mutation is not None:
        raw[mutation[0] % len(raw)] = mutation[1]
    path = write(tmp_path / "file", bytes(raw), data)
    try:
        ours = read_header(path)
    except ContainerError:
        return
    with safe_open(path, "numpy") as theirs:
        assert set(theirs.keys()) == set(ours.tensors)
        assert (theirs.metadata() or {}) == ours.metadata
        for name, info in ours.tensors.items():
            assert tuple(theirs.get_slice(name).get_shape()) == info.shape
            assert theirs.get_slice(name).get_dtype() == info.dtype
            assert info.end - info.begin == np.prod(info.shape) * DTYPE_BITS[info.dtype] / 8


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}',
        b'{"__metadata__":{"a":"\\ud800"}}',
    ],
)
def test_what_the_library_refuses_although_python_reads_it_is_refused(
    tmp_path: Path, raw: bytes
) -> None:
    path = write(tmp_path / "file", raw)
    refusal(path)
    with pytest.raises(SafetensorError), safe_open(path, "numpy"):
        pass


# --- Digests --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (4 << 20) + 1, 9_000_000])
def test_both_digests_are_those_of_the_whole_and_of_what_follows_the_header(
    tmp_path: Path, size: int
) -> None:
    data = np.random.default_rng(1).bytes(size)
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    path = write(tmp_path / "file", {"a": entry}, data)
    assert digests(path) == (
        hashlib.sha256(path.read_bytes()).hexdigest(),
        hashlib.sha256(data).hexdigest(),
    )


def test_a_header_longer_than_one_chunk_is_left_out_of_the_second_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "file", {**ONE, "__metadata__": {"a": "x" * 5_000_000}}, b"abcd")
    assert digests(path)[1] == hashlib.sha256(b"abcd").hexdigest()


def test_a_file_without_a_safetensors_header_has_one_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x80\x02N.")
    assert digests(path) == (hashlib.sha256(b"\x80\x02N.").hexdigest(), None)
