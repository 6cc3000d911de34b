"""Heads that learn from verdicts: when there is one, what it learns, and when it goes live."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from triage import encoders
from triage.learning.calibration import Isotonic, Platt, calibration_from, fit_calibration
from triage.learning.comparison import compare_heads
from triage.learning.experiment import run_experiment
from triage.learning.heads import Head, HeadError, fit_head, head_from, zero_shot_head
from triage.learning.labels import LabelError, Labels, settle
from triage.learning.measures import (
    area_under_roc,
    average_precision,
    calibration_error,
    log_loss,
    recall_at_load,
    reliability_curve,
)
from triage.learning.space import space_of

DIM = 24
REVISION = "encoder 1"


class World:
    """Two clusters of unit vectors in a narrow cone, and a zero-shot score that is half blind."""

    def __init__(self, seed: int = 0, *, blindness: float = 1.5) -> None:
        self.random = np.random.default_rng(seed)
        self.blindness = blindness
        self.shared = 3 * np.eye(DIM)[0]  # what all pictures have in common
        self.concept = np.eye(DIM)[1]

    def pictures(
        self, count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        truth = np.arange(count) % 2 == 0
        rows = self.shared + 0.35 * self.random.normal(size=(count, DIM))
        rows += np.where(truth, 0.7, -0.7)[:, None] * self.concept
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        zero_shot = np.where(truth, 1.0, -1.0) + self.blindness * self.random.normal(size=count)
        return rows, zero_shot, truth

    def labels(self, count: int, *, noise: float = 0.0) -> Labels:
        rows, zero_shot, truth = self.pictures(count)
        wrong = self.random.choice(count, round(noise * count), replace=False)
        truth[wrong] = ~truth[wrong]
        return settle([f"{number:064x}" for number in range(count)], rows, zero_shot, truth)


def fitted(labels: Labels) -> Head:
    head = fit_head("concept", labels, encoder_revision=REVISION)
    assert head is not None
    return head


ZERO_SHOT = zero_shot_head("concept", encoder_revision=REVISION)


def test_below_eight_labels_there_is_no_head_and_the_reason_is_said() -> None:
    labels = World().labels(7)
    assert fit_head("concept", labels, encoder_revision=REVISION) is None
    assert "8" in labels.missing


def test_labels_of_one_kind_make_no_head_however_many() -> None:
    labels = World().labels(40)
    for verdicts in (np.zeros(40, bool), np.ones(40, bool), np.arange(40) == 0):
        one_kind = replace(labels, verdicts=verdicts)
        assert fit_head("concept", one_kind, encoder_revision=REVISION) is None
        assert "of each" in one_kind.missing


@pytest.mark.parametrize(
    ("count", "kind"), [(8, "anchored"), (59, "anchored"), (60, "logistic"), (200, "logistic")]
)
def test_the_kind_of_head_depends_on_the_number_of_labels(count: int, kind: str) -> None:
    head = fitted(World().labels(count))
    assert (head.kind, head.labels, len(head.weights)) == (kind, count, DIM)
    assert head.performance is not None
    assert sum(point.pictures for point in head.performance.curve) == count


@pytest.mark.parametrize("count", [16, 60, 300])
def test_a_head_ranks_unseen_pictures_better_than_a_half_blind_zero_shot(count: int) -> None:
    world = World()
    head = fitted(world.labels(count, noise=0.05))
    rows, zero_shot, truth = world.pictures(1000)
    learnt = average_precision(head.probabilities(rows, zero_shot), truth)
    assert learnt is not None
    assert learnt > (average_precision(zero_shot, truth) or 1.0) + 0.05


def test_an_anchored_head_keeps_what_zero_shot_knows() -> None:
    """Eight labels in noise: a head from nothing would lose what a good prompt already says."""
    world = World(blindness=0.3)
    labels = world.labels(8)
    random = np.random.default_rng(0)
    blind = replace(labels, embeddings=random.normal(size=labels.embeddings.shape))
    head = fitted(blind)
    _, zero_shot, truth = world.pictures(500)
    rows = random.normal(size=(500, DIM))
    ranked = area_under_roc(head.probabilities(rows, zero_shot), truth)
    assert ranked is not None
    assert ranked > 0.8


def test_an_anchored_head_departs_less_the_better_zero_shot_already_is() -> None:
    labels = World().labels(16)
    sides = np.where(labels.verdicts, 4.0, -4.0)
    right, blind, wrong = (
        float(np.linalg.norm(fitted(replace(labels, zero_shot=share * sides)).weights))
        for share in (1.0, 0.0, -1.0)
    )
    assert right < 0.25 * blind
    assert blind < wrong


@pytest.mark.parametrize("count", [60, 2000])
def test_probabilities_mean_what_they_say_on_unseen_pictures(count: int) -> None:
    world = World()
    head = fitted(world.labels(count))
    assert isinstance(head.calibration, Isotonic if count == 2000 else Platt)
    rows, zero_shot, truth = world.pictures(4000)
    probabilities = head.probabilities(rows, zero_shot)
    assert probabilities.min() > 0.0
    assert probabilities.max() < 1.0
    assert calibration_error(reliability_curve(probabilities, truth)) < (
        0.03 if count == 2000 else 0.12
    )


def test_the_measured_log_loss_is_near_that_on_unseen_pictures() -> None:
    world = World()
    head = fitted(world.labels(200))
    rows, zero_shot, truth = world.pictures(4000)
    assert head.performance is not None
    unseen = log_loss(head.probabilities(rows, zero_shot), truth)
    assert head.performance.log_loss == pytest.approx(unseen, abs=0.1)


def test_on_labels_thrown_by_dice_a_head_claims_nothing() -> None:
    world = World(blindness=50)
    labels = world.labels(80)
    dice = replace(labels, verdicts=world.random.random(80) < 0.5)
    head = fitted(dice)
    assert head.performance is not None
    assert head.performance.log_loss > 0.6  # ln 2 is what a coin gets
    rows, zero_shot, _ = world.pictures(500)
    assert np.abs(head.probabilities(rows, zero_shot) - 0.5).mean() < 0.25


def test_a_head_survives_json_and_scores_the_same() -> None:
    world = World()
    labels = world.labels(60)
    head = fitted(labels)
    again = head_from(json.loads(json.dumps(head.as_dict())))
    assert again == head
    rows, zero_shot, _ = world.pictures(5)
    np.testing.assert_array_equal(
        again.probabilities(rows, zero_shot), head.probabilities(rows, zero_shot)
    )
    assert head.probability(rows[0], float(zero_shot[0])) == pytest.approx(
        head.probabilities(rows, zero_shot)[0]
    )


def test_an_isotonic_calibration_survives_json() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=300)
    found = fit_calibration(logits, random.random(300) < 1 / (1 + np.exp(-logits)), isotonic=True)
    again = calibration_from(json.loads(json.dumps(found.as_dict())))
    np.testing.assert_array_equal(again(logits), found(logits))
    assert (np.diff(found(np.linspace(-9, 9, 200))) >= 0).all()


def test_a_calibration_never_turns_a_ranking_round() -> None:
    logits = np.linspace(-3, 3, 40)
    found = fit_calibration(logits, logits < 0, isotonic=False)
    assert (np.diff(found(logits)) >= 0).all()
    assert np.ptp(found(logits)) < 0.05


def test_the_same_labels_in_another_order_give_the_same_head() -> None:
    labels = World().labels(64)
    order = np.random.default_rng(1).permutation(64)
    shuffled = settle(
        [labels.digests[place] for place in order],
        labels.embeddings[order],
        labels.zero_shot[order],
        labels.verdicts[order],
    )
    assert shuffled.digest == labels.digest
    assert fitted(shuffled) == fitted(labels)


def test_contradicting_verdicts_are_settled_by_majority_and_ties_left_out() -> None:
    digests = ["a", "a", "a", "b", "b", "c"]
    labels = settle(digests, np.eye(6), np.arange(6), [1, 1, 0, 1, 0, 0])
    assert labels.digests == ("a", "c")
    assert labels.verdicts.tolist() == [True, False]
    assert labels.zero_shot.tolist() == [0.0, 5.0]
    assert (labels.overruled, labels.tied) == (1, ("b",))


def test_a_head_reports_the_contradictions_it_was_learnt_from() -> None:
    labels = World().labels(20)
    doubled = settle(
        [*labels.digests, labels.digests[0], labels.digests[1], labels.digests[1]],
        np.concatenate([labels.embeddings, labels.embeddings[[0, 1, 1]]]),
        np.concatenate([labels.zero_shot, labels.zero_shot[[0, 1, 1]]]),
        np.concatenate([labels.verdicts, ~labels.verdicts[[0]], labels.verdicts[[1]], [True]]),
    )
    head = fitted(doubled)
    assert (head.labels, head.tied, head.overruled) == (19, 1, 1)


@pytest.mark.parametrize(
    ("rows", "scores", "verdicts", "said"),
    [
        (np.eye(2), [0, 0, 0], [1, 0], "needs one of each"),
        (np.eye(2), [0, 0], [1, 2], "verdict"),
        (np.full((2, 2), math.nan), [0, 0], [1, 0], "finite"),
        (np.ones(2), [0, 0], [1, 0], "dimensions"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_a_sentence(
    rows: NDArray[np.float64], scores: list[float], verdicts: list[int], said: str
) -> None:
    with pytest.raises(LabelError, match=said):
        settle(["a", "b"], rows, scores, verdicts)


def test_a_head_on_embeddings_of_another_encoder_is_refused() -> None:
    head = fitted(World().labels(12))
    with pytest.raises(HeadError, match="encoder"):
        head.probability(np.ones(DIM + 1), 0.0)


def test_a_better_head_goes_live_and_says_by_how_much() -> None:
    labels = World().labels(120, noise=0.05)
    verdict = compare_heads(fitted(labels), ZERO_SHOT, labels)
    assert verdict.goes_live
    assert verdict.log_loss < verdict.log_loss_in_place
    assert verdict.recall > verdict.recall_in_place
    assert verdict.new_labels == 120
    assert verdict.changes
    assert verdict.sentence.startswith("The new head is better")
    assert json.loads(json.dumps(verdict.as_dict()))["goes_live"]


def test_a_head_learnt_from_wrong_verdicts_does_not_replace_a_good_one() -> None:
    world = World()
    good = fitted(world.labels(120))
    labels = world.labels(60, noise=0.45)
    renamed = replace(labels, digests=tuple(f"new {digest}" for digest in labels.digests))
    verdict = compare_heads(fitted(renamed), good, renamed)
    assert not verdict.goes_live
    assert "stays" in verdict.sentence


def test_a_head_does_not_replace_itself() -> None:
    labels = World().labels(80)
    head = fitted(labels)
    assert not compare_heads(head, head, labels).goes_live


def test_the_head_in_place_is_judged_on_its_own_labels_as_if_it_had_not_seen_them() -> None:
    """An overfitted head would otherwise stay for ever: on what it learnt it is never wrong."""
    labels = World().labels(80, noise=0.2)
    head = fitted(labels)
    seen = log_loss(head.probabilities(labels.embeddings, labels.zero_shot), labels.verdicts)
    held_out = log_loss(head.held_out_probabilities(labels), labels.verdicts)
    assert seen < held_out - 0.05
    verdict = compare_heads(head, replace(head, labels_digest="older"), labels)
    assert verdict.log_loss_in_place == pytest.approx(held_out)


def test_heads_of_other_encoders_concepts_or_labels_are_not_compared() -> None:
    world = World()
    labels = world.labels(20)
    head = fitted(labels)
    for other in (
        replace(ZERO_SHOT, encoder_revision="encoder 2"),
        replace(ZERO_SHOT, concept="other"),
    ):
        with pytest.raises(HeadError):
            compare_heads(head, other, labels)
    with pytest.raises(HeadError, match="labels"):
        compare_heads(head, ZERO_SHOT, world.labels(30))


def test_the_space_takes_away_what_all_pictures_share() -> None:
    rows, _, _ = World().pictures(400)
    coordinates = space_of(rows).coordinates(rows)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-9)
    assert (coordinates**2).sum(axis=1).mean() == pytest.approx(1.0)


def test_identical_pictures_make_a_space_and_a_head_without_a_crash() -> None:
    rows = np.tile(np.eye(DIM)[:1], (10, 1))
    labels = settle([str(n) for n in range(10)], rows, np.zeros(10), np.arange(10) % 2)
    assert fitted(labels).probability(rows[0], 0.0) == pytest.approx(0.5, abs=0.1)


def test_recall_at_load_counts_what_people_would_see() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    truth = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 1], dtype=bool)
    assert recall_at_load(scores, truth, 0.1) == pytest.approx(1 / 3)
    assert recall_at_load(scores, truth, 0.3) == pytest.approx(2 / 3)
    assert recall_at_load(scores, truth, 1.0) == 1.0
    # All alike: whichever are looked at, on average the load is found.
    assert recall_at_load(np.zeros(10), truth, 0.5) == pytest.approx(0.5)
    assert recall_at_load(scores, np.zeros(10, bool), 0.5) is None


def test_a_figure_without_both_kinds_is_none_instead_of_a_guess() -> None:
    assert area_under_roc(np.ones(3), np.ones(3, bool)) is None
    assert average_precision(np.ones(3), np.zeros(3, bool)) is None


def test_applying_a_head_loads_neither_scikit_learn_nor_scipy() -> None:
    program = (
        "import sys; from triage.learning import heads, guarantee, audit, comparison; "
        "head = heads.zero_shot_head('c', encoder_revision='1'); head.probability([1.0], 0.3); "
        "guarantee.review_threshold([0.5] * 30, 0.05, default=0.5); "
        "sys.exit(any(name in sys.modules for name in ('sklearn', 'scipy', 'matplotlib')))"
    )
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", program], cwd=root).returncode == 0


def test_sixty_noisy_labels_mend_a_bad_prompt_on_the_demo_domain() -> None:
    found = run_experiment(encoders.load("demo"), counts=(60,), repeats=8, draws=2)
    (sixty,) = found.learnt
    assert found.zero_shot < 0.9  # or there was nothing to mend
    assert sixty.mean >= 0.97
    assert np.mean(found.missed) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / (500 * len(found.missed)))
