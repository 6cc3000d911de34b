"""Hearings: a person who took no part in a decision answers the appeal against it, with reasons.

Writes ``Appeal``. A granted appeal is a decision of its own, which restores what was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_impartial, require_no_part_in, require_not_apart
from moderation.cases import case_open, case_transition
from moderation.child_safety import require_child_safety
from moderation.consequences import appeal_tell
from moderation.decisions import decision_grant
from moderation.enforcement import hearing_end
from moderation.errors import Conflict, Invalid, NotAllowed
from moderation.models import Account, Appeal, Case, Decision, ModelVersion
from moderation.queue import case_claim
from moderation.reasons import Terms
from moderation.states import (
    ABOUT_ACCOUNTS,
    APPEAL_OUTCOMES,
    RESTRICTIONS,
    Action,
    AppealState,
    CaseState,
    EffectState,
    Side,
)

ANSWER_LENGTH = 5000


def appeal_answer(
    *,
    appeal: Appeal,
    outcome: AppealState,
    answer: str,
    action: Action | None = None,
    rules: Sequence[str] = (),
    terms: Terms | None = None,
    actor: Account,
) -> Appeal:
    """Answer an appeal, with reasons in own words.

    Upheld: the decision stands. Overturned: it is taken back, or, on a reporter's appeal,
    ``action`` is taken. Modified: ``action`` replaces it. Remanded: it is decided anew by a person
    who took no part. What is granted is a decision, which may wait for a second person and can be
    undone for a moment. Raises NotAllowed for whoever took part in the decision, Conflict if
    the appeal is not in this moderator's hands.
    """
    answer = answer.strip()
    if outcome not in APPEAL_OUTCOMES:
        raise Invalid("Choose what becomes of the decision.", field="outcome")
    if not answer:
        raise Invalid("Give your reasons: they are read by whoever appealed.", field="answer")
    if len(answer) > ANSWER_LENGTH:
        raise Invalid(
            f"The answer is {len(answer):,} characters long; {ANSWER_LENGTH:,} are the most.",
            field="answer",
        )
    try:
        with transaction.atomic():
            _answer(appeal, outcome, answer, Granted(action, rules, terms or Terms()), actor)
    except IntegrityError as error:
        # The constraint holds even where a check before it was forgotten.
        raise NotAllowed(
            "Somebody who took part in this decision cannot answer the appeal.",
            code="conflict_of_interest",
        ) from error
    appeal.refresh_from_db()
    return appeal


@transaction.atomic
def appeal_answer_apart(
    *,
    appeal: Appeal,
    outcome: AppealState,
    answer: str,
    action: Action | None = None,
    actor: Account,
) -> Appeal:
    """Answer an appeal against what is held apart, as a specialist who took no part.

    It is claimed with the answer: no queue hands it out. Raises Hidden to who is no specialist,
    and as ``case_claim`` and ``appeal_answer`` do.
    """
    require_child_safety(actor)
    case_claim(case=appeal.case, actor=actor)
    return appeal_answer(appeal=appeal, outcome=outcome, answer=answer, action=action, actor=actor)


@dataclass(frozen=True)
class Granted:
    """The action that takes the place of a decision; without rules under those of the decision."""

    action: Action | None
    rules: Sequence[str]
    terms: Terms


def _answer(
    appeal: Appeal, outcome: AppealState, answer: str, granted: Granted, actor: Account
) -> None:
    # The versions before the case, as everywhere: two orders would be a deadlock.
    version = ModelVersion.objects.select_for_update(no_key=True).get(pk=appeal.decision.version_id)
    case = Case.objects.select_for_update(of=("self",), no_key=True).get(pk=appeal.case_id)
    require_impartial(actor, version)
    require_not_apart(actor, version)
    if version.isolated_at is not None and outcome == AppealState.REMANDED:
        raise Invalid("What is held apart goes back to no queue: decide it here.", field="outcome")
    if appeal.decision.action in ABOUT_ACCOUNTS and outcome == AppealState.REMANDED:
        raise Invalid(
            "It is about the account, and no case would decide that anew: uphold it, overturn it, "
            "or put something milder in its place.",
            field="outcome",
        )
    require_no_part_in(actor, appeal.decision, appeal=appeal)
    appeal.refresh_from_db()
    if appeal.state != AppealState.OPEN:
        raise Conflict(
            f"This appeal is “{AppealState(appeal.state).label}” by now.", code="already_answered"
        )
    if case.state != CaseState.HEARING or case.claimed_by_id != actor.pk:
        raise Conflict("Claim the appeal first, then answer it.", code="not_claimed")
    granting = _granting_action(appeal, outcome, granted.action)
    if granting is not None:
        decision = decision_grant(
            appeal=appeal,
            action=granting,
            rules=granted.rules,
            facts=answer,
            terms=granted.terms,
            actor=actor,
        )
        _end_hearing(appeal, case, decision, actor)
        return
    appeal.state, appeal.answer = outcome, answer
    appeal.answered_by, appeal.answered_at = actor, timezone.now()
    appeal.save(update_fields=["state", "answer", "answered_by", "answered_at"])
    event_record(
        action=f"appeal.{outcome}",
        actor=actor,
        version=version,
        case=case,
        data={"appeal": appeal.code, "decision": appeal.decision.code},
    )
    if outcome == AppealState.REMANDED:
        _send_back(case, version, actor)
    else:
        hearing_end(case=case, actor=actor, besides=appeal)
    appeal_tell(appeal=appeal, answered_by=actor, version=version)


def _granting_action(appeal: Appeal, outcome: AppealState, action: Action | None) -> Action | None:
    """Return the action by which an appeal is granted; None where nothing changes."""
    if outcome in {AppealState.UPHELD, AppealState.REMANDED}:
        return None
    if outcome == AppealState.OVERTURNED and appeal.side == Side.CREATOR:
        return Action.REVERSE
    if action is None or action not in RESTRICTIONS:
        raise Invalid("Choose the action that takes its place.", field="action")
    if appeal.side == Side.REPORTER and action in ABOUT_ACCOUNTS:
        raise Invalid(
            "A report is about a model: choose what happens to that. What is about the account is "
            "decided beside it.",
            field="action",
        )
    if appeal.side == Side.CREATOR and action not in _milder(appeal.decision):
        raise Invalid(
            "What takes the place of a decision on its creator's appeal is milder than it, and of "
            "its kind: about the account if it was, and about the model if not.",
            field="action",
        )
    return action


def _milder(decision: Decision) -> list[Action]:
    of_kind = [
        action
        for action in RESTRICTIONS
        if (action in ABOUT_ACCOUNTS) == (decision.action in ABOUT_ACCOUNTS)
    ]
    return of_kind[: of_kind.index(Action(decision.action))]


def _end_hearing(appeal: Appeal, case: Case, decision: Decision, actor: Account) -> None:
    case.refresh_from_db()
    if decision.effect.state == EffectState.HELD:
        case_transition(
            case=case,
            to=CaseState.RECONFIRM,
            actor=actor,
            claimed_by=None,
            claimed_until=None,
            assigned_to=None,
        )
    elif case.state == CaseState.HEARING:
        hearing_end(case=case, actor=actor, besides=appeal)


def _send_back(case: Case, version: ModelVersion, actor: Account) -> None:
    """Send a case back to be decided anew; into the open case on the version, if there is one."""
    case_open(version=version, source=Case.Source.APPEAL, actor=actor)
    hearing_end(case=case, actor=actor, besides=None)
