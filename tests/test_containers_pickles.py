"""The pickle reader: imports need an allow-list, and whatever cannot be followed goes to a person.

Nothing in this file is ever unpickled. The hostile pickles would touch a canary file if it were.
"""

import collections
import io
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage.containers.check import check_file
from triage.containers.errors import Severity
from triage.containers.pickle_imports import ALLOWED, is_harmful
from triage.containers.pickle_values import MAX_IMPORTS, MAX_OPCODES, Budget
from triage.containers.pickles import code_in_data, read_pickles
from triage.containers.safetensors_header import read_header

FAMILIES = ("malicious", "bad_", "broken_", "unsafe_", "not_a_pickle")


def severities(data: bytes) -> set[Severity]:
    return {problem.severity for problem in read_pickles(io.BytesIO(data), Budget()).problems}


def codes(data: bytes) -> set[str]:
    return {problem.code for problem in read_pickles(io.BytesIO(data), Budget()).problems}


def text(value: str) -> bytes:
    """Return the instruction that pushes a string."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def storage(kind: str, key: str, elements: int) -> bytes:
    """Return torch's reference to a storage in a zip."""
    parts = text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    return b"(" + parts + b"J" + struct.pack("<i", elements) + b"tQ"


def problems_of(report: dict[str, object]) -> list[dict[str, str]]:
    problems = report["problems"]
    assert isinstance(problems, list)
    return problems


def is_like(name: str) -> bool:
    return name.startswith(FAMILIES) or "sploit" in name or "bypass" in name


# --- Real files -----------------------------------------------------------------------------


def test_every_hostile_or_broken_file_has_problems_and_none_runs_anything(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [path for path in sorted((shared_data / "pickles").iterdir()) if is_like(path.name)]
    assert len(paths) > 30
    clean = [path.name for path in paths if not check_file(str(path))["problems"]]
    assert clean == []
    assert list(tmp_path.iterdir()) == []


def test_every_benign_file_and_every_real_weight_file_is_clean(shared_data: Path) -> None:
    paths = [
        path
        for path in sorted(shared_data.glob("*/*"))
        if path.parent.name in ("loras", "embeddings")
        or path.name.endswith("pytorch_model.bin")
        or (path.name.startswith("benign") and "password" not in path.name)
    ]
    assert len(paths) > 15
    found = {path.name: check_file(str(path))["problems"] for path in paths}
    assert {name: problems for name, problems in found.items() if problems} == {}


def test_the_reader_is_never_calmer_than_a_blocklist_scanner(shared_data: Path) -> None:
    scanner = pytest.importorskip("picklescan.scanner")
    missed = []
    for path in sorted((shared_data / "pickles").iterdir()):
        if path.suffix == ".7z":
            continue  # picklescan needs an extra for it
        result = scanner.scan_file_path(str(path))
        if (result.issues_count or result.scan_err) and not check_file(str(path))["problems"]:
            missed.append(path.name)
    # picklescan cannot open a zip with a password; neither can we, and we say so.
    assert missed == []


# --- What weights look like -----------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol_is_clean(protocol: int) -> None:
    value = {
        "step": 1419,
        "name": "bad-hands-5",
        "rate": 1e-4,
        "nested": [(1, 2), [], {}, None, True, b"bytes", "é" * 5000, 2**70],
        "order": collections.OrderedDict(a=1),
        "set": {1, 2},
    }
    assert codes(pickle.dumps(value, protocol)) == set()


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["<f4", ">i8", "?", "U5", "S3", "<c8", "M8[ns]"])
def test_numpy_arrays_of_numbers_and_text_are_clean(protocol: int, dtype: str) -> None:
    array = np.zeros((2, 3), dtype=dtype)
    assert codes(pickle.dumps({"a": array, "b": array.dtype}, protocol)) == set()
    assert codes(pickle.dumps(np.float32(3), protocol)) == set()


def test_a_numpy_array_of_python_objects_is_not_vouched_for() -> None:
    assert "pickle.strange_call" in codes(pickle.dumps(np.array([{}, None], dtype=object), 4))


