"""Says in sentences what is wrong in a policy file, and on which line. Pure."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from moderation.policy_file import (
    ConceptFile,
    ConditionFile,
    PolicyFile,
    RuleFile,
    TermGroupFile,
    VectorsFile,
)
from moderation.policy_yaml import Lines, Path, line_of

# Which keys may stand in what: the last word of the path that leads to it.
_KEYS: Mapping[str, type[BaseModel]] = {
    "": PolicyFile,
    "rules": RuleFile,
    "concepts": ConceptFile,
    "vectors": VectorsFile,
    "conditions": ConditionFile,
    "groups": TermGroupFile,
}
_KINDS: Mapping[type, str] = {
    str: "text",
    bool: "yes or no",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a group of keys",
    type(None): "nothing",
}
_WANTED: Mapping[str, str] = {
    "string_type": "text; put it in quotes if it looks like a number, a date, yes or no",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number, such as 0.5",
    "bool_type": "true or false",
    "list_type": "a list: one entry a line behind a dash, or [a, b]",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}


def in_words(error: ValidationError, content: Any, lines: Lines, file: str) -> list[str]:
    """Return one line per mistake, in the order of the file."""
    found: list[tuple[Path, str]] = []
    for mistake in error.errors():
        path: Path = tuple(mistake["loc"])
        if mistake["type"] == "policy":
            path = (*path, *mistake["ctx"]["at"])
        if path and path[-1] == "[key]":
            path = path[:-1]
        found.append((path, _sentence(mistake, path)))
    return placed(found, content, lines, file)


def placed(faults: Iterable[tuple[Path, str]], content: Any, lines: Lines, file: str) -> list[str]:
    """Return one line per fault, each with its file, line and place, in the order of the file."""
    found = [(line_of(lines, path), path, sentence) for path, sentence in faults]
    return [
        f"{file}:{line}: {_place(path, content)}{sentence}"
        for line, path, sentence in sorted(found, key=lambda each: each[0])
    ]


def _place(path: Path, content: Any) -> str:
    """Return a path as people say it: items by their name where they have one."""
    parts: list[str] = []
    for step in path:
        content = _step(content, step)
        if isinstance(step, int):
            named = content.get("slug") or content.get("name") if isinstance(content, dict) else ""
            parts.append(f"“{named}”" if isinstance(named, str) and named else str(step + 1))
        else:
            parts.append(step)
    return " › ".join(parts) + ": " if parts else ""


def _step(content: Any, step: str | int) -> Any:
    if isinstance(content, dict) and isinstance(step, str):
        return content.get(step)
    if isinstance(content, list) and isinstance(step, int) and step < len(content):
        return content[step]
    return None


def _sentence(mistake: ErrorDetails, path: Path) -> str:
    kind, given, bounds = mistake["type"], mistake["input"], mistake.get("ctx", {})
    match kind:
        case "policy":
            return str(bounds["sentence"])
        case "missing":
            return "This is missing. Add it."
        case "extra_forbidden":
            return _unknown_key(path)
        case "too_short" | "too_long":
            least = "least" if kind == "too_short" else "most"
            number = bounds.get("min_length", bounds.get("max_length"))
            return f"There are {bounds['actual_length']} here; {number} are the {least}."
        case "string_too_short":
            if bounds["min_length"] == 1:
                return "This is empty. Write something."
            return f"{bounds['min_length']} characters are the least; this has {len(given)}."
        case "string_too_long":
            return f"{bounds['max_length']} characters are the most; this has {len(given):,}."
        case "string_pattern_mismatch":
            return _pattern(given, path)
        case "enum" | "literal_error":
            return f"{_shown(given)} is none of {bounds['expected']}. Write one of them."
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return f"{_shown(given)} is out of bounds: {mistake['msg'].lower()}."
    if kind in _WANTED:
        return f"Here belongs {_WANTED[kind]}; this is {_shown(given)}."
    return f"{mistake['msg']}."


def _unknown_key(path: Path) -> str:
    # The nearest word above: items of a list stand under the list's own name.
    above = next((step for step in reversed(path[:-1]) if isinstance(step, str)), "")
    known = sorted(_KEYS[above].model_fields) if above in _KEYS else []
    near = get_close_matches(str(path[-1]), known, 1)
    hint = f"Did you mean “{near[0]}”?" if near else f"What may stand here: {', '.join(known)}."
    return f"There is no such key. {hint}"


def _pattern(given: Any, path: Path) -> str:
    if "templates" in path:
        return f"A template holds {{}} where the prompt goes; {_shown(given)} does not."
    return f"{_shown(given)} is no short name: lower-case letters, digits and single hyphens."


def _shown(given: Any) -> str:
    if isinstance(given, str):
        return f"“{given if len(given) <= 60 else given[:59] + '…'}”"
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    return _KINDS.get(type(given), type(given).__name__)
