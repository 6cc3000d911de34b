"""Files of weights that want to do harm, each made here: what it is called, and how it is made."""

import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.factories import safetensors_bytes
from tests.test_container_probe import EMPTY, zip_bomb
from tests.test_containers_archives import CENTRAL, END, HOSTILE, LOCAL, packed, patched

Make = Callable[[], bytes]
DATA = bytes(32)


def weights() -> Iterator[tuple[str, Make]]:
    """Yield every case: a name that says what is wrong, and a function that makes the bytes."""
    for family, cases in (
        ("safetensors", _safetensors()),
        ("pickle", _pickles()),
        ("zip", _zips()),
        ("renamed", _renamed()),
    ):
        for name, made in cases.items():
            yield f"{family}: {name}", made if callable(made) else partial(bytes, made)


# --- Safetensors: headers that lie ----------------------------------------------------------


def _header(header: object, data: bytes = DATA) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _tensor(**lies: Any) -> bytes:
    tensor = {"dtype": "F32", "shape": [8], "data_offsets": [0, 32], **lies}
    return _header({"a": {name: value for name, value in tensor.items() if value is not None}})


def _two(first: list[int], second: list[int], size: int = 32) -> bytes:
    part = {"dtype": "F32", "shape": [4]}
    return _header(
        {"a": {**part, "data_offsets": first}, "b": {**part, "data_offsets": second}}, bytes(size)
    )


def _safetensors() -> dict[str, bytes | Make]:
    sound = safetensors_bytes()
    body = b'{"dtype":"F32","shape":[8],"data_offsets":[0,32]}'
    lengths = {
        "0": 0,
        "1": 1,
        "one more than the file": len(sound) - 7,
        "1 GB": 1 << 30,
        "100 GB": 100 << 30,
        "2^63": 1 << 63,
        "2^64 - 1": (1 << 64) - 1,
    }
    cases: dict[str, bytes | Make] = {
        f"a header length of {name}": struct.pack("<Q", length) + sound[8:]
        for name, length in lengths.items()
    }
    lies: dict[str, dict[str, Any]] = {
        "negative offsets": {"data_offsets": [-32, 0]},
        "an end before the begin": {"data_offsets": [32, 0]},
        "an end beyond the file": {"data_offsets": [0, 1 << 40]},
        "offsets of 2^70": {"data_offsets": [1 << 70, (1 << 70) + 32]},
        "one offset": {"data_offsets": [0]},
        "three offsets": {"data_offsets": [0, 16, 32]},
        "offsets in words": {"data_offsets": ["0", "32"]},
        "offsets with a point": {"data_offsets": [0.0, 32.0]},
        "offsets that are true and false": {"data_offsets": [False, True]},
        "no offsets": {"data_offsets": None},
        "a negative shape": {"shape": [-8]},
        "two negative sides": {"shape": [-2, -4]},
        "a shape of 2^62": {"shape": [1 << 62]},
        "a shape that overflows to 8": {"shape": [1 << 32, 1 << 32, 8]},
        "a shape with a point": {"shape": [8.0]},
        "a shape in words": {"shape": ["8"]},
        "a shape that is a number": {"shape": 8},
        "a shape of ten thousand sides": {"shape": [1] * 10_000 + [8]},
        "a type that nobody knows": {"dtype": "F33"},
        "a type that is a list": {"dtype": ["F32"]},
        "no type": {"dtype": None},
        "another size than the type needs": {"dtype": "F64"},
    }
    cases |= {name: _tensor(**lie) for name, lie in lies.items()}
    cases |= {
        "overlapping tensors": _two([0, 16], [8, 24], 24),
        "two tensors on the same bytes": _two([0, 16], [0, 16], 16),
        "a hole between tensors": _two([0, 16], [20, 36], 36),
        "bytes before the first tensor": _two([8, 24], [24, 40], 40),
        "bytes after the last tensor": sound + b"#!/bin/sh\nid\n",
        "bytes that are missing": sound[:-1],
        "cut within the header": sound[:20],
        "the same name twice": _header(b'{"a":' + body + b',"a":' + body + b"}"),
        "the metadata twice": _header(
            b'{"__metadata__":{"a":"1"},"__metadata__":{"a":"2"},"t":' + body + b"}"
        ),
        "a key twice in a tensor": _header(b'{"a":{"dtype":"F32","dtype":"U8"' + body[14:] + b"}"),
        "NaN": _header(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,32]}}'),
        "Infinity": _header(b'{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,32]}}'),
        "1e999": _header(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,32]}}'),
        "a number of 5,000 digits": _header(b'{"a":{"shape":[' + b"9" * 5000 + b"]}}"),
        "lists 100,000 deep": lambda: _header(b'{"a":' * 1 + b"[" * 100_000 + b"]" * 100_000),
        "objects 50,000 deep": lambda: _header(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        "a header that is a list": _header([1, 2]),
        "a header that is a word": _header(b'"safetensors"'),
        "a header that is no JSON": _header(b"{'a': 1}"),
        "a comment": _header(b'{/* */"a":' + body + b"}"),
        "a byte order mark": _header(b'\xef\xbb\xbf{"a":' + body + b"}"),
        "UTF-16": _header('{"a":1}'.encode("utf-16")),
        "bytes that are no UTF-8": _header(b'{"\xff\xfe":' + body + b"}"),
        "half a surrogate": _header(b'{"\\ud800":' + body + b"}"),
        "words after the header's end": _header(b'{"a":' + body + b"} and more"),
        "metadata that are numbers": _header(b'{"__metadata__":{"a":1},"t":' + body + b"}"),
        "metadata that are a list": _header(b'{"__metadata__":["a"],"t":' + body + b"}"),
        "a pickle in the tensor": safetensors_bytes()[:-32] + HOSTILE.ljust(32, b"\0"),
        "a program in the tensor": sound[:-32] + b"\x7fELF".ljust(32, b"\0"),
        "a zip in the tensor": lambda: _inside(packed(("archive/data.pkl", HOSTILE))),
        "a page in the tensor": lambda: _inside(b"<script>alert(1)</script>"),
        "a hundred thousand tensors": lambda: _header(
            b"{" + b"".join(EMPTY % n for n in range(100_000)) + b'"x":1}'
        ),
    }
    return cases


