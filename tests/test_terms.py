"""Terms are found as whole words in every costume, and quoted as they were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.folding import MAX_TEXT, TextTooLongError, excerpt, fold
from triage.terms import MAX_TERM_WORDS, Match, Matcher, Nearness, TermError


def quotes(text: str, *terms: str) -> list[str]:
    """Return what the terms match in a text, in the text's own words."""
    return [text[found.start : found.end] for found in Matcher(terms).find(fold(text))]


@pytest.mark.parametrize(
    ("text", "term", "quoted"),
    [
        pytest.param("a Nude woman", "nude", "Nude", id="case"),
        pytest.param("10_name woman", "name", "name", id="underscore"),
        pytest.param("fu-manchu,moustache", "fu manchu", "fu-manchu", id="hyphen"),
        pytest.param("Anna \n Sample", "anna sample", "Anna \n Sample", id="white space"),
        pytest.param("ｎｕｄｅ", "nude", "ｎｕｄｅ", id="full width"),
        pytest.param("𝓷𝓾𝓭𝓮", "nude", "𝓷𝓾𝓭𝓮", id="mathematical script"),
        pytest.param("ⓝⓤⓓⓔ", "nude", "ⓝⓤⓓⓔ", id="circled"),
        pytest.param("🅽🆄🅳🅴", "nude", "🅽🆄🅳🅴", id="boxed"),
        pytest.param("ɴᴜᴅᴇ", "nude", "ɴᴜᴅᴇ", id="small capitals"),
        pytest.param("сhіld", "child", "сhіld", id="Cyrillic look-alikes"),
        pytest.param("ηude", "nude", "ηude", id="Greek look-alike"),
        pytest.param("сһild", "child", "сһild", id="Cyrillic shha"),
        pytest.param("nu\u200bde", "nude", "nu\u200bde", id="zero-width space"),
        pytest.param("n\u2060u\u00adde", "nude", "n\u2060u\u00adde", id="soft hyphen"),
        pytest.param("nu\u3164de", "nude", "nu\u3164de", id="Hangul filler"),
        pytest.param(
            "n\u0336u\u0336d\u0336e\u0336", "nude", "n\u0336u\u0336d\u0336e\u0336", id="struck"
        ),
        pytest.param("núdé", "nude", "núdé", id="accents"),
        pytest.param("nude", "núdé", "nude", id="accents in the term"),
        pytest.param("n4k3d", "naked", "n4k3d", id="leetspeak"),
        pytest.param("ch1ld", "child", "ch1ld", id="one as i"),
        pytest.param("chi1d", "child", "chi1d", id="one as l"),
        pytest.param("chiId", "child", "chiId", id="capital I as l"),
        pytest.param("n@ked", "naked", "n@ked", id="at as a"),
        pytest.param("$3x", "sex", "$3x", id="dollar as s"),
        pytest.param("n u d e", "nude", "n u d e", id="spelled with spaces"),
        pytest.param("n.u.d.e", "nude", "n.u.d.e", id="spelled with dots"),
        pytest.param("1girl, solo", "girl", "1girl", id="tagger's count"),
        pytest.param("child's toy", "child", "child's", id="possessive"),
        pytest.param("O’Brien", "o'brien", "O’Brien", id="apostrophe in a name"),
        pytest.param("ДЕТИ и Дети", "дети", "ДЕТИ", id="another alphabet"),
        pytest.param("可愛い幼女の絵", "幼女", "幼女", id="Chinese signs are words"),
        pytest.param("ロリ画像", "ロリ", "ロリ", id="katakana run is a word"),
        pytest.param("pregnancy", "pregnan*", "pregnancy", id="any ending"),
        pytest.param("8-year-old girl", "1..17 year* old", "8-year-old", id="number in range"),
        pytest.param("a 12yo", "1..17yo", "12yo", id="number with suffix"),
    ],
)
def test_a_term_is_found_and_quoted_as_written(text: str, term: str, quoted: str) -> None:
    assert quotes(text, term)[0] == quoted


