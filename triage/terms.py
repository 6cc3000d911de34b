r"""Finding written terms in strangers' text: whole words only, but for patterns.

How a term is written (the whole syntax):

- Words, in any case, separated by spaces or punctuation: ``fu manchu``. A term matches whole
  words in this order, never a part of one: ``peg`` is not in ``pegboard``.
- ``*`` at the end of a word of three letters or more stands for any ending: ``pregnan*``.
- ``re:`` and a regular expression in RE2's syntax: ``re:pony\s*v[0-9]+``, in any case. Unlike
  words, a pattern is compared with the text as it is written.
- ``1..17`` is any number in that range, and what follows it directly must follow the number
  too: ``1..17 year* old``, ``1..17yo``.

What counts as a word of the text, and in which forms it is read, is in ``triage/folding.py``.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge

from triage import patterns
from triage.folding import MAX_DISGUISE, REMEMBERED_WORDS, Folded, fold

# Longer than any name in use, and a bound on the work that one starting word can cause.
MAX_TERM_WORDS = 8

# A prefix of one or two letters would match a large part of the dictionary.
MIN_PREFIX = 3


class TermError(ValueError):
    """A term is not written in the syntax above. The message says what to change."""

    code = "term.syntax"


_LEADING_NUMBER = re.compile(r"([0-9]{1,4})(?![0-9])(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Match:
    """One term found: the span in the original text and the numbers of its words.

    ``denied`` is for those who read what stands before it; the matcher does not set it.
    """

    term: str
    start: int
    end: int
    first_word: int
    last_word: int
    denied: bool = False


class _Node:
    """One step of the trie of all terms, word by word."""

    __slots__ = ("children", "numbers", "prefix_lengths", "prefixes", "terms")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.prefixes: dict[str, _Node] = {}
        self.prefix_lengths: tuple[int, ...] = ()
        self.numbers: dict[str, list[tuple[int, int, _Node]]] = {}
        self.terms: list[str] = []

    @property
    def leads_on(self) -> bool:
        """Whether any term goes on from here."""
        return bool(self.children or self.prefixes or self.numbers)

    def after(self, forms: tuple[str, ...]) -> Iterator["_Node"]:
        """Yield the nodes that a word leads to."""
        for form in forms:
            child = self.children.get(form)
            if child is not None:
                yield child
            for length in self.prefix_lengths:
                child = self.prefixes.get(form[:length])
                if child is not None:
                    yield child
        if self.numbers:
            number = _LEADING_NUMBER.fullmatch(forms[0])
            if number:
                for low, high, child in self.numbers.get(number[2], ()):
                    if low <= int(number[1]) <= high:
                        yield child


_RANGE = re.compile(r"([0-9]{1,4})\.\.([0-9]{1,4})(\w*)")


class Matcher:
    """Finds many terms at once. Raises ``TermError`` for a term that is not well written."""

    def __init__(self, terms: Iterable[str] = ()) -> None:
        self._root = _Node()
        self._known: set[str] = set()
        self._patterns: dict[str, patterns.Pattern] = {}
        self._started: dict[tuple[str, ...], bool] = {}
        for term in terms:
            self.add(term)

    def find(self, folded: Folded) -> Iterator[Match]:
        """Yield every match in the order of the text; terms may overlap.

        Linear in the number of words: what one word can start is bounded by the terms. Raises
        ``TooManyMatchesError`` where a pattern would read a long text too often.
        """
        if not self._patterns:
            return self._find_words(folded)
        matches = (self._find_pattern(folded, term) for term in self._patterns)
        return merge(self._find_words(folded), *matches, key=lambda match: match.first_word)

    def _find_pattern(self, folded: Folded, term: str) -> Iterator[Match]:
        for span in self._patterns[term].find(folded):
            yield Match(term, span.start, span.end, span.first_word, span.last_word)

    def _find_words(self, folded: Folded) -> Iterator[Match]:
        for first, forms in enumerate(folded.forms):
            # Most words start nothing; this line is the inner loop of the whole search.
            if self._starts(forms) or first in folded.joined:
                yield from self._find_at(folded, first)

    def _starts(self, forms: tuple[str, ...]) -> bool:
        """Return whether a word starts a term, looking it up once however often it occurs."""
        known = self._started.get(forms)
        if known is None:
            known = any(True for _ in self._root.after(forms))
            if len(self._started) >= REMEMBERED_WORDS:
                self._started.clear()
            if len(forms[0]) <= MAX_DISGUISE:
                self._started[forms] = known
        return known

    def _find_at(self, folded: Folded, first: int) -> Iterator[Match]:
        seen: set[tuple[int, int]] = set()
        # Each entry: the node reached, the next word, and the span so far (none yet at the root).
        reached = [(self._root, first, folded.starts[first], 0)]
        while reached:
            node, place, start, end = reached.pop()
            for term in node.terms:
                yield Match(term, start, end, first, place - 1)
            if place >= len(folded.forms) or not node.leads_on:
                continue
            steps = [
                (child, place + 1, start, folded.ends[place])
                for child in node.after(folded.forms[place])
            ]
            for reading in folded.joined.get(place, ()):
                begin = reading.start if place == first else start
                steps += [
                    (child, place + reading.words, begin, reading.end)
                    for child in node.after(reading.forms)
                ]
            for step in steps:
                if (id(step[0]), step[1]) not in seen:
                    seen.add((id(step[0]), step[1]))
                    reached.append(step)

    def add(self, term: str) -> None:
        """Add a term; one that is there already changes nothing. Raises ``TermError``."""
        if term in self._known:
            return
        if term.startswith(patterns.PREFIX):
            try:
                self._patterns[term] = patterns.Pattern(term.removeprefix(patterns.PREFIX))
            except patterns.PatternError as error:
                raise TermError(str(error)) from error
            self._known.add(term)
            return
        node, count = self._root, 0
        for token in term.split():
            ranged = _RANGE.fullmatch(token)
            if ranged:
                node = self._number(node, term, ranged)
                count += 1
                continue
            starred = token.endswith("*")
            words = [forms[0] for forms in fold(token.rstrip("*")).forms]
            if starred and not words:
                raise TermError(f"In the term “{term}” the star stands alone; add letters to it.")
            for place, word in enumerate(words):
                if starred and place == len(words) - 1:
                    if len(word) < MIN_PREFIX:
                        raise TermError(
                            f"In the term “{term}” the star follows “{word}”; "
                            f"it needs at least {MIN_PREFIX} letters before it."
                        )
                    node.prefix_lengths = tuple(sorted({*node.prefix_lengths, len(word)}))
                    node = node.prefixes.setdefault(word, _Node())
                else:
                    node = node.children.setdefault(word, _Node())
            count += len(words)
        if not count:
            raise TermError(f"The term “{term}” has no letters or digits in it.")
        if count > MAX_TERM_WORDS:
            raise TermError(
                f"The term “{term}” has {count} words; at most {MAX_TERM_WORDS} are allowed."
            )
        node.terms.append(term)
        self._known.add(term)
        self._started.clear()

    def _number(self, node: _Node, term: str, ranged: re.Match[str]) -> _Node:
        low, high, suffix = int(ranged[1]), int(ranged[2]), ranged[3].casefold()
        if low > high:
            raise TermError(f"In the term “{term}” the range {low}..{high} is empty.")
        known = node.numbers.setdefault(suffix, [])
        for known_low, known_high, child in known:
            if (known_low, known_high) == (low, high):
                return child
        child = _Node()
        known.append((low, high, child))
        return child


class Nearness:
    """Watches one text's matches for all of several groups close to one another.

    Feed matches in the order of the text. ``found`` holds one match a group as soon as the
    words between the first and the last of them number at most ``within`` and not all of them
    are denied. Only the latest match of each group is kept, and the latest that is not denied,
    which is enough: an earlier one lies farther away.
    """

    def __init__(self, groups: int, within: int) -> None:
        self._latest: list[Match | None] = [None] * groups
        self._latest_said: list[Match | None] = [None] * groups
        self._within = within
        self.found: tuple[Match, ...] | None = None

    def feed(self, group: int, match: Match) -> None:
        """Take in the next match, which belongs to the group with this number."""
        self._latest[group] = match
        if not match.denied:
            self._latest_said[group] = match
        if self.found is not None:
            return
        latest = [known for known in self._latest if known is not None]
        if len(latest) < len(self._latest):
            return
        # A denial that was put between must not hide what was said before it.
        for place, said in enumerate(self._latest_said):
            if said is None:
                continue
            together = (*latest[:place], said, *latest[place + 1 :])
            first = min(together, key=lambda known: known.first_word)
            last = max(together, key=lambda known: known.first_word)
            if last.first_word - first.last_word - 1 <= self._within:
                self.found = together
                return
