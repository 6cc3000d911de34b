"""Searching the texts about one subject for what a policy's rules name.

Everything the rules and the people list ask for is compiled into one matcher, so that each text
is read once. Reads ``Rule.terms``, ``Rule.conditions`` and ``Sample.people``; knows no scores.

In a condition's group the term ``{person}`` stands for any name on the people list that has no
consent under the rule, so that "a listed person near a sexual word" is data like any other.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date

from triage.claims import Claim
from triage.folding import excerpt, fold, shown
from triage.sample import Person, Rule, TermCondition
from triage.terms import Match, Matcher, Nearness, TermError

PERSON = "{person}"

# What trainers and taggers call the class of a subject (kohya's class tokens, booru tags and
# captions): beside a name, they say that the name is a person to be drawn.
PERSON_CLASSES = (
    *("person", "celebrity", "influencer", "streamer", "youtuber", "politician", "athlete"),
    *("woman", "girl", "lady", "female", "actress", "man", "boy", "guy", "male", "actor"),
    *("singer", "likeness", "lookalike", "deepfake", "face", "portrait"),
)
# "a photo of NAME, a famous American actress": the class follows within a few words.
CLASS_DISTANCE = 5

# A name of several words is also found written as one ("annasample"), but not where the result
# is so short that it could be a word.
MIN_JOINED_NAME = 8

# What is kept of each rule's matches; the rest is counted. A page of evidence shows fewer.
MAX_HITS = 20

# Directly before a term they say that it is not there ("no nudity", "non-sexual").
_NEGATIONS = frozenset({"no", "non", "not", "never", "without", "zero", "anti"})


@dataclass(slots=True)
class Hit:
    """A term found in a text: where, in which words, and how often in all."""

    term: str
    field: str
    excerpt: str
    count: int
    naming: bool = False
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Together:
    """A condition that was met: one hit for each of its groups."""

    condition: TermCondition
    hits: tuple[Hit, ...]


@dataclass(slots=True)
class Named:
    """A person of the list in the texts: every mention, and what makes it more than one."""

    person: Person
    mentions: list[Hit]
    names_the_model: Hit | None = None
    beside_class: tuple[Hit, Hit] | None = None


def consent_lifts(person: Person, rule: Rule, today: date) -> bool:
    """Tell whether a person's consent lifts a rule today."""
    return any(
        rule.slug in consent.rules
        and not consent.withdrawn
        and (consent.until is None or today <= consent.until)
        for consent in person.consents
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """One group of one condition of one rule, by their places."""

    rule: int
    condition: int
    group: int


class PolicySearch:
    """Everything that some rules and a people list ask for, ready to be looked for.

    ``problems`` holds, by the slug of the rule, what is wrong with terms that cannot be used.
    """

    def __init__(self, rules: Iterable[Rule], people: Iterable[Person], today: date) -> None:
        self.rules = tuple(rules)
        self.people = tuple(people)
        self.problems: dict[str, str] = {}
        self.matcher = Matcher()
        self.lone: dict[str, list[int]] = {}
        self.groups: dict[str, list[_Group]] = {}
        self.names: dict[str, list[int]] = {}
        self.groups_of_person: dict[int, list[_Group]] = {}
        self.classes = frozenset(PERSON_CLASSES if self.people else ())
        for term in self.classes:
            self.matcher.add(term)
        for number, person in enumerate(self.people):
            self._add_person(number, person)
        for number, rule in enumerate(self.rules):
            try:
                self._add_rule(number, rule, today)
            except TermError as error:
                self.problems[rule.slug] = str(error)

    def _add_person(self, number: int, person: Person) -> None:
        for name in (person.name, *person.aliases):
            # A name is no pattern: what would be syntax in a term separates its words.
            words = fold(name.replace("*", " ").replace("..", " ")).forms
            spellings = [" ".join(forms[0] for forms in words)]
            joined = "".join(forms[0] for forms in words)
            if len(words) > 1 and len(joined) >= MIN_JOINED_NAME:
                spellings.append(joined)
            for spelling in filter(None, spellings):
                self.matcher.add(spelling)
                self.names.setdefault(spelling, []).append(number)

    def _add_rule(self, number: int, rule: Rule, today: date) -> None:
        for term in rule.terms:
            self.matcher.add(term)
            self.lone.setdefault(term, []).append(number)
        for place, condition in enumerate(rule.conditions):
            for group_place, group in enumerate(condition.groups):
                here = _Group(number, place, group_place)
                for term in group.terms:
                    if term == PERSON:
                        for index, person in enumerate(self.people):
                            if not consent_lifts(person, rule, today):
                                self.groups_of_person.setdefault(index, []).append(here)
                    else:
                        self.matcher.add(term)
                        self.groups.setdefault(term, []).append(here)

    def over(self, claims: Iterable[Claim]) -> "Found":
        """Search texts.

        Raises ``TextTooLongError`` for one beyond the limit of ``fold``, ``TooManyMatchesError``
        where a pattern is found too often in a long one.
        """
        found = Found(self)
        for claim in claims:
            found.read(claim)
        return found


class Found:
    """What a search found in the texts about one subject."""

    def __init__(self, search: PolicySearch) -> None:
        self._search = search
        self.texts = 0
        self._lone: dict[int, dict[tuple[str, str, bool], Hit]] = {}
        self._anywhere: dict[_Group, Hit] = {}
        self._near: dict[tuple[int, int], tuple[Hit, ...]] = {}
        self._people: dict[int, Named] = {}

    def read(self, claim: Claim) -> None:
        """Search one more text."""
        search = self._search
        self.texts += 1
        folded = fold(claim.text)
        watched: dict[tuple[int, int], Nearness] = {}
        # Names near enough for a class of person to be about them, and the class last seen.
        names: deque[tuple[int, Match]] = deque()
        last_class: Match | None = None
        for match in search.matcher.find(folded):
            before = folded.forms[match.first_word - 1] if match.first_word else ()
            if not _NEGATIONS.isdisjoint(before):
                match = replace(match, denied=True)
            people = search.names.get(match.term, ())
            if match.term in search.lone:
                self._count_lone(claim, match)
            while names and match.first_word - names[0][1].last_word - 1 > CLASS_DISTANCE:
                names.popleft()
            if match.term in search.classes:
                last_class = match
                for person, name in names:
                    self._beside(claim, person, name, match)
            for person in people:
                self._name(claim, match, person)
                names.append((person, match))
                if last_class and match.first_word - last_class.last_word - 1 <= CLASS_DISTANCE:
                    self._beside(claim, person, match, last_class)
            groups = list(search.groups.get(match.term, ()))
            for person in people:
                groups += search.groups_of_person.get(person, ())
            for group in groups:
                known = self._anywhere.get(group)
                if known is None or (known.denied and not match.denied):
                    self._anywhere[group] = _hit(claim, match)
                condition = search.rules[group.rule].conditions[group.condition]
                if condition.within is not None:
                    key = (group.rule, group.condition)
                    if key not in watched:
                        watched[key] = Nearness(len(condition.groups), condition.within)
                    watched[key].feed(group.group, match)
        for key, nearness in watched.items():
            if nearness.found and key not in self._near:
                self._near[key] = tuple(_hit(claim, match) for match in nearness.found)

    def hits(self, rule: Rule) -> list[Hit]:
        """Return the lone terms of a rule, those that are denied last."""
        number = self._search.rules.index(rule)
        return sorted(self._lone.get(number, {}).values(), key=lambda hit: hit.denied)

    def together(self, rule: Rule, beyond: Iterable["Found"] = ()) -> list[Together]:
        """Return the conditions of a rule that were met; one denied throughout was not.

        Where a condition sets no distance, ``beyond`` may add what these texts lack, as long as
        at least one of its groups is among them.
        """
        number = self._search.rules.index(rule)
        met = []
        for place, condition in enumerate(rule.conditions):
            if condition.within is not None:
                near = self._near.get((number, place))
                if near:
                    met.append(Together(condition, near))
                continue
            keys = [_Group(number, place, group) for group in range(len(condition.groups))]
            sources = (self, *beyond)
            hits = [
                next((found._anywhere[key] for found in sources if key in found._anywhere), None)
                for key in keys
            ]
            present = tuple(hit for hit in hits if hit)
            if (
                any(key in self._anywhere for key in keys)
                and len(present) == len(keys)
                and not all(hit.denied for hit in present)
            ):
                met.append(Together(condition, present))
        return met

    def people(self) -> Iterator[Named]:
        """Yield the people of the list that the texts name."""
        yield from self._people.values()

    def _count_lone(self, claim: Claim, match: Match) -> None:
        for rule in self._search.lone[match.term]:
            hits = self._lone.setdefault(rule, {})
            key = (match.term, claim.field, match.denied)
            if key in hits:
                hits[key].count += claim.count
            # Denials may not crowd out the rest.
            elif sum(hit.denied is match.denied for hit in hits.values()) < MAX_HITS:
                hits[key] = _hit(claim, match)

    def _name(self, claim: Claim, match: Match, person: int) -> None:
        named = self._people.setdefault(person, Named(self._search.people[person], []))
        if claim.naming and named.names_the_model is None:
            named.names_the_model = _hit(claim, match)
        for known in named.mentions:
            if known.term == match.term and known.field == shown(claim.field):
                known.count += claim.count
                return
        if len(named.mentions) < MAX_HITS:
            named.mentions.append(_hit(claim, match))

    def _beside(self, claim: Claim, person: int, name: Match, person_class: Match) -> None:
        named = self._people[person]
        if named.beside_class is None:
            named.beside_class = (_hit(claim, name), _hit(claim, person_class))


def _hit(claim: Claim, match: Match) -> Hit:
    quoted = excerpt(claim.text, match.start, match.end)
    # A label can hold a stranger's words too: a folder's name, a key.
    return Hit(match.term, shown(claim.field), quoted, claim.count, claim.naming, match.denied)
