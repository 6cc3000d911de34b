"""The header of a safetensors file, read more strictly than the library reads it.

Format: 8 bytes little-endian length N, N bytes of JSON, then the tensors without gaps
(huggingface/safetensors, README, section "Format"). Whatever is accepted here the library
accepts too; the library also accepts duplicate keys, a leading space, path-like names and
headers that cost half a gigabyte to read, and this reader does not.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from triage.containers.errors import ContainerError, Severity

# The library's own cap of 100 MB lets a header of a million empty tensors take 5 s and 364 MB.
# The largest headers of published checkpoints stay below 1 MB.
MAX_HEADER_BYTES = 16_000_000
MAX_TENSORS = 100_000
MAX_METADATA_VALUE_BYTES = 1_000_000
MAX_METADATA_BYTES = 4_000_000
# Two lists and some seven commas for each tensor, and as many again inside the metadata's strings.
MAX_BRACKETS = 1_000_000
MAX_COMMAS = 2_000_000
MAX_DIMENSIONS = 64  # numpy's own limit

# Element sizes in bits, as in the library's ``Dtype``.
DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}

# Colon, angle brackets and star occur in real files: "unet:0:up", "<s1>", "*".
_NAME = re.compile(r"[\w.\-/:<>*]{1,256}")
_TENSOR_KEYS = {"dtype", "shape", "data_offsets"}
_LIMIT = 2**63  # sizes and offsets stay inside a signed 64-bit integer


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies. ``begin`` and ``end`` are byte positions in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says about itself. ``data_start`` is 8 + the header's length."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file; no tensor is read.

    Raises ``ContainerError``: severity ``UNREADABLE`` where the file is cut short or is no
    safetensors file, ``MALFORMED`` where it can be read but breaks a rule.
    """
    with path.open("rb") as file:
        return parse_header(file, os.fstat(file.fileno()).st_size)


def header_length(file: BinaryIO, size: int) -> int:
    """Read the first 8 bytes and return the header's length, once it is known to be possible.

    Raises ``ContainerError`` without having read anything else.
    """
    prefix = file.read(8)
    if len(prefix) < 8:
        _unreadable("too_short", "The file ends before the length of its header.")
    length = int.from_bytes(prefix, "little")
    if length < 2:
        _unreadable("no_header", f"The file announces a header of {length} bytes.")
    if length > MAX_HEADER_BYTES:
        _unreadable(
            "header_too_long",
            f"The file announces a header of {length} bytes; at most {MAX_HEADER_BYTES} are read.",
        )
    if length > size - 8:
        _unreadable(
            "header_beyond_file",
            f"The file announces a header of {length} bytes but has only {size - 8} after the"
            " length. It was probably cut short while it was copied; please upload it again.",
        )
    return length


def parse_header(file: BinaryIO, size: int) -> Header:
    """Read the header from a file of ``size`` bytes that stands at its beginning.

    Raises ``ContainerError`` as ``read_header`` does.
    """
    length = header_length(file, size)
    raw = file.read(length)
    if len(raw) < length:
        _unreadable("header_beyond_file", "The file ends inside its header.")
    document = _parse_json(raw)
    metadata = _metadata(document.pop("__metadata__", {}))
    if len(document) > MAX_TENSORS:
        _too_many_tensors()
    data_start = 8 + length
    tensors = {name: _tensor(name, entry, data_start) for name, entry in document.items()}
    _check_layout(tensors, data_start, size)
    return Header(tensors, metadata, data_start)


def _malformed(code: str, sentence: str) -> NoReturn:
    raise ContainerError(f"safetensors.{code}", sentence, Severity.MALFORMED)


def _unreadable(code: str, sentence: str) -> NoReturn:
    raise ContainerError(f"safetensors.{code}", sentence, Severity.UNREADABLE)


def _too_many_tensors() -> NoReturn:
    _malformed("too_many_tensors", f"The header lists more than {MAX_TENSORS} tensors.")


def _parse_json(raw: bytes) -> dict[str, Any]:
    if raw[:1] in (b" ", b"\t", b"\r", b"\n"):
        _malformed("leading_space", "The header does not begin with '{' but with white space.")
    if raw[:1] != b"{":
        _unreadable("not_json", "The header does not begin with '{'.")
    if not raw.rstrip(b" ").endswith(b"}"):
        _unreadable("not_json", "The header does not end with '}' and spaces.")
    # Without this, five million empty lists cost 450 MB before anything is said about them, and
    # as many numbers two seconds.
    if raw.count(b"[") > MAX_BRACKETS or raw.count(b",") > MAX_COMMAS:
        _too_many_tensors()
    objects = 0

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1
        # One object for each tensor, one for the metadata, one around them. Counting here stops
        # a header of millions of empty objects before it has eaten the memory.
        if objects > MAX_TENSORS + 2:
            _too_many_tensors()
        result = dict(pairs)
        if len(result) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            _malformed("duplicate_key", f"The header has the key {twice[:100]!r} twice.")
        return result

    try:
        document = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=_natural_number,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise ContainerError(
            "safetensors.not_json",
            f"The header is not valid JSON: {str(error)[:200]}.",
            Severity.UNREADABLE,
        ) from error
    if not isinstance(document, dict):  # unreachable while the first byte is '{'
        _unreadable("not_json", "The header is not a JSON object.")
    return document


