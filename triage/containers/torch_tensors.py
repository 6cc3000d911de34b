"""Tensors from a PyTorch checkpoint (.bin, .pt, .ckpt), without unpickling anything.

A checkpoint is a pickle that says which tensors there are, beside their raw values: in a zip
archive since PyTorch 1.6, one after the other in a single file before. The pickle is read as
data: a small stack machine (``torch_pickle.py``) builds plain containers and descriptions of
tensors, and refuses everything else. No name in the file is ever imported, nothing is called.

Source: ``torch/serialization.py`` of PyTorch, for both layouts.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from triage.containers.errors import ContainerError, Severity
from triage.containers.torch_pickle import TorchTensor, Values, flatten, read_pickle

# Far above anything seen: the index of a full checkpoint is a few hundred kilobytes.
_LARGEST_PICKLE: Final = 64 * 2**20
_ZIP_MAGIC: Final = b"PK\x03\x04"
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION: Final = 1001
_ENCRYPTED: Final = 0x1  # general purpose flag of a zip member

# Element types by the name of their storage class. Numpy has no bfloat16: its bits are the
# upper half of a float32, and they are read as such.
_BFLOAT16: Final = "BFloat16Storage"
_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    _BFLOAT16: np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True, slots=True)
class TorchCheckpoint:
    """What a checkpoint holds.

    ``tensors`` and ``values`` (the texts and numbers beside them) are named by their path
    through dictionaries and lists, joined with dots. ``storages`` says for each storage which
    archive member holds it or, in the older layout, at which byte it begins.
    """

    tensors: Mapping[str, TorchTensor]
    values: Values
    storages: Mapping[str, str | int]


def read_index(path: Path) -> TorchCheckpoint:
    """Read which tensors a checkpoint holds and where their values lie.

    Raises ``ContainerError`` when the file is anything but plain tensors in plain containers,
    and ``OSError`` when it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            return _read_legacy_index(file)
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_zip_index(archive)
        except zipfile.BadZipFile as error:
            raise _damaged(error) from error


