"""Which share of each of several models a merge holds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triage.weights.errors import WeightsError


@dataclass(frozen=True, slots=True)
class Merge:
    """A model as a sum of others: a coefficient for each, and the share they leave unexplained.

    ``unexplained`` is the part of the model's squared length, 0..1, that no combination of the
    others has: what is new in it.
    """

    coefficients: tuple[float, ...]
    unexplained: float


def explain(products: NDArray[np.float64]) -> Merge:
    """Fit the first of N models by the others with least squares.

    ``products`` holds the inner products of all N, shape ``(N, N)``. Raises ``WeightsError``
    when the first one changes nothing, since nothing is left to explain.
    """
    energy, towards, among = float(products[0, 0]), products[1:, 0], products[1:, 1:]
    if energy <= 0.0:
        raise WeightsError(
            "weights.null", "The model changes nothing; there is nothing to explain."
        )
    # Normal equations; least squares once more, for parts that are multiples of each other.
    coefficients = np.linalg.lstsq(among, towards, rcond=None)[0]
    explained = 2 * coefficients @ towards - coefficients @ among @ coefficients
    unexplained = min(1.0, max(0.0, 1.0 - float(explained) / energy))
    return Merge(tuple(float(value) for value in coefficients), unexplained)
