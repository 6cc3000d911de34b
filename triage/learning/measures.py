"""How good scores are: ranking, probabilities, and what a share of review work finds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Truth = NDArray[np.bool_]

LOADS = (0.01, 0.05, 0.1)  # shares of all pictures that people look at
_BINS = 10
# A forecast of exactly 0 or 1 that is wrong once would cost infinitely much.
_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One bin of a reliability curve: what was forecast and what was seen, 0..1."""

    forecast: float
    observed: float
    pictures: int


def area_under_roc(scores: Floats, truth: Truth) -> float | None:
    """Return the area under the ROC curve, or None where one of the two classes is missing."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores)) if _both(truth) else None


def average_precision(scores: Floats, truth: Truth) -> float | None:
    """Return the average precision, or None where there are no positives."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, scores)) if truth.any() else None


def log_loss(probabilities: Floats, truth: Truth) -> float:
    """Return the mean negative log-likelihood of the truth, in nats."""
    clipped = probabilities.astype(np.float64).clip(_EDGE, 1 - _EDGE)
    return float(-np.log(np.where(truth, clipped, 1 - clipped)).mean())


def recall_at_load(scores: Floats, truth: Truth, load: float) -> float | None:
    """Return the share of positives among the best-scored ``load`` of all pictures.

    The number of pictures is rounded up. Where equal scores straddle the cut, the value is what
    a random order among them gives on average. None where there are no positives.
    """
    if not truth.any():
        return None
    places = pictures_at_load(len(scores), load)
    cut = np.sort(scores)[-places]
    above, level = scores > cut, scores == cut
    share = (places - above.sum()) / level.sum()
    return float((truth[above].sum() + share * truth[level].sum()) / truth.sum())


def pictures_at_load(pictures: int, load: float) -> int:
    """Return how many of so many pictures a share in 0..1 is, rounded up, at least one."""
    # Rounded first: 0.07 * 100 is 7.000000000000001 in binary.
    return min(pictures, max(1, int(np.ceil(round(load * pictures, 9)))))


def reliability_curve(probabilities: Floats, truth: Truth) -> tuple[CurvePoint, ...]:
    """Return the mean forecast and the observed share in each of ten equal bins, empty ones out."""
    bins = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    return tuple(
        CurvePoint(
            float(probabilities[bins == number].mean()),
            float(truth[bins == number].mean()),
            int((bins == number).sum()),
        )
        for number in np.unique(bins)
    )


def calibration_error(curve: tuple[CurvePoint, ...]) -> float:
    """Return the expected calibration error, 0..1 (Naeini et al. 2015; Guo et al. 2017)."""
    total = sum(point.pictures for point in curve)
    return sum(point.pictures * abs(point.forecast - point.observed) for point in curve) / total


def _both(truth: Truth) -> bool:
    return bool(truth.any() and not truth.all())