def test_a_numpy_dtype_whose_state_smuggles_objects_in_is_not_vouched_for() -> None:
    clean = pickle.dumps(np.dtype("i8"), 2)
    assert codes(clean) == set()
    flags = clean.rindex(b"K\x00t")
    assert "pickle.strange_state" in codes(clean[:flags] + b"K\x3ft" + clean[flags + 3 :])
    fields = clean.rindex(b"NNN")
    assert "pickle.strange_state" in codes(clean[:fields] + b")N}" + clean[fields + 3 :])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old layout"])
def test_what_torch_saves_is_clean(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "file"
    module = torch.nn.BatchNorm2d(3)
    shared = torch.zeros(10)
    torch.save(
        {
            "state_dict": module.state_dict(),
            "optimizer": torch.optim.Adam(module.parameters()).state_dict(),
            "parameter": torch.nn.Parameter(torch.ones(2)),
            "half": torch.ones(2, dtype=torch.float16),
            "bfloat16": torch.ones(2, dtype=torch.bfloat16),
            "views": [shared[:5], shared[5:]],
            "size": torch.Size([1, 2]),
            "dtype": torch.float32,
            "device": torch.device("cpu"),
            "sparse": torch.eye(3).to_sparse(),
            "array": np.arange(3),
        },
        path,
        _use_new_zipfile_serialization=zipped,
    )
    report = check_file(str(path))
    assert report["problems"] == []
    assert report["format"] == ("zip" if zipped else "pickle")
    tensors = report["tensors"]
    assert isinstance(tensors, int)
    assert tensors >= 10


# --- Imports --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_of_a_program_is_dangerous_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = pickle.dumps(Calls(subprocess.run, ["touch", str(canary)]), protocol)
    assert Severity.DANGEROUS in severities(hostile)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("commands", "getoutput"),
        ("builtins", "eval"),
        ("__builtin__", "execfile"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("runpy", "_run_code"),
        ("importlib", "import_module"),
        ("pkgutil", "resolve_name"),
        ("torch", "os.system"),
        ("torch._utils", "torch.serialization.os.system"),
        ("collections", "OrderedDict.__class__"),
        ("torch._inductor.codecache", "compile_file"),
        ("numpy.f2py.crackfortran", "myeval"),
        ("torch.serialization", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("pickle", "loads"),
        ("cPickle", "loads"),
        ("webbrowser", "open"),
        ("socket", "create_connection"),
        ("ctypes", "CDLL"),
    ],
)
def test_known_dangerous_imports_are_called_dangerous(module: str, name: str) -> None:
    assert severities(f"c{module}\n{name}\n.".encode()) == {Severity.DANGEROUS}
    on_the_stack = text(module) + text(name) + b"\x93."
    assert severities(b"\x80\x04" + on_the_stack) == {Severity.DANGEROUS}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
        ("__main__", "Model"),
        ("torch", "_utils"),
        ("torch.nn.modules.linear", "Linear"),
        ("copyreg", "_reconstructor"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections ", "OrderedDict"),
        ("Collections", "OrderedDict"),
        ("", ""),
    ],
)
def test_unknown_imports_are_not_vouched_for(module: str, name: str) -> None:
    pushed = text(module) + text(name) + b"\x93"
    assert codes(b"\x80\x04" + pushed + b".") == {"pickle.unknown_import"}
    assert severities(b"\x80\x04" + pushed + b".") == {Severity.UNVOUCHED}


def test_no_name_on_the_allow_list_is_on_the_list_of_dangers() -> None:
    assert [key for key in ALLOWED if is_harmful(*key)] == []


@pytest.mark.parametrize(
    "pushed",
    [
        b"(S'touch canary'\nios\nsystem\n",
        b"(cos\nsystem\nS'touch canary'\no",
        b"cos\nsystem\n(S'touch canary'\nt\x81",
        b"cos\nsystem\n(S'touch canary'\nt}\x92",
        b"U\x02osU\x06system\x93(U\x01xtR",
        b"\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93",
        b"Vos\nVsystem\n\x93",
        b"Vo\\u0073\nVsystem\n\x93",
        b"S'o\\x73'\nS'system'\n\x93",
        b"T\x02\0\0\0osT\x06\0\0\0system\x93",
        b"\x8d\x02\0\0\0\0\0\0\0os\x8c\x06system\x93",
        b"\x8c\x06system\x94\x8c\x02os\x94h\x00\x93",
        b"\x8c\x02osN0\x8c\x06system\x93",
        b"(\x8c\x01a1\x8c\x02os\x8c\x06system\x93",
        b"\x8c\x02os(\x8c\x01a1\x8c\x06system\x93",
    ],
    ids=repr,
)
def test_a_name_is_found_however_it_is_put_together(pushed: bytes) -> None:
    report = read_pickles(io.BytesIO(b"\x80\x04" + pushed + b"."), Budget())
    assert "os.system" in {str(item) for item in report.imports}
    assert Severity.DANGEROUS in {problem.severity for problem in report.problems}


