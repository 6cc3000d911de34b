"""Checks a statement of reasons against the rules of the EU's transparency database.

The rules are those of the database's interface since 1 July 2025 (its published source,
``StatementStoreRequest``, read June 2026). Pure: no table, no Django, no network.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from moderation.taxonomy import taxonomy

BATCH = 100  # the most statements in one call
Payload = Mapping[str, Any]

_PUID = re.compile(r"[a-zA-Z0-9_-]{1,500}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_LANGUAGE = re.compile(r"[A-Z]{2}")
_URL = re.compile(r"https?://[^\s/]+(/\S*)?")
_EARLIEST = {"content_date": date(2000, 1, 1)}
_LATEST = date(2038, 1, 1)
_OPENED = date(2020, 1, 1)

# One of a closed list.
_ONE_OF = (
    "decision_monetary",
    "decision_provision",
    "decision_account",
    "account_type",
    "decision_ground",
    "category",
    "source_type",
    "automated_decision",
)
# Several of a closed list, each at most once.
_SOME_OF: Mapping[str, str] = {
    "decision_visibility": "decision_visibility",
    "content_type": "content_type",
    "category_addition": "category",
    "category_specification": "category_specification",
    "territorial_scope": "territorial_scope",
}
_YES_OR_NO = ("automated_detection", "incompatible_content_illegal")
_LENGTHS: Mapping[str, int] = {
    "decision_visibility_other": 500,
    "decision_monetary_other": 500,
    "decision_facts": 5000,
    "decision_ground_reference_url": 500,
    "illegal_content_legal_ground": 500,
    "illegal_content_explanation": 2000,
    "incompatible_content_ground": 500,
    "incompatible_content_explanation": 2000,
    "content_type_other": 500,
    "category_specification_other": 500,
    "source_identity": 500,
}
_DATES = (
    "content_date",
    "application_date",
    "end_date_visibility_restriction",
    "end_date_monetary_restriction",
    "end_date_service_restriction",
    "end_date_account_restriction",
)
_ALWAYS = (
    "puid",
    "decision_ground",
    "decision_facts",
    "content_type",
    "category",
    "content_date",
    "application_date",
    "source_type",
    "automated_detection",
    "automated_decision",
)
_RESTRICTIONS = (
    "decision_visibility",
    "decision_monetary",
    "decision_provision",
    "decision_account",
)
_KNOWN = {
    *_ONE_OF, *_SOME_OF, *_YES_OR_NO, *_LENGTHS, *_DATES, "puid", "content_language", "content_id",
}  # fmt: skip
# A field that is required exactly where another one says so.
_ONLY_WITH = (
    ("decision_visibility_other", "decision_visibility", "DECISION_VISIBILITY_OTHER"),
    ("decision_monetary_other", "decision_monetary", "DECISION_MONETARY_OTHER"),
    ("content_type_other", "content_type", "CONTENT_TYPE_OTHER"),
    ("illegal_content_legal_ground", "decision_ground", "DECISION_GROUND_ILLEGAL_CONTENT"),
    ("illegal_content_explanation", "decision_ground", "DECISION_GROUND_ILLEGAL_CONTENT"),
    ("incompatible_content_ground", "decision_ground", "DECISION_GROUND_INCOMPATIBLE_CONTENT"),
    (
        "incompatible_content_explanation",
        "decision_ground",
        "DECISION_GROUND_INCOMPATIBLE_CONTENT",
    ),
)
# What gives a person away in a text that should hold none.
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}:?[0-9a-fA-F]{0,4}(?![\w:])")


def statement_faults(payload: Payload) -> list[str]:
    """Return what is wrong with a statement, each as ``field: sentence``; empty if nothing is."""
    return list(_faults(payload))


def batch_faults(batch: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a batch: its size, its identifiers, and its statements."""
    statements = batch.get("statements")
    if not isinstance(statements, list) or not 1 <= len(statements) <= BATCH:
        return [f"statements: a batch holds 1 to {BATCH} statements"]
    found = []
    seen: set[str] = set()
    for place, payload in enumerate(statements):
        found += [f"statement_{place}: {fault}" for fault in statement_faults(payload)]
        if payload.get("puid") in seen:
            found.append(f"statement_{place}: puid: stands twice in the batch")
        seen.add(payload.get("puid", ""))
    return found


