"""What the lineage of a file is judged by, as plain data that crosses a process border.

These functions read strangers' files and are meant to run in ``triage.sandbox``: paths go in as
text, JSON-able data comes out, and what is wrong with a file is part of the answer.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from triage.compare import (
    Relation,
    compare,
    compare_weights,
    explain_merge,
    explain_weights,
)
from triage.containers.errors import ContainerError
from triage.weights import sketches
from triage.weights.errors import WeightsError
from triage.weights.fingerprints import fingerprints
from triage.weights.reading import Weights, read

Answer = dict[str, Any]


def describe(path: str) -> Answer:
    """Return kind, base family, sketch (base64), digests and remarks of a file of weights.

    A file that cannot be read or compared gives ``{"error": {"code", "sentence"}}``.
    """
    return _answer(lambda: _description(read(Path(path))))


def compare_with(path: str, others: Mapping[str, str]) -> Answer:
    """Compare a file with others, given as ``{key: path}``.

    Returns ``{"comparisons": {key: comparison or error}}`` and, where the file is related to two
    or more of them, ``"merge"``: their keys with the coefficient of each and the unexplained rest.
    """

    def compare_all() -> Answer:
        model = read(Path(path))
        comparisons: dict[str, Answer] = {}
        related: list[tuple[str, Weights]] = []
        for key, other in others.items():
            comparisons[key] = _answer(partial(_comparison, model, other))
            if comparisons[key].get("relation") in (Relation.SAME, Relation.DERIVED):
                related.append((key, read(Path(other))))
        answer: Answer = {"comparisons": comparisons}
        if len(related) > 1:
            answer["merge"] = _answer(lambda: _merge(model, related))
        return answer

    return _answer(compare_all)


def compare_files(a: str, b: str) -> Answer:
    """Compare two files; a file that cannot be read or compared gives an error as above."""
    return _answer(lambda: compare(Path(a), Path(b)).as_dict())


def explain_file(model: str, parts: Sequence[str]) -> Answer:
    """Say what a merge is made of; a file that cannot be read gives an error as above."""
    return _answer(lambda: explain_merge(Path(model), [Path(part) for part in parts]).as_dict())


def _description(weights: Weights) -> Answer:
    return {
        "kind": weights.kind,
        "family": weights.family,
        "layers": weights.layer_count,
        "is_null": weights.is_null,
        "remarks": list(weights.remarks()),
        "sketch": base64.b64encode(sketches.pack(weights.sketch())).decode(),
        "digests": list(fingerprints(weights.tensors)),
    }


def _comparison(model: Weights, other: str) -> Answer:
    return compare_weights(model, read(Path(other))).as_dict()


def _merge(model: Weights, related: list[tuple[str, Weights]]) -> Answer:
    explanation = explain_weights(model, related)
    keys = [key for key, _ in related]
    return {
        "coefficients": dict(zip(keys, explanation.coefficients, strict=True)),
        "unexplained": explanation.unexplained,
    }


def _answer(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except (ContainerError, WeightsError) as error:
        return {"error": {"code": error.code, "sentence": error.sentence}}
    except OSError as error:
        return {"error": {"code": "weights.gone", "sentence": f"The file cannot be read: {error}"}}
