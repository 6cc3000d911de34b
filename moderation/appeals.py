"""Appeals: a creator asks, and a person who took no part in the decision answers.

Writes ``Appeal``; a won appeal restores the visibility stored in the decision, and takes what
the decision put into a bank out of it again.
"""

from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import Hidden, require_other_than_decider
from moderation.banks import bank_withdraw
from moderation.cases import case_transition
from moderation.errors import Conflict, Invalid, NotAllowed, TooLate
from moderation.models import Account, Appeal, Case, Decision, ModelVersion
from moderation.models.decisions import APPEAL_LENGTH
from moderation.notices import notice_issue
from moderation.states import (
    APPEALABLE_BY_CREATOR,
    REACHABLE,
    RESTRICTIONS,
    AppealState,
    CaseState,
    Visibility,
)

ANSWER_LENGTH = 5000
# Our own target; the law asks for "in a timely manner" (DSA Art. 20(4)).
ANSWER_WITHIN = timedelta(hours=72)


def appeal_file(*, decision: Decision, text: str, actor: Account) -> Appeal:
    """File the creator's appeal against a decision.

    Raises Hidden to anybody else, TooLate after the window stored in the decision, Conflict if
    there is an appeal already or the decision has been superseded.
    """
    if decision.creator_id != actor.pk:
        raise Hidden
    text = text.strip()
    if not text:
        raise Invalid("Say in a few words why the decision should be changed.", field="text")
    if len(text) > APPEAL_LENGTH:
        raise Invalid(
            f"Your appeal is {len(text):,} characters long; {APPEAL_LENGTH:,} are the most.",
            field="text",
        )
    if decision.action not in APPEALABLE_BY_CREATOR or decision.appeal_until is None:
        raise Conflict("This decision restricts nothing, so there is nothing to appeal.")
    now = timezone.now()
    if now > decision.appeal_until:
        raise TooLate(
            f"The time to appeal ended on {decision.appeal_until:%d %B %Y at %H:%M} UTC, 184 days "
            "after the decision. You may still turn to a certified out-of-court dispute "
            "settlement body or to a court.",
            code="appeal_too_late",
        )
    # An approval in between changes nothing, so it takes nobody's appeal away.
    newer = _standing(decision.version).filter(decided_at__gt=decision.decided_at)
    if newer.exists():
        raise Conflict(
            "A newer decision has replaced this one; appeal that one.", code="superseded"
        )
    try:
        with transaction.atomic():
            appeal = Appeal.objects.create(
                decision=decision,
                case=decision.case,
                appellant=actor,
                decided_by=decision.decided_by,
                text=text,
                filed_at=now,
            )
            case_transition(
                case=decision.case,
                to=CaseState.APPEALED,
                actor=actor,
                clock_from=now,
                paused_for=timedelta(),
                due_at=now + ANSWER_WITHIN,
            )
            event_record(
                action="appeal.filed",
                actor=actor,
                version=decision.version,
                case=decision.case,
                data={"appeal": appeal.code, "decision": decision.code},
            )
            notice_issue(
                kind="appeal_received", version=decision.version, account=actor, decision=decision
            )
    except IntegrityError as error:
        raise Conflict(
            "You have appealed this decision already; it is being looked at.",
            code="already_appealed",
        ) from error
    return appeal


