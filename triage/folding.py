"""Reading strangers' text word by word, whatever costume the words wear.

A text is cut into words where letters and digits end, so spaces, commas, hyphens and underscores
all separate (``10_name woman`` is three words). Chinese, Japanese hiragana, Thai and their kin
write no spaces; there each sign is a word, so that a term matches anywhere, as it must.

Each word is then read in every form a person could read it in:

- as written, after NFKC and case folding, without invisible characters and Latin accents;
- with look-alike letters of other alphabets replaced (Unicode Technical Standard 39);
- with digits and ``@ $ !`` inside words read as letters (``n4k3d``, ``n@ked``);
- without the digits around it (``1girl``), since taggers count and number that way;
- letters spelled one by one (``n u d e``) read together.

Every form is compared whole, so no reading turns into a substring search. All positions are
those of the original text, which is what evidence quotes.
"""

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from confusable_homoglyphs import confusables

# The metadata of one file is at most 4 MB (see triage/containers/safetensors.py); ten million
# characters leave room for the page and its prompts and take seconds, not minutes.
MAX_TEXT = 10_000_000

# Disguised words longer than this are noise: the longest English dictionary word has 45 letters.
MAX_DISGUISE = 64

# How many different words are remembered; a text of all different words would fill memory.
REMEMBERED_WORDS = 50_000

# A term between words padded with invisible characters can span a whole text.
_LONGEST_EXCERPT = 280

# What is left of a word without its digits has to be a word still.
MIN_BARE = 3


class TextTooLongError(ValueError):
    """A text is longer than ``MAX_TEXT`` characters, so it was not searched at all."""

    code = "term.text_too_long"


# --- Letters -------------------------------------------------------------------------------

# Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, hiragana, Han.
# Katakana writes foreign words as one run, so it stays whole.
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3"
    "\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)

# Letters in boxes and flags, which NFKC leaves alone: first code point of each A..Z.
_BOXED_ALPHABETS = (0x1F150, 0x1F170, 0x1F1E6)

# Fillers that show nothing although Unicode calls them letters, marks or symbols.
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0"


def _characters_by_role() -> tuple[str, str, str]:
    """Return the combining marks, the invisible characters and the symbols that NFKC spells."""
    marks, invisible, symbols = [], list(_BLANK), []
    # Planes 0 and 1 hold every such character but the tags and selectors of plane 14.
    for point in (*range(0x20000), *range(0xE0000, 0xE0200)):
        character = chr(point)
        category = unicodedata.category(character)
        if category == "Cf" or 0xFE00 <= point <= 0xFE0F or point >= 0xE0000:
            invisible.append(character)
        elif category.startswith("M") and character not in _BLANK:
            marks.append(character)
        elif category == "So" and unicodedata.normalize("NFKC", character).isalnum():
            symbols.append(character)
    return "".join(marks), "".join(invisible), "".join(symbols)


_MARKS, _INVISIBLE, _SYMBOLS = _characters_by_role()
_BOXED = {
    first + offset: chr(ord("a") + offset) for first in _BOXED_ALPHABETS for offset in range(26)
}
_DROP_INVISIBLE = dict.fromkeys(map(ord, _INVISIBLE))
_LATIN_ACCENTS = re.compile("(?<=[A-Za-z])[\u0300-\u036f]+")

_LETTER = (
    rf"(?:[^\W_{_UNSPACED}]"
    rf"|[{re.escape(_MARKS + _INVISIBLE + _SYMBOLS)}{''.join(map(chr, _BOXED))}])"
)
# The first two lines are there for speed: skip ASCII that is no letter, take plain English words.
# An apostrophe belongs to the word where one side is short (don't, O'Brien, child's).
_WORD = re.compile(
    r"(?![\x00-/:-@\[-`{-\x7f])"
    r"(?:[A-Za-z0-9]++(?![^\x00-\x7f]|['’])"
    rf"|[{_UNSPACED}]"
    rf"|(?:{_LETTER}{{1,2}}['’])?{_LETTER}++(?:['’]{_LETTER}{{1,2}}(?!{_LETTER}))?)"
)
_APOSTROPHE = re.compile("['’]")
_POSSESSIVE = re.compile("['’][sS]$")

