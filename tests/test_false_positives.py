"""One named case for each mistake that filters of this kind have shipped.

Every case here was a real refusal of something harmless somewhere. It must stay unflagged, while
the thing that the filter was meant for, the second text, must stay found.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from triage.probes.claims import LONE_TERM, ClaimsProbe
from triage.sample import (
    Person,
    Policy,
    Preview,
    Rule,
    Sample,
    TermCondition,
    TermGroup,
)

CHILD = TermGroup("a child", ("child", "children", "kid*", "1..17 year* old", "1..17yo"))
SEXUAL = TermGroup("sexual", ("nude", "naked", "sex*", "porn*", "nsfw"))


def terms(*words: str) -> Rule:
    return Rule("rule", "Rule", 0.5, 0.9, signals=("claims",), terms=words)


def near(*groups: TermGroup) -> Rule:
    conditions = (TermCondition(groups, within=4),)
    return Rule("rule", "Rule", 0.5, 0.75, signals=("claims",), conditions=conditions)


@dataclass(frozen=True)
class Mistake:
    """A rule, a harmless text that was refused, and what the rule is for."""

    rule: Rule
    harmless: str
    meant: str


MISTAKES = {
    "pegboard was refused for its first three letters": Mistake(
        terms("peg"), "a tidy pegboard in a workshop", "peg"
    ),
    "Scunthorpe is a town": Mistake(
        terms("cunt"), "Football in Scunthorpe, Penistone and Lightwater", "cunt"
    ),
    "classic and assassin hold a short word": Mistake(
        terms("ass", "tit"), "a classic assassin, title: Constitution", "nice ass"
    ),
    "cockatoo and Dickens are no anatomy": Mistake(
        terms("cock", "dick"), "a cockatoo reading Dickens at the cockpit", "cock"
    ),
    "grape and therapist hold a crime": Mistake(
        terms("rape", "rapist"), "a bunch of grapes, my therapist, drapery", "rape"
    ),
    "a children's storybook is no offence": Mistake(
        near(CHILD, SEXUAL),
        "children's storybook illustration, soft watercolor, warm golden light",
        "naked children",
    ),
    "fu manchu is a moustache, whatever two-letter words are banned": Mistake(
        terms("fuck", "f u c k"), "1girl, fu manchu mustache, fu xi, fu dog, solo", "f u c k"
    ),
    "Essex and sextant hold a syllable": Mistake(
        terms("sex"), "A sextant on the coast of Essex and Sussex, sextuplet", "s3x"
    ),
    "adults have ages too": Mistake(
        near(CHILD, SEXUAL),
        "nude study of an 80 year old man, model is 18 years old",
        "nude 8 year old",
    ),
    "a count of tagged girls is no age": Mistake(
        near(CHILD, SEXUAL), "1girl, 17 photos, nude, 8k, 10 steps", "12yo nude"
    ),
    "kidney and kidding are not kids when the term is written out": Mistake(
        terms("kid", "kids"), "kidney beans, kidding aside, kidnap thriller cover", "a kid"
    ),
    "leetspeak does not turn sizes and versions into words": Mistake(
        terms("ed", "as", "is", "be", "sd"), "3d render, 4s, v15, 83, a5 paper, 4k", "ed"
    ),
    "a digest is no word": Mistake(
        terms("bad", "fade", "dead"), "sha256 5d2f8777af0bad9c 7ab762a7", "bad"
    ),
    "a Russian word is not its Latin look-alike": Mistake(terms("hop"), "нор и нос, рот", "hop"),
    "a lollipop in Japanese begins like another word": Mistake(
        terms("ロリ"), "ロリポップを持つ", "ロリ"
    ),
    "punctuation between sentences is no neighbourhood": Mistake(
        near(CHILD, SEXUAL),
        "Great for drawing a child at the beach. Please note that this site also lists nude art.",
        "a child posing nude",
    ),
}


def score(rule: Rule, text: str) -> float:
    sample = Sample("v1", Policy("test", 1, (rule,)), description=text)
    (found,) = ClaimsProbe().examine(sample)
    assert found.score is not None
    return found.score


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_what_others_refused_passes_and_what_was_meant_is_found(mistake: Mistake) -> None:
    assert score(mistake.rule, mistake.harmless) == 0.0
    assert score(mistake.rule, mistake.meant) >= LONE_TERM


def test_a_negative_prompt_names_what_is_not_shown() -> None:
    prompt = "a castle at dawn\nNegative prompt: nsfw, nude, child\nSteps: 20, Sampler: Euler a"
    preview = Preview("p1", "castle.png", Path("castle.png"), "0" * 64, prompt=prompt)
    rule = terms("nude", "euler")
    (found,) = ClaimsProbe().examine(Sample("v1", Policy("test", 1, (rule,)), previews=(preview,)))
    assert [match["term"] for match in found.evidence["matches"]] == ["euler"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "SFW only, no nude pictures",
        "trained without nude pictures",
        "a non-nude set",
    ],
)
def test_a_denial_opens_no_case_by_itself(text: str) -> None:
    assert 0.0 < score(terms("nude"), text) < 0.5


def test_thanking_a_namesake_is_no_likeness() -> None:
    rule = Rule("likeness", "Real people", 0.5, 0.85, signals=("claims.likeness",))
    sample = Sample(
        "v1",
        Policy("test", 1, (rule,)),
        description="Thanks to Chris Sample for training tips!",
        people=(Person("Chris Sample"),),
    )
    (found,) = ClaimsProbe().examine(sample)
    assert found.score is not None
    assert 0.0 < found.score < 0.5


def test_a_first_name_alone_is_nobody_on_the_list() -> None:
    rule = Rule("likeness", "Real people", 0.5, 0.85, signals=("claims.likeness",))
    sample = Sample(
        "v1",
        Policy("test", 1, (rule,)),
        title="Emma, my original character",
        description="a woman called Emma",
        people=(Person("Emma Example"),),
    )
    (found,) = ClaimsProbe().examine(sample)
    assert found.score == 0.0
