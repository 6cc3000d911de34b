"""A house in miniature: uploads arrive, workers weigh them, a share goes to people.

A queue simulation, arithmetic only. All times are in seconds. Each line of work is served first
come, first served, by whoever is free first; of such a line every start follows from the moments
at which its servers get free, so that no clock has to tick (J. Kiefer and J. Wolfowitz, "On the
theory of queues with many servers", Transactions of the AMS 78, 1955).
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY = 24 * 60 * 60.0
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Durations:
    """How long one piece of work takes: a mean, or what was measured, to draw from.

    Around a mean, times vary exponentially, as in the textbooks' M/M/c: nothing is known about
    them but the mean, and this is what such work is most often found to do at its worst.
    """

    mean: float
    measured: tuple[float, ...] = ()

    @classmethod
    def drawn_from(cls, measured: Sequence[float]) -> "Durations":
        """Return durations that are drawn from what was measured (at least one)."""
        return cls(sum(measured) / len(measured), tuple(measured))

    def draw(self, count: int, random: np.random.Generator) -> Times:
        """Return so many times."""
        if self.measured:
            return random.choice(np.array(self.measured), count)
        return random.exponential(self.mean, count)


@dataclass(frozen=True)
class Served:
    """What became of one line of work: for each piece when it came, began and ended."""

    servers: int
    came: Times
    began: Times
    ended: Times

    @property
    def waits(self) -> Times:
        """How long each piece waited to be begun."""
        return self.began - self.came

    def utilisation(self, until: float) -> float:
        """Return the share of the servers' time before ``until`` in which they worked."""
        worked = np.clip(self.ended, None, until) - np.clip(self.began, None, until)
        return float(worked.sum()) / (self.servers * until) if until > 0 else 0.0

    def longest_backlog(self) -> int:
        """Return the most pieces that waited at once."""
        if not len(self.came):
            return 0
        begun_before = np.searchsorted(np.sort(self.began), self.came, side="right")
        return int((np.arange(1, len(self.came) + 1) - begun_before).max())

    def backlog(self, at: float) -> int:
        """Return how many pieces had come and were not begun at a moment."""
        return int(((self.came <= at) & (self.began > at)).sum())


@dataclass(frozen=True)
class House:
    """What a simulated house has to do, and who does it.

    With ``preview_workers`` the previews have workers of their own (a card); else the same workers
    serve both. ``overhead`` is what a worker does for each job beside weighing.
    """

    files: Durations
    previews: Durations
    handling: Durations
    workers: int
    moderators: int
    review_share: float
    preview_workers: int = 0
    overhead: float = 0.0


@dataclass(frozen=True)
class Course:
    """What happened in a simulated house until ``until``, the moment of the last look."""

    until: float
    came: Times
    lines: dict[str, Served]
    weighed: Times
    decided: Times


def arrive(
    per_day: float, days: float, random: np.random.Generator, measured: Sequence[float] = ()
) -> Times:
    """Return the moments at which uploads arrive in so many days, in order.

    At random and independently at a constant rate (a Poisson process), or as on one measured day,
    each day anew: ``measured`` holds moments from its beginning.
    """
    if measured:
        day = np.sort(np.array(measured, dtype=float))
        moments = np.concatenate([day + DAY * number for number in range(math.ceil(days))])
        return moments[moments <= DAY * days]
    count = random.poisson(per_day * days)
    return np.sort(random.uniform(0, DAY * days, count))


def serve(came: Times, takes: Times, servers: int) -> Served:
    """Serve what came, in order, each piece by the server who is free first."""
    free = [0.0] * servers
    began = np.empty(len(came))
    for number, (moment, seconds) in enumerate(zip(came.tolist(), takes.tolist(), strict=True)):
        start = free[0] if free[0] > moment else moment
        began[number] = start
        heapq.heapreplace(free, start + seconds)
    return Served(servers, came, began, began + takes)


def run(house: House, came: Times, until: float, random: np.random.Generator) -> Course:
    """Let the uploads that came go through the house."""
    count = len(came)
    files = house.files.draw(count, random) + house.overhead
    previews = house.previews.draw(count, random) + house.overhead
    lines: dict[str, Served] = {}
    if house.preview_workers:
        lines["files"] = serve(came, files, house.workers)
        lines["previews"] = serve(came, previews, house.preview_workers)
        weighed = np.maximum(lines["files"].ended, lines["previews"].ended)
    else:
        both = np.stack([files, previews], axis=1).ravel()
        lines["workers"] = serve(np.repeat(came, 2), both, house.workers)
        weighed = lines["workers"].ended.reshape(count, 2).max(axis=1)
    # Who goes to a person is drawn before the order of the ends is known, so that more workers
    # change when a case comes and never which.
    for_a_person = random.random(count) < house.review_share
    cases = np.sort(weighed[for_a_person])
    handling = house.handling.draw(len(cases), random)
    lines["moderators"] = serve(cases, handling, house.moderators)
    return Course(until, came, lines, weighed, lines["moderators"].ended)


def needed(came: Times, takes: Times, until: float, wanted: float) -> int:
    """Return the fewest servers with whom 95 % of the pieces wait at most ``wanted`` seconds.

    The same pieces with the same times for every number, so that only the number differs.
    """

    def enough(servers: int) -> bool:
        return percentile(serve(came, takes, servers).waits, 95) <= wanted

    low = 0
    high = max(1, math.ceil(float(takes.sum()) / until)) if until > 0 else 1
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def percentile(values: Times, share: float) -> float:
    """Return a percentile of times, 0 where there are none."""
    return float(np.percentile(values, share)) if len(values) else 0.0
