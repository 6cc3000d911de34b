"""The row of a decision: what is decided, by whom, on what grounds, and what was before it.

Writes ``Decision``, which nobody edits afterwards.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from moderation.audit import event_record
from moderation.clearing import not_cleared
from moderation.effects import restrictions_standing, visibility_after
from moderation.errors import Conflict, Invalid
from moderation.models import (
    Account,
    Appeal,
    Case,
    Decision,
    ModelVersion,
    Policy,
    PreviewImage,
    Rule,
)
from moderation.models.codes import new_code
from moderation.reasons import Reasons, Terms
from moderation.states import (
    ABOUT_ACCOUNTS,
    APPEAL_WINDOW,
    LOOSENING,
    REACHABLE,
    RESTRICTIONS,
    Action,
    AppealState,
    Concern,
    Outcome,
    Source,
    Visibility,
    may_follow,
)


def decision_write(
    case: Case,
    version: ModelVersion,
    action: Action,
    reasons: Reasons,
    actor: Account,
    *,
    overrides: Decision | None = None,
    appeal: Appeal | None = None,
) -> Decision:
    """Write the row of a decision with what was before it. Its caller holds the locks.

    Raises Conflict where no such state can follow, Invalid for a preview that is not there.
    """
    now = timezone.now()
    terms, rules = reasons.terms, reasons.rules
    before = Visibility(version.visibility)
    after = before if action == Action.REVERSE else visibility_after(action, before)
    # What its creator took down stays down; the decision stands all the same.
    stays_down = before == Visibility.WITHDRAWN and after in REACHABLE
    if after != before and not stays_down and not may_follow(Visibility, before, after):
        raise Conflict(f"A version that is “{before.label}” cannot become “{after.label}”.")
    standing = restrictions_standing(version)
    if overrides is None and action in RESTRICTIONS:
        # A restriction comes on top of the last one of its kind that still stands.
        overrides = next((each for each in reversed(standing) if _same_kind(each, action)), None)
    code = new_code()
    decision = Decision(
        code=code,
        case=case,
        version=version,
        preview=_preview(version, terms),
        action=action,
        source=_source(version, action, reasons, follows=bool(overrides or appeal)),
        ground=terms.ground,
        legal_ground=terms.legal_ground.strip(),
        policy=rules[0].policy if rules else Policy.objects.get(is_active=True),
        clauses=(
            overrides.clauses if action == Action.REVERSE and overrides else _clauses(rules, action)
        ),
        facts=reasons.facts,
        message=reasons.message,
        private_note=reasons.private_note,
        label=terms.label.strip(),
        territories=sorted({country.upper() for country in terms.countries}),
        until=terms.until,
        decided_by=actor,
        creator=version.uploaded_model.creator,
        automated_detection=version.findings.filter(outcome=Outcome.SCORED)
        .exclude(concern=Concern.NONE)
        .exists(),
        previous_visibility=before,
        new_visibility=after,
        previous_state=_state(version),
        overrides=overrides,
        appeal=appeal,
        chain=(overrides.chain or overrides.code) if overrides else code,
        bulk=terms.bulk,
        appeal_until=now + _window(rules) if action in RESTRICTIONS else None,
        decided_at=now,
    )
    decision.needs_second_person = _needs_second_person(decision)
    decision.save(force_insert=True)
    decision.rules.set(rules)
    event_record(
        action="decision.made",
        actor=actor,
        version=version,
        case=case,
        data={
            "decision": decision.code,
            "action": action,
            "rules": [rule.slug for rule in rules],
            "from": before,
            "to": after,
        },
    )
    return decision


def _source(version: ModelVersion, action: Action, reasons: Reasons, *, follows: bool) -> Source:
    """Return where a decision comes from, by what is recorded.

    ``CONFIRMED`` where the machine alone has kept the version back, by a finding at the threshold
    to hold or an exact match with a bank, and a person restricts it under the very rule of that
    finding: then a part of the way to the restriction was automated, and the person, who could
    have let it go, has made it last. A finding that only asks a person to look holds nothing, and
    neither does one about what is public already. What is decided about an account, or after
    another decision or on an appeal, confirms no machine: no machine has done anything of the kind,
    and a person stands in between. What a clock hid is told by itself; it says nothing on the rule.
    """
    if reasons.terms.is_order:
        return Source.ORDER
    if follows or action not in RESTRICTIONS or action in ABOUT_ACCOUNTS:
        return Source.PERSON
    kept_back = version.visibility == Visibility.QUARANTINED or (
        # Its creator took it down before anybody had seen it.
        version.visibility == Visibility.WITHDRAWN and version.published_at is None
    )
    if not kept_back:
        return Source.PERSON
    holding = version.findings.filter(
        outcome=Outcome.SCORED,
        concern=Concern.HOLD,
        rule__slug__in=[rule.slug for rule in reasons.rules],
    )
    return Source.CONFIRMED if not_cleared(version=version, findings=holding) else Source.PERSON


def _window(rules: Sequence[Rule]) -> timedelta:
    """Return how long a decision can be appealed: as long as any of its rules allows."""
    return max([APPEAL_WINDOW, *(timedelta(days=rule.appeal_days) for rule in rules)])


def _same_kind(decision: Decision, action: Action) -> bool:
    return (decision.action in ABOUT_ACCOUNTS) == (action in ABOUT_ACCOUNTS)


def _clauses(rules: Sequence[Rule], action: Action) -> list[dict[str, Any]]:
    return [
        {
            "slug": rule.slug,
            "title": rule.title,
            "text": rule.text,
            "advice": rule.advice,
            "strikes": rule.strike_points.get(action),
        }
        for rule in rules
    ]


def _state(version: ModelVersion) -> dict[str, Any]:
    """Return what a decision may change beside the visibility of the version, as it is now."""
    page = version.uploaded_model
    return {
        "label": version.label,
        "countries": list(version.country_blocks.values_list("country", flat=True)),
        "disabled_previews": list(
            version.previews.filter(is_disabled=True).values_list("code", flat=True)
        ),
        "versions": dict(page.versions.values_list("code", "visibility")),
    }


def _preview(version: ModelVersion, terms: Terms) -> PreviewImage | None:
    if not terms.preview:
        return None
    preview = version.previews.filter(code=terms.preview).first()
    if preview is None:
        raise Invalid("This version has no such preview.", field="preview")
    return preview


def _needs_second_person(decision: Decision) -> bool:
    """Return whether a second, different person has to confirm a decision."""
    wanted = set(settings.SECOND_PERSON_FOR)
    appeal = decision.appeal
    if decision.action in LOOSENING and decision.overrides_id:
        return "overturn" in wanted
    if appeal is not None and appeal.state == AppealState.OPEN:
        return "overturn" in wanted
    if decision.action in {Action.REMOVE, Action.REMOVE_MODEL}:
        downloads = decision.version.uploaded_model.versions.aggregate(sum=Sum("downloads"))["sum"]
        return "popular" in wanted and downloads > settings.POPULAR_DOWNLOADS
    return decision.action in wanted
