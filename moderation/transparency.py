"""Statements of reasons for the EU's transparency database (DSA Art. 24(5)).

Reads decisions in force, holds by a clock, and what is recorded about them. Nothing that a person
typed about a case goes out: facts and explanations are put together from the policy's own words,
and the automated means and the source from recorded provenance. Sends nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.db.models import Prefetch
from django.urls import reverse
from django.utils import timezone

from moderation.models import Decision, Hold, Report
from moderation.statements import CLOCK_LAW, reports_behind
from moderation.states import (
    CAME_INTO_FORCE,
    CLOCK,
    RESTRICTIONS,
    Action,
    Ground,
    Source,
    Track,
)
from moderation.taxonomy import current_name, taxonomy
from moderation.transparency_schema import BATCH, Payload

MODEL = "A generative AI model: files of weights with a page and previews"
ACCOUNT = "The account of a creator of generative AI models"
# What each action is in the vocabulary, beside what it says further down.
_VISIBILITY: Mapping[str, str] = {
    Action.LABEL: "DECISION_VISIBILITY_CONTENT_LABELLED",
    Action.AGE_RESTRICT: "DECISION_VISIBILITY_CONTENT_AGE_RESTRICTED",
    Action.GEO_RESTRICT: "DECISION_VISIBILITY_CONTENT_DISABLED",
    Action.DISABLE_PREVIEW: "DECISION_VISIBILITY_CONTENT_DISABLED",
    Action.LIMIT: "DECISION_VISIBILITY_CONTENT_DEMOTED",
    Action.REMOVE: "DECISION_VISIBILITY_CONTENT_REMOVED",
    Action.REMOVE_MODEL: "DECISION_VISIBILITY_CONTENT_REMOVED",
    Action.CHILD_SAFETY: "DECISION_VISIBILITY_CONTENT_REMOVED",
    # It restricts nothing by itself; the vocabulary has no word for it.
    Action.STRIKE: "DECISION_VISIBILITY_OTHER",
    # Hidden until a person decides, and not taken down.
    CLOCK: "DECISION_VISIBILITY_CONTENT_DISABLED",
}
_STRIKE = "A strike on the account's record, which leaves everything visible"
_HELD = (
    "A person stated that the model shows them without their consent and asked for its removal. "
    "Shortly before the 48 hours for such a request were over no person had decided, and it was "
    "hidden until one does."
)
_TARGETS: Mapping[str, str] = {
    Action.DISABLE_PREVIEW: "A preview of the model",
    Action.REMOVE_MODEL: "The model with all its versions",
    Action.STRIKE: "What the account uploaded",
    Action.MUTE: "What the account did",
    Action.SUSPEND: "What the account did",
}
_ON_ACCOUNTS = frozenset({Action.STRIKE, Action.MUTE, Action.SUSPEND})
# The track of a report, the strongest first: what brought the content to our attention.
_SOURCES: Sequence[tuple[str, str]] = (
    (Track.FLAGGER, "SOURCE_TRUSTED_FLAGGER"),
    (Track.ILLEGAL, "SOURCE_ARTICLE_16"),
)
_AUTOMATED: Mapping[str, str] = {
    Source.PERSON: "AUTOMATED_DECISION_NOT_AUTOMATED",
    Source.CONFIRMED: "AUTOMATED_DECISION_PARTIALLY",
    Source.ORDER: "AUTOMATED_DECISION_NOT_AUTOMATED",
    CLOCK: "AUTOMATED_DECISION_FULLY",
}
# Citations of law that can be told from names: everything else a person typed stays here.
_CITATIONS = re.compile(
    r"(?:Art(?:icle|\.)?|§§?|[Ss]ec(?:tion|\.))\s?\d+[a-z]?(?:\s?\(\d+\))*"
    r"(?:\s(?:DSA|GDPR|DSGVO|StGB|UrhG|KunstUrhG|TMG|DDG|BGB)\b)?"
    r"|(?:Regulation|Directive)\s\(?(?:EU|EC)?\)?\s?\d{2,4}/\d{2,4}(?:/E[UC])?"
    rf"|{re.escape(CLOCK_LAW)}"
    r"|\d{1,2}\sU\.?S\.?C\.?\s§?\s?\d+[A-Z]?"
)


@dataclass(frozen=True, slots=True)
class Record:
    """What is recorded about one restriction, as far as a statement needs it. No person in it.

    ``action`` and ``source`` are those of a decision, or ``CLOCK``.
    """

    puid: str
    action: str
    source: str
    ground: str
    legal_ground: str
    automated_detection: bool
    tracks: frozenset[str]
    policy: str
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[str, ...]
    keywords: tuple[str, ...]
    territories: tuple[str, ...]
    content_date: date
    application_date: date
    until: date | None


def decisions_to_report(*, since: datetime, until: datetime | None = None) -> Iterator[Decision]:
    """Yield the restrictions that came into force from a moment on, the earliest first."""
    reports = Prefetch("case__reports", Report.objects.defer("text", "email"), "told_by")
    found = Decision.objects.filter(
        action__in=RESTRICTIONS,
        effect__state__in=CAME_INTO_FORCE,
        effect__ended_at__gte=since,
    )
    if until is not None:
        found = found.filter(effect__ended_at__lt=until)
    return (
        found.select_related("effect", "policy", "version", "case")
        .prefetch_related(reports, "policy__rules")
        .order_by("effect__ended_at", "pk")
        .iterator(chunk_size=500)
    )


def record_of(decision: Decision) -> Record:
    """Return what is recorded about a decision. Free text of people is not read."""
    rules = {rule.slug: rule for rule in decision.policy.rules.all()}
    slugs = [clause["slug"] for clause in decision.clauses]
    known = sorted((rules[slug] for slug in slugs if slug in rules), key=lambda rule: -rule.harm)
    version = decision.version
    shown = version.published_at or version.submitted_at or version.created_at
    # What a second person confirmed came into force days after it was decided.
    applied = decision.effect.ended_at or decision.decided_at
    if decision.appeal_id is None:
        reports = decision.case.told_by  # type: ignore[attr-defined]
    else:
        reports = reports_behind(decision).only("track", "created_at")
    return Record(
        puid=f"decision-{decision.code}",
        action=decision.action,
        source=decision.source,
        ground=decision.ground,
        legal_ground=decision.legal_ground,
        automated_detection=decision.automated_detection,
        tracks=frozenset(
            report.track for report in reports if report.created_at <= decision.decided_at
        ),
        policy=str(decision.policy),
        titles=tuple(clause["title"] for clause in decision.clauses),
        texts=tuple(clause["text"] for clause in decision.clauses),
        categories=tuple(rule.category for rule in known),
        keywords=tuple(rule.keyword for rule in known),
        territories=tuple(decision.territories),
        content_date=_day(min(shown, decision.decided_at)),
        application_date=_day(applied),
        until=_day(decision.until) if decision.until else None,
    )


def holds_to_report(*, since: datetime, until: datetime | None = None) -> Iterator[Hold]:
    """Yield what a clock hid, without a person, from a moment on, the earliest first."""
    found = Hold.objects.filter(statement__isnull=False, held_at__gte=since)
    if until is not None:
        found = found.filter(held_at__lt=until)
    return (
        found.select_related("version", "report__rule__policy")
        .defer("report__text", "report__email", "report__name")
        .order_by("held_at", "pk")
        .iterator(chunk_size=500)
    )


def record_of_hold(hold: Hold) -> Record:
    """Return what is recorded about a hold. What its sender and its creator wrote is not read."""
    rule, version = hold.rule, hold.version
    shown = version.published_at or version.submitted_at or version.created_at
    return Record(
        puid=f"hold-{hold.pk}",
        action=CLOCK,
        source=CLOCK,
        ground=Ground.POLICY if rule else Ground.LAW,
        legal_ground="" if rule else CLOCK_LAW,
        automated_detection=hold.is_found_by_machine,
        tracks=frozenset({Track.LIKENESS}),
        policy=str(rule.policy) if rule else "",
        titles=(rule.title,) if rule else (),
        texts=(rule.text,) if rule else (),
        categories=(rule.category,) if rule else (),
        keywords=(rule.keyword,) if rule else (),
        territories=(),
        content_date=_day(min(shown, hold.held_at)),
        application_date=_day(hold.held_at),
        until=None,
    )


def payload_of(record: Record) -> dict[str, Any]:
    """Return the statement that is sent about a recorded decision."""
    categories = list(dict.fromkeys(current_name(name) for name in record.categories if name))
    keywords = list(dict.fromkeys(current_name(name) for name in record.keywords if name))
    payload: dict[str, Any] = {
        "puid": record.puid,
        **_restriction(record),
        **_ground(record),
        "content_type": ["CONTENT_TYPE_OTHER"],
        "content_type_other": ACCOUNT if record.action in _ON_ACCOUNTS else MODEL,
        "category": categories[0] if categories else "STATEMENT_CATEGORY_OTHER_VIOLATION_TC",
        "content_date": record.content_date.isoformat(),
        "application_date": record.application_date.isoformat(),
        "decision_facts": _facts(record),
        "source_type": _source_type(record),
        "automated_detection": "Yes" if record.automated_detection else "No",
        "automated_decision": _AUTOMATED[record.source],
    }
    if record.action == Action.DISABLE_PREVIEW:
        payload["content_type"] = ["CONTENT_TYPE_SYNTHETIC_MEDIA", "CONTENT_TYPE_IMAGE"]
        del payload["content_type_other"]
    if categories[1:]:
        payload["category_addition"] = categories[1:]
    if keywords:
        payload["category_specification"] = keywords
    scope = scope_in_the_union(record)
    if scope:
        payload["territorial_scope"] = scope
    return payload


def scope_in_the_union(record: Record) -> list[str]:
    """Return the countries of the Union and the EEA that a decision is limited to."""
    known = taxonomy()["territorial_scope"]
    return sorted({country for country in record.territories if country in known})


def concerns_the_union(record: Record) -> bool:
    """Return whether anything is restricted in the Union by a decision."""
    return not record.territories or bool(scope_in_the_union(record))


def batches_of(payloads: Iterable[Payload]) -> Iterator[dict[str, list[Payload]]]:
    """Yield batches as the interface takes them, each with at most a hundred statements."""
    batch: list[Payload] = []
    for payload in payloads:
        batch.append(payload)
        if len(batch) == BATCH:
            yield {"statements": batch}
            batch = []
    if batch:
        yield {"statements": batch}


def _restriction(record: Record) -> dict[str, Any]:
    end = record.until.isoformat() if record.until else None
    if record.action == Action.SUSPEND:
        found: dict[str, Any] = {"decision_account": "DECISION_ACCOUNT_SUSPENDED"}
        return found | ({"end_date_account_restriction": end} if end else {})
    if record.action == Action.MUTE:
        found = {"decision_provision": "DECISION_PROVISION_PARTIAL_SUSPENSION"}
        return found | ({"end_date_service_restriction": end} if end else {})
    found = {"decision_visibility": [_VISIBILITY[record.action]]}
    if record.action == Action.STRIKE:
        found["decision_visibility_other"] = _STRIKE
    return found | ({"end_date_visibility_restriction": end} if end else {})


def _ground(record: Record) -> dict[str, Any]:
    titles = "; ".join(record.titles) or "Rules of the house"
    texts = "\n\n".join(record.texts) or titles
    if record.ground == Ground.LAW:
        falls_under = f"The content falls under what the rules of the house say about: {titles}."
        return {
            "decision_ground": "DECISION_GROUND_ILLEGAL_CONTENT",
            "illegal_content_legal_ground": _cut(_law(record), 500),
            "illegal_content_explanation": _HELD
            if record.action == CLOCK
            else _cut(falls_under, 2000),
        }
    return {
        "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
        "decision_ground_reference_url": settings.SITE_URL.rstrip("/") + reverse("policy"),
        "incompatible_content_ground": _cut(f"{record.policy}: {titles}", 500),
        "incompatible_content_explanation": _cut(texts, 2000),
    }


def _law(record: Record) -> str:
    """Return the citations in what was written as legal ground, and none of the rest of it."""
    found = list(dict.fromkeys(_CITATIONS.findall(record.legal_ground)))
    if found:
        return "; ".join(found)
    return "The provision named in the statement of reasons to the person concerned"


def _facts(record: Record) -> str:
    """Return the facts in the policy's words. They say nothing about how it was found."""
    if record.action == CLOCK:
        return _HELD
    target = _TARGETS.get(record.action, "The model")
    titles = "; ".join(f"“{title}”" for title in record.titles) or "the rules of the house"
    label = str(Action(record.action).label).lower()
    return _cut(
        f"{target} was found not to keep {titles} of {record.policy}. The measure: {label}.", 5000
    )


def _source_type(record: Record) -> str:
    for track, source in _SOURCES:
        if track in record.tracks:
            return source
    if record.tracks or record.source == Source.ORDER:
        return "SOURCE_TYPE_OTHER_NOTIFICATION"
    return "SOURCE_VOLUNTARY"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _day(moment: datetime) -> date:
    return timezone.localdate(moment)
