"""What a file of weights is: an adapter, an embedding or a full model."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from triage.weights import checkpoints, families, sketches
from triage.weights.adapter import (
    Adapter,
    is_adapter,
    is_embedding,
    read_adapter,
    read_embedding,
)
from triage.weights.deltas import inner
from triage.weights.errors import WeightsError
from triage.weights.families import Family
from triage.weights.tensors import Tensors, open_tensors


class Kind(StrEnum):
    """What weights can be."""

    ADAPTER = "adapter"
    EMBEDDING = "embedding"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of weights. ``adapter`` is set for all but full models."""

    kind: Kind
    family: Family
    tensors: Tensors
    adapter: Adapter | None = None

    @property
    def is_null(self) -> bool:
        """Whether using the file changes nothing."""
        return self.adapter is not None and inner(self.adapter, self.adapter) == 0.0

    @property
    def layer_count(self) -> int:
        """How many layers or matrices can be compared."""
        if self.adapter is not None:
            return len(self.adapter.layers)
        return len(checkpoints.common_names(self.tensors))

    def sketch(self) -> sketches.Sketch:
        """Return the file's 2,048 numbers for finding relatives."""
        if self.adapter is not None:
            return sketches.sketch(self.adapter)
        return checkpoints.sketch(self.tensors)

    def remarks(self) -> tuple[str, ...]:
        """Say in sentences what is odd about the file."""
        remarks = []
        if self.is_null:
            remarks.append("The file changes nothing: all of its updates are exactly zero.")
        if self.adapter is not None and self.adapter.skipped:
            shown = ", ".join(self.adapter.skipped[:3])
            remarks.append(
                f"{len(self.adapter.skipped)} layers could not be compared, such as {shown}."
            )
        return tuple(remarks)


def read(path: Path) -> Weights:
    """Read what a file of weights is and, unless it is a full model, its values.

    Raises ``ContainerError`` when the file cannot be trusted or read, ``WeightsError`` when what
    it holds cannot be compared, ``OSError`` when it is not there.
    """
    tensors = open_tensors(path)
    if not tensors.shapes:
        raise WeightsError("weights.empty", "The file holds no tensors.")
    if is_embedding(tensors.shapes):
        adapter = read_embedding(tensors)
        return Weights(Kind.EMBEDDING, families.of_adapter(adapter), tensors, adapter)
    if is_adapter(tensors.shapes):
        adapter = read_adapter(tensors)
        return Weights(Kind.ADAPTER, families.of_adapter(adapter), tensors, adapter)
    return Weights(Kind.CHECKPOINT, families.of_checkpoint(tensors.shapes), tensors)