def test_the_memo_is_kept_as_python_keeps_it() -> None:
    # The second PUT replaces "collections" under the same number.
    swapped = text("collections") + b"q\x000" + text("os") + b"q\x000h\x00" + text("system")
    assert Severity.DANGEROUS in severities(b"\x80\x02" + swapped + b"\x93.")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"K\x01" + text("system") + b"\x93", "pickle.unresolvable_import"),
        (text("os") + b"]\x93", "pickle.unresolvable_import"),
        (text("torch") + b"\x8c\x04\xff\xff\xff\xff\x93", "pickle.broken"),
        (text("x" * 5000) + text("y") + b"\x93", "pickle.unresolvable_import"),
        (b"\x82\x01", "pickle.extension"),
        (b"\x83\x01\x00", "pickle.extension"),
        (b"\x84\x01\x00\x00\x00", "pickle.extension"),
        (b"Psomething\n", "pickle.strange_reference"),
        (text("something") + b"Q", "pickle.strange_reference"),
        (
            b"(" + text("module") + text("a") + text("b") + text("c") + b"tQ",
            "pickle.strange_reference",
        ),
        (b"\x97", "pickle.strange_reference"),
        (storage("FloatStorage", "0", 3), "pickle.strange_reference"),
        (b"]K\x01\x85R", "pickle.strange_call"),
        (b"ctorch\nFloatStorage\n(K\x01tR", "pickle.strange_call"),
        (call("_codecs", "encode", text("a"), text("rot13")), "pickle.strange_call"),
        (call("numpy", "dtype", text("O8")), "pickle.strange_call"),
        (call("numpy.core.multiarray", "_reconstruct", b"ctorch\nTensor\n"), "pickle.strange_call"),
        (call("collections", "defaultdict", b"ccollections\nOrderedDict\n"), "pickle.strange_call"),
        (b"ccollections\nOrderedDict\n}R", "pickle.strange_call"),
        (b"ccollections\nOrderedDict\n)}N\x86\x92", "pickle.strange_call"),
        (b"ctorch\nTensor\n}b", "pickle.changes_code"),
        (b"K\x01}b", "pickle.strange_state"),
        (b"ccollections\nOrderedDict\n)R(N}tb", "pickle.strange_state"),
        (
            b"ccollections\nOrderedDict\n)R}" + text("__setstate__") + b"cnumpy\ndtype\nsb",
            "pickle.strange_state",
        ),
        (call("torch", "Size", b")") + b"}b", "pickle.strange_state"),
        (b"ctorch\nTensor\nK\x01a", "pickle.fills"),
        (b"ctorch\nTensor\nK\x01K\x02s", "pickle.fills"),
        (b"K\x01(K\x02\x90", "pickle.fills"),
        (b"K\x01K\x02", "pickle.left_over"),
        (b"(K\x02", "pickle.left_over"),
    ],
    ids=repr,
)
def test_whatever_cannot_be_followed_is_reported(body: bytes, code: str) -> None:
    assert code in codes(b"\x80\x04" + body + b".")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04",
        b"\x80\x06N.",
        b"\x80\xffN.",
        b"\x80\x04N",
        b"\x80\x04.",
        b"\x80\x04\x00.",
        b"\x80\x040.",
        b"\x80\x041.",
        b"\x80\x04t.",
        b"\x80\x04h\x00.",
        b"\x80\x04g5\n.",
        b"\x80\x04Np-1\n.",
        b"\x80\x04(K\x01d.",
        b"\x80\x04R.",
        b"\x80\x04(o.",
        b"\x80\x04X\xff\xff\xff\xffab.",
        b"\x80\x04B\xff\xff\xff\xffab.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffab.",
        b"\x80\x04T\xff\xff\xff\xffab.",
        b"\x80\x04\x8b\xff\xff\xff\xffab.",
        b"\x80\x04cos",
        b"\x80\x04c\xff\nsystem\n.",
        b"\x80\x04Inot a number\n.",
        b"\x80\x04S'open\n.",
        b"\x80\x04F1.5x\n.",
        b"\x80\x04V\\uZZZZ\n.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        b"\x80\x04\x95\x03\0\0\0\0\0\0\0K\x01K\x01.",
        b"\x80\x04\x95\x0d\0\0\0\0\0\0\0\x95\x02\0\0\0\0\0\0\0N..",
        b"\x80\x04\x95\x05\0\0\0\0\0\0\0N.NNN",
    ],
    ids=repr,
)
def test_a_stream_that_stops_making_sense_is_reported(data: bytes) -> None:
    assert codes(data) & {"pickle.broken"}


