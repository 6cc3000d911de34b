"""What child-safety specialists read; to everybody else it does not exist."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from moderation.authz import REPORTED_IT, Hidden, parts_taken
from moderation.child_safety import require_child_safety
from moderation.effects import restrictions_standing
from moderation.models import (
    Account,
    Appeal,
    ChildSafetyRecord,
    Decision,
    ModelVersion,
    PreviewImage,
    Report,
)
from moderation.states import Action, AppealState, EffectState, Side


@dataclass(frozen=True)
class Heard:
    """An open appeal, and why this specialist may not answer it."""

    appeal: Appeal
    why_not: str


def records(account: Account) -> QuerySet[ChildSafetyRecord]:
    """Return all records, unreported ones first, each with how many ``appeals`` wait."""
    require_child_safety(account)
    waits = Q(
        version__isolated_at__isnull=False,
        version__decisions__appeals__state=AppealState.OPEN,
        version__decisions__appeals__side=Side.CREATOR,
    )
    counted = ChildSafetyRecord.objects.annotate(
        appeals=Count("version__decisions__appeals", filter=waits, distinct=True)
    )
    return counted.select_related("version", "sent_by").order_by("-sent_at", "opened_at")


def record_for(account: Account, code: str) -> ChildSafetyRecord:
    """Return one record with what it is about. Raises Hidden."""
    require_child_safety(account)
    reported = Report.objects.filter(
        reporter=account, version__uploaded_model=OuterRef("version__uploaded_model")
    )
    record: Any = (
        ChildSafetyRecord.objects.filter(code=code)
        .annotate(is_reported=Exists(reported))
        .select_related("version__uploaded_model__creator", "decision__decided_by", "sent_by")
        .prefetch_related("version__files", "version__previews")
        .first()
    )
    if record is None or record.version.uploaded_model.creator_id == account.pk:
        raise Hidden
    return record  # type: ignore[no-any-return]


def appeals_of(account: Account, record: Any) -> list[Heard]:
    """Return the open appeals of its creator against what a ``record_for`` holds, the oldest first.

    What reporters ask for has been done, and their appeals ended with the decision.
    """
    require_child_safety(account)
    taken = parts_taken(
        account,
        case=OuterRef("decision__case"),
        chain=OuterRef("decision__chain"),
        bulk=OuterRef("decision__bulk"),
        pk=OuterRef("decision"),
    ).exclude(appeal=OuterRef("pk"))
    found = (
        Appeal.objects.annotate(took_part=Exists(taken))
        .filter(
            decision__version=record.version_id,
            decision__version__isolated_at__isnull=False,
            state=AppealState.OPEN,
            side=Side.CREATOR,
        )
        .select_related("decision", "case__version__uploaded_model")
    )
    part = "You took part in this decision, so another specialist answers the appeal."
    return [
        Heard(each, REPORTED_IT if record.is_reported else part if each.took_part else "")
        for each in found.prefetch_related("files", "messages__author").order_by("filed_at")
    ]


def reversible(account: Account, record: Any) -> list[Decision]:
    """Return the decisions by which a ``record_for`` is held that this specialist can take back."""
    require_child_safety(account)
    if record.is_reported:
        return []
    being_taken_back = Decision.objects.filter(
        version=record.version_id,
        action=Action.REVERSE,
        effect__state__in=[EffectState.HELD, EffectState.DUE],
    ).values_list("overrides_id", flat=True)
    taken = set(being_taken_back)
    return [
        decision
        for decision in restrictions_standing(record.version)
        if decision.action == Action.CHILD_SAFETY
        and decision.effect.state == EffectState.IN_FORCE
        and decision.pk not in taken
    ]


def code_for(version: ModelVersion) -> str:
    """Return the code of the record about a version; empty before anything is in force."""
    found = ChildSafetyRecord.objects.filter(version=version).values_list("code", flat=True)
    return found.first() or ""


def appeal_of(account: Account, code: str, appeal: str) -> Appeal:
    """Return one open appeal of a record. Raises Hidden."""
    for each in appeals_of(account, record_for(account, code)):
        if each.appeal.code == appeal:
            return each.appeal
    raise Hidden


def preview_of(account: Account, code: str, preview: str) -> PreviewImage:
    """Return one preview of a record. Raises Hidden."""
    found = record_for(account, code).version.previews.filter(code=preview).first()
    if found is None:
        raise Hidden
    return found
