"""What a marketplace reads through the API: its own models and what happened to them."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Exists, F, OuterRef, Prefetch, Q, QuerySet
from django.db.models.fields.json import KT

from moderation.authz import Hidden
from moderation.models import (
    Account,
    Appeal,
    Decision,
    Event,
    FileReference,
    Finding,
    Hold,
    ModelVersion,
    Report,
    Webhook,
)
from moderation.states import CAME_INTO_FORCE, TOLD_TO_CREATOR, Side

# The kinds of events that concern the creator, and the facts of them that are theirs to know.
# Reports, claims and notes are the house's own, and so is what becomes of a decision before it is
# in force.
PUBLIC_KINDS = ("version.", "decision.in_force", "decision.ended", "appeal.")
PUBLIC_FACTS = frozenset({"decision", "action", "rules", "from", "to", "appeal", "outcome"})


def _mine(account: Account, path: str) -> Q:
    """Match what was made by the marketplace or by one of its users."""
    return Q(**{path: account}) | Q(**{f"{path}__external__marketplace": account})


def versions_of(account: Account) -> QuerySet[ModelVersion]:
    """Return the versions of a marketplace, the newest first, but not what is held apart.

    With their files, previews and references, and what hides them.
    """
    return _with_parts(_versions_of(account)).order_by("-pk")


def _versions_of(account: Account) -> QuerySet[ModelVersion]:
    versions = ModelVersion.objects.filter(
        _mine(account, "uploaded_model__creator"), isolated_at__isnull=True
    )
    return versions.select_related("uploaded_model__creator__external")


def _with_parts(versions: QuerySet[ModelVersion]) -> QuerySet[ModelVersion]:
    holds = Hold.objects.filter(ended_at__isnull=True, statement__isnull=False)
    return versions.prefetch_related(
        Prefetch("clock_holds", holds.select_related("statement")),
        "files",
        "previews",
        Prefetch("references", FileReference.objects.order_by("pk")),
    )


def version_of(account: Account, code: str, *, with_parts: bool = True) -> ModelVersion:
    """Return one of its versions; raises Hidden for any other.

    ``with_parts`` reads its files, previews and references, too, and what hides it.
    """
    found = _versions_of(account).filter(code=code)
    version = (_with_parts(found) if with_parts else found).first()
    if version is None:
        raise Hidden
    return version


def findings_of(version: ModelVersion) -> QuerySet[Finding]:
    """Return the findings on a version, the highest score first."""
    found = version.findings.select_related("rule", "file", "preview")
    return found.order_by(F("score").desc(nulls_last=True), "pk")


def decisions_of(account: Account) -> QuerySet[Decision]:
    """Return what creators are told of the decisions on their models, the newest first."""
    decisions = Decision.objects.filter(
        _mine(account, "creator"),
        effect__state__in=CAME_INTO_FORCE,
        action__in=TOLD_TO_CREATOR,
    )
    related = ("version__uploaded_model", "policy", "statement", "effect")
    return decisions.select_related(*related).order_by("-pk")


def decision_of(account: Account, code: str) -> Decision:
    """Return one of those decisions; raises Hidden for any other."""
    decision = decisions_of(account).filter(code=code).first()
    if decision is None:
        raise Hidden
    return decision


def reference_of(account: Account, code: str) -> FileReference:
    """Return a file that the marketplace or one of its users named; raises Hidden otherwise."""
    mine = _mine(account, "version__uploaded_model__creator")
    reference = (
        FileReference.objects.filter(mine, code=code)
        .select_related("version__uploaded_model__creator")
        .first()
    )
    if reference is None:
        raise Hidden
    return reference


def report_of(account: Account, code: str) -> Report:
    """Return a report that the marketplace or one of its users filed; raises Hidden otherwise."""
    mine = Report.objects.filter(_mine(account, "reporter"), code=code)
    report = mine.select_related("version").first()
    if report is None:
        raise Hidden
    return report


def appeal_of(account: Account, code: str) -> Appeal:
    """Return an appeal that the marketplace or one of its users filed; raises Hidden otherwise."""
    mine = Appeal.objects.filter(_mine(account, "appellant"), code=code)
    appeal = mine.select_related("decision").first()
    if appeal is None:
        raise Hidden
    return appeal


def events_of(account: Account, *, after: int = 0) -> QuerySet[Event]:
    """Return what happened to the models of a marketplace after an event, in order.

    Decisions stand in it from the moment they are in force, which is when their creator is told;
    without those of which creators are told nothing, as of a report to the authorities. Appeals of
    reporters are theirs.
    """
    untold = Decision.objects.filter(code=OuterRef("about")).exclude(action__in=TOLD_TO_CREATOR)
    of_reporters = Appeal.objects.filter(code=OuterRef("appealed"), side=Side.REPORTER)
    kinds = Q()
    for kind in PUBLIC_KINDS:
        kinds |= Q(action__startswith=kind)
    events = Event.objects.filter(
        kinds, _mine(account, "version__uploaded_model__creator"), sequence__gt=after
    )
    told = events.annotate(about=KT("data__decision"), appealed=KT("data__appeal")).exclude(
        Exists(untold) | Exists(of_reporters)
    )
    return told.select_related("version").order_by("sequence")


def public_event(event: Event) -> Mapping[str, Any]:
    """Return an event as others may see it: no actor, no case, no note."""
    return {
        "id": event.sequence,
        "type": event.action,
        "timestamp": event.at.isoformat(),
        "data": {
            "version": event.version.code if event.version else None,
            **{name: fact for name, fact in event.data.items() if name in PUBLIC_FACTS},
        },
    }


def webhooks_of(account: Account) -> QuerySet[Webhook]:
    """Return the webhooks of a marketplace."""
    return Webhook.objects.filter(account=account).order_by("pk")


def webhook_of(account: Account, code: str) -> Webhook:
    """Return one of its webhooks; raises Hidden for any other."""
    webhook = webhooks_of(account).filter(code=code).first()
    if webhook is None:
        raise Hidden
    return webhook
