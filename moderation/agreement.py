"""How far two people agree beyond chance. Arithmetic only."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

# With fewer pairs the interval spans most of the scale, and the figure is an anecdote.
FEWEST_PAIRS = 10
# The quantile of the normal distribution for an interval of 95 %.
_Z = 1.96
_Rating = TypeVar("_Rating", str, bool)


@dataclass(frozen=True)
class Agreement:
    """What pairs of ratings say. ``kappa`` and its interval are None where they say nothing.

    ``share`` is the plain share of equal ratings, 0 to 1.
    """

    pairs: int
    share: float
    kappa: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def is_too_few(self) -> bool:
        """Whether there are fewer pairs than a figure can be given for."""
        return self.pairs < FEWEST_PAIRS


def agreement(pairs: Sequence[tuple[_Rating, _Rating]]) -> Agreement:
    """Return Cohen's kappa of pairs of ratings, with the 95 % interval of its standard error.

    κ = (p_o - p_e) / (1 - p_e) and s = √(p_o (1 - p_o) / (n (1 - p_e)²)), where p_o is the
    observed share of equal ratings and p_e the one expected of two people who rate as often as
    these without looking (J. Cohen, "A Coefficient of Agreement for Nominal Scales", Educational
    and Psychological Measurement 20(1), 1960). Undefined where both always say the same one
    thing; not given below ``FEWEST_PAIRS``.
    """
    if not pairs:
        return Agreement(0, 0.0)
    number = len(pairs)
    observed = sum(first == second for first, second in pairs) / number
    firsts, seconds = (Counter(ratings) for ratings in zip(*pairs, strict=True))
    expected = sum(firsts[rating] * seconds[rating] for rating in firsts) / number**2
    if number < FEWEST_PAIRS or expected == 1:
        return Agreement(number, observed)
    kappa = (observed - expected) / (1 - expected)
    error = math.sqrt(observed * (1 - observed) / (number * (1 - expected) ** 2))
    return Agreement(
        number, observed, kappa, max(kappa - _Z * error, -1.0), min(kappa + _Z * error, 1.0)
    )
