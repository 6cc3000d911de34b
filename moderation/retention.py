"""How long things are kept: evidence while an appeal is possible, and what holds beat every purge.

The clock starts at the decision. Erases files from the store and marks their rows; the rows stay,
and so does every decision. Writes ``LegalHold`` and the marks on ``ModelFile``, ``PreviewImage``,
``AppealFile`` and ``ReportEvidence``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_senior
from moderation.errors import Conflict, Invalid
from moderation.models import (
    Account,
    Appeal,
    AppealFile,
    Case,
    ChildSafetyRecord,
    Decision,
    Effect,
    LegalHold,
    ModelFile,
    ModelVersion,
    PreviewImage,
    ReportEvidence,
)
from moderation.states import (
    APPEAL_WINDOW,
    LISTED_CASES,
    Action,
    AppealState,
    EffectState,
    Visibility,
)

# After the last moment to appeal, a letter may still be on its way.
GRACE = timedelta(days=31)
KEPT_AFTER_DECISION = APPEAL_WINDOW + GRACE


@dataclass(frozen=True)
class Purged:
    """What one purge erased, or would erase."""

    versions: int
    files: int
    appeal_files: int
    report_pictures: int
    size: int


def versions_to_purge() -> QuerySet[ModelVersion]:
    """Return the versions that nobody can see and nobody may need any more.

    Removed, or taken down by their creator; no decision about them can still be appealed, no case,
    appeal or held decision is open; neither a legal hold nor child safety keeps them.
    """
    now = timezone.now()
    return _needed_no_more().filter(
        Q(visibility=Visibility.REMOVED)
        | Q(visibility=Visibility.WITHDRAWN, withdrawn_at__lt=now - GRACE)
    )


def versions_past_appeal() -> QuerySet[ModelVersion]:
    """Return the versions, public ones too, that nothing sent along is needed for any more.

    Reporters' pictures and the files of appeals serve what people decide, and go when the last
    decision can be appealed no more; as long as nothing was decided they stay.
    """
    decided = Decision.objects.filter(version=OuterRef("pk"))
    return _needed_no_more().filter(Exists(decided))


def _needed_no_more() -> QuerySet[ModelVersion]:
    """Return the versions about which nothing is open or appealable, and that nothing keeps."""
    now = timezone.now()
    of_version: dict[str, Any] = {"version": OuterRef("pk")}
    # As ``Decision.appeal_ends_at``: the window begins when the decision comes into force.
    window = F("appeal_until") - F("decided_at")
    young = Decision.objects.alias(told_at=Coalesce("effect__ended_at", "decided_at")).filter(
        Q(told_at__gt=now - KEPT_AFTER_DECISION) | Q(told_at__gt=Value(now - GRACE) - window)
    )
    cases = Case.objects.filter(state__in=LISTED_CASES, **of_version)
    appeals = Appeal.objects.filter(Q(state=AppealState.OPEN) | Q(answered_at__gt=now - GRACE))
    moving = Effect.objects.filter(state__in=[EffectState.HELD, EffectState.DUE])
    holds = LegalHold.objects.filter(
        Q(until__isnull=True) | Q(until__gt=now), released_at__isnull=True, **of_version
    )
    kept_apart = ChildSafetyRecord.objects.filter(
        Q(preserve_until__gt=now) | Q(sent_at__isnull=True), **of_version
    )
    return ModelVersion.objects.exclude(
        _about_it(young)
        | _about_it(appeals, "decision__")
        | _about_it(moving, "decision__")
        | Exists(cases)
        | Exists(holds)
        | Exists(kept_apart)
    )


def _about_it(rows: QuerySet[Any], decision: str = "") -> Q:
    """Return whether a decision among the rows is about a version, or about its whole model.

    The latter stands on one version, and its siblings come back with it when it is taken back.
    """
    own = rows.filter(**{f"{decision}version": OuterRef("pk")})
    whole = rows.filter(
        Q(**{f"{decision}action": Action.REMOVE_MODEL})
        | Q(**{f"{decision}overrides__action": Action.REMOVE_MODEL}),
        **{f"{decision}version__uploaded_model": OuterRef("uploaded_model")},
    )
    return Exists(own) | Exists(whole)


def purge(*, dry_run: bool = False, limit: int = 1000) -> Purged:
    """Erase what has been kept for long enough, at most so many versions; say what that was."""
    tally = Purged(0, 0, 0, 0, 0)
    remaining = ModelFile.objects.filter(version=OuterRef("pk"), purged_at__isnull=True)
    shown = PreviewImage.objects.filter(version=OuterRef("pk"), purged_at__isnull=True)
    sent = AppealFile.objects.filter(
        appeal__decision__version=OuterRef("pk"), purged_at__isnull=True
    )
    pictures = ReportEvidence.objects.filter(report__version=OuterRef("pk"), purged_at__isnull=True)
    sent_along = Exists(sent) | Exists(pictures)
    whole = versions_to_purge().filter(Exists(remaining) | Exists(shown) | sent_along)
    parts = versions_past_appeal().filter(sent_along)
    due = ModelVersion.objects.filter(Q(pk__in=whole.values("pk")) | Q(pk__in=parts.values("pk")))
    for pk in due.order_by("pk").values_list("pk", flat=True)[:limit]:
        tally = _purge_version(pk, tally, dry_run)
    return tally


def _purge_version(pk: int, tally: Purged, dry_run: bool) -> Purged:
    with transaction.atomic():
        version = ModelVersion.objects.select_for_update(no_key=True).get(pk=pk)
        # A hold may have been placed since the list was made.
        whole = versions_to_purge().filter(pk=pk).exists()
        if not whole and not versions_past_appeal().filter(pk=pk).exists():
            return tally
        # What can still be seen stays; what was sent along about it goes.
        files = list(version.files.filter(purged_at__isnull=True)) if whole else []
        previews = list(version.previews.filter(purged_at__isnull=True)) if whole else []
        sent = list(
            AppealFile.objects.filter(appeal__decision__version=version, purged_at__isnull=True)
        )
        pictures = list(
            ReportEvidence.objects.filter(report__version=version, purged_at__isnull=True)
        )
        done = Purged(
            versions=tally.versions + whole,
            files=tally.files + len(files) + len(previews),
            appeal_files=tally.appeal_files + len(sent),
            report_pictures=tally.report_pictures + len(pictures),
            size=tally.size + sum(each.size for each in files) + sum(each.size for each in sent),
        )
        if dry_run:
            return done
        now = timezone.now()
        names = [row.content.name for rows in (files, sent, pictures) for row in rows]
        for preview in previews:
            names += preview.names
        for model, rows in (
            (ModelFile, files),
            (PreviewImage, previews),
            (AppealFile, sent),
            (ReportEvidence, pictures),
        ):
            model.objects.filter(pk__in=[row.pk for row in rows]).update(purged_at=now)
        event_record(
            action="purge.done",
            actor=None,
            version=version,
            data={
                "files": len(files),
                "previews": len(previews),
                "appeal_files": len(sent),
                "report_pictures": len(pictures),
            },
        )
        transaction.on_commit(lambda: _erase(names))
    return done


def _erase(names: Iterable[str | None]) -> None:
    for name in names:
        if name:
            default_storage.delete(name)


@transaction.atomic
def hold_place(
    *, version: ModelVersion, reason: str, days: int | None, actor: Account
) -> LegalHold:
    """Keep everything of a version from every purge, for so many days or until it is released."""
    require_senior(actor)
    if not reason.strip():
        raise Invalid("Say why it is held: a letter, a lawsuit, an order.", field="reason")
    now = timezone.now()
    # Locked, so that a purge under way and the hold cannot miss each other.
    version = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    hold = LegalHold.objects.create(
        version=version,
        reason=reason.strip(),
        until=now + timedelta(days=days) if days else None,
        placed_by=actor,
        placed_at=now,
    )
    event_record(
        action="hold.placed", actor=actor, version=version, data={"reason": hold.reason[:200]}
    )
    return hold


@transaction.atomic
def hold_release(*, hold: LegalHold, actor: Account) -> None:
    """Release a legal hold. Raises Conflict if it is released already."""
    require_senior(actor)
    released = LegalHold.objects.filter(pk=hold.pk, released_at__isnull=True).update(
        released_at=timezone.now(), released_by=actor
    )
    if not released:
        raise Conflict("This hold has been released already.", code="already_released")
    event_record(
        action="hold.released", actor=actor, version=hold.version, data={"hold": hold.code}
    )