def _natural_number(digits: str) -> int:
    """Refuse every sign: JSON's "-0" is an integer for Python and not for the library."""
    if digits.startswith("-"):
        _malformed("negative_number", f"The header holds the negative number {digits[:20]}.")
    if len(digits) > 20:
        _malformed("overflow", "The header holds a number that does not fit into 64 bits.")
    return int(digits)


def _no_constant(word: str) -> NoReturn:
    _unreadable("not_json", f"The header is not valid JSON: it holds {word}.")


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        _malformed("metadata_not_strings", "The header's __metadata__ is not an object.")
    total = 0
    for key, text in value.items():
        if not isinstance(text, str):
            _malformed(
                "metadata_not_strings", f"The metadata value of {key[:100]!r} is not a string."
            )
        try:
            length = len(text.encode("utf-8"))
            total += length + len(key.encode("utf-8"))
        except UnicodeEncodeError:
            _malformed(
                "metadata_not_unicode", f"The metadata {key[:100]!r} holds half a character."
            )
        if length > MAX_METADATA_VALUE_BYTES:
            _malformed(
                "metadata_too_long",
                f"The metadata value of {key[:100]!r} has {length} bytes;"
                f" at most {MAX_METADATA_VALUE_BYTES} are read.",
            )
    if total > MAX_METADATA_BYTES:
        _malformed(
            "metadata_too_long",
            f"The metadata has {total} bytes; at most {MAX_METADATA_BYTES} are read.",
        )
    return value


def _tensor(name: str, entry: object, data_start: int) -> TensorInfo:
    if not _NAME.fullmatch(name) or ".." in name or name.startswith("/"):
        _malformed("name", f"{name[:100]!r} cannot be the name of a tensor.")
    shown = name[:100]
    if not isinstance(entry, dict) or set(entry) != _TENSOR_KEYS:
        _malformed("entry", f"The entry of tensor {shown!r} is not dtype, shape, data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        _malformed("dtype", f"Tensor {shown!r} has the unknown dtype {str(dtype)[:30]!r}.")
    if not _are_naturals(shape) or len(shape) > MAX_DIMENSIONS:
        _malformed("shape", f"The shape of tensor {shown!r} is not a list of natural numbers.")
    if not _are_naturals(offsets) or len(offsets) != 2:
        _malformed("offsets", f"The offsets of tensor {shown!r} are not two natural numbers.")
    begin, end = offsets
    if end < begin:
        _malformed("offsets", f"Tensor {shown!r} ends before it begins.")
    if data_start + end >= _LIMIT:
        _malformed("overflow", f"The offsets of tensor {shown!r} do not fit into 64 bits.")
    bits = DTYPE_BITS[dtype]
    # The library multiplies from left to right with an overflow check, a later zero or not.
    for length in shape:
        bits *= length
        if bits >= _LIMIT:
            _malformed("overflow", f"The shape of tensor {shown!r} does not fit into 64 bits.")
    if bits != (end - begin) * 8:
        _malformed(
            "size",
            f"Tensor {shown!r} has {end - begin} bytes; its shape and dtype need {bits / 8:g}.",
        )
    return TensorInfo(dtype, tuple(shape), data_start + begin, data_start + end)


def _are_naturals(value: object) -> bool:
    # ``type`` and not ``isinstance``: true and false are integers to Python.
    return isinstance(value, list) and all(type(item) is int for item in value)


def _check_layout(tensors: Mapping[str, TensorInfo], data_start: int, size: int) -> None:
    position = data_start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin > position:
            _malformed("hole", f"{info.begin - position} bytes before {name!r} have no tensor.")
        if info.begin < position:
            _malformed("overlap", f"Tensor {name!r} overlaps the one before it.")
        position = info.end
    if position > size:
        _unreadable(
            "data_beyond_file",
            f"The tensors need {position} bytes but the file has {size}. It was probably cut"
            " short while it was copied; please upload it again.",
        )
    if position < size:
        _malformed("trailing_bytes", f"{size - position} bytes after the last tensor are unused.")
