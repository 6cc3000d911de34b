"""Inquiries: a moderator asks the creator, and the case waits for the answer or for its time.

Writes ``Inquiry``; moves the case through ``cases.case_transition``.
"""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import Hidden, require_impartial
from moderation.cases import case_transition
from moderation.errors import Conflict, Invalid, TooLate
from moderation.models import Account, Case, Inquiry
from moderation.models.queue import ANSWER_LENGTH, INQUIRY_LENGTH
from moderation.notices import notice_issue
from moderation.states import REACHABLE, CaseState

# Long enough for a weekend in between, short enough that nobody waits on one who has left.
ANSWER_WITHIN = timedelta(days=5)
EXPIRE_LIMIT = 200


@transaction.atomic
def inquiry_send(*, case: Case, text: str, actor: Account) -> Inquiry:
    """Ask the creator, tell them, and put the case aside until they answer or the time is over.

    Raises Conflict unless the actor holds the case, Invalid for a text that is empty or too long.
    """
    text = _checked(text, "Say what you want to know from the creator.", INQUIRY_LENGTH, "text")
    require_impartial(actor, case.version)
    if case.state != CaseState.CLAIMED or case.claimed_by_id != actor.pk:
        raise Conflict("Take the case first, then ask its creator.", code="not_claimed")
    now = timezone.now()
    inquiry = Inquiry.objects.create(
        case=case, text=text, asked_by=actor, asked_at=now, answer_until=now + ANSWER_WITHIN
    )
    case_transition(case=case, to=CaseState.ASKED, actor=actor, claimed_by=None, claimed_until=None)
    notice_issue(
        kind="inquiry",
        version=case.version,
        account=case.version.uploaded_model.creator,
        extra={"text": text, "answer_until": inquiry.answer_until},
    )
    return inquiry


@transaction.atomic
def inquiry_answer(*, inquiry: Inquiry, text: str, actor: Account) -> Inquiry:
    """Store the creator's answer and bring the case back to the queue.

    Raises Hidden to anybody else, TooLate when the time is over, Conflict when it is answered.
    """
    if inquiry.case.version.uploaded_model.creator_id != actor.pk:
        raise Hidden
    text = _checked(text, "Write your answer first.", ANSWER_LENGTH, "answer")
    now = timezone.now()
    if now > inquiry.answer_until:
        raise TooLate("The time to answer is over; a moderator goes on without your answer.")
    answered = Inquiry.objects.filter(pk=inquiry.pk, closed_at__isnull=True).update(
        answer=text, closed_at=now
    )
    if not answered:
        raise Conflict("This question is closed: it was answered, or is not asked any more.")
    inquiry.refresh_from_db()
    event_record(
        action="inquiry.answered", actor=actor, version=inquiry.case.version, case=inquiry.case
    )
    _bring_back(inquiry, actor=actor, action="case.answered")
    return inquiry


def inquiries_expire() -> int:
    """Bring back the cases whose creators did not answer in time; return how many."""
    late = Inquiry.objects.filter(closed_at__isnull=True, answer_until__lt=timezone.now())
    back = 0
    for inquiry in late.select_related("case__version").order_by("answer_until")[:EXPIRE_LIMIT]:
        with transaction.atomic():
            if inquiry_close(case=inquiry.case) is None:
                continue
            _bring_back(inquiry, actor=None, action="case.not_answered")
            back += 1
    return back


def inquiry_close(*, case: Case) -> Inquiry | None:
    """Close the open inquiry of a case without an answer, or return None if there is none."""
    inquiry = Inquiry.objects.filter(case=case, closed_at__isnull=True).first()
    if inquiry is None:
        return None
    inquiry.closed_at = timezone.now()
    closed = Inquiry.objects.filter(pk=inquiry.pk, closed_at__isnull=True).update(
        closed_at=inquiry.closed_at
    )
    return inquiry if closed else None


def time_waited(inquiry: Inquiry) -> timedelta:
    """Return how long the clock stood still for an inquiry.

    It stands still only while nobody can get the model: what is public goes on doing harm.
    """
    if inquiry.closed_at is None or inquiry.case.version.visibility in REACHABLE:
        return timedelta()
    return inquiry.closed_at - inquiry.asked_at


def _bring_back(inquiry: Inquiry, *, actor: Account | None, action: str) -> None:
    inquiry.refresh_from_db(fields=["closed_at"])
    case, waited = inquiry.case, time_waited(inquiry)
    case_transition(
        case=case,
        to=CaseState.ESCALATED if case.escalated_at else CaseState.QUEUED,
        actor=actor,
        action=action,
        paused_for=case.paused_for + waited,
        due_at=case.due_at + waited,
    )


def _checked(text: str, empty: str, longest: int, field: str) -> str:
    text = text.strip()
    if not text:
        raise Invalid(empty, field=field)
    if len(text) > longest:
        raise Invalid(
            f"This is {len(text):,} characters long; {longest:,} are the most.", field=field
        )
    return text
