"""What anybody may read."""

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet
from django.utils import timezone

from moderation.authz import (
    Hidden,
    require_sight,
)
from moderation.effects import takes_back
from moderation.errors import Unavailable
from moderation.models import (
    Account,
    CountryBlock,
    Decision,
    ModelVersion,
    Policy,
    PreviewImage,
    Report,
    Rule,
)
from moderation.states import (
    ABOUT_ACCOUNTS,
    CAME_INTO_FORCE,
    LISTED,
    LOOSENING,
    UNKNOWN_COUNTRY,
    Action,
    ReportState,
    Visibility,
)


def _shown_previews() -> "Prefetch[str]":
    return Prefetch("previews", queryset=PreviewImage.objects.filter(is_disabled=False))


def catalogue(*, adult: bool, country: str = "") -> QuerySet[ModelVersion]:
    """Return the versions that are listed, newest first, without those kept from a country."""
    shown = LISTED if adult else LISTED - {Visibility.AGE_RESTRICTED}
    versions = (
        ModelVersion.objects.filter(visibility__in=shown)
        .exclude(hidden_from__lte=timezone.now())
        .select_related("uploaded_model__creator")
        .prefetch_related(_shown_previews())
        .order_by("-published_at", "-pk")
    )
    if not country:
        return versions
    blocks = CountryBlock.objects.filter(version=OuterRef("pk"))
    return versions.exclude(Exists(_in_country(blocks, country)))


def version_for(
    account: Account | None, code: str, *, country: str = "", with_parts: bool = True
) -> ModelVersion:
    """Return a version that this person may open, from this country.

    ``with_parts`` reads its files and the previews that are shown, too. Raises Hidden where they
    may not, Unavailable where a decision keeps it from the country.
    """
    versions = ModelVersion.objects.filter(code=code).select_related("uploaded_model__creator")
    if with_parts:
        versions = versions.prefetch_related(_shown_previews(), "files")
    version = versions.first()
    if version is None:
        raise Hidden
    require_sight(account, version)
    _require_country(account, version, country)
    return version


def _in_country(blocks: QuerySet[CountryBlock], country: str) -> QuerySet[CountryBlock]:
    """Return the blocks that concern a country; all of them where it is not known."""
    return blocks if country == UNKNOWN_COUNTRY else blocks.filter(country=country)


def _require_country(account: Account | None, version: ModelVersion, country: str) -> None:
    if not country or _takes_part(account, version):
        return
    if _in_country(version.country_blocks.all(), country).exists():
        raise Unavailable("By a decision about it, this model is not shown in your country.")


def preview_for(
    account: Account | None, code: str, *, adult: bool, country: str = ""
) -> PreviewImage:
    """Return a preview of a version that this person may open. Raises Hidden otherwise."""
    preview = (
        PreviewImage.objects.filter(code=code).select_related("version__uploaded_model").first()
    )
    if preview is None:
        raise Hidden
    require_sight(account, preview.version)
    _require_country(account, preview.version, country)
    for_some = preview.version.visibility == Visibility.AGE_RESTRICTED and not adult
    if (for_some or preview.is_disabled) and not _takes_part(account, preview.version):
        raise Hidden
    return preview


def _takes_part(account: Account | None, version: ModelVersion) -> bool:
    """Whether this is the creator or the team, who work with what is kept from others."""
    if account is None:
        return False
    return account.is_team or account.pk == version.uploaded_model.creator_id


def policy_in_force() -> Policy | None:
    """Return the active policy with its rules."""
    return Policy.objects.filter(is_active=True).prefetch_related("rules__prompts").first()


def rules_in_force() -> list[Rule]:
    """Return the rules of the active policy in their order."""
    return list(Rule.objects.filter(policy__is_active=True).order_by("position"))


def report_by_token(token: str) -> Report:
    """Return a report by the private link its reporter was given. Raises Hidden otherwise."""
    report = (
        Report.objects.filter(token=token).select_related("version__uploaded_model", "rule").first()
    )
    if report is None:
        raise Hidden
    return report


def decision_on_report(report: Report) -> Decision | None:
    """Return the last decision in force about what a report pointed to.

    Also one that took the answer back or replaced it, however often, on a case of its own. What
    was taken beside the case, about the account or to the authorities, answers no report.
    """
    chain = Report.objects.filter(pk=report.pk).values("decision__chain")
    decisions = (
        Decision.objects.filter(
            Q(case=report.case_id) | Q(chain__in=chain),
            effect__state__in=CAME_INTO_FORCE,
        )
        .exclude(action__in=ABOUT_ACCOUNTS | {Action.LAW})
        .exclude(overrides__action__in=ABOUT_ACCOUNTS)
        .select_related("effect", "version__uploaded_model", "case")
        .order_by("decided_at", "pk")
    )
    last, answers = None, {report.decision_id} - {None}
    for each in decisions:
        # Of the same chain is also what merely came on top: it answers reports of its own.
        if each.case_id == report.case_id or (takes_back(each) and each.overrides_id in answers):
            last = each
            answers.add(each.pk)
    return last


def was_reversed(report: Report) -> bool:
    """Return whether what was done about a report was taken back."""
    last = decision_on_report(report)
    return report.state == ReportState.ACTED and last is not None and last.action in LOOSENING