def appeal_answer(*, appeal: Appeal, outcome: AppealState, answer: str, actor: Account) -> Appeal:
    """Uphold or overturn a decision, with reasons in own words.

    Overturning restores the visibility the version had before, unless another restriction stands;
    a version that had been waiting in quarantine is published, since a person has now cleared
    it. Raises NotAllowed for whoever
    took part in the decision, Conflict if the appeal is not in this moderator's hands.
    """
    answer = answer.strip()
    if outcome not in {AppealState.UPHELD, AppealState.OVERTURNED}:
        raise Invalid("Choose whether the decision stands or is overturned.", field="outcome")
    if not answer:
        raise Invalid("Give your reasons: the creator reads them.", field="answer")
    if len(answer) > ANSWER_LENGTH:
        raise Invalid(
            f"The answer is {len(answer):,} characters long; {ANSWER_LENGTH:,} are the most.",
            field="answer",
        )
    try:
        _answer(appeal, outcome, answer, actor)
    except IntegrityError as error:
        # The constraint holds even where a check before it was forgotten.
        raise NotAllowed(
            "Somebody who took part in this decision cannot answer the appeal.",
            code="conflict_of_interest",
        ) from error
    return appeal


def _answer(appeal: Appeal, outcome: AppealState, answer: str, actor: Account) -> None:
    with transaction.atomic():
        # The version before the case, as everywhere: two orders would be a deadlock.
        version = ModelVersion.objects.select_for_update(no_key=True).get(
            pk=appeal.decision.version_id
        )
        case = Case.objects.select_for_update(of=("self",), no_key=True).get(pk=appeal.case_id)
        require_other_than_decider(actor, case)
        if case.state != CaseState.HEARING or case.claimed_by_id != actor.pk:
            raise Conflict("Claim the appeal first, then answer it.", code="not_claimed")
        now = timezone.now()
        appeal.state, appeal.answer = outcome, answer
        appeal.answered_by, appeal.answered_at = actor, now
        appeal.save(update_fields=["state", "answer", "answered_by", "answered_at"])
        case_transition(
            case=case,
            to=CaseState.CLOSED,
            actor=actor,
            claimed_by=None,
            claimed_until=None,
            closed_at=now,
        )
        event_record(
            action=f"appeal.{outcome}",
            actor=actor,
            version=case.version,
            case=case,
            data={"appeal": appeal.code, "decision": appeal.decision.code},
        )
        if outcome == AppealState.OVERTURNED:
            _restore(appeal, version, actor)
        notice_issue(
            kind=f"appeal_{outcome}",
            version=case.version,
            account=appeal.appellant,
            decision=appeal.decision,
            extra={"answer": answer, "answered_by": actor.pseudonym},
        )


def _standing(version: ModelVersion) -> QuerySet[Decision]:
    """Return the restrictions of a version that no appeal has overturned."""
    return Decision.objects.filter(version=version, action__in=RESTRICTIONS).exclude(
        appeal__state=AppealState.OVERTURNED
    )


def _restored(appeal: Appeal) -> Visibility:
    """Return where a version belongs once this decision no longer counts.

    A later restriction stands on reasons of its own and goes on; an earlier one that was itself
    overturned does not come back.
    """
    last = _standing(appeal.decision.version).order_by("-decided_at", "-pk").first()
    if last is not None:
        return Visibility(last.new_visibility)
    before = Visibility(appeal.decision.previous_visibility)
    overturned = Appeal.objects.filter(
        decision__version=appeal.decision.version, state=AppealState.OVERTURNED
    ).exclude(pk=appeal.pk)
    if before == Visibility.QUARANTINED or overturned.exists():
        return Visibility.PUBLISHED
    return before


def _restore(appeal: Appeal, version: ModelVersion, actor: Account) -> None:
    before = Visibility(version.visibility)
    restored = _restored(appeal)
    version.visibility = restored
    if restored in REACHABLE and version.published_at is None:
        version.published_at = timezone.now()
    version.save(update_fields=["visibility", "published_at"])
    event_record(
        action="version.restored",
        actor=actor,
        version=version,
        case=appeal.case,
        data={"from": before, "to": restored},
    )
    bank_withdraw(decision=appeal.decision, actor=actor)
    for report in appeal.case.reports.select_related("reporter"):
        # Who was told that action was taken is told that it was taken back.
        notice_issue(
            kind="report_reversed",
            version=version,
            account=report.reporter,
            email=report.email,
            report=report,
        )
