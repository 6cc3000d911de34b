"""Appeals: somebody concerned asks that another person look again, and may write about it.

Creators appeal restrictions; reporters appeal that nothing was done. Writes ``Appeal`` and
``AppealMessage``. How it is answered is for ``hearings``.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from moderation.appeal_files import Upload, appeal_files_add, appeal_files_kept
from moderation.audit import event_record
from moderation.authz import Hidden, require_impartial, require_no_part_in
from moderation.cases import case_open_for_appeal, case_transition
from moderation.child_safety import require_child_safety
from moderation.effects import (
    decisions_about,
    does_what_is_asked,
    restrictions_standing,
    standing_of,
    takes_back,
)
from moderation.errors import Conflict, Invalid, NotAllowed, TooLate
from moderation.models import (
    Account,
    Appeal,
    AppealMessage,
    Case,
    Decision,
    ModelVersion,
    Report,
)
from moderation.models.appeals import APPEAL_LENGTH, MESSAGE_LENGTH
from moderation.notices import notice_issue
from moderation.queue import case_claim
from moderation.selectors.public import decision_on_report
from moderation.states import (
    APPEAL_WINDOW,
    APPEALABLE_BY_CREATOR,
    APPEALABLE_BY_REPORTER,
    CAME_INTO_FORCE,
    RESTRICTIONS,
    AppealState,
    CaseState,
    EffectState,
    Side,
)
from moderation.throttle import TooMany, throttle_take

# Our own target; the law asks for "in a timely manner" (DSA Art. 20(4)).
ANSWER_WITHIN = timedelta(hours=72)
_CAN_BE_APPEALED = frozenset(
    {
        CaseState.DECIDED,
        CaseState.CLOSED,
        CaseState.APPEALED,
        CaseState.HEARING,
        CaseState.RECONFIRM,
    }
)
ELSEWHERE = "You may still turn to a certified out-of-court dispute settlement body or to a court."


@dataclass(frozen=True)
class Way:
    """Whether somebody may appeal a decision, and if not, why not, in a sentence and a code."""

    is_open: bool
    code: str = ""
    sentence: str = ""
    until: datetime | None = None


def way_to_appeal(*, decision: Decision, side: Side, report: Report | None = None) -> Way:
    """Say whether a decision can be appealed now from one side, and if not, why not.

    ``report`` is the one whose sender would appeal.
    """
    about = decisions_about(decision.version)
    until = _until(decision, side, about)
    closed = _closed(decision, side, report, until, about)
    return replace(closed or Way(is_open=True), until=until)


def _until(decision: Decision, side: Side, about: list[Decision]) -> datetime | None:
    if side == Side.REPORTER:
        told_at = decision.effect.ended_at or decision.decided_at
        return told_at + APPEAL_WINDOW
    if decision.appeal_ends_at is None:
        return None
    return max([decision.appeal_ends_at, *(at + APPEAL_WINDOW for at in _freed(decision, about))])


def _freed(decision: Decision, about: list[Decision]) -> list[datetime]:
    """Return when what had come on top of a decision, so that it had to be appealed, was over."""
    on_top = {
        each.pk: each for each in about if each.overrides_id == decision.pk and not takes_back(each)
    }
    taken_back = [
        each.effect.ended_at
        for each in about
        if each.overrides_id in on_top and takes_back(each) and each.effect.state in CAME_INTO_FORCE
    ]
    ended = [each.until for each in on_top.values() if each.effect.state == EffectState.ENDED]
    return [at for at in taken_back + ended if at is not None]


def _closed(
    decision: Decision,
    side: Side,
    report: Report | None,
    until: datetime | None,
    about: list[Decision],
) -> Way | None:
    reporter = side == Side.REPORTER
    appealable = APPEALABLE_BY_REPORTER if reporter else APPEALABLE_BY_CREATOR
    if decision.action not in appealable or until is None:
        return Way(False, "nothing_to_appeal", _nothing(reporter))
    if decision.effect.state not in CAME_INTO_FORCE:
        return Way(False, "not_in_force", "This decision is not in force.")
    if timezone.now() > until:
        return Way(
            False,
            "appeal_too_late",
            f"The time to appeal ended on {until:%d %B %Y at %H:%M} UTC. {ELSEWHERE}",
        )
    standing = {each.pk for each in standing_of(about)}
    if reporter:
        return _overtaken(decision, report, about, standing)
    if decision.pk not in standing:
        return Way(
            False, "already_overturned", "This decision was taken back; nothing is left to appeal."
        )
    # An approval in between changes nothing, so it takes nobody's appeal away.
    newer = [
        each
        for each in restrictions_standing(decision.version)
        if each.overrides_id == decision.pk and each.decided_at > decision.decided_at
    ]
    if newer:
        return Way(False, "superseded", "A newer decision has replaced this one; appeal that one.")
    return None


def _nothing(reporter: bool) -> str:
    if reporter:
        return "Action was taken on this report, so there is nothing to appeal."
    return "This decision restricts nothing, so there is nothing to appeal."


def _overtaken(
    decision: Decision, report: Report | None, about: list[Decision], standing: set[int]
) -> Way | None:
    """Say that what a reporter would ask for has been done already, by whatever decision."""
    later = [
        each
        for each in about
        if each.pk in standing
        and each.action in RESTRICTIONS
        and each.version_id == decision.version_id
        and does_what_is_asked(each, report)
        and (each.decided_at, each.pk) > (decision.decided_at, decision.pk)
    ]
    if not later:
        return None
    return Way(
        False,
        "already_overturned",
        "Somebody has looked at this again since, and action was taken. Nothing is left to appeal.",
    )


def appeal_file(
    *, decision: Decision, text: str, uploads: list[Upload] | None = None, actor: Account
) -> Appeal:
    """File the creator's appeal against a decision.

    Raises Hidden to anybody else, TooLate after the window stored in the decision, Conflict if
    there is an appeal already or the decision does not stand any more.
    """
    if decision.creator_id != actor.pk:
        raise Hidden
    return _file(decision, Side.CREATOR, text, uploads, actor, None)


def appeal_file_by_reporter(
    *, report: Report, text: str, uploads: list[Upload] | None = None, actor: Account | None
) -> Appeal:
    """File a reporter's appeal against "no action", by account or by the report's private link.

    The caller has made sure that the report is this person's. Raises as ``appeal_file`` does.
    """
    decision = decision_on_report(report)
    if decision is None:
        raise Conflict("Nothing has been decided about this report yet.", code="nothing_to_appeal")
    appellant = actor if actor is not None and actor.pk == report.reporter_id else report.reporter
    return _file(decision, Side.REPORTER, text, uploads, appellant, report)


def _file(
    decision: Decision,
    side: Side,
    text: str,
    uploads: list[Upload] | None,
    appellant: Account | None,
    report: Report | None,
) -> Appeal:
    text = text.strip()
    if not text:
        raise Invalid(
            "Say in a few words why the decision should be changed.",
            code="no_appeal_text",
            field="text",
        )
    if len(text) > APPEAL_LENGTH:
        raise Invalid(
            f"Your appeal is {len(text):,} characters long; {APPEAL_LENGTH:,} are the most.",
            code="appeal_too_long",
            field="text",
        )
    _require_first(decision, appellant, report)
    way = way_to_appeal(decision=decision, side=side, report=report)
    if not way.is_open:
        refusal = TooLate if way.code == "appeal_too_late" else Conflict
        raise refusal(way.sentence, code=way.code)
    now = timezone.now()
    try:
        # Files first and the rows after them: what ends otherwise leaves neither behind.
        with appeal_files_kept(uploads or []) as kept, transaction.atomic():
            ModelVersion.objects.select_for_update(no_key=True).get(pk=decision.version_id)
            case = Case.objects.select_for_update(of=("self",), no_key=True).get(
                pk=decision.case_id
            )
            # Once more under the lock: no constraint knows that two reports are of one person.
            _require_first(decision, appellant, report)
            if case.state not in _CAN_BE_APPEALED:
                # What was taken beside a case that goes on has a hearing of its own.
                case = case_open_for_appeal(
                    version=decision.version, due_at=now + ANSWER_WITHIN, actor=appellant
                )
            appeal = Appeal.objects.create(
                decision=decision,
                case=case,
                side=side,
                appellant=appellant,
                report=report,
                decided_by=decision.decided_by,
                text=text,
                filed_at=now,
                due_at=now + ANSWER_WITHIN,
            )
            appeal_files_add(appeal=appeal, files=kept)
            if case.state in {CaseState.DECIDED, CaseState.CLOSED}:
                # Another appeal against the same decision joins the one that waits.
                case_transition(
                    case=case,
                    to=CaseState.APPEALED,
                    actor=appellant,
                    # Whose it was took part in what is appealed; another person hears it.
                    assigned_to=None,
                    closed_at=None,
                    clock_from=now,
                    paused_for=timedelta(),
                    due_at=now + ANSWER_WITHIN,
                )
            event_record(
                action="appeal.filed",
                actor=appellant,
                version=decision.version,
                case=case,
                data={"appeal": appeal.code, "decision": decision.code, "side": side},
            )
            notice_issue(
                kind="appeal_received" if side == Side.CREATOR else "report_appeal_received",
                version=decision.version,
                account=appellant,
                email=report.email if report else "",
                decision=decision if side == Side.CREATOR else None,
                report=report,
            )
    except IntegrityError as error:
        raise _appealed() from error
    return appeal


def _require_first(decision: Decision, appellant: Account | None, report: Report | None) -> None:
    """Raise Conflict where this person has appealed the decision already.

    A visitor is known by the address of the report: another visitor's report with the same, or an
    account that has confirmed it. A typed address keeps no account from its own appeal, since
    anybody can type it.
    """
    before = decision.appeals.all()
    if report is None:
        if before.filter(appellant=appellant).exists():
            raise _appealed()
        return
    if before.filter(report=report).exists():
        raise _appealed()
    if appellant is not None or not report.email:
        return
    by_visitor = Q(appellant__isnull=True, report__email__iexact=report.email)
    confirmed = EmailAddress.objects.filter(email__iexact=report.email, verified=True)
    by_account = Q(side=Side.REPORTER, appellant__in=confirmed.values("user"))
    if before.filter(by_visitor | by_account).exists():
        raise Conflict(
            "Somebody with the e-mail address of this report has appealed this decision already, "
            "and each person can do so once. Read and write on the page of the other report: its "
            "link is in the letter that came when it arrived, or among the notices of the account.",
            code="address_appealed",
        )


def _appealed() -> Conflict:
    return Conflict(
        "You have appealed this decision already; it is being looked at.", code="already_appealed"
    )


def appeal_write(*, appeal: Appeal, text: str, actor: Account | None, from_team: bool) -> None:
    """Write a message in the thread of an open appeal, and tell the other side.

    A message of the team comes from whoever hears the appeal. The caller has made sure that
    another one comes from whoever appealed, which a throttle may refuse with TooMany.
    """
    text = text.strip()
    if not text:
        raise Invalid("Write something.", code="no_message", field="message")
    if len(text) > MESSAGE_LENGTH:
        raise Invalid(
            f"The message is {len(text):,} characters long; {MESSAGE_LENGTH:,} are the most.",
            code="message_too_long",
            field="message",
        )
    if appeal.state != AppealState.OPEN:
        raise Conflict("This appeal has been answered.", code="already_answered")
    if not from_team and not throttle_take(limit="appeal.message", key=appeal.code):
        raise TooMany(
            "Many messages came about this appeal in a short time. What you wrote now is still "
            "below; try again later.",
            code="too_many_messages",
        )
    with transaction.atomic():
        case = Case.objects.select_related("version").get(pk=appeal.case_id)
        if from_team:
            if actor is None:
                raise NotAllowed("Only who hears the appeal writes here.")
            require_impartial(actor, case.version)
            require_no_part_in(actor, appeal.decision, appeal=appeal)
            if case.state != CaseState.HEARING or case.claimed_by_id != actor.pk:
                raise Conflict("Claim the appeal first, then write.", code="not_claimed")
        AppealMessage.objects.create(
            appeal=appeal,
            author=actor,
            from_team=from_team,
            text=text,
            written_at=timezone.now(),
        )
        event_record(
            action="appeal.message",
            actor=actor,
            version=case.version,
            case=case,
            data={"appeal": appeal.code, "from_team": from_team},
        )
        if from_team:
            notice_issue(
                kind="appeal_message",
                version=case.version,
                account=appeal.appellant,
                email=appeal.report.email if appeal.report else "",
                decision=appeal.decision if appeal.side == Side.CREATOR else None,
                report=appeal.report,
                extra={"text": text},
            )


@transaction.atomic
def appeal_write_apart(*, appeal: Appeal, text: str, actor: Account) -> None:
    """Write to whoever appealed against what is held apart, as a specialist who took no part.

    It is claimed with the message, for the length of a claim. Raises Hidden to who is no
    specialist, and as ``case_claim`` and ``appeal_write`` do.
    """
    require_child_safety(actor)
    case_claim(case=appeal.case, actor=actor)
    appeal_write(appeal=appeal, text=text, actor=actor, from_team=True)
