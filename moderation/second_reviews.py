"""Second reviews: a share of the decisions goes to another person, who is not told the first.

They measure how far the house agrees with itself; they change no decision. Among them are known
answers that a policy lead has given. Writes ``ReviewItem`` and ``SecondReview``.
"""

import hashlib
import hmac
from collections.abc import Iterable

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import knows_answer, require_impartial, require_policy_lead
from moderation.errors import Conflict, Invalid, NotAllowed
from moderation.models import Account, Decision, ReviewItem, Rule, SecondReview
from moderation.models.second_reviews import NOTE_LENGTH
from moderation.states import ANSWERS, Action, Answer, Concern, EffectState


def review_draw(*, decision: Decision) -> ReviewItem | None:
    """Draw a decision that has come into force, by chance; return what is asked, if it was drawn.

    Not what answers an appeal (another person looked already), and nothing about child safety.
    """
    action = Action(decision.action)
    if action not in ANSWERS or decision.appeal_id:
        return None
    if decision.version.isolated_at is not None or not _is_drawn(decision.code):
        return None
    at_stake = _at_stake(decision)
    if Rule.objects.filter(slug__in=at_stake, is_child_safety=True).exists():
        return None
    item, _ = ReviewItem.objects.get_or_create(
        decision=decision,
        kind=ReviewItem.Kind.DRAWN,
        defaults={
            "answer": ANSWERS[action],
            "rules": _rules_of(decision),
            "at_stake": at_stake,
            "drawn_at": timezone.now(),
        },
    )
    return item


@transaction.atomic
def known_answer_give(*, decision: Decision, reason: str, actor: Account) -> ReviewItem:
    """Make a decision a known answer: it comes to moderators like any second review.

    Raises NotAllowed for all but policy leads, Invalid without a reason or for a decision that is
    no answer, Conflict if it is a known answer already or not in force.
    """
    require_policy_lead(actor)
    reason = reason.strip()
    if not reason or len(reason) > NOTE_LENGTH:
        raise Invalid(
            f"Say in 1 to {NOTE_LENGTH} characters why this is the right answer.", field="reason"
        )
    if Action(decision.action) not in ANSWERS or decision.version.isolated_at is not None:
        raise Invalid("This decision cannot be a known answer.", code="no_answer")
    if decision.effect.state != EffectState.IN_FORCE:
        raise Conflict("Only a decision in force can be a known answer.", code="not_in_force")
    item, is_new = ReviewItem.objects.get_or_create(
        decision=decision,
        kind=ReviewItem.Kind.KNOWN,
        defaults={
            "answer": ANSWERS[Action(decision.action)],
            "rules": _rules_of(decision),
            "at_stake": _at_stake(decision),
            "reason": reason,
            "given_by": actor,
            "drawn_at": timezone.now(),
        },
    )
    if not is_new:
        raise Conflict("This decision is a known answer already.", code="known_already")
    event_record(
        action="review.known_answer_given",
        actor=actor,
        version=decision.version,
        case=decision.case,
        data={"decision": decision.code, "item": item.code},
    )
    return item


@transaction.atomic
def second_review_give(
    *, item: ReviewItem, answer: str, rules: Iterable[str], note: str, actor: Account
) -> SecondReview:
    """Take a person's blind answer. Nothing follows from it for the model or its creator.

    Raises NotAllowed for whoever decided, confirmed, made or reported it, Invalid for an answer
    that is none or a restriction without a rule, Conflict where somebody answered already or it
    has ended.
    """
    version = item.decision.version
    require_impartial(actor, version)
    if knows_answer(actor, item.decision) or item.given_by_id == actor.pk:
        raise NotAllowed("You gave the first answer to this.", code="conflict_of_interest")
    if version.isolated_at is not None or item.ended_at is not None:
        raise Conflict("This is not asked any more. Thank you.", code="review_ended")
    if answer not in Answer.values:
        raise Invalid("Choose one of the answers.", field="answer", code="bad_answer")
    known = set(item.decision.policy.rules.values_list("slug", flat=True))
    named = [] if answer == Answer.ALLOW else sorted(set(rules) & known)
    if answer != Answer.ALLOW and not named:
        raise Invalid("Name the rule that it breaks.", field="rules", code="no_rule")
    same_rule = answer == Answer.ALLOW or bool(set(named) & set(item.rules))
    try:
        with transaction.atomic():
            review = SecondReview.objects.create(
                item=item,
                kind=item.kind,
                decided_by=item.decision.decided_by,
                reviewer=actor,
                answer=answer,
                rules=named,
                note=note.strip()[:NOTE_LENGTH],
                agrees=answer == item.answer and same_rule,
                given_at=timezone.now(),
            )
    except IntegrityError as error:
        raise Conflict(
            "This was answered in the meantime. Thank you all the same.", code="review_answered"
        ) from error
    # Without the answer: the record is read by those who are yet to be asked. And without who gave
    # it: that stands in the review, and is nobody's business but theirs.
    event_record(
        action="review.answered",
        actor=None,
        version=version,
        case=item.decision.case,
        data={"item": item.code},
    )
    return review


def reviews_end(*, decision: Decision) -> int:
    """Ask nobody any more about a decision that was taken back; return how many were ended."""
    return ReviewItem.objects.filter(decision=decision, ended_at__isnull=True).update(
        ended_at=timezone.now()
    )


def _rules_of(decision: Decision) -> list[str]:
    return [str(clause["slug"]) for clause in decision.clauses]


def _at_stake(decision: Decision) -> list[str]:
    """Return the rules that the evidence pointed at or the decision names."""
    found = decision.version.findings.exclude(concern=Concern.NONE).filter(rule__isnull=False)
    reported = decision.case.reports.filter(rule__isnull=False)
    return sorted(
        {
            *_rules_of(decision),
            *found.values_list("rule__slug", flat=True),
            *reported.values_list("rule__slug", flat=True),
        }
    )


def _is_drawn(code: str) -> bool:
    """Return whether a decision is drawn; keyed, so that nobody can tell beforehand."""
    keyed = hmac.digest(settings.SECRET_KEY.encode(), b"second " + code.encode(), hashlib.sha256)
    return bool(int.from_bytes(keyed[:8]) < settings.SECOND_REVIEW_SHARE * 2**64)
