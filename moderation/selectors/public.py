"""What anybody may read."""

from django.db.models import QuerySet
from django.utils import timezone

from moderation.authz import (
    Hidden,
    require_sight,
)
from moderation.models import (
    Account,
    Appeal,
    ModelVersion,
    Policy,
    PreviewImage,
    Report,
)
from moderation.states import (
    LISTED,
    AppealState,
    Visibility,
)


def catalogue(*, adult: bool) -> QuerySet[ModelVersion]:
    """Return the versions that are listed, newest first."""
    shown = LISTED if adult else LISTED - {Visibility.AGE_RESTRICTED}
    return (
        ModelVersion.objects.filter(visibility__in=shown)
        .exclude(hidden_from__lte=timezone.now())
        .select_related("uploaded_model__creator")
        .prefetch_related("previews")
        .order_by("-published_at", "-pk")
    )


def version_for(account: Account | None, code: str) -> ModelVersion:
    """Return a version that this person may open. Raises Hidden otherwise."""
    version = (
        ModelVersion.objects.filter(code=code)
        .select_related("uploaded_model__creator")
        .prefetch_related("previews", "files")
        .first()
    )
    if version is None:
        raise Hidden
    require_sight(account, version)
    return version


def preview_for(account: Account | None, code: str, *, adult: bool) -> PreviewImage:
    """Return a preview of a version that this person may open. Raises Hidden otherwise."""
    preview = (
        PreviewImage.objects.filter(code=code).select_related("version__uploaded_model").first()
    )
    if preview is None:
        raise Hidden
    require_sight(account, preview.version)
    if preview.version.visibility == Visibility.AGE_RESTRICTED and not adult:
        _require_part(account, preview.version)
    return preview


def _require_part(account: Account | None, version: ModelVersion) -> None:
    """Let through the creator and the team, who work with what is for adults only."""
    is_own = account is not None and account.pk == version.uploaded_model.creator_id
    if not is_own and not (account is not None and account.is_team):
        raise Hidden


def policy_in_force() -> Policy | None:
    """Return the active policy with its rules."""
    return Policy.objects.filter(is_active=True).prefetch_related("rules__prompts").first()


def report_by_token(token: str) -> Report:
    """Return a report by the private link its reporter was given. Raises Hidden otherwise."""
    report = (
        Report.objects.filter(token=token).select_related("version__uploaded_model", "rule").first()
    )
    if report is None:
        raise Hidden
    return report


def was_reversed(report: Report) -> bool:
    """Return whether a won appeal took back what was done about a report."""
    return Appeal.objects.filter(case=report.case_id, state=AppealState.OVERTURNED).exists()
