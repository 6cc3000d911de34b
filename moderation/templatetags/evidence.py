"""The evidence of a finding in words: what decided first, everything else behind it.

A probe may write any JSON. Keys that this page knows are said in sentences; all others are shown
as they are, so that nothing is lost when a probe learns something new.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django import template
from django.urls import NoReverseMatch, reverse

from moderation.models import Finding

register = template.Library()


class Line(NamedTuple):
    """One line of evidence, and where the thing itself is to be seen."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class Explained:
    """Labels with their lines: what a moderator reads, and what stands behind it."""

    first: list[tuple[str, list[Line]]]
    rest: list[tuple[str, list[Line]]]


@register.filter
def in_plain_words(key: str) -> str:
    """Turn a machine's name into words: “tensor_count” into “Tensor count”."""
    return key.replace("_", " ").replace(".", ": ").strip().capitalize()


_PROBES: Mapping[str, str] = {
    "container": "The build of the file",
    "previews": "The previews",
    "claims": "What page and files say",
    "text_space": "The words of an embedding",
    "lineage": "Comparison with known models",
    "banks": "Comparison with banked material",
}


@register.filter
def at(mapping: Mapping[Any, Any], key: Any) -> Any:
    """Return what a mapping holds under a key, or an empty string."""
    return mapping.get(key, "")


@register.filter
def across(share: float) -> float:
    """Return where a share lies across a square of 200 that begins at 10."""
    return round(10 + 200 * share, 1)


@register.filter
def upward(share: float) -> float:
    """Return where a share lies from the bottom of that square."""
    return round(210 - 200 * share, 1)


@register.filter
def digit(number: int) -> str:
    """Return a number from 1 to 9 as a digit that can be pressed; nothing beyond."""
    return str(number) if 1 <= number <= 9 else ""


@register.filter
def margin(finding: Finding) -> str:
    """Say how far a score is from the thresholds around it; nothing where there are none."""
    score, review, hold = finding.score, finding.review, finding.hold
    if score is None or review is None or hold is None:
        return ""
    if score >= hold:
        return f"{score - hold:.2f} above hold"
    if score >= review:
        return f"{score - review:.2f} above review, {hold - score:.2f} below hold"
    return f"{review - score:.2f} below review"


@register.filter
def looked_at(finding: Finding) -> str:
    """Say what a probe looks at, for findings that fall under no rule."""
    return _PROBES.get(finding.probe, in_plain_words(finding.probe))


@register.filter
def explained(finding: Finding) -> Explained:
    """Return the evidence of a finding in words."""
    evidence: Mapping[str, Any] = finding.evidence if isinstance(finding.evidence, dict) else {}
    first = [
        (label, lines)
        for key, label, say in _KNOWN
        if key in evidence and (lines := say(evidence[key]))
    ]
    said = {key for key, _, _ in _KNOWN} | _FOR_MACHINES
    rest = [
        (in_plain_words(key), lines)
        for key, value in evidence.items()
        if key not in said and (lines := _plainly(value))
    ]
    return Explained(first, rest)


# --- What is known --------------------------------------------------------------------------


def _nearest(prompt: str) -> Callable[[Any], list[Line]]:
    """Return what says one side of the comparison that decided a score."""

    def say(deciding: Any) -> list[Line]:
        # Of several readings the first is the strongest.
        first: Any = next(iter(_each(deciding)), None)
        text, cosine = _of(first, prompt), _of(first, f"{prompt}_cosine")
        if not text:
            return []
        return [Line(f"“{text}”, cosine {cosine:.3f}" if _is_number(cosine) else f"“{text}”")]

    return say


def _calibrated(value: Any) -> list[Line]:
    if value is False:
        return [Line("No. The score has not been fitted to moderators’ verdicts yet.")]
    return [Line("Yes, to moderators’ verdicts.")] if value is True else _plainly(value)


def _left_out(deciding: Any) -> list[Line]:
    """Say that a head was not applied, if one was not."""
    code = _of(next(iter(_each(deciding)), None), "head_left_out")
    said = f"Head {code}: it was learnt beside other prompts than those of this policy."
    return [Line(said)] if code else []


def _matches(value: Any) -> list[Line]:
    return [Line(_match(hit)) for hit in _each(value)]