def _inside(data: bytes) -> bytes:
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    return _header({"a": tensor}, data)


# --- Pickles: code, in every way that it can be said -----------------------------------------

DANGERS = (
    "os.system",
    "posix.system",
    "nt.system",
    "os.popen",
    "os.execv",
    "subprocess.Popen",
    "subprocess.check_output",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.__import__",
    "builtins.getattr",
    "builtins.open",
    "__builtin__.apply",
    "importlib.import_module",
    "runpy.run_path",
    "shutil.rmtree",
    "socket.create_connection",
    "pty.spawn",
    "ctypes.CDLL",
    "code.interact",
    "pickle.loads",
    "marshal.loads",
    "types.FunctionType",
    "operator.attrgetter",
    "operator.methodcaller",
    "functools.partial",
    "torch.load",
    "torch.hub.load",
    "numpy.load",
    "numpy.testing._private.utils.runstring",
    "urllib.request.urlopen",
    "http.client.HTTPSConnection",
    "webbrowser.open",
    "timeit.timeit",
    "pdb.run",
    "cProfile.run",
    "pip.main",
    "sys.exit",
    "multiprocessing.Process",
    "asyncio.create_subprocess_shell",
    "logging.config.dictConfig",
    "commands.getoutput",
    "zipimport.zipimporter",
    "some_unknown_package.load",
)


