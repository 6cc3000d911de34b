"""The score of pictures against prompts, with a made-up encoder whose vectors are known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from triage.encoders.base import Array
from triage.learning.heads import Head, Platt
from triage.sample import Concept, LearnedHead, Policy, Rule
from triage.scoring import ConceptBank, ScoringError, concept_bank

SCALE = 10.0


@dataclass
class WordEncoder:
    """Texts point along the axes of the words they hold; only the words below are known."""

    words: tuple[str, ...] = ("gun", "knife", "toy", "tree")
    name: str = "words"
    revision: str = "1"
    logit_scale: float = SCALE
    demo: bool = False
    dim: int = 5
    asked: list[str] = field(default_factory=list)

    def embed_texts(self, texts: Sequence[str]) -> Array:
        self.asked += texts
        rows = np.array([[*(word in text for word in self.words), 0.001] for text in texts])
        unit: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        raise AssertionError("not needed here")

    def picture(self, **parts: float) -> Array:
        row = np.array([[*(parts.get(word, 0.0) for word in self.words), 0.0]])
        unit: Array = (row / np.linalg.norm(row)).astype(np.float32)
        return unit


GUN = Concept("gun", ("a gun",), ("a toy",))
KNIFE = Concept("knife", ("a knife",), ("a toy",))
RULE = Rule("weapons", "Weapons", 0.5, 0.9, ("previews",), (GUN,))
POLICY = Policy("test", 1, (RULE,), neutral=("a tree",))


def only(policy: Policy, encoder: WordEncoder, picture: Array) -> float:
    ((score,),) = ConceptBank(policy, encoder).score(picture)
    return score.deciding.score


def with_concepts(*concepts: Concept, combine: Literal["any", "all"] = "any") -> Policy:
    return replace(POLICY, rules=(replace(RULE, concepts=concepts, combine=combine),))


def test_the_score_is_the_difference_of_the_two_groups_log_mean_exp() -> None:
    encoder = WordEncoder()
    picture = encoder.picture(gun=0.6, toy=0.8)
    expected = SCALE * 0.6 - math.log((math.exp(SCALE * 0.8) + math.exp(0.0)) / 2)
    assert only(POLICY, encoder, picture) == pytest.approx(expected, abs=1e-4)


def test_naming_the_same_prompt_twice_does_not_move_the_score() -> None:
    encoder = WordEncoder()
    picture = encoder.picture(gun=0.6, toy=0.8)
    twice = with_concepts(replace(GUN, prohibited=("a gun", "a gun")))
    assert only(twice, encoder, picture) == pytest.approx(only(POLICY, encoder, picture), abs=1e-6)


def test_a_picture_near_a_contrast_prompt_scores_low_and_near_a_prohibited_one_high() -> None:
    encoder = WordEncoder()
    pictures = np.concatenate([encoder.picture(gun=1), encoder.picture(toy=1)])
    (shown,), (toy,) = ConceptBank(POLICY, encoder).score(pictures)
    assert shown.probability > 0.99
    assert toy.probability < 0.01
    assert shown.hold_margin == pytest.approx(shown.probability - 0.9)
    assert toy.review_margin == pytest.approx(toy.probability - 0.5)
    assert not shown.calibrated


def test_the_winning_prompt_and_the_nearest_contrast_are_kept_with_their_cosines() -> None:
    encoder = WordEncoder()
    policy = with_concepts(Concept("arms", ("a gun", "a knife"), ("a toy",)))
    ((score,),) = ConceptBank(policy, encoder).score(encoder.picture(knife=0.8, gun=0.0, tree=0.6))
    assert (score.deciding.winner.prompt, score.deciding.runner_up.prompt) == ("a knife", "a tree")
    assert score.deciding.winner.cosine == pytest.approx(0.8, abs=1e-3)
    assert score.deciding.runner_up.cosine == pytest.approx(0.6, abs=1e-3)


@pytest.mark.parametrize(("combine", "decides"), [("any", "gun"), ("all", "knife")])
def test_any_takes_the_largest_concept_and_all_the_smallest(
    combine: Literal["any", "all"], decides: str
) -> None:
    encoder = WordEncoder()
    bank = ConceptBank(with_concepts(GUN, KNIFE, combine=combine), encoder)
    ((score,),) = bank.score(encoder.picture(gun=0.9, knife=0.2, toy=0.3))
    assert score.deciding.concept == decides
    assert {concept.concept for concept in score.concepts} == {"gun", "knife"}


def test_prompts_are_averaged_over_templates_and_renormalised() -> None:
    encoder = WordEncoder()
    policy = replace(POLICY, templates=("{}", "{} and a tree"))
    ((score,),) = ConceptBank(policy, encoder).score(encoder.picture(gun=1))
    # The mean of (1, 0) and (1, 1)/sqrt(2), made a unit vector again, lies at 22.5 degrees.
    assert score.deciding.winner.cosine == pytest.approx(math.cos(math.pi / 8), abs=1e-3)


def test_braces_in_a_prompt_mean_nothing() -> None:
    encoder = WordEncoder()
    ConceptBank(with_concepts(replace(GUN, prohibited=("a {0.__class__} gun",))), encoder)
    assert "a {0.__class__} gun" in encoder.asked


def learnt(concept: Concept, *, odds: float, review: float | None) -> Concept:
    """Give a concept a head that says the same odds of every picture."""
    head = Head(concept.slug, "logistic", "1", (0.0,) * 5, 0.0, odds, Platt())
    known = LearnedHead(f"h-{concept.slug}", "words", "1", head.as_dict(), 60, review=review)
    return replace(concept, heads=(known,))


def test_a_rule_of_any_concept_is_reached_where_one_reaches_its_own_threshold() -> None:
    encoder = WordEncoder()
    # The gun has reached its guaranteed threshold; the knife scores higher, and not enough.
    gun, knife = learnt(GUN, odds=-0.2, review=0.2), learnt(KNIFE, odds=0.1, review=0.8)
    for concepts in ((gun, knife), (knife, gun)):
        ((score,),) = ConceptBank(with_concepts(*concepts), encoder).score(encoder.picture(tree=1))
        assert (score.deciding.concept, score.review) == ("gun", 0.2)
        assert score.review_margin == pytest.approx(0.25, abs=0.01)


def test_a_rule_of_any_concept_is_held_where_one_is_however_near_its_threshold() -> None:
    encoder = WordEncoder()
    gun, knife = learnt(GUN, odds=0.0, review=0.1), learnt(KNIFE, odds=3.0, review=0.8)
    ((score,),) = ConceptBank(with_concepts(gun, knife), encoder).score(encoder.picture(tree=1))
    assert score.deciding.concept == "knife"
    assert score.hold_margin > 0


@pytest.mark.parametrize(("odds", "reached"), [(0.1, False), (2.0, True)])
def test_a_rule_of_all_concepts_is_reached_where_each_reaches_its_own_threshold(
    odds: float, reached: bool
) -> None:
    encoder = WordEncoder()
    gun, knife = learnt(GUN, odds=-0.2, review=0.2), learnt(KNIFE, odds=odds, review=0.8)
    bank = ConceptBank(with_concepts(gun, knife, combine="all"), encoder)
    ((score,),) = bank.score(encoder.picture(tree=1))
    assert (score.review_margin >= 0) is reached
    assert score.deciding.concept == "knife"


def test_a_concept_with_nothing_to_contrast_with_is_refused_in_a_sentence() -> None:
    lonely = replace(with_concepts(replace(GUN, contrast=())), neutral=())
    with pytest.raises(ScoringError, match="neither contrast prompts nor neutral") as refusal:
        ConceptBank(lonely, WordEncoder())
    assert refusal.value.code == "scoring.no_contrast"


def test_neutral_prompts_alone_are_enough_of_a_contrast() -> None:
    encoder = WordEncoder()
    assert only(with_concepts(replace(GUN, contrast=())), encoder, encoder.picture(gun=1)) > 5


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (with_concepts(), "scoring.no_concepts"),
        (with_concepts(replace(GUN, prohibited=())), "scoring.no_prohibited"),
    ],
)
def test_a_rule_that_cannot_be_scored_is_refused(policy: Policy, code: str) -> None:
    with pytest.raises(ScoringError) as refusal:
        ConceptBank(policy, WordEncoder())
    assert refusal.value.code == code


def test_rules_about_other_signals_are_left_alone() -> None:
    other = replace(RULE, slug="code", signals=("container.code",), concepts=())
    encoder = WordEncoder()
    bank = ConceptBank(replace(POLICY, rules=(RULE, other)), encoder)
    assert [[score.rule for score in row] for row in bank.score(encoder.picture(gun=1))] == [
        ["weapons"]
    ]


def test_a_policy_is_embedded_once_and_again_when_policy_or_encoder_change() -> None:
    encoder = WordEncoder(revision="embedded-once")
    first = concept_bank(POLICY, encoder)
    asked = len(encoder.asked)
    assert concept_bank(replace(POLICY), encoder) is first
    assert len(encoder.asked) == asked
    assert concept_bank(replace(POLICY, version=2), encoder) is not first
    assert concept_bank(POLICY, replace(encoder, revision="another")) is not first


def test_extreme_scores_stay_probabilities() -> None:
    encoder = WordEncoder(logit_scale=1e4)
    pictures = np.concatenate([encoder.picture(gun=1), encoder.picture(toy=1)])
    (high,), (low,) = ConceptBank(POLICY, encoder).score(pictures)
    assert (high.probability, low.probability) == (1.0, 0.0)