def _faults(payload: Payload) -> Iterator[str]:
    for field in payload:
        if field not in _KNOWN:
            yield f"{field}: there is no such field"
    for field in _ALWAYS:
        if not payload.get(field):
            yield f"{field}: is required"
    if not any(payload.get(field) for field in _RESTRICTIONS):
        yield f"{_RESTRICTIONS[0]}: one restriction at least is required"
    yield from _closed_lists(payload)
    for field, longest in _LENGTHS.items():
        value = payload.get(field)
        if value is None:
            continue
        if not isinstance(value, str) or not value or len(value) > longest:
            yield f"{field}: has to be a text of 1 to {longest} characters"
        elif field == "decision_ground_reference_url":
            continue  # the house's own address, which may be a number while it is tried out
        elif _EMAIL.search(value) or _IPV4.search(value) or _IPV6.search(value):
            yield f"{field}: holds an address of a person or a machine"
    for field, other, value in _ONLY_WITH:
        given = payload.get(other)
        wanted = value in given if isinstance(given, list) else given == value
        if wanted != bool(payload.get(field)):
            yield f"{field}: stands exactly where {other} is {value}"
    yield from _forms(payload)
    yield from _dates(payload)


def _closed_lists(payload: Payload) -> Iterator[str]:
    for field in _ONE_OF:
        value = payload.get(field)
        if value is not None and value not in taxonomy()[field]:
            yield f"{field}: “{value}” is not in the vocabulary"
    for field, vocabulary in _SOME_OF.items():
        values = payload.get(field)
        if values is None:
            continue
        if not isinstance(values, list):
            yield f"{field}: has to be a list"
            continue
        unknown = [value for value in values if value not in taxonomy()[vocabulary]]
        if unknown:
            yield f"{field}: “{unknown[0]}” is not in the vocabulary"
        if len(set(map(str, values))) != len(values):
            yield f"{field}: names something twice"
    for field in _YES_OR_NO:
        if payload.get(field) not in (None, "Yes", "No"):
            yield f"{field}: is Yes or No"


def _forms(payload: Payload) -> Iterator[str]:
    puid = payload.get("puid")
    if puid and not (isinstance(puid, str) and _PUID.fullmatch(puid)):
        yield "puid: letters, digits, hyphens and underscores, 500 at most"
    language = payload.get("content_language")
    if language is not None and not _LANGUAGE.fullmatch(str(language)):
        yield "content_language: two capital letters (ISO 639-1)"
    url = payload.get("decision_ground_reference_url")
    if url is not None and not _URL.fullmatch(str(url)):
        yield "decision_ground_reference_url: is no address of a page"
    article = payload.get("content_id")
    if article is not None and not (
        isinstance(article, dict)
        and set(article) == {"EAN-13"}
        and re.fullmatch(r"\d{13}", str(article["EAN-13"]))
    ):
        yield "content_id: holds an EAN-13 of 13 digits and nothing else"
    if payload.get("source_type") == "SOURCE_VOLUNTARY" and payload.get("source_identity"):
        yield "source_identity: stands only beside a notice"
    legal = payload.get("incompatible_content_illegal")
    if legal and payload.get("decision_ground") != "DECISION_GROUND_INCOMPATIBLE_CONTENT":
        yield "incompatible_content_illegal: stands only with incompatible content"


def _dates(payload: Payload) -> Iterator[str]:
    days: dict[str, date] = {}
    for field in _DATES:
        value = payload.get(field)
        if value is None:
            continue
        try:
            if not _DAY.fullmatch(str(value)):
                raise ValueError
            days[field] = date.fromisoformat(value)
        except ValueError:
            yield f"{field}: “{value}” is no day written as 2026-01-31"
            continue
        if not _EARLIEST.get(field, _OPENED) <= days[field] <= _LATEST:
            yield f"{field}: {value} is out of bounds"
    for field, day in days.items():
        if field.startswith("end_date") and day < days.get("application_date", day):
            yield f"{field}: lies before application_date"
