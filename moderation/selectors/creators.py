"""What creators read of their own."""

from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone

from moderation.authz import (
    Hidden,
    require_own,
)
from moderation.models import (
    Account,
    Case,
    Decision,
    Hold,
    Inquiry,
    ModelVersion,
    Notice,
)
from moderation.states import (
    ABOUT_ACCOUNTS,
    CAME_INTO_FORCE,
    TOLD_TO_CREATOR,
    WAITING_CASES,
    Action,
)


def own_versions(account: Account) -> QuerySet[ModelVersion]:
    """Return a creator's versions, newest first, but not what is held apart."""
    return (
        ModelVersion.objects.filter(uploaded_model__creator=account, isolated_at__isnull=True)
        .select_related("uploaded_model")
        .prefetch_related(
            "previews",
            Prefetch(
                "decisions",
                queryset=Decision.objects.filter(
                    effect__state__in=CAME_INTO_FORCE, action__in=TOLD_TO_CREATOR
                )
                .prefetch_related("appeals")
                .order_by("-decided_at"),
            ),
        )
        .order_by("-pk")
    )


def decisions_told(version: ModelVersion) -> QuerySet[Decision]:
    """Return the decisions about a version that its creator has been told of, the newest first.

    And those that removed its whole model, on whichever version they stand.
    """
    about = Q(version=version) | Q(
        version__uploaded_model=version.uploaded_model_id, action=Action.REMOVE_MODEL
    )
    return Decision.objects.filter(
        about, effect__state__in=CAME_INTO_FORCE, action__in=TOLD_TO_CREATOR
    ).order_by("-decided_at")


def own_version(account: Account, code: str) -> ModelVersion:
    """Return a creator's version by its code. Raises Hidden for anybody else's."""
    version = (
        ModelVersion.objects.filter(code=code, isolated_at__isnull=True)
        .select_related("uploaded_model")
        .prefetch_related("previews", "files", "jobs")
        .first()
    )
    if version is None:
        raise Hidden
    require_own(account, version.uploaded_model)
    return version


def open_inquiry(version: ModelVersion) -> Inquiry | None:
    """Return the question that a moderator waits to have answered, if there is one."""
    return Inquiry.objects.filter(case__version=version, closed_at__isnull=True).first()


def own_inquiry(account: Account, version: str, code: str) -> Inquiry:
    """Return a question about one's version, by both codes. Raises Hidden for anybody else's."""
    inquiry = (
        Inquiry.objects.filter(case__version__code=version, code=code)
        .select_related("case__version__uploaded_model__creator")
        .first()
    )
    if inquiry is None:
        raise Hidden
    require_own(account, inquiry.case.version.uploaded_model)
    return inquiry


def own_decision(account: Account, code: str) -> Decision:
    """Return a decision about one of a creator's models. Raises Hidden for anybody else's."""
    decision = (
        Decision.objects.filter(
            code=code,
            creator=account,
            effect__state__in=CAME_INTO_FORCE,
            action__in=TOLD_TO_CREATOR,
        )
        .select_related("version__uploaded_model", "policy", "decided_by", "effect")
        .first()
    )
    if decision is None:
        raise Hidden
    return decision


def own_hold(account: Account, code: str) -> Hold:
    """Return the latest hold of a creator's version, by its code. Raises Hidden without one."""
    found = Hold.objects.filter(
        version__code=code, version__isolated_at__isnull=True, statement__isnull=False
    )
    hold = (
        found.select_related("version__uploaded_model__creator", "statement")
        .order_by("-held_at", "-pk")
        .first()
    )
    if hold is None:
        raise Hidden
    require_own(account, hold.version.uploaded_model)
    return hold


def decisions_about_account(account: Account) -> QuerySet[Decision]:
    """Return the strikes, mutes and suspensions of an account, the newest first."""
    return Decision.objects.filter(
        creator=account, action__in=ABOUT_ACCOUNTS, effect__state__in=CAME_INTO_FORCE
    ).order_by("-decided_at")


def own_notices(account: Account) -> QuerySet[Notice]:
    """Return what an account was told, newest first."""
    return (
        Notice.objects.filter(recipient=account, shown_from__lte=timezone.now())
        .select_related("version", "decision", "report")
        .order_by("-created_at", "-pk")
    )


def own_notice(account: Account, code: str) -> Notice:
    """Return a notice to an account by its code. Raises Hidden for anybody else's."""
    notice = own_notices(account).filter(code=code).first()
    if notice is None:
        raise Hidden
    return notice


def unread_notices(account: Account) -> int:
    """Return how many notices an account has not opened."""
    return Notice.objects.filter(
        recipient=account, read_at__isnull=True, shown_from__lte=timezone.now()
    ).count()


def place_in_queue(version: ModelVersion) -> int | None:
    """Return how many cases wait before this version's, or None if it does not wait."""
    case = version.cases.filter(state__in=WAITING_CASES).first()
    if case is None:
        return None
    return Case.objects.filter(turn_at__lt=case.turn_at, state__in=WAITING_CASES).count()
