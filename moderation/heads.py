"""Heads: stores what was learnt, and says which head is in place. A rollback is a new placement.

Writes ``ConceptHead``, ``HeadPlacement``, ``ConceptThreshold`` and ``ConceptReport``. Fitting is
triage's.
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
from moderation.models import (
    Account,
    ConceptHead,
    ConceptReport,
    ConceptThreshold,
    HeadPlacement,
)


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
    prompts: str,
    parameters: Mapping[str, Any],
    held_out: Mapping[str, float],
    labels: int,
    positives: int,
    comparison: Mapping[str, Any],
) -> ConceptHead:
    """Store a fitted head; ``prompts`` is the digest of those it was learnt beside."""
    last = ConceptHead.objects.filter(**place.as_fields()).aggregate(last=Max("number"))["last"]
    return ConceptHead.objects.create(
        **place.as_fields(),
        number=(last or 0) + 1,
        prompts=prompts,
        parameters=dict(parameters),
        held_out=dict(held_out),
        labels=labels,
        positives=positives,
        comparison=dict(comparison),
        fitted_at=timezone.now(),
    )


@transaction.atomic
def head_win(*, place: Place, head: ConceptHead, reason: str) -> None:
    """Put a head in place that won the comparison."""
    _place(place, head, reason, actor=None)


@transaction.atomic
def head_place(
    *,
    place: Place,
    head: ConceptHead | None,
    prompts: str,
    reason: str,
    may_be_replaced: bool,
    actor: Account,
) -> None:
    """Put an earlier head in place again, or none: then the prompts alone decide.

    It stays there until a person says otherwise, unless it ``may_be_replaced`` by a better one.
    ``prompts`` is the digest of those in force. Raises NotAllowed to all but policy leads, Invalid
    for a head of another concept or other prompts, or no reason.
    """
    require_policy_lead(actor)
    reason = reason.strip()
    if not reason:
        raise Invalid("Say why: the next one to look at this reads it.", field="reason")
    if head is not None and Place(head.rule, head.concept, head.encoder, head.revision) != place:
        raise Invalid("This head belongs to another concept or encoder.", field="head")
    if head is not None and head.prompts != prompts:
        raise Invalid(
            f"Head {head.number} was learnt beside other prompts than those in force, and beside "
            "these its numbers mean nothing. Learn again, or put the prompts back.",
            field="head",
        )
    _place(place, head, reason, actor, may_be_replaced=may_be_replaced)


def placement_last(place: Place) -> HeadPlacement | None:
    """Return what was last put in place, by whom and why; None where nothing ever was."""
    placed = HeadPlacement.objects.filter(**place.as_fields()).select_related("head", "placed_by")
    return placed.order_by("pk").last()


def head_fitted(place: Place, *, prompts: str, labels_digest: str) -> ConceptHead | None:
    """Return the head that was fitted to these very labels beside these prompts, if one was."""
    fitted = ConceptHead.objects.filter(
        **place.as_fields(), prompts=prompts, parameters__labels_digest=labels_digest
    )
    return fitted.order_by("pk").last()


@transaction.atomic
def threshold_record(
    *,
    place: Place,
    prompts: str,
    head: ConceptHead | None,
    alpha: float,
    positives: int,
    value: float | None,
    sentence: str,
) -> None:
    """Store the review threshold that holds a miss rate, unless it is stored so already.

    ``head`` is the one in place, None for the prompts alone. ``value`` is None while there are too
    few ``positives`` for a guarantee.
    """
    last = ConceptThreshold.objects.filter(**place.as_fields()).order_by("pk").last()
    made = ConceptThreshold(
        **place.as_fields(),
        prompts=prompts,
        head=head,
        alpha=alpha,
        positives=positives,
        value=value,
        sentence=sentence,
        made_at=timezone.now(),
    )
    if last is not None and _computed(last) == _computed(made):
        return
    made.save()
    event_record(
        action="threshold.computed",
        actor=None,
        data={
            "rule": place.rule,
            "concept": place.concept,
            "head": head.code if head else None,
            "alpha": alpha,
            "positives": positives,
            "value": value,
        },
    )


def _computed(row: ConceptThreshold) -> tuple[object, ...]:
    return row.prompts, row.head_id, row.alpha, row.positives, row.value


def concept_report(*, rule: str, concept: str, data: Mapping[str, Any]) -> None:
    """Store what is known of a concept now, in place of what was known before."""
    ConceptReport.objects.update_or_create(
        rule=rule, concept=concept, defaults={"data": dict(data), "made_at": timezone.now()}
    )


def _place(
    place: Place,
    head: ConceptHead | None,
    reason: str,
    actor: Account | None,
    *,
    may_be_replaced: bool = False,
) -> None:
    HeadPlacement.objects.create(
        **place.as_fields(),
        head=head,
        reason=reason,
        placed_by=actor,
        may_be_replaced=may_be_replaced,
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
