"""The vocabulary in which restrictions are reported to the EU's transparency database.

Categories, keywords and the other closed lists, as data in ``taxonomies/``; names that were
withdrawn are known with what to write instead. Pure: no table, no Django.
"""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

CURRENT = Path(__file__).parent / "taxonomies" / "eu_2025_07.json"


@cache
def taxonomy() -> Mapping[str, Any]:
    """Return the current vocabulary: closed lists by the field of a statement they belong to."""
    content: Mapping[str, Any] = json.loads(CURRENT.read_text(encoding="utf-8"))
    return content


def category_fault(name: str) -> str:
    """Return in a sentence what is wrong with a category, or an empty string."""
    return _fault(name, "category", "category")


def keyword_fault(name: str, category: str) -> str:
    """Return in a sentence what is wrong with a keyword under a category, or an empty string."""
    fault = _fault(name, "category_specification", "keyword")
    if fault:
        return fault
    groups: Mapping[str, list[str]] = taxonomy()["keywords_of_category"]
    if name in groups.get(category, []) or name in taxonomy()["keywords_of_any_category"]:
        return ""
    homes = [group for group, keywords in groups.items() if name in keywords]
    return f"“{name}” belongs to the category {homes[0]}, not to “{category}”."


def label_of(name: str) -> str:
    """Return a category or keyword in words for people."""
    labels: Mapping[str, str] = {
        **taxonomy()["category"],
        **taxonomy()["category_specification"],
    }
    return labels.get(name, name)


def _fault(name: str, field: str, what: str) -> str:
    known = taxonomy()[field]
    if name in known:
        return ""
    withdrawn = taxonomy()["withdrawn"].get(name)
    if withdrawn:
        instead = " or ".join(withdrawn["successors"])
        if withdrawn["in_the_table"]:
            return f"“{name}” was withdrawn on 1 July 2025. Write its successor {instead}."
        return (
            f"“{name}” was withdrawn on 1 July 2025 without a named successor. "
            f"The nearest is {instead}."
        )
    near = get_close_matches(name, known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"There are {len(known)}; see {CURRENT.name}."
    return f"“{name}” is no {what} of the EU's vocabulary. {hint}"


def current_name(name: str) -> str:
    """Return a name as it is written today: itself, or what took the place of a withdrawn one."""
    withdrawn = taxonomy()["withdrawn"].get(name)
    return str(withdrawn["successors"][0]) if withdrawn else name
