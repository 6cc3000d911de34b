"""What the decisions that stand make of versions, previews, models and accounts.

The columns that pages are served from are computed here from the decisions themselves, and from
nothing else, so that taking one decision back restores what was, whatever came in between.
Writes ``ModelVersion``, ``PreviewImage``, ``UploadedModel``, ``CountryBlock`` and ``Account``.
"""

from collections.abc import Iterable, Sequence

from django.db.models import Q
from django.utils import timezone

from moderation.models import (
    Account,
    CountryBlock,
    Decision,
    ModelVersion,
    PreviewImage,
    Report,
)
from moderation.prepared import Prepared
from moderation.states import (
    ABOUT_ACCOUNTS,
    CAME_INTO_FORCE,
    COUNTED,
    LOOSENING,
    PROTECTS_WHILE_HELD,
    REACHABLE,
    RESTRICTIONS,
    VISIBILITY_AFTER,
    Action,
    EffectState,
    Visibility,
)


def loosens(decision: Decision) -> bool:
    """Return whether more becomes public by a decision, so that it waits until it is in force."""
    return (
        decision.action in LOOSENING
        or decision.appeal_id is not None
        or (
            decision.previous_visibility == Visibility.QUARANTINED
            and decision.new_visibility in REACHABLE
        )
    )


def counts(decision: Decision) -> bool:
    """Return whether a decision changes anything now."""
    state = decision.effect.state
    if loosens(decision):
        return state == EffectState.IN_FORCE
    if decision.action in PROTECTS_WHILE_HELD and state == EffectState.HELD:
        return True
    return state in COUNTED


def standing_of(decisions: Iterable[Decision]) -> list[Decision]:
    """Return those that count and that no later decision has taken back, in their order."""
    counting = [decision for decision in decisions if counts(decision)]
    taken_back = {decision.overrides_id for decision in counting if takes_back(decision)}
    return [
        decision
        for decision in counting
        if decision.pk not in taken_back and decision.action != Action.REVERSE
    ]


def decisions_about(version: ModelVersion) -> list[Decision]:
    """Return every decision about any version of the same model, the earliest first."""
    return _about_model.rows(model=version.uploaded_model_id)


_about_model = Prepared(
    lambda model: (
        Decision.objects.filter(version__uploaded_model=model, effect__isnull=False)
        .select_related("effect")
        .order_by("decided_at", "pk")
    ),
    model=int,
)


def restrictions_standing(version: ModelVersion) -> list[Decision]:
    """Return the restrictions that stand on one version, those of its model included."""
    return [
        decision
        for decision in standing_of(decisions_about(version))
        if decision.action in RESTRICTIONS and _concerns(decision, version)
    ]


def in_whose_place(decision: Decision) -> list[Decision]:
    """Return a decision and those in whose place it stands, the latest first.

    It took them back, or it is what came of an appeal against them. What a decision merely came on
    top of is not among them: that stands by itself.
    """
    found = [decision]
    while takes_back(decision) and decision.overrides is not None:
        decision = decision.overrides
        found.append(decision)
    return found


def takes_back(decision: Decision) -> bool:
    """Return whether a decision ends the one it overrides, and does not come on top of it."""
    return decision.action == Action.REVERSE or decision.appeal_id is not None


def does_what_is_asked(decision: Decision, report: Report | None) -> bool:
    """Return whether a restriction that stands leaves a report nothing to ask for.

    It rests on the rule that the report names, or nobody can see the version any more.
    """
    if decision.version.visibility not in REACHABLE:
        return True
    rules = {clause["slug"] for clause in decision.clauses}
    return report is not None and report.rule is not None and report.rule.slug in rules


def visibility_after(action: Action, before: Visibility) -> Visibility:
    """Return who may see a version that was ``before`` once an action has been taken."""
    if action == Action.APPROVE and before != Visibility.QUARANTINED:
        # A report that was not borne out leaves everything as it is.
        return before
    if action in VISIBILITY_AFTER:
        return VISIBILITY_AFTER[action]
    if before == Visibility.QUARANTINED and action in _PUBLISHED_WITH:
        return Visibility.PUBLISHED
    return before


# Milder than keeping a version back: what waits in quarantine is published with it.
_PUBLISHED_WITH = frozenset({Action.LABEL, Action.GEO_RESTRICT, Action.DISABLE_PREVIEW})


def effects_apply(*, version: ModelVersion) -> None:
    """Bring everything that a decision about a version can change in line with what stands.

    The caller holds the lock on the version, and on its siblings if the model is concerned.
    """
    decisions = decisions_about(version)
    standing = standing_of(decisions)
    page = version.uploaded_model
    removal = next((each for each in standing if each.action == Action.REMOVE_MODEL), None)
    removed_at = removal.decided_at if removal else None
    if page.removed_at != removed_at:
        page.removed_at = removed_at
        page.save(update_fields=["removed_at"])
    concerned = [version]
    if any(each.action == Action.REMOVE_MODEL for each in decisions):
        others = page.versions.exclude(pk=version.pk).exclude(visibility=Visibility.DRAFT)
        # What the model's removal did not hide has changed since by itself, and stays as it is.
        concerned += others if removal else others.filter(visibility=Visibility.REMOVED)
    for each in concerned:
        _apply_to_version(each, decisions, standing, is_removed=removal is not None)