def test_what_was_imported_before_the_break_still_counts() -> None:
    assert Severity.DANGEROUS in severities(b"\x80\x02" + call("os", "system", text("x")) + b"\xff")


def test_what_follows_the_first_pickle_is_reported_and_read() -> None:
    assert codes(b"\x80\x02N." + b"\n") == {"pickle.trailing_bytes", "pickle.broken"}
    hostile = b"\x80\x02N." + b"\x80\x02N." + b"\x80\x02" + call("os", "system", text("x")) + b"."
    assert Severity.DANGEROUS in severities(hostile)


# --- torch's old layout ---------------------------------------------------------------------


def old_layout(
    *,
    machine: object = None,
    announced: int = 3,
    data: bytes = bytes(12),
    keys: object = None,
    elements: bytes = b"K\x03",
) -> bytes:
    """Return a file as torch before 1.6 wrote it, with one storage of three floats."""
    parts = [
        pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"little_endian": True} if machine is None else machine, 2),
        b"\x80\x02"
        + b"("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("7")
        + text("cpu")
        + elements
        + b"NtQ.",
        pickle.dumps(["7"] if keys is None else keys, 2),
        struct.pack("<q", announced),
        data,
    ]
    return b"".join(parts)


def test_the_old_layout_is_clean_when_every_byte_is_accounted_for() -> None:
    assert codes(old_layout()) == set()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (old_layout(machine={"little_endian": False}), "pickle.torch_layout"),
        (old_layout(machine=[]), "pickle.torch_layout"),
        (old_layout(announced=4), "pickle.torch_layout"),
        (old_layout(keys=[]), "pickle.torch_layout"),
        (old_layout(keys=["7", "7"]), "pickle.torch_layout"),
        (old_layout(keys=[7]), "pickle.torch_layout"),
        (old_layout(data=bytes(11)), "pickle.cut_short"),
        (old_layout(data=bytes(13)), "pickle.trailing_bytes"),
        (
            old_layout(elements=b"\x8a\x08" + bytes(7) + b"\x0f", announced=0x0F << 56),
            "pickle.cut_short",
        ),
        (old_layout()[:20], "pickle.broken"),
    ],
    ids=range(10),
)
def test_the_old_layout_is_reported_where_it_contradicts_itself(data: bytes, code: str) -> None:
    assert code in codes(data)


def test_code_in_the_small_pickles_of_the_old_layout_is_found() -> None:
    hostile = b"\x80\x02" + call("os", "system", text("x")) + b"."
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    for before in (magic, magic + pickle.dumps(1001, 2)):
        assert Severity.DANGEROUS in severities(before + hostile + old_layout()[len(before) :])


# --- Bounds ---------------------------------------------------------------------------------


