"""The fuzz targets over a bounded, repeatable corpus, for machines without Atheris."""

import io
import json
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from safetensors.numpy import save

from tests.fuzz import targets

ROUNDS = 400


def zipped(method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": [1]}, 2))
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.arange(4))
    return stream.getvalue()


HEADER = json.dumps({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}).encode()
SEEDS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "safetensors": (
        targets.safetensors_header,
        [
            save({"a": np.zeros((2, 2), np.float16), "b": np.zeros(1)}, {"k": "v"}),
            struct.pack("<Q", len(HEADER)) + HEADER + b"ab",
        ],
    ),
    "pickle": (
        targets.pickle,
        [pickle.dumps({"a": [1, 2.5, "x", None]}, protocol) for protocol in range(6)]
        + [pickle.dumps(OrderedDict(a=np.arange(3)), protocol) for protocol in (0, 2, 4)],
    ),
    "zip": (targets.zip_archive, [zipped(0), zipped(8), arrays()]),
}


def mutations(seeds: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Yield the seeds, and seeds with bytes changed, cut out, doubled and swapped."""
    yield from seeds
    for _ in range(ROUNDS):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(data) + 1)
            end = min(len(data), start + chance.randint(1, 8))
            match chance.randrange(4):
                case 0:
                    data[start:end] = chance.randbytes(end - start)
                case 1:
                    del data[start:end]
                case 2:
                    data[start:start] = data[start:end]
                case _:
                    data[start:end] = chance.choice([b"\0", b"\xff", b"{", b".", b"0"]) * (
                        end - start
                    )
        yield bytes(data)


@pytest.mark.parametrize("name", SEEDS)
def test_the_reader_holds_its_promise_for_mutated_files(name: str) -> None:
    target, seeds = SEEDS[name]
    for data in mutations(seeds, random.Random(name)):
        target(data)