_WITH_SYMBOLS = re.compile(rf"(?:[A-Za-z0-9@$!]|{_LETTER})++")
_SYMBOL_LETTERS = str.maketrans({"@": "a", "$": "s", "!": "1"})
_SPELLED = re.compile(
    r"(?<![^\W_])[^\W_](?:[ ._*+|/\-\u00b7][^\W_](?![^\W_])){2,}"  # at least three letters
)

_DIGIT_LETTERS = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g"}
# Read as "i" by one person and as "l" by the next.
_I_OR_L = "1|"
_MAX_AMBIGUOUS = 3  # 2**3 readings of one word


_LATIN_LETTER = re.compile(
    "LATIN (?:SMALL |CAPITAL )?LETTER (?:SMALL CAPITAL )?([A-Z])(?: WITH |$)"
)
# Latin-1 to Latin Extended Additional, and Latin Extended-C to -E.
_LATIN_EXTENSIONS = (*range(0xC0, 0x2B0), *range(0x1D00, 0x1F00), *range(0x2C60, 0xAB70))


def _look_alikes() -> dict[str, str]:
    """Map each non-ASCII look-alike to its Latin letter, or to "1" where it reads as i or l.

    Source: Unicode Technical Standard 39, as shipped by ``confusable_homoglyphs``. Case counts:
    a capital Cyrillic EN looks like an H, a small one like nothing Latin.
    """
    table: dict[str, str] = {}
    # Small capitals and letters with strokes and hooks, which the standard's table leaves out.
    for point in _LATIN_EXTENSIONS:
        named = _LATIN_LETTER.match(unicodedata.name(chr(point), ""))
        if named:
            table[chr(point)] = named[1].lower()
    for character, others in confusables.confusables_data.items():
        if len(character) != 1 or character.isascii():
            continue
        for other in others:
            spelled = unicodedata.normalize("NFKD", str(other["c"])).translate(_DROP_INVISIBLE)
            base = "".join(c for c in spelled if not unicodedata.combining(c))
            if len(base) == 1 and base.isascii() and base.isalpha():
                table[character] = "1" if base in "lI" else base.lower()
                break
    return table


_LOOK_ALIKES = _look_alikes()


def _visible(raw: str) -> str:
    """Return a word as it looks: NFKC, nothing invisible, no Latin accents, no apostrophes."""
    word = unicodedata.normalize("NFKC", raw.translate(_DROP_INVISIBLE).translate(_BOXED))
    if not word.isascii():
        stripped = _LATIN_ACCENTS.sub("", unicodedata.normalize("NFD", word))
        word = unicodedata.normalize("NFC", stripped)
    return _APOSTROPHE.sub("", _POSSESSIVE.sub("", word))


def _latin_letter(character: str) -> str:
    if character.isascii():
        return character.lower()
    return _LOOK_ALIKES.get(character, character)


def _disguises(visible: str) -> Iterator[str]:
    """Yield the Latin readings of a word with look-alikes or digits in it."""
    if len(visible) > MAX_DISGUISE:
        return
    word = visible
    if not visible.isupper():
        # A capital I within a word can stand in for l ("chiId").
        word = visible[:1] + visible[1:].replace("I", "1")
    word = "".join(map(_latin_letter, word))
    letters = sum(map(str.isalpha, word))
    # One letter with digits is a size, a version or a dimension: 3d, v10, 4k.
    if letters < 2 or len(word) > 2 * letters:
        return
    word = "".join(_DIGIT_LETTERS.get(c, c) for c in word)
    ambiguous = [place for place, c in enumerate(word) if c in _I_OR_L]
    readings: Iterable[tuple[str, ...]] = (("i",) * len(ambiguous), ("l",) * len(ambiguous))
    if len(ambiguous) <= _MAX_AMBIGUOUS:
        readings = product("il", repeat=len(ambiguous))
    for reading in readings:
        spelled = list(word)
        for place, letter in zip(ambiguous, reading, strict=True):
            spelled[place] = letter
        candidate = "".join(spelled)
        if candidate.isascii() and candidate.isalpha():
            yield candidate