def _word(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def _pickles() -> dict[str, bytes | Make]:
    touch = b"(X\x05\x00\x00\x00touch"
    cases: dict[str, bytes | Make] = {}
    for danger in DANGERS:
        module, _, name = danger.rpartition(".")
        cases[danger] = f"\x80\x02c{module}\n{name}\n".encode("latin-1") + touch + b"tR."
    system, stacked = b"cos\nsystem\n", _word("os") + _word("system") + b"\x93"
    cases |= {
        "STACK_GLOBAL": b"\x80\x04" + stacked + _word("id") + b"\x85R.",
        "STACK_GLOBAL from the memo": b"\x80\x04"
        + _word("os")
        + b"\x94"
        + _word("system")
        + b"\x940h\x00h\x01\x93"
        + _word("id")
        + b"\x85R.",
        "STACK_GLOBAL with a dotted name": b"\x80\x04"
        + _word("os")
        + _word("path.os.system")
        + b"\x93"
        + _word("id")
        + b"\x85R.",
        "STACK_GLOBAL of a number": b"\x80\x04K\x01K\x02\x93.",
        "STACK_GLOBAL of nothing": b"\x80\x04\x93.",
        "STACK_GLOBAL after a swap": b"\x80\x04"
        + _word("system")
        + b"q\x000"
        + _word("os")
        + b"h\x00\x93"
        + _word("id")
        + b"\x85R.",
        "INST": b"(X\x02\x00\x00\x00idios\nsystem\n.",
        "OBJ": b"(" + system + b"X\x02\x00\x00\x00ido.",
        "NEWOBJ": b"\x80\x02" + system + b"X\x02\x00\x00\x00id\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + stacked + _word("id") + b"\x85}\x92.",
        "BUILD": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R}X\x01\x00\x00\x00aK\x01sb.",
        "BUILD with __setstate__": b"\x80\x02c__main__\nX\n)\x81}X\x0c\x00\x00\x00__setstate__"
        + system
        + b"sbX\x02\x00\x00\x00idb.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\x01.",
        "EXT4": b"\x80\x02\x84\x01\x01\x01\x01.",
        "PERSID": b"Pwhatever\n.",
        "BINPERSID of a call": b"\x80\x02" + system + b"X\x02\x00\x00\x00id\x85RQ.",
        "a call as the key of a dict": b"\x80\x02}" + system + b"X\x02\x00\x00\x00id\x85RK\x01s.",
        "a call that is dropped": b"\x80\x02" + system + b"X\x02\x00\x00\x00id\x85R0N.",
        "a call behind the end": b"\x80\x02N." + HOSTILE,
        "a call behind rubbish behind the end": b"\x80\x02N.\xff\xff" + HOSTILE,
        "a name with a line break in UTF-7": b"\x80\x02cos\nsystem \n" + touch + b"tR.",
        "a name in another alphabet": "\x80\x02cоs\nsystem\n".encode() + touch + b"tR.",
        "protocol 255": b"\x80\xff" + HOSTILE[2:],
        "a protocol in the middle": b"\x80\x02N0\x80\x05" + HOSTILE[2:],
        "a frame of 2^63 bytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"N.",
        "a frame that ends in an instruction": b"\x80\x04\x95" + struct.pack("<Q", 2) + b"K\x01.",
        "bytes of 2^62": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
        "text of 2^62": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
        "a byte array of 2^62": b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b"x.",
        "a number of 2^31 bytes": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"1.",
        "a number of -1 bytes": b"\x80\x02\x8b" + struct.pack("<i", -1) + b"1.",
        "a memo of 2^32": b"\x80\x02Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.",
        "a memo that is not there": b"\x80\x02h\x07.",
        "a stack that runs empty": b"\x80\x02000.",
        "a mark that is missing": b"\x80\x02t.",
        "a hundred thousand marks": lambda: b"\x80\x02" + b"(" * 100_000 + b"N.",
        "a hundred thousand memos": lambda: b"\x80\x04" + b"N\x94" * 100_000 + b".",
        "out-of-band buffers": b"\x80\x05\x97\x98.",
        "an opcode that nobody knows": b"\x80\x02\xf0\xf1.",
        "a float that is none": b"F1e\n.",
        "a string that is not closed": b"S'abc\n.",
        "an escape that is none": b"S'\\xzz'\n.",
        "no end": b"\x80\x02" + system + touch,
        "nothing but its mark": b"\x80\x02",
        "a tree that doubles with its memo": lambda: (
            b"\x80\x02]" + b"q\x00(h\x00h\x00l" * 5_000 + b"."
        ),
        "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
        "a hundred thousand tuples in tuples": lambda: b"\x80\x02N" + b"\x85" * 100_000 + b".",
        "a call within a million nothings": lambda: b"\x80\x02" + b"N0" * 500_000 + HOSTILE[2:],
    }
    cases |= {f"cut after {cut} bytes": HOSTILE[:cut] for cut in (3, 5, 9, 13, 14, 20, 25)}
    return cases


