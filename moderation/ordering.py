"""The order of the queue: harm × probability × reach, and the clock. Arithmetic only.

Every waiting case moves forward equally fast, so who stands before whom changes only when a case
is weighed again. That is why the order can be a stored moment (``turn_at``) with an index on it,
though the clock runs: a greater risk brings the moment forward, and nothing waits forever.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

# A risk twice as great is worth a day on the clock: a case of the greatest harm, certain and
# public (5 × 1 × 2), stands some three days before one of the least at the same deadline.
HEAD_START = timedelta(hours=24)
# Below this the risk no longer counts for less, so that nothing is put off for more than 2 days.
LEAST_RISK = 0.25
# Where a probe failed nobody knows; a report by a stranger is borne out about as often as not.
UNKNOWN = 0.5


@dataclass(frozen=True, slots=True)
class Weight:
    """What the place of a case was computed from.

    ``harm`` is 1 to 5, ``probability`` 0 to 1, ``reach`` 1 while nobody can get the model and 2
    once it is public. ``rule`` is the title of the rule that weighs most; ``score`` and
    ``reports`` are the witnesses for it: the highest score of a probe, and how many people.
    """

    harm: int
    probability: float
    reach: float
    rule: str = ""
    score: float | None = None
    reports: int = 0

    @property
    def risk(self) -> float:
        """Return the product, 0 to 10."""
        return self.harm * self.probability * self.reach

    def as_data(self) -> dict[str, Any]:
        """Return plain data to store with the case."""
        return asdict(self)


def together(probabilities: Iterable[float]) -> float:
    """Return how probable it is that at least one of several independent witnesses is right.

    It nears 1 and never passes it, so a flood of reports cannot outweigh harm.
    """
    none = 1.0
    for probability in probabilities:
        none *= 1 - min(max(probability, 0.0), 1.0)
    return 1 - none


def head_start(risk: float) -> timedelta:
    """Return how much earlier than its deadline a case counts; negative for a small risk."""
    return HEAD_START * math.log2(max(risk, LEAST_RISK))


def turn_of(*, due_at: datetime, risk: float) -> datetime:
    """Return the moment that a case is ordered by, the earliest first."""
    return due_at - head_start(risk)


def share_used(*, start: datetime, due_at: datetime, now: datetime) -> int:
    """Return how much of the time is used, 0 to 100 %."""
    length = (due_at - start).total_seconds()
    used = 100 * (now - start).total_seconds() / length if length > 0 else 100
    return round(max(0, min(used, 100)))
