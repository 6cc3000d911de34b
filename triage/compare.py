"""How two files of weights are related, and what a merge was made of.

For adapters and embeddings the *updates* are compared, whatever tool wrote them and however
they were scaled, rotated inside or saved. Full models are compared value by value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np

from triage.weights import checkpoints, deltas, merges
from triage.weights.adapter import Adapter
from triage.weights.errors import WeightsError
from triage.weights.families import Family
from triage.weights.fingerprints import fingerprints
from triage.weights.reading import Kind, Weights, read


class Relation(StrEnum):
    """What two models are to each other."""

    SAME = "same"
    DERIVED = "derived"
    UNRELATED = "unrelated"


# Measured on real LoRAs: 102 pairs of unrelated ones stay below 0.015, checkpoints of one
# training run reach 0.96, and noise of half of each factor's spread leaves 0.80.
_SAME: Final = 0.9
_DERIVED: Final = 0.1
# Embeddings have only a few vectors. Of 20 pairs of unrelated real ones the nearest reach 0.155;
# a second edition of an embedding reaches 0.48 with the first.
_DERIVED_EMBEDDING: Final = 0.3
# Full models that grew from one base are all nearly parallel. Rounding to bfloat16 moves a model
# by a relative 1.7e-3 or less, which is a cosine of 0.9999986; a fine-tune moves it farther.
_SAME_CHECKPOINT: Final = 0.99999
_DERIVED_CHECKPOINT: Final = 0.9


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two models are to each other, and why.

    ``cosine`` is that of the updates (of the values, for full models). ``layer_cosine`` is the
    sum of the layers' own cosines divided by the number of layers of the smaller model; one layer
    with huge values cannot move it. Both are ``None`` where one model changes nothing.
    ``layers`` counts the layers of the first, of the second and those in common.
    """

    relation: Relation
    kind: Kind
    cosine: float | None
    layer_cosine: float | None
    layers: tuple[int, int, int]
    identical_tensors: float
    families: tuple[Family, Family]
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A model as a weighted sum of others; see ``triage.weights.merges.Merge``."""

    coefficients: tuple[float, ...]
    unexplained: float
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able plain data."""
        return asdict(self)


def compare(a: Path, b: Path) -> Comparison:
    """Compare two files of weights.

    Raises ``ContainerError`` when a file cannot be trusted or read, ``WeightsError`` when what
    it holds cannot be compared, ``OSError`` when it is not there.
    """
    return compare_weights(read(a), read(b))


def compare_weights(a: Weights, b: Weights) -> Comparison:
    """Compare two files that have been read; see ``compare``."""
    families = (a.family, b.family)
    if a.kind is not b.kind:
        reason = f"One is an {a.kind}, the other an {b.kind}; they have nothing to compare."
        return Comparison(
            Relation.UNRELATED, a.kind, None, None, (0, 0, 0), 0.0, families, (reason,)
        )
    if a.adapter is not None and b.adapter is not None:
        layers, cosine, layer_cosine = _adapters(a.adapter, b.adapter)
    else:
        layers, cosine = _checkpoints(a, b)
        layer_cosine = cosine
    identical = identical_share(fingerprints(a.tensors), fingerprints(b.tensors))
    relation = relation_of(a.kind, cosine, layer_cosine)
    reasons = _reasons(a, b, relation, cosine, layers, identical)
    return Comparison(relation, a.kind, cosine, layer_cosine, layers, identical, families, reasons)


def relation_of(kind: Kind, cosine: float | None, layer_cosine: float | None) -> Relation:
    """Name the relation that these cosines stand for."""
    if cosine is None or layer_cosine is None:
        return Relation.UNRELATED
    if cosine >= (_SAME_CHECKPOINT if kind is Kind.CHECKPOINT else _SAME):
        return Relation.SAME
    derived = {Kind.CHECKPOINT: _DERIVED_CHECKPOINT, Kind.EMBEDDING: _DERIVED_EMBEDDING}
    # A large negative cosine is a model subtracted, which takes having had it.
    if max(abs(cosine), abs(layer_cosine)) >= derived.get(kind, _DERIVED):
        return Relation.DERIVED
    return Relation.UNRELATED