def _match(hit: Any) -> str:
    if not isinstance(hit, Mapping) or "excerpt" not in hit:
        return _in_line(hit)
    count = hit.get("count")
    often = f", {count} times" if isinstance(count, int) and count > 1 else ""
    denied = ", denied" if hit.get("denied") else ""
    return f"{in_plain_words(str(hit.get('field', 'text')))}: “{hit['excerpt']}”{often}{denied}"


def _combinations(value: Any) -> list[Line]:
    return [
        Line(
            " and ".join(f"{_of(hit, 'group')}: {_match(hit)}" for hit in _each(_of(one, "groups")))
        )
        for one in _each(value)
    ]


def _people(value: Any) -> list[Line]:
    return [
        Line(
            f"{_of(person, 'name')}, "
            + ("consent holds" if _of(person, "consent_holds") else "no consent that holds")
        )
        for person in _each(value)
    ]


def _folders(value: Any) -> list[Line]:
    return [
        Line(
            f"“{_of(folder, 'name')}”"
            + (f", {_of(folder, 'images')} pictures" if _of(folder, "images") else "")
            + (", for regularisation" if _of(folder, "regularisation") else "")
        )
        for folder in _each(value)
    ]


def _relatives(value: Any) -> list[Line]:
    """Say each relative of a file of weights, as a link to its page."""
    lines = []
    for relative in _each(value):
        cosine, share = _of(relative, "cosine"), _of(relative, "share")
        text = f"“{_of(relative, 'title')}”, {_of(relative, 'state')}: {_of(relative, 'relation')}"
        text += f", cosine {cosine:.3f}" if _is_number(cosine) else ""
        text += f", share in the merge {share:.2f}" if _is_number(share) else ""
        try:
            href = reverse("model", args=[_of(relative, "version")])
        except NoReverseMatch:
            href = ""
        lines.append(Line(text, href))
    return lines


def _problems(value: Any) -> list[Line]:
    """Say what is wrong with a file. One alone is said by the finding's reason already."""
    problems = _each(value)
    return [] if len(problems) < 2 else [Line(str(_of(one, "sentence") or one)) for one in problems]


def _picture(value: Any) -> list[Line]:
    if not isinstance(value, Mapping):
        return _plainly(value)
    line = f"{value.get('format', '')}, {value.get('width', '?')} × {value.get('height', '?')}"
    return [Line(f"{line}. {value['note']}" if value.get("note") else line)]


def _of(value: Any, key: str) -> Any:
    return value.get(key, "") if isinstance(value, Mapping) else ""


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- What is not known ----------------------------------------------------------------------


def _plainly(value: Any) -> list[Line]:
    if value is None or value in ("", [], {}):
        return []
    if isinstance(value, Mapping):
        return [
            Line(f"{in_plain_words(str(key))}: {_in_line(inner)}") for key, inner in value.items()
        ]
    return [Line(_in_line(inner)) for inner in _each(value) or [value]]


def _in_line(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        pairs = value.items()
        return ", ".join(
            f"{in_plain_words(str(key)).lower()} {_in_line(one)}" for key, one in pairs
        )
    if isinstance(value, list):
        return ", ".join(_in_line(inner) for inner in value)
    return str(value)


_KNOWN: tuple[tuple[str, str, Callable[[Any], list[Line]]], ...] = (
    ("deciding", "Nearest prohibited", _nearest("prompt")),
    ("deciding", "Nearest contrast", _nearest("contrast")),
    ("readings", "Nearest prohibited", _nearest("prompt")),
    ("readings", "Nearest contrast", _nearest("contrast")),
    ("calibrated", "Calibrated", _calibrated),
    ("deciding", "Not applied", _left_out),
    ("relatives", "Relatives", _relatives),
    ("people", "People list", _people),
    ("matches", "Matches", _matches),
    ("combinations", "Together", _combinations),
    ("folders", "Training folders", _folders),
    ("problems", "Problems", _problems),
    ("imports", "Imports", _plainly),
    ("picture", "Picture", _picture),
    ("notes", "Note", _plainly),
)
# A sketch of the weights in base64: nothing a person could read.
_FOR_MACHINES = frozenset({"sketch"})
