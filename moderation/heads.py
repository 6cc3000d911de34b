"""Heads: stores what was learnt, and says which head is in place. A rollback is a new placement.

Writes ``ConceptHead``, ``HeadPlacement`` and ``ConceptReport``. Fitting is triage's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_policy_lead
from moderation.errors import Invalid
from moderation.models import Account, ConceptHead, ConceptReport, HeadPlacement


@dataclass(frozen=True)
class Place:
    """A concept in the space of one encoder: what a head belongs to."""

    rule: str
    concept: str
    encoder: str
    revision: str

    def as_fields(self) -> dict[str, str]:
        """Return it as the fields of a row."""
        return {
            "rule": self.rule,
            "concept": self.concept,
            "encoder": self.encoder,
            "revision": self.revision,
        }


@transaction.atomic
def head_record(
    *,
    place: Place,
    parameters: Mapping[str, Any],
    labels: int,
    positives: int,
    threshold: Mapping[str, Any],
    comparison: Mapping[str, Any],
    goes_live: bool,
    reason: str,
) -> ConceptHead:
    """Store a fitted head; put it in place if it won the comparison."""
    last = ConceptHead.objects.filter(**place.as_fields()).aggregate(last=Max("number"))["last"]
    head = ConceptHead.objects.create(
        **place.as_fields(),
        number=(last or 0) + 1,
        parameters=dict(parameters),
        labels=labels,
        positives=positives,
        threshold=dict(threshold),
        comparison=dict(comparison),
        fitted_at=timezone.now(),
    )
    if goes_live:
        _place(place, head, reason, actor=None)
    return head


@transaction.atomic
def head_place(*, place: Place, head: ConceptHead | None, reason: str, actor: Account) -> None:
    """Put an earlier head in place again, or none: then the prompts alone decide.

    Raises NotAllowed to all but policy leads, Invalid for a head of another concept or no reason.
    """
    require_policy_lead(actor)
    reason = reason.strip()
    if not reason:
        raise Invalid("Say why: the next one to look at this reads it.", field="reason")
    if head is not None and Place(head.rule, head.concept, head.encoder, head.revision) != place:
        raise Invalid("This head belongs to another concept or encoder.", field="head")
    _place(place, head, reason, actor)


def head_in_place(place: Place) -> ConceptHead | None:
    """Return the head in place, or None where the prompts alone decide."""
    last = HeadPlacement.objects.filter(**place.as_fields()).select_related("head").last()
    return last.head if last else None


def concept_report(*, rule: str, concept: str, data: Mapping[str, Any]) -> None:
    """Store what is known of a concept now, in place of what was known before."""
    ConceptReport.objects.update_or_create(
        rule=rule, concept=concept, defaults={"data": dict(data), "made_at": timezone.now()}
    )


def _place(place: Place, head: ConceptHead | None, reason: str, actor: Account | None) -> None:
    HeadPlacement.objects.create(
        **place.as_fields(),
        head=head,
        reason=reason,
        placed_by=actor,
        placed_at=timezone.now(),
    )
    event_record(
        action="head.placed",
        actor=actor,
        data={
            "rule": place.rule,
            "concept": place.concept,
            "head": head.code if head else None,
            "reason": reason[:500],
        },
    )
