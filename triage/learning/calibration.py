"""Turns the score of a head into a probability.

Platt's scaling (Platt 1999) needs few labels; isotonic regression bends to any shape and needs
many (Niculescu-Mizil and Caruana 2005, who find it better from about 1,000).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ISOTONIC_FROM = 1000
# A head may turn out to rank no better than chance, never the wrong way round.
_LOWEST_SLOPE = 1e-3


@dataclass(frozen=True, slots=True)
class Platt:
    """Probability = sigmoid(slope * logit + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, logits: Floats) -> Floats:
        """Return probabilities of the shape of ``logits``."""
        return sigmoid(self.slope * logits + self.offset)

    def as_dict(self) -> dict[str, Any]:
        return {"method": "platt", **asdict(self)}


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A rising line through points, flat beyond both ends."""

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, logits: Floats) -> Floats:
        """Return probabilities of the shape of ``logits``."""
        found: Floats = np.interp(logits, self.logits, self.probabilities)
        return found

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": "isotonic",
            "logits": list(self.logits),
            "probabilities": list(self.probabilities),
        }


Calibration = Platt | Isotonic


def calibration_from(data: Mapping[str, Any]) -> Calibration:
    """Return what ``as_dict`` wrote."""
    if data["method"] == "isotonic":
        return Isotonic(tuple(data["logits"]), tuple(data["probabilities"]))
    return Platt(data["slope"], data["offset"])


def fit_calibration(logits: Floats, verdicts: NDArray[np.bool_], *, isotonic: bool) -> Calibration:
    """Return the calibration of held-out scores, ``isotonic`` or Platt's; both (n,).

    ``logits`` must come from a head that has not seen these verdicts.
    """
    return _fit_isotonic(logits, verdicts) if isotonic else _fit_platt(logits, verdicts)


def sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-values)) without overflow."""
    result: Floats = 0.5 * (1.0 + np.tanh(0.5 * values))
    return result


def _fit_platt(logits: Floats, verdicts: NDArray[np.bool_]) -> Platt:
    from scipy.optimize import minimize

    positives = int(verdicts.sum())
    negatives = len(verdicts) - positives
    # Platt's targets: a few labels never justify a forecast of 0 or 1.
    targets = np.where(verdicts, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # Fitted on scores of unit spread, so that one starting point and one tolerance suit all.
    spread = float(logits.std()) or 1.0
    centre = float(logits.mean())
    scaled = (logits - centre) / spread

    def loss(line: Floats) -> tuple[float, Floats]:
        values = line[0] * scaled + line[1]
        wrong = sigmoid(values) - targets
        return (
            float((np.logaddexp(0, values) - targets * values).sum()),
            np.array([wrong @ scaled, wrong.sum()]),
        )

    found = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B",
        bounds=[(_LOWEST_SLOPE, None), (None, None)],
    )  # fmt: skip
    slope = float(found.x[0]) / spread
    return Platt(slope, float(found.x[1]) - slope * centre)


def _fit_isotonic(logits: Floats, verdicts: NDArray[np.bool_]) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (len(verdicts) + 2)  # Laplace: n agreeing labels leave room for another
    found = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    found.fit(logits, verdicts.astype(np.float64))
    return Isotonic(
        tuple(float(value) for value in found.X_thresholds_),
        tuple(float(value) for value in found.y_thresholds_),
    )