def _apply_to_version(
    version: ModelVersion,
    decisions: Sequence[Decision],
    standing: Sequence[Decision],
    *,
    is_removed: bool,
) -> None:
    own = [decision for decision in standing if decision.version_id == version.pk]
    visibility = _visibility(version, decisions, own)
    if version.withdrawn_at and visibility in REACHABLE | {Visibility.QUARANTINED}:
        visibility = Visibility.WITHDRAWN
    if is_removed and visibility in REACHABLE:
        visibility = Visibility.REMOVED
    version.visibility = visibility
    if visibility in REACHABLE and version.published_at is None:
        version.published_at = timezone.now()
    version.label = next(
        (each.label for each in reversed(own) if each.action == Action.LABEL and _runs(each)), ""
    )
    isolation = next((each for each in own if each.action == Action.CHILD_SAFETY), None)
    version.isolated_at = isolation.decided_at if isolation else None
    version.save(update_fields=["visibility", "published_at", "label", "isolated_at"])
    disabled = [
        each.preview_id
        for each in own
        if each.action == Action.DISABLE_PREVIEW and each.preview_id is not None
    ]
    PreviewImage.objects.filter(version=version).exclude(pk__in=disabled).update(is_disabled=False)
    PreviewImage.objects.filter(version=version, pk__in=disabled).update(is_disabled=True)
    _block_countries(version, own)


def _visibility(
    version: ModelVersion, decisions: Sequence[Decision], own: Sequence[Decision]
) -> Visibility:
    """Return what the last decision that stands says; without one, what was before them all."""
    deciding = [
        each
        for each in own
        if (each.action in VISIBILITY_AFTER or each.new_visibility != each.previous_visibility)
        and (each.action != Action.APPROVE or each.new_visibility != each.previous_visibility)
        and _runs(each)
    ]
    if deciding:
        return Visibility(deciding[-1].new_visibility)
    # A strike, or a report to the authorities, says nothing of who may see it: what waits goes on.
    moved = [
        each
        for each in decisions
        if each.version_id == version.pk and each.new_visibility != each.previous_visibility
    ]
    in_force = [each for each in moved if each.effect.state in CAME_INTO_FORCE]
    if in_force:
        before = Visibility(in_force[0].previous_visibility)
        # Whoever took the decision back, or answered the appeal, has cleared it.
        return Visibility.PUBLISHED if before == Visibility.QUARANTINED else before
    if moved:
        return Visibility(moved[0].previous_visibility)
    for each in reversed(decisions):
        if each.action == Action.REMOVE_MODEL:
            before = Visibility(each.previous_state["versions"].get(version.code, "removed"))
            # The last removal that found it visible, or waiting, knows what it was.
            if before != Visibility.REMOVED:
                return before
    return Visibility(version.visibility)


def _runs(decision: Decision) -> bool:
    return decision.until is None or timezone.now() < decision.until


def _concerns(decision: Decision, version: ModelVersion) -> bool:
    return decision.version_id == version.pk or decision.action == Action.REMOVE_MODEL


def _block_countries(version: ModelVersion, own: Sequence[Decision]) -> None:
    blocks = {
        country: decision.until
        for decision in own
        if decision.action == Action.GEO_RESTRICT
        for country in decision.territories
    }
    version.country_blocks.exclude(country__in=blocks).delete()
    for country, until in blocks.items():
        CountryBlock.objects.update_or_create(
            version=version, country=country, defaults={"until": until}
        )


def effects_apply_to_account(*, account: Account) -> None:
    """Bring an account in line with the decisions that mute or suspend it, or end that."""
    decisions = Decision.objects.filter(
        Q(action__in=ABOUT_ACCOUNTS) | Q(overrides__action__in=ABOUT_ACCOUNTS),
        creator=account,
        effect__isnull=False,
    ).select_related("effect")
    standing = [each for each in standing_of(decisions.order_by("decided_at", "pk")) if _runs(each)]
    mutes = [each for each in standing if each.action == Action.MUTE]
    suspensions = [each for each in standing if each.action == Action.SUSPEND]
    ends = [each.until for each in suspensions]
    account.muted_until = max((each.until for each in mutes if each.until), default=None)
    account.suspended_at = suspensions[0].decided_at if suspensions else None
    account.suspended_until = None if None in ends else max(filter(None, ends), default=None)
    account.save(update_fields=["muted_until", "suspended_at", "suspended_until"])