@pytest.mark.parametrize(
    ("text", "term"),
    [
        pytest.param("nudely denude", "nude", id="part of a word"),
        pytest.param("sample anna", "anna sample", id="wrong order"),
        pytest.param("anna and sample", "anna sample", id="word between"),
        pytest.param("anna", "anna sample", id="half a phrase"),
        pytest.param("the kids", "kid", id="plural that was not declared"),
        pytest.param("18 years old, 80 year old", "1..17 year* old", id="number out of range"),
        pytest.param("21yo 117yo", "1..17yo", id="number out of range with suffix"),
        pytest.param("ロリポップ", "ロリ", id="part of a katakana word"),
        pytest.param("3d render, v10, 4k", "ed", id="dimensions are no leetspeak"),
        pytest.param("she said a b c", "abcd", id="spelled letters are not completed"),
        pytest.param("don't", "don", id="contraction"),
    ],
)
def test_a_term_is_not_found_where_it_does_not_stand(text: str, term: str) -> None:
    assert quotes(text, term) == []


def test_overlapping_terms_are_all_found() -> None:
    assert sorted(quotes("a young girl", "girl", "young girl", "young")) == [
        "girl",
        "young",
        "young girl",
    ]


@pytest.mark.parametrize(
    "term", ["", "  ", "!!", "*", "ab*", "17..1 old", "w " * (MAX_TERM_WORDS + 1)]
)
def test_a_badly_written_term_is_refused_with_a_sentence(term: str) -> None:
    with pytest.raises(TermError, match=r"^(In the|The) term “.*”.*\.$"):
        Matcher([term])


def test_a_text_over_the_limit_is_refused_and_not_half_read() -> None:
    with pytest.raises(TextTooLongError, match="read by a person"):
        fold("a" * (MAX_TEXT + 1))


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a ",
        "1 ",
        "!a",
        "a'",
        "a\u200b",
        "e\u0301",
        "\u0301",
        "nude ",
        "n.u.d.e.",
        "幼",
        "I1l|",
    ],
)
def test_hostile_repetition_still_finds_the_term_at_its_end(unit: str) -> None:
    # 100,000 characters: anything quadratic in here would not come back today.
    text = unit * (100_000 // len(unit)) + " forbidden"
    assert quotes(text, "forbidden", "1..17 year* old", "forb*")[-1] == "forbidden"


@given(st.text(max_size=200))
def test_any_text_is_cut_into_ordered_spans_inside_it(text: str) -> None:
    folded = fold(text)
    end = 0
    for start, word_end in zip(folded.starts, folded.ends, strict=True):
        assert end <= start < word_end <= len(text)
        end = word_end


@given(
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    term=st.text(alphabet="abcdefghijklmnop", min_size=1, max_size=12),
)
def test_a_word_between_spaces_is_found_in_any_text(before: str, after: str, term: str) -> None:
    text = f"{before} {term} {after}"
    spans = [(found.start, found.end) for found in Matcher([term]).find(fold(text))]
    start = len(before) + 1
    assert any(left <= start and start + len(term) <= right for left, right in spans)


def near(text: str, within: int, *groups: tuple[str, ...]) -> tuple[Match, ...] | None:
    """Return the matches that stand near one another in a text, one a group."""
    watched = Nearness(len(groups), within)
    for match in Matcher([term for group in groups for term in group]).find(fold(text)):
        for number, group in enumerate(groups):
            if match.term in group:
                watched.feed(number, match)
    return watched.found


def test_groups_within_the_distance_are_near_in_either_order() -> None:
    child, act = ("child", "kid"), ("nude",)
    assert near("a child who is nude", 2, child, act) is not None
    assert near("nude, one, two, kid", 2, child, act) is not None


def test_groups_beyond_the_distance_are_not_near() -> None:
    assert near("a child plays. Elsewhere hangs a nude", 2, ("child",), ("nude",)) is None


def test_a_later_pair_counts_although_an_earlier_one_was_too_far_apart() -> None:
    text = "child " + "word " * 20 + "nude " + "word " * 20 + "child nude"
    found = near(text, 3, ("child",), ("nude",))
    assert found is not None
    assert [match.start for match in found] == [len(text) - 10, len(text) - 4]


def test_three_groups_all_have_to_be_near() -> None:
    groups = (("emma",), ("woman",), ("nude",))
    assert near("emma nude woman", 1, *groups) is not None
    assert near("emma woman far far far nude", 1, *groups) is None


def test_an_excerpt_keeps_the_words_and_drops_what_no_database_takes() -> None:
    text = "x" * 100 + " bad\x00 \ud800 ch1ld " + "y" * 100
    start = text.index("ch1ld")
    shown = excerpt(text, start, start + 5, around=10)
    assert "ch1ld" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert "\x00" not in shown
    shown.encode()