def test_a_pickle_of_too_many_instructions_is_given_up_and_said_to_be() -> None:
    endless = b"\x80\x02" + b"N0" * (MAX_OPCODES // 2 + 1) + b"N."
    assert codes(endless) == {"pickle.too_long"}


def test_a_pickle_of_too_many_imports_is_given_up_and_said_to_be() -> None:
    many = b"".join(b"cmodule%d\nname\n0" % index for index in range(MAX_IMPORTS + 1))
    report = read_pickles(io.BytesIO(b"\x80\x02" + many + b"N."), Budget())
    assert not report.complete
    assert len(report.imports) == MAX_IMPORTS


def test_a_dangerous_import_is_not_drowned_by_unknown_ones() -> None:
    many = b"".join(b"cmodule%d\nname\n0" % index for index in range(100))
    assert Severity.DANGEROUS in severities(b"\x80\x02" + many + b"cos\nsystem\n.")


def test_values_that_double_with_every_step_cost_nothing() -> None:
    bomb = b"\x80\x02N" + b"2\x86" * 10_000 + b"."
    assert codes(bomb) == set()
    layout = old_layout(keys=[])
    assert layout.count(b"]q\x00.") == 1
    bombed = layout.replace(b"]q\x00.", b"]N" + b"2\x86" * 60 + b"a.")
    assert "pickle.torch_layout" in codes(bombed)


def test_a_long_string_is_skipped_and_not_kept() -> None:
    long = text("x" * 3_000_000)
    report = read_pickles(io.BytesIO(b"\x80\x02" + long + b"."), Budget())
    assert report.complete
    assert not report.problems
    assert not isinstance(report.value, str)


# --- Pickles where none is expected ---------------------------------------------------------


def test_code_at_the_beginning_of_plain_data_is_found() -> None:
    found = code_in_data(io.BytesIO(b"cos\nsystem\n(S'x'\ntR." + bytes(100)), Budget())
    assert {problem.code for problem in found} == {"pickle.dangerous_import", "pickle.hidden"}


def test_numbers_that_begin_like_a_pickle_by_chance_are_not_reported() -> None:
    random = np.random.default_rng(7)
    for first in range(256):
        assert code_in_data(io.BytesIO(bytes([first]) + random.bytes(4000)), Budget()) == []
    for protocol in range(6):
        data = bytes([0x80, protocol]) + random.bytes(4000)
        assert code_in_data(io.BytesIO(data), Budget()) == []


def test_a_safetensors_file_that_is_also_a_pickle_is_found(tmp_path: Path) -> None:
    """The length of its header is a string instruction; the pickle goes on in the metadata."""
    skipped = 40
    length = ord("X") + (skipped << 8)
    before = b'{"__metadata__":{"a":"'.ljust(skipped - 3)
    module, name = b"U!" + b"hidden.module.of.thirty-three.abc", b"U!" + b"n" * 33
    # BINPUT takes the first byte of the letter U+0093, its second one is STACK_GLOBAL.
    code = before + module + name + "q\u0093.".encode()
    path = tmp_path / "file"
    path.write_bytes(struct.pack("<Q", length) + code.ljust(length - 3) + b'"}}')
    assert read_header(path).tensors == {}
    report = check_file(str(path))
    assert report["format"] == "safetensors"
    assert {problem["code"] for problem in problems_of(report)} == {
        "pickle.unknown_import",
        "pickle.hidden",
    }


def test_a_pickle_before_a_zip_is_read_as_the_pickle_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(b"\x80\x02" + call("os", "system", text("x")) + b".")
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02N.")
    report = check_file(str(path))
    assert report["format"] == "pickle"
    assert {"pickle.dangerous_import", "pickle.trailing_bytes"} <= {
        problem["code"] for problem in problems_of(report)
    }


# --- General --------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.frozensets(st.text(), max_size=3)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(value=PLAIN, protocol=st.integers(0, 5))
def test_whatever_python_pickles_from_plain_data_is_clean(value: object, protocol: int) -> None:
    assert codes(pickle.dumps(value, protocol)) == set()


@settings(max_examples=200, deadline=None)
@given(
    value=PLAIN, protocol=st.integers(0, 5), module=st.sampled_from(["os", "my.module", "torch"])
)
def test_an_import_in_the_middle_of_plain_data_is_never_missed(
    value: object, protocol: int, module: str
) -> None:
    whole = pickle.dumps([value], protocol)
    stop = len(whole) - 1
    hostile = whole[:stop] + f"c{module}\nanything\n0.".encode()
    report = read_pickles(io.BytesIO(hostile), Budget())
    assert report.problems


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    report = read_pickles(io.BytesIO(data), Budget())
    assert report.complete or report.problems
