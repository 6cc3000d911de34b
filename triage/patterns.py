"""Operators' own patterns: terms that are written ``re:…``, run by RE2.

RE2 reads a text once, whatever the pattern (R. Cox, "Regular Expression Matching Can Be Simple And
Fast", 2007): no pattern and no upload can make a worker hang, which the backtracking of Python's
``re`` allows. Patterns see a text as it is written, in any case; only words are unmasked
(``triage/folding.py``).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import re2

from triage.folding import Folded

PREFIX = "re:"
# Each search begins anew behind the last match, and a pattern can make each read the text to its
# end: this bounds them all, in characters. RE2 reads about 400 million a second, and a text of
# 100,000 characters may hold 20,000 matches before anything is cut off.
MOST_READ = 2_000_000_000
# For the automaton; RE2 refuses a pattern that needs more, such as one with nested repetitions.
MEMORY = 4 * 1024 * 1024


class PatternError(ValueError):
    """A pattern cannot be used. The message says why."""


class TooManyMatchesError(ValueError):
    """A pattern is found too often in a long text for the rest of it to be searched."""

    code = "term.too_many_matches"


@dataclass(frozen=True, slots=True)
class Span:
    """Where a pattern was found: in the text, and in its words."""

    start: int
    end: int
    first_word: int
    last_word: int


class Pattern:
    """One pattern, in RE2's syntax, ready to be looked for. Raises ``PatternError``."""

    def __init__(self, written: str) -> None:
        self._written = written
        options = re2.Options()
        options.case_sensitive = False
        options.log_errors = False
        options.max_mem = MEMORY
        try:
            self._compiled: Any = re2.compile(written, options)
        except re2.error as error:
            reason = error.args[0]
            says = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise PatternError(f"RE2 cannot read the pattern “{written}”: {says}.") from error
        if self._compiled.search("") is not None:
            raise PatternError(
                f"The pattern “{written}” is found in an empty text, so it would be found "
                "everywhere. Ask for at least one character."
            )

    def find(self, folded: Folded) -> Iterator[Span]:
        """Yield where the pattern is found, in the order of the text.

        Raises ``TooManyMatchesError`` where more than ``MOST_READ`` characters would be read.
        """
        # Halves of surrogate pairs cannot be encoded; one character stands for one.
        text = folded.text.encode(errors="replace").decode()
        could_read = 0
        for number, found in enumerate(self._compiled.finditer(text), 1):
            start, end = found.span()
            could_read += len(text) - start
            if could_read > MOST_READ:
                raise TooManyMatchesError(
                    f"The pattern “{self._written}” was found {number:,} times in a text of "
                    f"{len(text):,} characters, too often to search the rest; it has to be read "
                    "by a person."
                )
            if start == end:
                continue
            before = bisect_right(folded.starts, start) - 1
            inside = before >= 0 and folded.ends[before] > start
            first = before if inside else before + 1
            yield Span(start, end, first, max(bisect_left(folded.starts, end) - 1, first))
