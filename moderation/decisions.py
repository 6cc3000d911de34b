"""Decisions: a person applies an action under named rules, with facts in words.

Writes ``Decision`` and ``Effect``. A decision is never edited: it is undone before anybody was
told of it, or a later one takes it back. What follows from it is for ``enforcement``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Sum
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_impartial, require_no_part_in, require_not_apart
from moderation.cases import case_transition
from moderation.effects import restrictions_standing, visibility_after
from moderation.enforcement import effect_begin, effect_confirm, effect_end
from moderation.errors import Conflict, Invalid, NotAllowed
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
from moderation.statements import message_compose
from moderation.states import (
    ABOUT_ACCOUNTS,
    ALLOWED_BY,
    APPEAL_WINDOW,
    ENDS_SOMETIME,
    LOOSENING,
    REACHABLE,
    RESTRICTIONS,
    REVERSIBLE,
    Action,
    AppealState,
    CaseState,
    Concern,
    EffectState,
    Ground,
    Outcome,
    Source,
    Visibility,
    may_follow,
)

FACTS_LENGTH = 5000
LABEL_LENGTH = 200
# Taken beside the decision about the case: they need no claim and end no case.
BESIDE_THE_CASE = ABOUT_ACCOUNTS | {Action.LAW}


@dataclass(frozen=True)
class Terms:
    """What an action is qualified by, beside its rules and facts."""

    label: str = ""
    countries: Sequence[str] = ()
    preview: str = ""
    until: datetime | None = None
    source: Source = Source.PERSON
    ground: Ground = Ground.POLICY
    legal_ground: str = ""
    bulk: str = ""


@dataclass(frozen=True)
class Reasons:
    """What a decision rests on, checked."""

    rules: list[Rule]
    facts: str
    message: str
    private_note: str = ""
    terms: Terms = field(default_factory=Terms)


def decision_make(
    *,
    case: Case,
    action: Action,
    rules: Sequence[str],
    facts: str,
    message: str = "",
    private_note: str = "",
    terms: Terms | None = None,
    reports_seen: int | None = None,
    actor: Account,
) -> Decision:
    """Decide a case. Everybody concerned is told once it can no longer be undone.

    ``rules`` are slugs of the active policy and may be empty only where nothing is restricted;
    ``message`` is what the creator reads, composed from rules and facts if it is empty.
    ``reports_seen`` is how many reports were on the page: nobody is told that a person read
    their report unless one did. Strikes, mutes, suspensions and reports to the law are taken beside
    the decision about the case, which need not be claimed for them. Raises Conflict if more reports
    have come in or the case is not in this moderator's hands, NotAllowed for a conflict of
    interest, Invalid where rule or facts are missing.
    """
    reasons = _check(action, rules, facts, message, private_note, terms or Terms())
    with transaction.atomic():
        version, case = _lock(case, action)
        require_impartial(actor, case.version)
        remanded = _remanded(version)
        if remanded is not None and action not in BESIDE_THE_CASE:
            # Nobody decides anew what was sent back because of their own decision.
            require_no_part_in(actor, remanded.decision, appeal=remanded)
        if action not in BESIDE_THE_CASE:
            _require_held(case, actor)
        require_reports_read(case, reports_seen)
        if remanded is None or action in BESIDE_THE_CASE:
            decision = _write(case, version, action, reasons, actor)
        else:
            decision = _write(
                case,
                version,
                action,
                reasons,
                actor,
                overrides=remanded.decision,
                appeal=remanded,
            )
        held = decision.needs_second_person
        if action not in BESIDE_THE_CASE:
            _end_case(case, action, actor, is_held=held)
        effect_begin(decision=decision, is_held=held)
    return decision


def decision_reverse(
    *, decision: Decision, facts: str, private_note: str = "", actor: Account
) -> Decision:
    """Take a restriction back by a new decision; everybody who was told is told again.

    What was before is restored, unless another restriction stands. Raises Conflict if it is not
    in force, or was taken back already.
    """
    reasons = Reasons(
        _rules_of(decision), _check_facts(facts), _check_facts(facts), private_note.strip()
    )
    if decision.action not in REVERSIBLE:
        raise Conflict("This decision restricts nothing, so there is nothing to take back.")
    with transaction.atomic():
        version, case = _lock(decision.case, Action(decision.action))
        require_impartial(actor, version)
        require_not_apart(actor, version)
        if decision not in restrictions_standing(version) or (
            decision.effect.state != EffectState.IN_FORCE
        ):
            raise Conflict(
                "This decision does not stand any more, or is not in force yet; there is nothing "
                "to take back.",
                code="not_standing",
            )
        _refuse_second_reversal(decision)
        reversal = _write(case, version, Action.REVERSE, reasons, actor, overrides=decision)
        effect_begin(decision=reversal, is_held=reversal.needs_second_person)
    return reversal


def decision_grant(
    *,
    appeal: Appeal,
    action: Action,
    rules: Sequence[str] = (),
    facts: str,
    terms: Terms | None = None,
    actor: Account,
) -> Decision:
    """Write the decision by which an appeal is granted: reversed, or replaced by another action.

    Without ``rules`` it stands under those of the decision appealed. Its caller holds the locks,
    has checked that the actor took no part, and moves the case.
    """
    before = appeal.decision
    if action == Action.REVERSE:
        reasons = Reasons(_rules_of(before), facts, facts)
    else:
        slugs = list(rules) or [clause["slug"] for clause in before.clauses]
        reasons = _check(action, slugs, facts, "", "", terms or Terms())
    version = ModelVersion.objects.select_related("uploaded_model__creator").get(
        pk=before.version_id
    )
    decision = _write(appeal.case, version, action, reasons, actor, overrides=before, appeal=appeal)
    effect_begin(decision=decision, is_held=decision.needs_second_person)
    return decision


@transaction.atomic
def decision_confirm(
    *, decision: Decision, reports_seen: int | None = None, actor: Account
) -> Decision:
    """Confirm a held decision as its second, different person.

    Raises NotAllowed for whoever made it, or took part in what it takes back.
    """
    version, case = _lock(decision.case, Action(decision.action))
    require_impartial(actor, version)
    if decision.decided_by_id == actor.pk:
        raise NotAllowed(
            "You made this decision. Somebody else confirms it.", code="conflict_of_interest"
        )
    if decision.overrides and decision.appeal_id:
        require_no_part_in(actor, decision.overrides, appeal=decision.appeal)
    require_reports_read(case, reports_seen)
    effect_confirm(decision=decision, case=case, actor=actor)
    return decision


@transaction.atomic
def decision_cancel(*, decision: Decision, reason: str = "", actor: Account) -> Decision:
    """Withdraw a held decision without a verdict; the case waits for a person again.

    Whoever made it may, and whoever could have confirmed it.
    """
    version, case = _lock(decision.case, Action(decision.action))
    require_impartial(actor, version)
    effect_end(
        decision=decision, case=case, state=EffectState.CANCELLED, reason=reason, actor=actor
    )
    return decision


@transaction.atomic
def decision_undo(*, decision: Decision, actor: Account) -> Decision:
    """Undo a decision that nobody has been told of yet; the case is in the same hands again.

    Raises NotAllowed for anybody but who made or confirmed it, Conflict once it is in force.
    """
    _, case = _lock(decision.case, Action(decision.action))
    effect = decision.effect
    effect.refresh_from_db()
    if actor.pk not in {decision.decided_by_id, effect.second_person_id}:
        raise NotAllowed("Only who made this decision can undo it.")
    effect_end(decision=decision, case=case, state=EffectState.UNDONE, actor=actor)
    return decision


def effect_needs_second_person(decision: Decision) -> bool:
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


def require_reports_read(case: Case, seen: int | None) -> None:
    """Raise Conflict if reports have come in that were not on the page."""
    if seen is not None and case.reports.count() > seen:
        raise Conflict(
            "More reports came in while you were looking. They are on this page now: read "
            "them, then decide.",
            code="new_reports",
        )


def _lock(case: Case, action: Action) -> tuple[ModelVersion, Case]:
    # The versions before the case, as everywhere: two orders would be a deadlock.
    versions = ModelVersion.objects.select_for_update(no_key=True)
    if action == Action.REMOVE_MODEL:
        list(versions.filter(uploaded_model__versions=case.version_id).order_by("pk"))
    version = versions.get(pk=case.version_id)
    case = (
        Case.objects.select_for_update(of=("self",), no_key=True)
        .select_related("version__uploaded_model__creator")
        .get(pk=case.pk)
    )
    return version, case


def _check_facts(facts: str) -> str:
    facts = facts.strip()
    if not facts:
        raise Invalid("Say in words what you saw: the creator reads it.", field="facts")
    if len(facts) > FACTS_LENGTH:
        raise Invalid(
            f"The facts are {len(facts):,} characters long; {FACTS_LENGTH:,} are the most.",
            field="facts",
        )
    return facts


def _check(
    action: Action,
    slugs: Sequence[str],
    facts: str,
    message: str,
    private_note: str,
    terms: Terms,
) -> Reasons:
    facts = _check_facts(facts)
    if action == Action.REVERSE:
        raise Invalid("A decision is taken back on its own page.", field="action")
    rules = list(
        Rule.objects.filter(policy__is_active=True, slug__in=slugs).select_related("policy")
    )
    unknown = sorted(set(slugs) - {rule.slug for rule in rules})
    if unknown:
        raise Invalid(f"The policy in force has no rule “{unknown[0]}”.", field="rules")
    if action in RESTRICTIONS and not rules:
        raise Invalid("Name at least one rule: nothing is restricted without one.", field="rules")
    for rule in rules:
        if action in RESTRICTIONS and not ({action} | ALLOWED_BY.get(action, frozenset())) & set(
            rule.actions
        ):
            raise Invalid(
                f"The rule “{rule.title}” does not allow “{action.label}”.", field="action"
            )
    _check_terms(action, terms)
    message = message.strip() or message_compose(rules=rules, facts=facts)
    return Reasons(rules, facts, message, private_note.strip(), terms)


def _check_terms(action: Action, terms: Terms) -> None:
    if action == Action.LABEL and not terms.label.strip():
        raise Invalid("Write the words of the label.", field="label")
    if len(terms.label) > LABEL_LENGTH:
        raise Invalid(f"A label has at most {LABEL_LENGTH} characters.", field="label")
    if action == Action.GEO_RESTRICT:
        if not settings.COUNTRY_HEADER:
            raise Invalid(
                "This house cannot tell from which country somebody comes. An operator sets "
                "COUNTRY_HEADER to the header in which the proxy says so.",
                code="no_countries",
                field="action",
            )
        if not terms.countries:
            raise Invalid("Name the countries, by two letters each.", field="countries")
        for country in terms.countries:
            if len(country) != 2 or not (country.isascii() and country.isalpha()):
                raise Invalid(
                    f"“{country[:20]}” is not a country's two letters.", field="countries"
                )
    if action == Action.DISABLE_PREVIEW and not terms.preview:
        raise Invalid("Choose the preview.", field="preview")
    if action == Action.MUTE and terms.until is None:
        raise Invalid("Say until when the account is muted.", field="until")
    if terms.until is not None:
        if action not in ENDS_SOMETIME:
            raise Invalid(f"“{action.label}” has no end; leave the date out.", field="until")
        if terms.until <= timezone.now():
            raise Invalid("The end lies in the past.", field="until")
    if (terms.source == Source.ORDER or terms.ground == Ground.LAW) and not (
        terms.legal_ground.strip()
    ):
        raise Invalid("Name the law or the order.", field="legal_ground")


def _remanded(version: ModelVersion) -> Appeal | None:
    """Return the appeal that sent a decision on this version back, if nobody has decided since."""
    decided = Decision.objects.filter(appeal=OuterRef("pk")).exclude(
        effect__state__in=[EffectState.UNDONE, EffectState.CANCELLED]
    )
    return (
        Appeal.objects.filter(decision__version=version, state=AppealState.REMANDED)
        .exclude(Exists(decided))
        .select_related("decision")
        .order_by("-answered_at")
        .first()
    )


def _refuse_second_reversal(decision: Decision) -> None:
    waiting = decision.overridden_by.filter(
        effect__state__in=[EffectState.HELD, EffectState.DUE], action=Action.REVERSE
    )
    if waiting.exists():
        raise Conflict("This decision is being taken back already.", code="already_reversed")


def _require_held(case: Case, actor: Account) -> None:
    if case.state == CaseState.CLAIMED and case.claimed_by_id == actor.pk:
        return
    last = (
        case.decisions.exclude(effect__state__in=[EffectState.UNDONE, EffectState.CANCELLED])
        .order_by("-decided_at")
        .first()
    )
    if last is not None and case.state not in {CaseState.QUEUED, CaseState.CLAIMED}:
        raise Conflict(
            f"{last.decided_by.username} has decided this case already: "
            f"{last.get_action_display()}.",
            code="already_decided",
        )
    if case.claimed_by is not None:
        raise Conflict(
            f"{case.claimed_by.username} has this case. Nothing was decided.", code="claimed"
        )
    raise Conflict("Claim the case first, then decide it.", code="not_claimed")


def case_end_state(action: str) -> CaseState:
    """Return where a case goes when it is decided."""
    return CaseState.DECIDED if action in RESTRICTIONS else CaseState.CLOSED


def _end_case(case: Case, action: Action, actor: Account, *, is_held: bool) -> None:
    to = CaseState.CONFIRM if is_held else case_end_state(action)
    case_transition(
        case=case,
        to=to,
        actor=actor,
        claimed_by=None,
        claimed_until=None,
        closed_at=timezone.now() if to == CaseState.CLOSED else None,
    )


def _rules_of(decision: Decision) -> list[Rule]:
    return list(decision.rules.select_related("policy"))


def _write(
    case: Case,
    version: ModelVersion,
    action: Action,
    reasons: Reasons,
    actor: Account,
    *,
    overrides: Decision | None = None,
    appeal: Appeal | None = None,
) -> Decision:
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
        source=terms.source,
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
    decision.needs_second_person = effect_needs_second_person(decision)
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


def suspension_end(days: int | None) -> datetime | None:
    """Return when a mute or suspension of so many days ends; None for one without an end."""
    return timezone.now() + timedelta(days=days) if days else None
