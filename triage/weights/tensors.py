"""A file's tensors, one at a time, whichever of the two containers holds them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from triage.containers import safetensors, torch_tensors
from triage.containers.sniff import Format, sniff

Array = NDArray[np.generic]
Shape = tuple[int, ...]


class Tensors(Protocol):
    """A file's tensors: their shapes by name, and their values when asked for."""

    shapes: Mapping[str, Shape]

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Array]]:
        """Yield ``(name, array)`` for each name. Raises ``ContainerError`` for damage."""
        ...


class SafetensorsFile:
    """The tensors of a safetensors file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._infos = safetensors.read_header(path).tensors
        self.shapes: Mapping[str, Shape] = {n: info.shape for n, info in self._infos.items()}

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Array]]:
        """Yield ``(name, array)`` for each name."""
        for name in names:
            yield name, safetensors.read_tensor(self._path, self._infos[name])


class TorchFile:
    """The tensors of a PyTorch checkpoint, read without unpickling."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = torch_tensors.read_index(path)
        tensors = self._index.tensors
        self.shapes: Mapping[str, Shape] = {n: tensor.shape for n, tensor in tensors.items()}

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Array]]:
        """Yield ``(name, array)`` for each name."""
        return torch_tensors.read_tensors(self._path, self._index, names)


def open_tensors(path: Path) -> Tensors:
    """Open a file of weights by what it begins with; its name is the uploader's and says nothing.

    Raises ``ContainerError`` when it is neither safetensors nor a checkpoint of plain tensors,
    and ``OSError`` when it cannot be read.
    """
    with path.open("rb") as file:
        form = sniff(file)
    return TorchFile(path) if form in (Format.ZIP, Format.PICKLE) else SafetensorsFile(path)