def read_tensors(
    path: Path, checkpoint: TorchCheckpoint, names: Iterable[str] | None = None
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield ``(name, array)`` for the named tensors, or for all.

    Arrays keep the element type of the file, except that bfloat16 comes as float32.
    Raises ``ContainerError`` when values are missing or damaged.
    """
    wanted = list(checkpoint.tensors if names is None else names)
    with path.open("rb") as file:
        if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            for name in wanted:
                tensor = checkpoint.tensors[name]
                file.seek(int(checkpoint.storages[tensor.storage]))
                yield name, _array(name, tensor, file.read(_storage_bytes(name, tensor)))
            return
        try:
            with zipfile.ZipFile(file) as archive:
                for name in wanted:
                    tensor = checkpoint.tensors[name]
                    member = str(checkpoint.storages[tensor.storage])
                    yield name, _array(name, tensor, _read_member(archive, member))
        except zipfile.BadZipFile as error:
            raise _damaged(error) from error


def _damaged(error: Exception) -> ContainerError:
    return ContainerError(
        "torch.damaged", f"The archive is damaged: {str(error)[:200]}.", Severity.UNREADABLE
    )


def _read_zip_index(archive: zipfile.ZipFile) -> TorchCheckpoint:
    members = _checked_members(archive)
    indexes = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(indexes) != 1:
        raise ContainerError(
            "torch.layout",
            "The archive is no PyTorch checkpoint, which holds one folder with one data.pkl.",
        )
    root = indexes[0].removesuffix("data.pkl")
    order = f"{root}byteorder"
    if order in members and _read_member(archive, order) != b"little":
        raise ContainerError("torch.byte_order", "The checkpoint is not little-endian.")
    if members[indexes[0]].file_size > _LARGEST_PICKLE:
        raise ContainerError("torch.too_large", "The checkpoint's index is implausibly large.")
    content = read_pickle(io.BytesIO(_read_member(archive, indexes[0])))
    tensors, values = flatten(content)
    storages: dict[str, str | int] = {}
    for name, tensor in tensors.items():
        member = f"{root}data/{tensor.storage}"
        expected = _storage_bytes(name, tensor)
        found = members[member].file_size if member in members else 0
        if found != expected:
            raise _missing(name, expected, found)
        storages[tensor.storage] = member
    return TorchCheckpoint(tensors, values, storages)


def _checked_members(archive: zipfile.ZipFile) -> Mapping[str, zipfile.ZipInfo]:
    """Return the members by name; refuse what PyTorch never writes and readers differ about."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in members:
            raise ContainerError(
                "torch.ambiguous",
                f"The archive names {info.filename[:100]!r} twice, so that readers would disagree.",
            )
        if info.flag_bits & _ENCRYPTED:
            raise ContainerError(
                "torch.encrypted", "The archive is encrypted and cannot be looked into."
            )
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ContainerError(
                "torch.compressed",
                f"{info.filename[:100]!r} is compressed, which PyTorch never does.",
            )
        members[info.filename] = info
    return members


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(error) from error


def _read_legacy_index(file: BinaryIO) -> TorchCheckpoint:
    """Read five pickles in a row: magic number, version, system, content, storage keys."""
    file.seek(0)
    head = io.BytesIO(file.read(_LARGEST_PICKLE))
    if read_pickle(head) != _LEGACY_MAGIC or read_pickle(head) != _LEGACY_VERSION:
        raise ContainerError("torch.layout", "The file is a pickle, but not a PyTorch checkpoint.")
    system = read_pickle(head)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ContainerError("torch.byte_order", "The checkpoint is not little-endian.")
    tensors, values = flatten(read_pickle(head))
    keys = read_pickle(head)
    if not isinstance(keys, list):
        raise ContainerError("torch.layout", "The checkpoint lists no storages.")
    of_storage = {tensor.storage: (name, tensor) for name, tensor in tensors.items()}
    if len(keys) != len(of_storage) or {key for key in keys if isinstance(key, str)} != set(
        of_storage
    ):
        raise ContainerError(
            "torch.layout", "The checkpoint's list of storages does not fit its tensors."
        )
    storages: dict[str, str | int] = {}
    position = head.tell()
    end = file.seek(0, io.SEEK_END)
    for key in keys:
        name, tensor = of_storage[key]
        expected = _storage_bytes(name, tensor)
        file.seek(position)
        count = file.read(8)
        begin = position + len(count)
        if begin + expected > end:
            raise _missing(name, expected, end - begin)
        if struct.unpack("<q", count) != (tensor.storage_size,):
            raise ContainerError(
                "torch.ambiguous",
                f"Two places in the file disagree on how many values {name[:100]!r} has.",
            )
        storages[key] = begin
        position = begin + expected
    return TorchCheckpoint(tensors, values, storages)


def _missing(name: str, expected: int, found: int) -> ContainerError:
    return ContainerError(
        "torch.values_missing",
        f"The values of {name[:100]!r} should take {expected} bytes; the file holds"
        f" {max(found, 0)}. It was probably cut short while it was copied; please upload it again.",
        Severity.UNREADABLE,
    )


def _storage_bytes(name: str, tensor: TorchTensor) -> int:
    """Return the bytes of a tensor's storage, having checked that the tensor lies inside it."""
    dtype = _DTYPES.get(tensor.storage_type)
    if dtype is None:
        raise ContainerError(
            "torch.element_type",
            f"{name[:100]!r} has elements of the unknown type {tensor.storage_type[:50]!r}.",
        )
    count = math.prod(tensor.shape)
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride, strict=True)
    )
    # A tensor that repeats its storage (stride 0) could be far larger than the file.
    if count and (last >= tensor.storage_size or count > tensor.storage_size):
        raise ContainerError(
            "torch.out_of_bounds",
            f"{name[:100]!r} reaches beyond its {tensor.storage_size} stored values.",
        )
    return tensor.storage_size * dtype.itemsize


def _array(name: str, tensor: TorchTensor, data: bytes) -> NDArray[np.generic]:
    expected = _storage_bytes(name, tensor)
    if len(data) != expected:
        raise _missing(name, expected, len(data))
    storage = np.frombuffer(data, dtype=_DTYPES[tensor.storage_type])
    if 0 in tensor.shape:
        view = np.empty(tensor.shape, dtype=storage.dtype)
    else:
        # Inside the storage, as _storage_bytes has checked.
        view = np.lib.stride_tricks.as_strided(
            storage[tensor.offset :],
            shape=tensor.shape,
            strides=[stride * storage.itemsize for stride in tensor.stride],
            writeable=False,
        )
    if tensor.storage_type == _BFLOAT16:
        return (view.astype("<u4") << np.uint32(16)).view("<f4")
    return np.ascontiguousarray(view).reshape(tensor.shape)
