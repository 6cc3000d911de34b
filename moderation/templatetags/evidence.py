"""The evidence of a finding in words: what decided first, everything else behind it.

A probe may write any JSON. Keys that this page knows are said in sentences; all others are shown
as they are, so that nothing is lost when a probe learns something new.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django import template

from moderation.models import Finding

register = template.Library()

Lines = list[str]


@dataclass(frozen=True)
class Explained:
    """Labels with their lines: what a moderator reads, and what stands behind it."""

    first: list[tuple[str, Lines]]
    rest: list[tuple[str, Lines]]


@register.filter
def in_plain_words(key: str) -> str:
    """Turn a machine's name into words: “tensor_count” into “Tensor count”."""
    return key.replace("_", " ").replace(".", ": ").strip().capitalize()


@register.filter
def explained(finding: Finding) -> Explained:
    """Return the evidence of a finding in words."""
    evidence: Mapping[str, Any] = finding.evidence if isinstance(finding.evidence, dict) else {}
    first = [
        (label, lines)
        for key, label, say in _KNOWN
        if key in evidence and (lines := say(evidence[key]))
    ]
    known = {key for key, _, _ in _KNOWN}
    rest = [
        (in_plain_words(key), lines)
        for key, value in evidence.items()
        if key not in known and (lines := _lines(value))
    ]
    return Explained(first, rest)


# --- What is known --------------------------------------------------------------------------


def _nearest(prompt: str) -> Callable[[Any], Lines]:
    """Return what says one side of the comparison that decided a picture's score."""

    def say(deciding: Any) -> Lines:
        text, cosine = _of(deciding, prompt), _of(deciding, f"{prompt}_cosine")
        if not text:
            return []
        return [f"“{text}”, cosine {cosine:.3f}" if isinstance(cosine, float) else f"“{text}”"]

    return say


def _calibrated(value: Any) -> Lines:
    if value is False:
        return ["No. The score has not been fitted to moderators’ verdicts yet."]
    return ["Yes, to moderators’ verdicts."] if value is True else _lines(value)


def _matches(value: Any) -> Lines:
    return [_match(each) for each in _each(value)]


def _match(hit: Any) -> str:
    if not isinstance(hit, Mapping):
        return _line(hit)
    count = hit.get("count")
    often = f", {count} times" if isinstance(count, int) and count > 1 else ""
    denied = ", denied" if hit.get("denied") else ""
    field = in_plain_words(str(hit.get("field", "text")))
    return f"{field}: “{hit.get('excerpt', '')}”{often}{denied}"


def _combinations(value: Any) -> Lines:
    return [
        " and ".join(f"{_of(hit, 'group')}: {_match(hit)}" for hit in _each(_of(one, "groups")))
        for one in _each(value)
    ]


def _people(value: Any) -> Lines:
    return [
        f"{_of(person, 'name')}, "
        + ("consent holds" if _of(person, "consent_holds") else "no consent on record")
        for person in _each(value)
    ]


def _folders(value: Any) -> Lines:
    return [
        f"“{_of(folder, 'name')}”"
        + (f", {_of(folder, 'images')} pictures" if _of(folder, "images") else "")
        + (", for regularisation" if _of(folder, "regularisation") else "")
        for folder in _each(value)
    ]


def _picture(value: Any) -> Lines:
    if not isinstance(value, Mapping):
        return _lines(value)
    line = f"{value.get('format', '')}, {value.get('width', '?')} × {value.get('height', '?')}"
    return [f"{line}. {value['note']}" if value.get("note") else line]


def _of(value: Any, key: str) -> Any:
    return value.get(key, "") if isinstance(value, Mapping) else ""


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


# --- What is not known ----------------------------------------------------------------------


def _lines(value: Any) -> Lines:
    if value is None or value in ("", [], {}):
        return []
    if isinstance(value, Mapping):
        return [f"{in_plain_words(str(key))}: {_line(inner)}" for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return [_line(inner) for inner in value]
    return [_line(value)]


def _line(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(
            f"{in_plain_words(str(key)).lower()} {_line(inner)}" for key, inner in value.items()
        )
    if isinstance(value, list | tuple):
        return ", ".join(_line(inner) for inner in value)
    return str(value)


_KNOWN: tuple[tuple[str, str, Callable[[Any], Lines]], ...] = (
    ("deciding", "Nearest prohibited", _nearest("prompt")),
    ("deciding", "Nearest contrast", _nearest("contrast")),
    ("calibrated", "Calibrated", _calibrated),
    ("people", "People list", _people),
    ("matches", "Found in", _matches),
    ("combinations", "Together", _combinations),
    ("folders", "Training folders", _folders),
    ("picture", "Picture", _picture),
    ("notes", "Note", _lines),
)