def _forms(raw: str) -> tuple[str, ...]:
    """Return every form in which one word can be read, the form as written first."""
    # Longer words are not worth remembering: fifty thousand of them would fill memory.
    return _read(raw) if len(raw) > MAX_DISGUISE else _read_once(raw)


def _read(raw: str) -> tuple[str, ...]:
    if raw.isascii() and raw.isalpha() and "I" not in raw[1:]:
        return (raw.lower(),)
    visible = _visible(raw)
    if not visible:
        return ()
    # NFKC once more, since folding the case can take letters apart.
    plain = unicodedata.normalize("NFKC", visible.casefold())
    forms = {plain: None}
    forms.update(dict.fromkeys(_disguises(visible)))
    bare = plain.strip("0123456789")
    if bare != plain and len(bare) >= MIN_BARE:
        forms[bare] = None
    return tuple(forms)


_read_once = lru_cache(maxsize=REMEMBERED_WORDS)(_read)


# --- Texts ---------------------------------------------------------------------------------


class Joined(NamedTuple):
    """Several words and signs that also read as one word, ``text[start:end]``."""

    forms: tuple[str, ...]
    words: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Folded:
    """A text cut into words. Word i is ``text[starts[i]:ends[i]]`` and reads as ``forms[i]``.

    ``joined[i]`` lists the readings that take word i and its neighbours for one word.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    forms: Sequence[tuple[str, ...]]
    joined: dict[int, list[Joined]] = field(default_factory=dict)


def fold(text: str) -> Folded:
    """Cut a text into words and read each in all its forms, in linear time.

    Raises ``TextTooLongError`` above ``MAX_TEXT`` characters: half a look would be no look.
    """
    if len(text) > MAX_TEXT:
        raise TextTooLongError(
            f"The text has {len(text):,} characters and the limit is {MAX_TEXT:,}; "
            "it has to be read by a person."
        )
    starts, ends = array("I"), array("I")
    forms: list[tuple[str, ...]] = []
    for found in _WORD.finditer(text):
        readings = _forms(found.group())
        if readings:
            starts.append(found.start())
            ends.append(found.end())
            forms.append(readings)
    folded = Folded(text, starts, ends, forms)
    for start, end, reading in _disguised_spans(text):
        first = bisect_left(starts, start)
        spanned = bisect_left(starts, end) - first
        if spanned:
            folded.joined.setdefault(first, []).append(Joined(_forms(reading), spanned, start, end))
    return folded


def _disguised_spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield spans that read as one word though they were cut: ``n@ked``, ``n.u.d.e``."""
    if any(symbol in text for symbol in "@$!"):
        for found in _WITH_SYMBOLS.finditer(text):
            run = found.group()
            shown = run.strip("!")
            if len(shown) <= MAX_DISGUISE and any(symbol in shown for symbol in "@$!"):
                start = found.start() + run.index(shown)
                yield start, start + len(shown), shown.translate(_SYMBOL_LETTERS)
    for found in _SPELLED.finditer(text):
        spelled = found.group()[::2]
        if len(spelled) <= MAX_DISGUISE:
            yield found.start(), found.end(), spelled


def excerpt(text: str, start: int, end: int, around: int = 40) -> str:
    """Return the original words at a span with up to ``around`` characters on either side."""
    left, right = max(0, start - around), min(len(text), max(end, start) + around)
    right = min(right, left + _LONGEST_EXCERPT)
    return f"{'…' if left else ''}{shown(text[left:right])}{'…' if right < len(text) else ''}"


def shown(text: str) -> str:
    """Return a text as it may be stored and shown: one line, no control characters.

    NUL, control characters and halves of surrogate pairs, which databases and terminals should
    not be fed, become U+FFFD.
    """
    line = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c for c in line)
