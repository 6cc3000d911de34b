"""The blind audit: a share of what passes is shown to people, to learn what is really missed."""

from dataclasses import asdict, dataclass
from typing import Any

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class MissRate:
    """The estimated share of all positives that pass, with a 95 % interval, 0..1.

    ``rate`` is None where nothing can be said yet; the interval is then 0..1.
    """

    rate: float | None
    low: float
    high: float
    sampled: int
    found: int
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        return asdict(self)


def miss_rate_estimate(sampled: int, found: int, passed: int, flagged_positives: int) -> MissRate:
    """Return which share of all positives passes unseen.

    Of ``passed`` pictures ``sampled`` were audited, and ``found`` of these showed the concept after
    all; ``flagged_positives`` were sent to people and confirmed. The share among what passed has
    a Clopper-Pearson interval of 95 % (Clopper and Pearson 1934). Raises ``ValueError`` for counts
    that cannot be.
    """
    if not 0 <= found <= sampled <= passed or flagged_positives < 0:
        raise ValueError(
            f"{found} found among {sampled} audited of {passed} that passed, beside "
            f"{flagged_positives} flagged: these counts cannot be."
        )
    if sampled == 0:
        return MissRate(
            None, 0.0, 1.0, 0, 0, "Nothing that passed has been audited yet; no estimate."
        )
    low, high = _interval(found, sampled)
    # What was not found in the sample cannot be missed, and what was found is certain.
    fewest = max(low * passed, found)
    most = min(high * passed, passed - (sampled - found))
    likely = found / sampled * passed
    rate = _share(likely, flagged_positives)
    lowest, highest = _share(fewest, flagged_positives) or 0.0, _share(most, flagged_positives)
    highest = 0.0 if highest is None else highest
    if rate is None:
        return MissRate(
            None,
            0.0,
            1.0,
            sampled,
            found,
            f"Neither the audit of {sampled} pictures nor the queue found any; no estimate.",
        )
    return MissRate(
        rate,
        lowest,
        highest,
        sampled,
        found,
        f"About {rate:.1%} of what should be found passes (95 % interval {lowest:.1%} to "
        f"{highest:.1%}): {found} found in a blind audit of {sampled} out of {passed} that passed, "
        f"beside {flagged_positives} that were flagged and confirmed.",
    )


def _share(missed: float, flagged: int) -> float | None:
    return missed / (missed + flagged) if missed + flagged > 0 else None


def _interval(found: int, sampled: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(found, sampled).proportion_ci(_CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)
