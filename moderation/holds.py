"""Holds: what a clock hides until a person decides. Automation may hold; it decides nothing.

Writes ``Hold`` and ``ModelVersion.hidden_from``. The moment stands in the version's own row from
the start (``hold_schedule``), and every public page honours it, so the deadline is kept while no
worker runs; ``holds_place`` records it and gives the creator the reasons. The way back is a person
who decides, and reads what the creator says against it (``hold_object``); against that decision
there is an appeal.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, Min, OuterRef
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import Hidden
from moderation.errors import Conflict, Invalid
from moderation.models import Account, Case, Hold, ModelVersion
from moderation.models.reports import OBJECTION_LENGTH
from moderation.notices import notice_issue
from moderation.statements import hold_statement_issue, statement_of_hold
from moderation.states import HOLD_BEFORE, REACHABLE, ReportState

HOLD_LIMIT = 100


def hold_schedule(*, version: ModelVersion, due_at: datetime) -> None:
    """Hide a version shortly before a deadline unless a person decides first.

    An earlier moment that is set already stays.
    """
    moment = due_at - HOLD_BEFORE
    rows = ModelVersion.objects.filter(pk=version.pk)
    rows.filter(hidden_from__isnull=True).update(hidden_from=moment)
    rows.filter(hidden_from__gt=moment).update(hidden_from=moment)


def hold_reschedule(*, version: ModelVersion, actor: Account | None) -> None:
    """Move the clock to the earliest deadline that somebody still asks for, or end it.

    For a request that was answered or taken back: another one, on a case of its own, keeps its
    time. Its caller holds the lock on the version.
    """
    asked = version.reports.filter(state=ReportState.OPEN, due_at__isnull=False)
    due_at = asked.aggregate(first=Min("due_at"))["first"]
    moment = due_at - HOLD_BEFORE if due_at else None
    if moment is None or moment > timezone.now() or version.visibility not in REACHABLE:
        hold_end(version=version, actor=actor)
    version.hidden_from = moment
    version.save(update_fields=["hidden_from"])


def holds_place() -> int:
    """Record the holds whose moment has come, and tell the creators; return how many."""
    due = (
        ModelVersion.objects.filter(
            hidden_from__lte=timezone.now(), visibility__in=sorted(REACHABLE)
        )
        .exclude(Exists(Hold.objects.filter(version=OuterRef("pk"), ended_at__isnull=True)))
        .order_by("hidden_from")
    )
    return sum(_place(pk) for pk in due.values_list("pk", flat=True)[:HOLD_LIMIT])


@transaction.atomic
def _place(version_id: int) -> bool:
    version = (
        ModelVersion.objects.select_for_update(of=("self",), no_key=True)
        .select_related("uploaded_model__creator")
        .get(pk=version_id)
    )
    if version.hidden_from is None or version.hidden_from > timezone.now():
        return False
    report = (
        version.reports.filter(state=ReportState.OPEN, due_at__isnull=False)
        .select_related("case", "rule__policy")
        .order_by("due_at")
        .first()
    )
    if report is None or report.due_at is None:
        # Nobody asks for it any more.
        ModelVersion.objects.filter(pk=version.pk).update(hidden_from=None)
        return False
    if Hold.objects.filter(version=version, ended_at__isnull=True).exists():
        return False
    hold = Hold.objects.create(
        version=version,
        case=report.case,
        report=report,
        due_at=report.due_at,
        held_at=timezone.now(),
    )
    hold_statement_issue(hold=hold)
    event_record(
        action="version.held_by_clock",
        actor=None,
        version=version,
        case=report.case,
        data={"since": version.hidden_from.isoformat(), "due_at": report.due_at.isoformat()},
    )
    Case.objects.filter(pk=report.case_id).update(weighed_at=None)
    notice_issue(
        kind="held_by_clock",
        version=version,
        account=version.uploaded_model.creator,
        extra={"due_at": report.due_at, "statement": statement_of_hold(hold)},
    )
    return True


@transaction.atomic
def hold_object(*, hold: Hold, text: str, actor: Account) -> None:
    """Take what the creator says against a hold; whoever decides the case reads it.

    It can be said once, for as long as the hold lasts. Raises Hidden to anybody else, Invalid for
    a text that is empty or too long, Conflict where it is over or something was said already.
    """
    if hold.version.uploaded_model.creator_id != actor.pk:
        raise Hidden
    text = text.strip()
    if not text:
        raise Invalid(
            "Say in a few words what speaks against it.", code="no_objection", field="text"
        )
    if len(text) > OBJECTION_LENGTH:
        raise Invalid(
            f"Your text is {len(text):,} characters long; {OBJECTION_LENGTH:,} are the most.",
            code="text_too_long",
            field="text",
        )
    objected = Hold.objects.filter(pk=hold.pk, ended_at__isnull=True, objection="").update(
        objection=text, objected_at=timezone.now()
    )
    if not objected:
        raise Conflict(
            "It is not hidden by the clock any more, or you have said what speaks against it.",
            code="hold_over",
        )
    event_record(action="hold.objected", actor=actor, version=hold.version, case=hold.case)


def hold_end(*, version: ModelVersion, actor: Account | None) -> None:
    """End the clock and the hold of a version that a person has decided about.

    Or that nobody asks for any more. Within the transaction that brings that about.
    """
    version.hidden_from = None
    ModelVersion.objects.filter(pk=version.pk).update(hidden_from=None)
    for hold in Hold.objects.filter(version=version, ended_at__isnull=True).select_related("case"):
        hold.ended_at = timezone.now()
        hold.save(update_fields=["ended_at"])
        event_record(action="version.hold_ended", actor=actor, version=version, case=hold.case)
