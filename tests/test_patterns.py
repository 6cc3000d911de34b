"""Operators' patterns: regular expressions in a policy that no text can make slow."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from moderation.policy import POLICY_DIR
from tests.test_claims_probe import SEXUAL, examine, sample, shown
from triage.folding import fold
from triage.probes.claims import LONE_TERM
from triage.sample import Outcome, Rule, TermCondition, TermGroup
from triage.terms import Match, Matcher, TermError

VERSIONS = r"re:\bpony\s*v[0-9]+\b"


def _quotes(text: str, *terms: str) -> list[str]:
    return [text[found.start : found.end] for found in Matcher(terms).find(fold(text))]


def test_a_pattern_is_found_in_any_case_beside_ordinary_terms_in_the_order_of_the_text() -> None:
    text = "Gore, Pony  V6 and more gore, pony v12; ponyv"
    assert _quotes(text, VERSIONS, "gore") == ["Gore", "Pony  V6", "gore", "pony v12"]


def test_a_pattern_knows_its_place_among_the_words() -> None:
    (found,) = Matcher([VERSIONS]).find(fold("é made with pony v6 today"))
    assert found == Match(VERSIONS, 12, 19, 3, 4)
    (found,) = Matcher(["re:☠+"]).find(fold("a ☠☠ b"))
    assert (found.start, found.end, found.first_word) == (2, 4, 1)


def test_a_pattern_that_would_never_end_elsewhere_ends_here() -> None:
    text = "a" * 200_000 + "!"
    assert _quotes(text, "re:(a+)+$") == []
    assert _quotes(text, "re:(a|a)*b") == []


def test_a_pattern_that_is_everywhere_is_found_everywhere() -> None:
    assert len(_quotes("a " * 10_000, "re:a")) == 10_000


@pytest.mark.parametrize("term", ["pony", "re:pony"])
def test_denials_in_front_do_not_hide_what_is_said_behind_them(term: str) -> None:
    rule = Rule("pony", "Pony", 0.5, 0.9, signals=("claims",), terms=(term,))
    (found,) = examine(sample(rule, description="no pony " * 500 + "a real pony"))
    assert (found.code, found.score) == ("claims.term", LONE_TERM)


@pytest.mark.parametrize("term", ["school", "re:school"])
@pytest.mark.parametrize(
    "text",
    [
        "school " * 500 + "x " * 20 + "school nude",
        "no school " * 500 + "x " * 20 + "school nude",
        "school no school no nude",
    ],
)
def test_decoys_in_front_do_not_hide_what_stands_together_behind_them(term: str, text: str) -> None:
    near = TermCondition((TermGroup("a place", (term,)), TermGroup("an act", ("nude",))), 4)
    rule = Rule("r", "R", 0.5, 0.75, signals=("claims",), conditions=(near,))
    (found,) = examine(sample(rule, description=text))
    assert found.code == "claims.combination"


def test_what_is_denied_throughout_does_not_stand_together() -> None:
    near = TermCondition((TermGroup("a place", ("school",)), TermGroup("an act", ("nude",))), 4)
    rule = Rule("r", "R", 0.5, 0.75, signals=("claims",), conditions=(near,))
    (found,) = examine(sample(rule, description="school " + "x " * 20 + "no school no nude"))
    assert found.code == "claims.nothing"


def test_a_text_that_a_pattern_would_read_too_often_goes_to_a_person(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triage.patterns.MOST_READ", 100_000)
    rule = Rule("pony", "Pony", 0.5, 0.9, signals=("claims",), terms=("re:pony",))
    (found,) = examine(sample(rule, description="no pony " * 500 + "a real pony"))
    assert (found.outcome, found.code) == (Outcome.FAILED, "term.too_many_matches")
    assert "“pony” was found 26 times" in found.reason


def test_half_a_character_hides_nothing() -> None:
    assert _quotes("\ud800 pony v6", VERSIONS) == ["pony v6"]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("re:(", "RE2 cannot read the pattern “(”: missing"),
        (r"re:(a)\1", "RE2 cannot read"),
        ("re:(?=a)", "RE2 cannot read"),
        ("re:((a{100}){100}){100}", "RE2 cannot read"),
        ("re:", "found in an empty text"),
        ("re:x*", "found in an empty text"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(pattern: str, sentence: str) -> None:
    with pytest.raises(TermError, match=sentence.replace("(", r"\(")):
        Matcher([pattern])


def test_a_rule_finds_a_pattern_alone_and_near_a_word() -> None:
    alone = Rule("pony", "Pony", 0.5, 0.9, signals=("claims",), terms=(VERSIONS,))
    near = Rule(
        "ages",
        "Ages",
        0.5,
        0.75,
        signals=("claims",),
        conditions=(
            TermCondition((TermGroup("an age", (r"re:\b(1[0-7]|[0-9])\s*y/?o\b",)), SEXUAL), 3),
        ),
    )
    (found,) = examine(sample(alone, description="Best with Pony V6."))
    assert found.code == "claims.term"
    assert VERSIONS in json.dumps(shown(found)).replace("\\\\", "\\")
    (found,) = examine(sample(near, description="Nude, 15 y/o."))
    assert (found.score or 0) >= near.hold
    (found,) = examine(sample(near, description="Nude, 35 y/o."))
    assert (found.score or 0) < near.review


def test_a_mistake_in_a_pattern_is_named_with_its_line_before_it_is_imported(
    tmp_path: Path,
) -> None:
    written = (POLICY_DIR / "default.yaml").read_text()
    place = tmp_path / "policy.yaml"
    terms = "terms: [celebrity likeness,"
    place.write_text(written.replace(terms, 'terms: ["re:(oops",', 1))
    line = written[: written.index(terms)].count("\n") + 1
    with pytest.raises(CommandError, match=rf":{line}: .*RE2 cannot read the pattern “\(oops”"):
        call_command("policy", "check", str(place))
