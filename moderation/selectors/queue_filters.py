"""What a link to the queue asks for: reads it, says what it cannot find, writes it back."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import get_language_info

from moderation.models import Account, Case, CaseFacet, CaseText, Rule
from moderation.search import folded
from moderation.states import LISTED_CASES, UNCONFIRMED_CASES, CaseState

# What the counters count, and what their links show.
STATES: Mapping[str, tuple[str, frozenset[str]]] = {
    "queued": ("new", frozenset({CaseState.QUEUED})),
    "in_review": ("in review", frozenset({CaseState.CLAIMED, CaseState.HEARING})),
    "asked": ("waiting for the creator", frozenset({CaseState.ASKED})),
    "escalated": ("escalated", frozenset({CaseState.ESCALATED})),
    "appealed": ("appeals", frozenset({CaseState.APPEALED})),
    "second": ("for a second person", UNCONFIRMED_CASES),
    # Not in the queue any more; for those who search.
    "decided": ("decided", frozenset({CaseState.DECIDED})),
    "closed": ("closed", frozenset({CaseState.CLOSED})),
    # As links of the first release had them.
    "claimed": ("with a moderator", frozenset({CaseState.CLAIMED})),
    "hearing": ("appeals being heard", frozenset({CaseState.HEARING})),
}
AGES: Mapping[str, tuple[str, timedelta]] = {
    "1d": ("older than a day", timedelta(days=1)),
    "3d": ("older than 3 days", timedelta(days=3)),
    "7d": ("older than a week", timedelta(days=7)),
}
PROBES: Mapping[str, str] = {
    "container": "The build of the file",
    "previews": "The previews",
    "thumbnails": "Pictures inside files",
    "claims": "What page and files say",
    "text_space": "The words of an embedding",
    "lineage": "Comparison with known models",
    "banks": "Comparison with banked material",
}
TRACKS: Mapping[str, str] = {
    "likeness": "a depicted person asks",
    "illegal": "said to be illegal",
    "flagger": "from a trusted flagger",
    "copy": "said to be a copy",
    "rule": "said to break a rule",
}
# The filters that are facets of a case.
FACETS = ("rule", "probe", "language", "track")
# Where a page begins.
PLACES = ("after", "before")
# pg_trgm indexes three letters at a time; with fewer every text would have to be read.
SHORTEST_WORD = 3
MOST_WORDS = 8


@dataclass(frozen=True)
class QueueFilter:
    """The filters of one link, as its query has them; empty ones filter nothing."""

    q: str = ""
    state: str = ""
    rule: str = ""
    source: str = ""
    track: str = ""
    probe: str = ""
    language: str = ""
    age: str = ""
    assigned: str = ""
    # Sentences about what the link asks for and cannot have; the values themselves are kept.
    unknown: tuple[str, ...] = field(default=(), compare=False)
    ignored: frozenset[str] = field(default=frozenset(), compare=False)

    def query(self, **changes: str) -> str:
        """Return the query of a link with these filters, some of them changed."""
        pairs = {name: changes.get(name, getattr(self, name)) for name in NAMES}
        return urlencode({name: value for name, value in pairs.items() if value})

    def value(self, name: str) -> str:
        """Return a filter's value if it is one that filters."""
        return "" if name in self.ignored else str(getattr(self, name))

    @property
    def is_active(self) -> bool:
        """Return whether anything is filtered or searched."""
        return any(getattr(self, name) for name in NAMES)


NAMES = tuple(each.name for each in fields(QueueFilter) if each.name not in {"unknown", "ignored"})


@dataclass(frozen=True)
class Choice:
    """One value of a filter that the page offers."""

    value: str
    label: str
    chosen: bool = False


@dataclass(frozen=True)
class Active:
    """One filter in force, in words, and the link without it."""

    label: str
    without: str


def filter_read(query: Mapping[str, str], rules: Mapping[str, str]) -> QueueFilter:
    """Read the filters of a link; ``rules`` are the titles of the rules in force by slug.

    A filter or value that means nothing (any more) is left out of the search and named in
    ``unknown``.
    """
    values: dict[str, Any] = {name: query.get(name, "").strip()[:200] for name in NAMES}
    given = QueueFilter(**values)
    unknown: dict[str, str] = {}
    if given.rule and given.rule not in rules and not _has_rule(given.rule):
        unknown["rule"] = f"No policy here has a rule “{given.rule}”."
    closed_lists: tuple[tuple[str, Container[str], str], ...] = (
        ("state", STATES, "state"),
        ("source", Case.Source.values, "source"),
        ("age", AGES, "age"),
        ("track", TRACKS, "kind of report"),
        ("assigned", ("me", "nobody"), "assignment"),
    )
    for name, known, what in closed_lists:
        value = getattr(given, name)
        if value and value not in known:
            unknown[name] = f"There is no {what} “{value}”."
    for kind in (CaseFacet.Kind.PROBE, CaseFacet.Kind.LANGUAGE):
        value = getattr(given, kind.value)
        if value and value not in PROBES and not _has_facet(kind, value):
            unknown[kind.value] = f"No case has the {kind.label} “{value}”."
    strange = [name[:40] for name in query if name not in {*NAMES, *PLACES}]
    sentences = [
        f"{sentence} That filter is left out; the rest of the link holds."
        for sentence in (
            *unknown.values(),
            *(f"There is nothing to filter by “{name}”." for name in strange[:MOST_WORDS]),
        )
    ]
    short = [word for word in _words(given.q) if len(word) < SHORTEST_WORD]
    if short:
        sentences.append(
            f"Words of fewer than {SHORTEST_WORD} letters are not searched for: “{short[0]}”."
        )
    return replace(given, unknown=tuple(sentences), ignored=frozenset(unknown))


