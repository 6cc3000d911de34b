"""Decisions: a person applies an action under named rules, with facts in words.

A decision is never edited: it is undone before anybody was told of it, or a later one takes it
back. What it rests on is checked in ``reasons``, its row is written in ``decision_rows``, and what
follows from it is for ``enforcement``.
"""

from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_impartial, require_no_part_in, require_not_apart
from moderation.cases import case_open, case_transition, case_weigh
from moderation.decision_rows import decision_write
from moderation.effects import restrictions_standing
from moderation.enforcement import effect_begin, effect_confirm, effect_end
from moderation.errors import Conflict, Invalid, NotAllowed
from moderation.models import (
    Account,
    Appeal,
    Case,
    Decision,
    ModelVersion,
    Rule,
)
from moderation.prepared import Prepared
from moderation.reasons import (
    WITHDRAWAL_LENGTH,
    Reasons,
    Terms,
    facts_checked,
    length_checked,
    reasons_checked,
)
from moderation.states import (
    ABOUT_ACCOUNTS,
    LOOSENING,
    RESTRICTIONS,
    REVERSIBLE,
    Action,
    AppealState,
    CaseState,
    EffectState,
    Side,
    Visibility,
)

# Taken beside the decision about the case: they need no claim and end no case.
BESIDE_THE_CASE = ABOUT_ACCOUNTS | {Action.LAW}
# Two presses of one button are seconds apart, also where the first seems to hang.
ONE_PRESS = timedelta(minutes=1)
DOUBT_LENGTH = 2000


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
    ``message`` is what the creator reads beside them, composed from rules and facts if it is empty.
    ``reports_seen`` is how many reports were on the page: nobody is told that a person read
    their report unless one did. Strikes, mutes, suspensions and reports to the law are taken beside
    the decision about the case, which need not be claimed for them. Raises Conflict if more reports
    have come in, the case is not in this moderator's hands, or they took the very same step beside
    it just now; NotAllowed for a conflict of interest, Invalid where rule or facts are missing.
    """
    reasons = reasons_checked(action, rules, facts, message, private_note, terms or Terms())
    with transaction.atomic():
        version, case = _lock(case, action)
        require_impartial(actor, case.version)
        remanded = _remanded(version)
        if remanded is not None and action not in BESIDE_THE_CASE:
            # Nobody decides anew what was sent back because of their own decision.
            require_no_part_in(actor, remanded.decision, appeal=remanded)
        if action in BESIDE_THE_CASE:
            _refuse_second_press(case, action, reasons, actor)
        else:
            _require_held(case, actor)
        if action == Action.DISMISS:
            _refuse_dismissal(version, remanded)
        require_reports_read(case, reports_seen)
        if remanded is None or action in BESIDE_THE_CASE:
            decision = decision_write(case, version, action, reasons, actor)
        else:
            decision = decision_write(
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
        _rules_of(decision), facts_checked(facts), facts_checked(facts), private_note.strip()
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
        reversal = decision_write(case, version, Action.REVERSE, reasons, actor, overrides=decision)
        effect_begin(decision=reversal, is_held=reversal.needs_second_person)
    return reversal


@transaction.atomic
def decision_doubt(*, decision: Decision, reason: str, actor: Account) -> Case:
    """Have a version looked at again because of a decision that no new one takes back.

    An approval, a dismissal or a reversal restricts nothing; who finds it mistaken has a case
    opened, which waits for anybody and is decided like any other. Where one is open already, the
    reason is noted there. Raises Invalid without a reason, Conflict for a decision that is not in
    force, or that can be taken back itself.
    """
    reason = reason.strip()
    if not reason or len(reason) > DOUBT_LENGTH:
        raise Invalid(
            f"Say in 1 to {DOUBT_LENGTH:,} characters what should be looked at again.",
            field="reason",
        )
    version, before = _lock(decision.case, Action(decision.action))
    require_impartial(actor, before.version)
    require_not_apart(actor, before.version)
    if decision.action not in LOOSENING:
        raise Conflict("This decision leaves nothing to look at again.", code="not_loosening")
    if decision.effect.state != EffectState.IN_FORCE:
        raise Conflict("This decision is not in force.", code="not_in_force")
    case, _ = case_open(version=version, source=Case.Source.MODERATOR, actor=actor)
    event_record(
        action="case.note",
        actor=actor,
        version=version,
        case=case,
        data={"note": reason, "decision": decision.code},
    )
    case_weigh(case=case)
    return case


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
        reasons = reasons_checked(action, slugs, facts, "", "", terms or Terms())
    version = ModelVersion.objects.select_related("uploaded_model__creator").get(
        pk=before.version_id
    )
    decision = decision_write(
        appeal.case, version, action, reasons, actor, overrides=before, appeal=appeal
    )
    effect_begin(decision=decision, is_held=decision.needs_second_person)
    return decision


@transaction.atomic
def decision_confirm(
    *, decision: Decision, reports_seen: int | None = None, actor: Account
) -> Decision:
    """Confirm a held decision as its second, different person.

    Raises NotAllowed for whoever made it, or took part in what it takes back, and about what is
    held apart for child safety for all but its specialists.
    """
    version, case = _lock(decision.case, Action(decision.action))
    require_impartial(actor, version)
    require_not_apart(actor, version)
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

    Whoever made it may, and whoever could have confirmed it. Raises Invalid for a reason that is
    too long.
    """
    reason = length_checked(reason.strip(), WITHDRAWAL_LENGTH, field="reason")
    version, case = _lock(decision.case, Action(decision.action))
    require_impartial(actor, version)
    if decision.decided_by_id != actor.pk:
        require_not_apart(actor, version)
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
    (version,) = _locked_version.rows(version=case.version_id)
    (case,) = _locked_case.rows(case=case.pk)
    version.uploaded_model = case.version.uploaded_model
    return version, case


