"""The review threshold with its promise, and the audit that checks it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage.learning.audit import miss_rate_estimate
from triage.learning.guarantee import positives_needed, review_threshold

scores = st.lists(st.floats(0, 1), max_size=120)
alphas = st.floats(0.01, 0.5)


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.02, 49), (0.01, 99), (0.001, 999)])
def test_the_number_of_positives_needed_is_the_published_one(alpha: float, needed: int) -> None:
    assert positives_needed(alpha) == needed
    assert review_threshold(np.linspace(0.1, 1, needed), alpha, default=0.5).guaranteed
    assert not review_threshold(np.linspace(0.1, 1, needed - 1), alpha, default=0.5).guaranteed


def test_without_enough_positives_the_default_is_kept_and_the_sentence_says_so() -> None:
    threshold = review_threshold([0.9] * 12, 0.05, default=0.4)
    assert (threshold.value, threshold.guaranteed, threshold.n) == (0.4, False, 12)
    assert threshold.sentence.startswith("No guarantee yet")
    assert "19" in threshold.sentence
    assert "12" in threshold.sentence


@settings(deadline=None)
@given(scores=scores, alpha=alphas)
def test_the_threshold_is_the_highest_that_keeps_the_corrected_risk_within_alpha(
    scores: list[float], alpha: float
) -> None:
    threshold = review_threshold(scores, alpha, default=0.5)
    n = len(scores)
    if not threshold.guaranteed:
        assert n < positives_needed(alpha)
        assert threshold.value == 0.5
        return

    def corrected(value: float) -> float:
        return (sum(score < value for score in scores) + 1) / (n + 1)

    assert corrected(threshold.value) <= alpha + 1e-6
    higher = [score for score in scores if score > threshold.value]
    if higher:
        assert corrected(min(higher)) > alpha - 1e-6


@settings(deadline=None)
@given(scores=scores, alpha=alphas, seed=st.integers(0, 100))
def test_the_order_of_the_positives_does_not_matter(
    scores: list[float], alpha: float, seed: int
) -> None:
    shuffled = np.random.default_rng(seed).permutation(scores)
    assert review_threshold(shuffled, alpha, default=0.5) == review_threshold(
        scores, alpha, default=0.5
    )


@settings(deadline=None)
@given(scores=scores, low=alphas, high=alphas)
def test_whoever_allows_more_misses_never_reviews_more(
    scores: list[float], low: float, high: float
) -> None:
    strict = review_threshold(scores, min(low, high), default=0.0)
    loose = review_threshold(scores, max(low, high), default=0.0)
    assert strict.value <= loose.value


@pytest.mark.parametrize("n", [19, 57, 200])
def test_twenty_fresh_draws_of_500_miss_no_more_than_promised(n: int) -> None:
    random = np.random.default_rng(n)
    alpha, draws, drawn = 0.05, 20, 500
    missed = []
    for _ in range(draws):
        threshold = review_threshold(random.beta(4, 2, n), alpha, default=0.5)
        missed.append(float((random.beta(4, 2, drawn) < threshold.value).mean()))
    # The variance of a draw: of its pictures, and of the threshold it was given.
    spread = math.sqrt(alpha * (1 - alpha) * (1 / drawn + 1 / (n + 2)) / draws)
    assert np.mean(missed) <= alpha + 2 * spread
    assert np.mean(missed) > alpha / 4  # a threshold of zero would keep any promise


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_a_miss_rate_that_cannot_be_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        review_threshold([0.5] * 30, alpha, default=0.5)


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        review_threshold([0.5] * 30 + [math.nan], 0.05, default=0.5)


def test_the_miss_rate_is_what_the_audit_found_scaled_up() -> None:
    estimate = miss_rate_estimate(sampled=100, found=2, passed=10_000, flagged_positives=800)
    assert estimate.rate == pytest.approx(200 / 1000)
    # Clopper and Pearson's interval of 2 in 100 is 0.0024 to 0.0704.
    assert estimate.low == pytest.approx(24.3 / 824.3, rel=0.01)
    assert estimate.high == pytest.approx(703.8 / 1503.8, rel=0.01)


def test_an_audit_of_everything_leaves_no_doubt() -> None:
    estimate = miss_rate_estimate(sampled=50, found=5, passed=50, flagged_positives=45)
    assert (estimate.rate, estimate.low, estimate.high) == pytest.approx((0.1, 0.1, 0.1))


def test_before_anything_was_audited_or_found_there_is_no_estimate() -> None:
    for estimate in (miss_rate_estimate(0, 0, 500, 40), miss_rate_estimate(10, 0, 500, 0)):
        assert (estimate.rate, estimate.low, estimate.high) == (None, 0.0, 1.0)
        assert "no estimate" in estimate.sentence


@settings(deadline=None)
@given(data=st.data())
def test_the_interval_holds_the_estimate_and_lies_within_0_and_1(data: st.DataObject) -> None:
    passed = data.draw(st.integers(0, 100_000))
    sampled = data.draw(st.integers(0, min(passed, 2_000)))
    found = data.draw(st.integers(0, sampled))
    estimate = miss_rate_estimate(sampled, found, passed, data.draw(st.integers(0, 10_000)))
    assert 0.0 <= estimate.low <= estimate.high <= 1.0
    if estimate.rate is not None:
        assert estimate.low - 1e-9 <= estimate.rate <= estimate.high + 1e-9


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    passed, hidden, flagged = 20_000, 300, 700
    truth = hidden / (hidden + flagged)
    covered = 0
    for _ in range(200):
        found = int(random.hypergeometric(hidden, passed - hidden, 400))
        estimate = miss_rate_estimate(400, found, passed, flagged)
        covered += estimate.low <= truth <= estimate.high
    assert covered >= 0.95 * 200 - 2 * math.sqrt(200 * 0.95 * 0.05)


def test_counts_that_cannot_be_are_refused() -> None:
    for counts in ((10, 11, 100, 0), (101, 1, 100, 0), (10, 1, 100, -1), (10, -1, 100, 0)):
        with pytest.raises(ValueError, match="cannot be"):
            miss_rate_estimate(*counts)