def filter_apply(cases: QuerySet[Case], asked: QueueFilter, account: Account) -> QuerySet[Case]:
    """Return the cases that a link asks for: the open ones, unless it names a state."""
    state = asked.value("state")
    cases = cases.filter(state__in=sorted(STATES[state][1] if state else LISTED_CASES))
    if source := asked.value("source"):
        cases = cases.filter(source=source)
    if age := asked.value("age"):
        cases = cases.filter(opened_at__lt=timezone.now() - AGES[age][1])
    if assigned := asked.value("assigned"):
        to = account if assigned == "me" else None
        cases = cases.filter(assigned_to=to) if to else cases.filter(assigned_to__isnull=True)
    for kind in FACETS:
        if value := asked.value(kind):
            facet = CaseFacet.objects.filter(case=OuterRef("pk"), kind=kind, value=value)
            cases = cases.filter(Exists(facet))
    for word in searched_words(asked):
        cases = cases.filter(
            Exists(CaseText.objects.filter(case=OuterRef("pk"), text__contains=word))
        )
    return cases


def searched_words(asked: QueueFilter) -> list[str]:
    """Return the words that every hit must contain, each as any part of its texts."""
    return [word for word in _words(asked.q) if len(word) >= SHORTEST_WORD]


def choices(asked: QueueFilter, rules: Mapping[str, str]) -> dict[str, list[Choice]]:
    """Return what each menu of the page offers."""
    languages = ("en", "de", "es", "fr", "it", "ja", "ko", "pl", "pt", "ru", "zh")
    offered = {
        "rule": dict(rules),
        "source": {value: str(label) for value, label in Case.Source.choices},
        "track": dict(TRACKS),
        "probe": dict(PROBES),
        "language": {code: language_name(code) for code in languages},
        "age": {value: label for value, (label, _) in AGES.items()},
        "assigned": {"me": "me", "nobody": "nobody"},
        "state": {value: STATES[value][0] for value in ("decided", "closed")},
    }
    for name, values in offered.items():
        value = getattr(asked, name)
        if value and value not in values and name != "state":
            # What an old link asks for stays chosen, so that sending the form does not lose it.
            values[value] = value
    return {
        name: [
            Choice(value, label, value == getattr(asked, name)) for value, label in values.items()
        ]
        for name, values in offered.items()
    }


def in_words(asked: QueueFilter, rules: Mapping[str, str]) -> list[Active]:
    """Say each filter in force, with the link that lifts it."""
    labels = {
        "q": f"“{asked.q}”",
        "state": STATES[asked.state][0] if asked.value("state") else "",
        "rule": rules.get(asked.rule, asked.rule),
        "source": f"opened by {Case.Source(asked.source).label}" if asked.value("source") else "",
        "track": TRACKS.get(asked.track, asked.track),
        "probe": PROBES.get(asked.probe, asked.probe),
        "language": f"in {language_name(asked.language)}",
        "age": AGES[asked.age][0] if asked.value("age") else "",
        "assigned": f"assigned to {asked.assigned}",
    }
    return [Active(labels[name], asked.query(**{name: ""})) for name in NAMES if asked.value(name)]


def language_name(code: str) -> str:
    """Return the English name of a language, or its code."""
    try:
        return str(get_language_info(code)["name"])
    except KeyError:
        return "Chinese" if code == "zh" else code


# --- Where a page begins --------------------------------------------------------------------


@dataclass(frozen=True)
class Cursor:
    """A place between two cases: everything after it, or everything before it."""

    turn_at: datetime
    pk: int
    backwards: bool = False

    def apply(self, cases: QuerySet[Case]) -> QuerySet[Case]:
        """Return the cases on this cursor's side. The first bound is what the index serves."""
        if self.backwards:
            near = Q(turn_at__lt=self.turn_at) | Q(pk__lt=self.pk)
            return cases.filter(near, turn_at__lte=self.turn_at)
        near = Q(turn_at__gt=self.turn_at) | Q(pk__gt=self.pk)
        return cases.filter(near, turn_at__gte=self.turn_at)


def cursor_write(case: Case) -> str:
    """Return a case's place as a value for ``after=`` or ``before=``: microseconds and number."""
    return f"{(case.turn_at - _EPOCH) // timedelta(microseconds=1)}-{case.pk}"


def cursor_read(query: Mapping[str, str]) -> Cursor | None:
    """Return where a page begins; None for the first page, and for a value that is none."""
    for name, backwards in zip(PLACES, (False, True), strict=True):
        moment, _, number = query.get(name, "").partition("-")
        if not (moment.isascii() and moment.isdigit() and number.isascii() and number.isdigit()):
            continue
        if len(moment) > 16 or len(number) > 18:
            continue
        return Cursor(_EPOCH + timedelta(microseconds=int(moment)), int(number), backwards)
    return None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _words(text: str) -> list[str]:
    return folded(text).split()[:MOST_WORDS]


def _has_rule(slug: str) -> bool:
    return Rule.objects.filter(slug=slug).exists()


def _has_facet(kind: CaseFacet.Kind, value: str) -> bool:
    return CaseFacet.objects.filter(kind=kind, value=value).exists()