# --- Archives -------------------------------------------------------------------------------


def _torch(*more: tuple[str, bytes], pickle: bytes = b"\x80\x02}.") -> bytes:
    return packed(("archive/data.pkl", pickle), ("archive/version", b"3\n"), *more)


def _link() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("archive/data.pkl")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


def _many(count: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(count):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{number}"), b"")
    return stream.getvalue()


def _nested(depth: int) -> bytes:
    inner = HOSTILE
    for _ in range(depth):
        inner = packed(("archive/data.pkl", inner), method=zipfile.ZIP_DEFLATED)
    return inner


def _zips() -> dict[str, bytes | Make]:
    sound, hostile = _torch(), _torch(pickle=HOSTILE)
    names = {
        "climbs out": "../../../../etc/cron.d/x",
        "is absolute": "/etc/passwd",
        "climbs out with backslashes": "..\\..\\windows\\x",
        "names a drive": "C:\\windows\\x",
        "names a share": "\\\\server\\share\\x",
        "holds a null": "archive/data.pkl\0.txt",
        "holds a line break": "archive/\r\nSet-Cookie: x",
        "is a page": "archive/<img src=x onerror=alert(1)>",
        "is turned around": "archive/\u202elkp.atad",
        "is empty": "",
        "is 60,000 characters long": "a" * 60_000,
    }
    cases: dict[str, bytes | Make] = {
        f"a name that {what}": _torch((name, b"x")) for what, name in names.items()
    }
    cases |= {
        "code": hostile,
        "code, packed": packed(("archive/data.pkl", HOSTILE), method=zipfile.ZIP_DEFLATED),
        "code, packed with bzip2": packed(("archive/data.pkl", HOSTILE), method=zipfile.ZIP_BZIP2),
        "code, packed with LZMA": packed(("archive/data.pkl", HOSTILE), method=zipfile.ZIP_LZMA),
        "code under another name": _torch(("archive/data/0", HOSTILE)),
        "code in a program beside it": _torch(("archive/code/__torch__.py", b"import os")),
        "a library beside it": _torch(("archive/x.so", b"\x7fELF" + DATA)),
        "code with a wrong checksum": patched(hostile, LOCAL, 14, b"\0\0\0\0"),
        "a wrong checksum in the directory": patched(hostile, CENTRAL, 16, b"\1\2\3\4"),
        "a size that lies": patched(sound, CENTRAL, 24, struct.pack("<L", 1 << 31)),
        "a packed size that lies": patched(sound, CENTRAL, 20, struct.pack("<L", 1 << 31)),
        "a position beyond the file": patched(sound, CENTRAL, 42, struct.pack("<L", 1 << 31)),
        "a method that nobody knows": patched(sound, CENTRAL, 10, b"\x63\0"),
        "an encrypted entry": patched(sound, CENTRAL, 8, b"\1\0"),
        "two names for one entry": patched(hostile, LOCAL, 30, b"archive/nice"),
        "more entries than it says": patched(sound, END, 10, b"\1\0"),
        "fewer entries than it says": patched(sound, END, 10, b"\xff\xfe"),
        "a directory of the wrong size": patched(sound, END, 12, struct.pack("<L", 5)),
        "a directory that begins elsewhere": patched(sound, END, 16, struct.pack("<L", 5)),
        "a directory beyond 4 GB": patched(sound, END, 16, b"\xff\xff\xff\xff"),
        "a bomb": zip_bomb,
        "a bomb in a bomb": lambda: packed(("archive/data.pkl", zip_bomb())),
        "a bomb of 200 MB of numbers": lambda: packed(
            ("archive/data.pkl", b"\x80\x02}."),
            ("archive/data/0", bytes(200_000_000)),
            method=zipfile.ZIP_DEFLATED,
        ),
        "a link": _link,
        "65,000 entries": partial(_many, 65_000),
        "two archives deep": partial(_nested, 2),
        "twenty archives deep": partial(_nested, 20),
        "an archive in its comment": packed(("a", b"x"), comment=hostile[:60_000]),
        "two archives, one after the other": sound + hostile,
        "the same name twice": packed(
            ("archive/data.pkl", b"\x80\x02}."), ("archive/data.pkl", HOSTILE)
        ),
        "a program before it": b"\x7fELF" + DATA + hostile,
        "a page before it": b"<html><script>alert(1)</script>" + hostile,
        "a picture before it": b"GIF89a" + DATA + hostile,
        "a pickle before it": b"\x80\x02N." + hostile,
        "no entries": packed(),
        "cut in half": hostile[: len(hostile) // 2],
        "cut before its end": hostile[:-10],
        "nothing but its mark": LOCAL,
    }
    return cases


# --- Other things under the name of a model -------------------------------------------------


def _tar(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return stream.getvalue()


def _npy(header: bytes, data: bytes = DATA) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _objects() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _renamed() -> dict[str, bytes | Make]:
    return {
        "a tar": partial(_tar, "data.pkl"),
        "a tar that climbs out": partial(_tar, "../../etc/passwd"),
        "a tar with a link": partial(_tar, "data.pkl", tarfile.SYMTYPE),
        "gzip": gzip.compress(HOSTILE),
        "a bomb of gzip": lambda: gzip.compress(bytes(50_000_000)),
        "xz": lzma.compress(HOSTILE),
        "7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + DATA,
        "rar": b"Rar!\x1a\x07\x01\x00" + DATA,
        "bzip2": b"BZh91AY&SY" + DATA,
        "zstd": b"\x28\xb5\x2f\xfd" + DATA,
        "zlib": zlib.compress(HOSTILE),
        "GGUF": b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60) + DATA,
        "HDF5": b"\x89HDF\r\n\x1a\n" + DATA,
        "ONNX": b"\x08\x07\x12\x07pytorch" + DATA,
        "a program": b"\x7fELF\x02\x01\x01" + DATA,
        "a program for Windows": b"MZ\x90\x00" + DATA,
        "a script": b"#!/bin/sh\nrm -rf /\n",
        "a page": b"<!doctype html><script>alert(1)</script>",
        "a PDF": b"%PDF-1.7\n" + DATA,
        "a picture": b"\x89PNG\r\n\x1a\n" + DATA,
        "one byte": b"\x80",
        "a thousand zeros": bytes(1000),
        "a thousand bytes of 255": b"\xff" * 1000,
        "an array of objects": _objects,
        "an array whose header is a program": _npy(b"__import__('os').system('id')"),
        "an array of 2^60 numbers": _npy(
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }\n"
        ),
        "an array with a negative side": _npy(
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (-8,), }\n"
        ),
        "an array whose header is 10,000 deep": _npy(b"(" * 10_000 + b")" * 10_000),
    }