def identical_share(a: Sequence[str], b: Sequence[str]) -> float:
    """Return which share of the fingerprints of the smaller file the other one has too."""
    return len(set(a) & set(b)) / max(1, min(len(set(a)), len(set(b))))


def explain_merge(model: Path, parts: Sequence[Path]) -> Explanation:
    """Say which share of each of ``parts`` a model holds, and how much of it is none of theirs.

    The coefficients are those of the updates: a merge of 0.6 of one LoRA and 0.4 of another
    gives 0.6 and 0.4. Raises what ``compare`` raises, and ``WeightsError`` when the model
    changes nothing or the files are of different kinds.
    """
    return explain_weights(read(model), [(path.name, read(path)) for path in parts])


def explain_weights(model: Weights, parts: Sequence[tuple[str, Weights]]) -> Explanation:
    """Explain a merge of files that have been read, named for people; see ``explain_merge``."""
    everything = [model, *(weights for _, weights in parts)]
    kinds = {weights.kind for weights in everything}
    if len(kinds) > 1:
        raise WeightsError(
            "weights.kinds",
            f"A merge and its parts are of one kind; these are {', '.join(sorted(kinds))}.",
        )
    adapters = [weights.adapter for weights in everything if weights.adapter is not None]
    products = (
        deltas.gram(adapters)
        if adapters
        else checkpoints.gram([weights.tensors for weights in everything])
    )
    merge = merges.explain(products)
    shares = ", ".join(
        f"{coefficient:.3f} of {name}"
        for coefficient, (name, _) in zip(merge.coefficients, parts, strict=True)
    )
    reason = f"The model is {shares}; {merge.unexplained:.2%} of its energy is in none of them."
    remarks = [remark for weights in everything for remark in weights.remarks()]
    return Explanation(merge.coefficients, merge.unexplained, (reason, *remarks))


def _adapters(a: Adapter, b: Adapter) -> tuple[tuple[int, int, int], float | None, float | None]:
    energy_a, energy_b = deltas.inner_by_layer(a, a), deltas.inner_by_layer(b, b)
    common = deltas.inner_by_layer(a, b)
    layers = (len(a.layers), len(b.layers), len(common))
    total = np.sqrt(sum(energy_a.values()) * sum(energy_b.values()))
    if total == 0.0:
        return layers, None, None
    by_layer = [
        product / np.sqrt(energy_a[name] * energy_b[name])
        for name, product in common.items()
        if energy_a[name] > 0.0 and energy_b[name] > 0.0
    ]
    counted = min(_nonzero(energy_a), _nonzero(energy_b))
    return layers, _bounded(sum(common.values()) / total), _bounded(sum(by_layer) / counted)


def _checkpoints(a: Weights, b: Weights) -> tuple[tuple[int, int, int], float | None]:
    products = checkpoints.gram([a.tensors, b.tensors])
    names_a, names_b = (checkpoints.common_names(weights.tensors) for weights in (a, b))
    layers = (len(names_a), len(names_b), len(names_a & names_b))
    total = np.sqrt(products[0, 0] * products[1, 1])
    return layers, None if total == 0.0 else _bounded(products[0, 1] / total)


def _nonzero(energies: Mapping[str, float]) -> int:
    return sum(energy > 0.0 for energy in energies.values())


def _bounded(cosine: float) -> float:
    return float(min(1.0, max(-1.0, cosine)))


def _reasons(
    a: Weights,
    b: Weights,
    relation: Relation,
    cosine: float | None,
    layers: tuple[int, int, int],
    identical: float,
) -> tuple[str, ...]:
    what = "values" if a.kind is Kind.CHECKPOINT else "updates"
    reasons = []
    if cosine is not None:
        reasons.append(
            f"The cosine of their {what} is {cosine:.4f} over {layers[2]} layers in common, which"
            f" stands for {relation}."
        )
    if layers[2] == 0:
        reasons.append("They have no layer in common.")
    if identical > 0.0:
        reasons.append(f"{identical:.0%} of the smaller one's tensors are exactly equal.")
    if a.family is not b.family:
        reasons.append(f"They are made for different base models: {a.family} and {b.family}.")
    if relation is Relation.DERIVED and a.kind is Kind.CHECKPOINT:
        reasons.append("Full models that grew from one base are all this close.")
    return (*reasons, *a.remarks(), *b.remarks())
