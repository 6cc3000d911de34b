"""A review threshold with a stated miss rate: conformal risk control.

The loss of a picture that shows the concept is 1 if it scores below the threshold. For n held-out
positives, exchangeable with those to come, the threshold at their k-th smallest score misses at
most k / (n + 1) of the next ones on average; the largest k with k / (n + 1) <= alpha is taken
(Angelopoulos et al. 2022, "Conformal Risk Control", equation 4, with B = 1).
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# 0.05 * 20 must count as 1 although binary fractions may put it a hair below.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Threshold:
    """The probability from which pictures go to people. ``value`` itself is reviewed too."""

    value: float
    alpha: float
    n: int  # held-out positives that were given
    needed: int
    guaranteed: bool
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Return the threshold as JSON values."""
        return asdict(self)


def positives_needed(alpha: float) -> int:
    """Return how many held-out positives a miss rate of ``alpha`` takes: ceil(1/alpha - 1)."""
    _check_alpha(alpha)
    return max(1, math.ceil(1 / alpha - 1 - _ROUNDING))


def review_threshold(scores: ArrayLike, alpha: float, *, default: float) -> Threshold:
    """Return the highest threshold that misses at most ``alpha`` of the positives, on average.

    ``scores`` are calibrated probabilities, shape (n,), of pictures that people found to show the
    concept and that the head has not learnt from. With too few of them ``default``, the policy's
    own threshold, is kept and the sentence says so. Raises ``ValueError`` for an alpha outside
    0..1 and for scores that are not finite.
    """
    needed = positives_needed(alpha)
    ranked = np.sort(np.asarray(scores, dtype=np.float64).reshape(-1))
    if not np.isfinite(ranked).all():
        raise ValueError("A score is not a finite number; score these pictures again.")
    n = len(ranked)
    if n < needed:
        return Threshold(
            default,
            alpha,
            n,
            needed,
            False,
            f"No guarantee yet: a miss rate of {alpha:.3g} takes {needed} pictures that people "
            f"found to show this, and there {'is' if n == 1 else 'are'} {n}. The threshold of the "
            f"policy, {default:.2f}, is kept.",
        )
    place = math.floor(alpha * (n + 1) + _ROUNDING)
    value = float(ranked[place - 1])
    return Threshold(
        value,
        alpha,
        n,
        needed,
        True,
        f"On average at most {alpha:.1%} of the pictures that show this are missed, as long as "
        f"new ones resemble the {n} that people found so far. Everything from {value:.3f} up goes "
        "to people.",
    )


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"A miss rate lies between 0 and 1, not {alpha}.")
