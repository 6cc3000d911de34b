"""PyTorch checkpoints read as data: what they hold, and what is refused."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triage.containers.errors import ContainerError
from triage.containers.torch_tensors import read_index, read_tensors

# ``{"a": tensor of two floats}`` as torch.save writes it, opcode by opcode. ``%s`` is where the
# tests change something.
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK%ctQ"
)
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n("
    + STORAGE
    + b"K%cK%c\x85K%c\x85\x89ccollections\nOrderedDict\n)RtR"
)


def one_tensor(stored: int = 2, offset: int = 0, size: int = 2, stride: int = 1) -> bytes:
    tensor = TENSOR % (stored, offset, size, stride)
    return b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s."


def archive(path: Path, index: bytes, values: bytes = bytes(8), **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", index)
        file.writestr("archive/data/0", values)
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ContainerError) as caught:
        dict(read_tensors(path, read_index(path)))
    assert caught.value.sentence.endswith(".")
    return caught.value.code


@pytest.mark.parametrize(
    ("name", "tensor", "shape"),
    [
        ("EasyNegative.pt", "emb_params", (8, 768)),
        ("bad-hands-5.pt", "string_to_param.*", (2, 768)),
        ("learned_embeds_fastai.bin", "<birb-style>", (768,)),
    ],
)
def test_real_embeddings_are_read(
    shared_data: Path, name: str, tensor: str, shape: tuple[int, ...]
) -> None:
    path = shared_data / "embeddings" / name
    index = read_index(path)
    arrays = dict(read_tensors(path, index))
    assert arrays[tensor].shape == shape
    assert arrays[tensor].dtype == np.float32
    assert 0.1 < float(np.linalg.norm(arrays[tensor])) < 100


def test_texts_and_numbers_beside_the_tensors_are_kept(shared_data: Path) -> None:
    values = read_index(shared_data / "embeddings" / "bad-hands-5.pt").values
    assert values["name"] == "bad-hands-5"
    assert values["step"] == 1364


def test_no_hostile_pickle_is_read(shared_data: Path) -> None:
    read = []
    for path in sorted((shared_data / "pickles").iterdir()):
        try:
            read_index(path)
        except ContainerError:
            continue
        read.append(path.name)
    assert read == ["new_pytorch_model.bin", "pytorch_model.bin"]  # the two harmless ones


@pytest.mark.parametrize("legacy", [False, True])
def test_what_pytorch_saves_is_read_back(tmp_path: Path, legacy: bool) -> None:
    torch = pytest.importorskip("torch")
    square = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    saved = {
        "half": square.half(),
        "brain": square.bfloat16() / 3,
        "long": torch.tensor([1, -2]),
        "turned": square.T,
        "part": square[1:, 1:3],
        "nothing": torch.zeros(0, 4),
        "scalar": torch.tensor(2.5),
        "learned": torch.nn.Parameter(square.clone()),
        "inside": OrderedDict(deep=[square[0]]),
    }
    path = tmp_path / "model.bin"
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    arrays = dict(read_tensors(path, read_index(path)))
    expected = saved | {"inside.deep.0": square[0]}
    del expected["inside"]
    assert arrays.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(arrays[name], tensor.detach().float().numpy())
    assert arrays["half"].dtype == np.float16
    assert arrays["brain"].dtype == np.float32


def test_a_module_state_with_metadata_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(3, 2).state_dict(), path)
    assert read_index(path).tensors.keys() == {"weight", "bias"}


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", one_tensor(), struct.pack("<ff", 1.5, -2.0))
    ((name, array),) = read_tensors(path, read_index(path))
    assert (name, array.tolist()) == ("a", [1.5, -2.0])


@pytest.mark.parametrize(
    "change",
    [{"offset": 1}, {"size": 3}, {"stride": 2}, {"size": 200, "stride": 0}],
    ids=["offset", "size", "stride", "repetition"],
)
def test_a_tensor_that_reaches_beyond_its_values_is_refused(
    tmp_path: Path, change: dict[str, int]
) -> None:
    assert refusal(archive(tmp_path / "a.pt", one_tensor(**change))) == "torch.out_of_bounds"


@pytest.mark.parametrize("values", [b"", bytes(7), bytes(9)])
def test_values_of_another_length_than_announced_are_refused(tmp_path: Path, values: bytes) -> None:
    assert refusal(archive(tmp_path / "a.pt", one_tensor(), values)) == "torch.values_missing"


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self._call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("legacy", [False, True])
def test_a_call_is_refused_and_not_made(tmp_path: Path, protocol: int, legacy: bool) -> None:
    proof = tmp_path / "proof"
    content = pickle.dumps({"a": Call(os.mkdir, str(proof))}, protocol)
    path = tmp_path / "a.pt"
    if legacy:
        head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(item, 2) for item in head) + content)
    else:
        archive(path, content)
    assert refusal(path) == "torch.not_plain_tensors"
    assert not proof.exists()


@pytest.mark.parametrize(
    "index",
    [
        b"\x80\x02c__builtin__\nexec\n.",  # only named: harmless, and still no dictionary
        b"\x80\x02}(K\x01K\x02u.",
    ],
)
def test_a_pickle_without_tensors_has_none(tmp_path: Path, index: bytes) -> None:
    assert read_index(archive(tmp_path / "a.pt", index)).tensors == {}


@pytest.mark.parametrize(
    "index",
    [
        b"\x80\x02]q\x00h\x00a.",  # a list that contains itself
        b"\x80\x02]" + b"".join(b"q%c(h%ch%cl" % (i, i, i) for i in range(30)) + b".",  # doubling
        b"\x80\x02}]K\x01s.",  # a list as key
        b"\x80\x02}(K\x01u.",  # a key without value
        b"\x80\x02h\x07.",  # a value never stored
        b"\x80\x02a.",  # appends to nothing
        b"\x80\x02K\x01K\x02a.",  # appends to a number
        b"\x80\x02}K\x01b.",  # sets a number as state
        b"\x80\x02K\x01Q.",  # a number as storage
        b"\x80\x02(t",  # no end
        b"\x80\x02.",  # nothing at all
        b"\x80\x02(.",  # a mark for content
        b"\x80\x02ccopyreg\n_reconstructor\n(tR.",
        b"\x80\x02\x82\x01.",  # an extension code
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01tR.",
        b"\x80\x02ccollections\nOrderedDict\n(](K\x01laetR.",
    ],
)
def test_what_no_dictionary_of_tensors_needs_is_refused(tmp_path: Path, index: bytes) -> None:
    code = refusal(archive(tmp_path / "a.pt", index))
    assert code in {"torch.not_plain_tensors", "pickle.broken"}


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    tensor = TENSOR % (2, 0, 2, 1)
    twice = b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"sX\x01\x00\x00\x00a" + tensor + b"s."
    assert refusal(archive(tmp_path / "a.pt", twice)) == "torch.ambiguous"
    nested = b"\x80\x02}(X\x03\x00\x00\x00a.b" + tensor + b"X\x01\x00\x00\x00a}X\x01\x00\x00\x00b"
    assert refusal(archive(tmp_path / "b.pt", nested + tensor + b"su.")) == "torch.ambiguous"


def test_a_member_of_the_archive_named_twice_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", one_tensor())
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("archive/data.pkl", one_tensor())
    assert refusal(path) == "torch.ambiguous"


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", one_tensor())
        file.writestr("archive/data/0", bytes(8))
    assert refusal(path) == "torch.compressed"


def test_a_value_changed_after_saving_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", one_tensor(), b"ABCDEFGH")
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"ABCDEFGX"))
    assert refusal(path) == "torch.damaged"


def test_a_big_endian_checkpoint_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", one_tensor(), byteorder=b"big")
    assert refusal(path) == "torch.byte_order"


def test_an_archive_with_two_indexes_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", one_tensor())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("other/data.pkl", one_tensor())
    assert refusal(path) == "torch.layout"


def test_every_cut_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.pt", one_tensor()).read_bytes()
    cut = tmp_path / "cut.pt"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        assert refusal(cut)


def test_every_cut_of_an_older_checkpoint_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer, _use_new_zipfile_serialization=False)
    whole = buffer.getvalue()
    cut = tmp_path / "cut.pt"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        assert refusal(cut)
