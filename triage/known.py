"""What an upload is compared with: models seen before, and banks of prohibited material.

Plain data, handed to the lineage and banks probes from outside, so that they know no database.
``KnownCollection`` holds it all in memory; anything else that has the methods of ``Known`` will
do as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from triage import perceptual
from triage.weights.sketches import SIZE, Sketch, unpack, unpack_all

EntryKind = Literal["sha256", "data_sha256", "pdq"]

# Rows widened to single precision at a time, 16 MB.
_ROWS: Final = 2048


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A file of weights seen before.

    ``version`` is the key of the model version it belongs to, as in ``Sample.key``. ``rule`` is
    the slug of the rule it was removed under. ``sketch`` are the 4,096 bytes that
    ``triage.weights.sketches.pack`` makes. ``path`` is ``None`` where the file is gone, which a
    removed one often is; then only the sketch speaks for it.
    """

    key: str
    version: str
    title: str
    creator: str
    state: Literal["removed", "published"]
    sketch: bytes
    rule: str = ""
    path: Path | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BankEntry:
    """One item of a bank of prohibited material: a digest or a PDQ hash, in hexadecimal.

    ``data_sha256`` is the digest of what follows a safetensors header, which stays the same when
    only the metadata is changed.
    """

    kind: EntryKind
    value: str
    bank: str
    rule: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A known model, and the cosine of its sketch with the one that was asked about."""

    model: KnownModel
    cosine: float


@dataclass(frozen=True, slots=True)
class BankMatch:
    """A bank's entry, and how many bits the value that was asked about is away from it."""

    entry: BankEntry
    distance: int = 0


class Known(Protocol):
    """What is known."""

    def model_count(self) -> int:
        """Return how many files of weights are known."""
        ...

    def entry_count(self, kind: EntryKind) -> int:
        """Return how many entries of this kind the banks hold."""
        ...

    def nearest(self, sketch: Sketch, limit: int) -> Sequence[Neighbour]:
        """Return the models nearest to a sketch, the nearest first, up to ``limit`` of each state.

        Of each state, so that a removed model is not crowded out by many published ones.
        """
        ...

    def match(self, kind: EntryKind, value: str) -> Sequence[BankMatch]:
        """Return the entries that a digest equals or a PDQ hash is near to, nearest first."""
        ...


class KnownCollection:
    """Known models and bank entries in memory.

    Sketches are kept with 8 bits a number, 2 KB a model, for the search through all of them; the
    nearest are then ranked by their stored half precision.
    """

    def __init__(
        self,
        models: Sequence[KnownModel] = (),
        entries: Sequence[BankEntry] = (),
        *,
        pdq_distance: int = perceptual.MATCH_DISTANCE,
    ) -> None:
        self._models = tuple(models)
        self._rows = np.empty((len(self._models), SIZE), dtype=np.int8)
        self._scales = np.empty(len(self._models), dtype=np.float32)
        for begin in range(0, len(self._models), _ROWS):
            block = self._models[begin : begin + _ROWS]
            values = unpack_all([model.sketch for model in block])
            scales = np.abs(values).max(axis=1, keepdims=True) / 127
            scales[scales == 0.0] = 1.0
            self._rows[begin : begin + _ROWS] = np.rint(values / scales)
            self._scales[begin : begin + _ROWS] = scales[:, 0]
        self._removed = np.array([model.state == "removed" for model in self._models], dtype=bool)
        self._digests: dict[tuple[EntryKind, str], list[BankEntry]] = {}
        self._pictures: list[BankEntry] = []
        for entry in entries:
            if entry.kind == "pdq":
                self._pictures.append(entry)
            else:
                self._digests.setdefault((entry.kind, entry.value.lower()), []).append(entry)
        self._hashes = perceptual.pack([bytes.fromhex(entry.value) for entry in self._pictures])
        self._pdq_distance = pdq_distance
        self._counts = {
            kind: sum(entry.kind == kind for entry in entries)
            for kind in ("sha256", "data_sha256", "pdq")
        }

    def model_count(self) -> int:
        """Return how many files of weights are known."""
        return len(self._models)

    def entry_count(self, kind: EntryKind) -> int:
        """Return how many entries of this kind the banks hold."""
        return self._counts[kind]

    def nearest(self, sketch: Sketch, limit: int) -> Sequence[Neighbour]:
        """Return the models nearest to a sketch, up to ``limit`` of each state, nearest first."""
        if not self._models or limit < 1 or not sketch.any():
            return ()
        rough = self._rough_cosines(sketch)
        neighbours: list[Neighbour] = []
        for rows in (self._removed, ~self._removed):
            of_state = np.flatnonzero(rows)
            # Eight bits cost a cosine up to 0.001; a few more than asked for make up for that.
            order = np.argsort(-rough[of_state], kind="stable")[: 2 * limit]
            exact = [
                Neighbour(self._models[index], float(unpack(self._models[index].sketch) @ sketch))
                for index in of_state[order]
            ]
            neighbours += sorted(exact, key=_cosine, reverse=True)[:limit]
        return sorted(neighbours, key=_cosine, reverse=True)

    def match(self, kind: EntryKind, value: str) -> Sequence[BankMatch]:
        """Return the entries that a digest equals or a PDQ hash is near to, nearest first."""
        if kind != "pdq":
            return [BankMatch(entry) for entry in self._digests.get((kind, value.lower()), ())]
        away = perceptual.distances(bytes.fromhex(value), self._hashes)
        matches = [
            BankMatch(self._pictures[index], int(away[index]))
            for index in np.flatnonzero(away <= self._pdq_distance)
        ]
        return sorted(matches, key=lambda match: match.distance)

    def _rough_cosines(self, sketch: Sketch) -> NDArray[np.float32]:
        cosines = np.empty(len(self._rows), dtype=np.float32)
        for begin in range(0, len(self._rows), _ROWS):
            block = self._rows[begin : begin + _ROWS].astype(np.float32)
            # Row by row and not as one product: BLAS would start threads for that, which take
            # five times as long when other workers are busy on the same cores.
            cosines[begin : begin + _ROWS] = np.vecdot(block, sketch)
        return cosines * self._scales


def _cosine(neighbour: Neighbour) -> float:
    return neighbour.cosine