_locked_version = Prepared(
    lambda version: ModelVersion.objects.select_for_update(no_key=True).filter(pk=version),
    version=int,
)
_locked_case = Prepared(
    lambda case: (
        Case.objects.select_for_update(of=("self",), no_key=True)
        .select_related("version__uploaded_model__creator")
        .filter(pk=case)
    ),
    case=int,
)


def _remanded(version: ModelVersion) -> Appeal | None:
    """Return the appeal that sent a decision on this version back, if nobody has decided since."""
    return _sent_back.first(version=version.pk)


def _remanded_on(version: int) -> QuerySet[Appeal]:
    decided = Decision.objects.filter(appeal=OuterRef("pk")).exclude(
        effect__state__in=[EffectState.UNDONE, EffectState.CANCELLED]
    )
    return (
        Appeal.objects.filter(decision__version=version, state=AppealState.REMANDED)
        .exclude(Exists(decided))
        # A decision about the account is none about the version.
        .exclude(decision__action__in=ABOUT_ACCOUNTS)
        .select_related("decision")
        .order_by("-answered_at")[:1]
    )


_sent_back = Prepared(_remanded_on, version=int)


def _refuse_second_reversal(decision: Decision) -> None:
    waiting = decision.overridden_by.filter(
        effect__state__in=[EffectState.HELD, EffectState.DUE], action=Action.REVERSE
    )
    if waiting.exists():
        raise Conflict("This decision is being taken back already.", code="already_reversed")


def _refuse_dismissal(version: ModelVersion, remanded: Appeal | None) -> None:
    if version.visibility == Visibility.QUARANTINED:
        raise Conflict(
            "It is in quarantine, and would stay there with no case left: approve it, which "
            "answers the reports, too, or restrict it.",
            code="in_quarantine",
        )
    if remanded is not None and remanded.side == Side.CREATOR:
        raise Conflict(
            "It was sent back because its creator appealed, and they are told nothing of a "
            "dismissal: approve it, which answers the reports, too, or restrict it.",
            code="sent_back",
        )


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
    raise Conflict(
        "You do not hold this case: your hold has run out, or you never took it. Take it, then "
        "decide it.",
        code="not_claimed",
    )


def _refuse_second_press(case: Case, action: Action, reasons: Reasons, actor: Account) -> None:
    """Raise Conflict for a step beside the case that this person took just now in these words.

    What ends a case needs no such question: its case is in nobody's hands any more.
    """
    made = Decision.objects.filter(
        case=case, action=action, facts=reasons.facts, decided_by=actor
    ).exclude(effect__state__in=[EffectState.UNDONE, EffectState.CANCELLED])
    if made.filter(decided_at__gt=timezone.now() - ONE_PRESS).exists():
        raise Conflict(
            f"“{action.label}” is on record already, in these words, as of just now.",
            code="decided_already",
        )


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
