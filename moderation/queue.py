"""The queue: hands each case to exactly one moderator, for a while.

Writes claims and assignments through ``cases``. Never gives anybody their own model, a model
they reported, or an appeal against their own decision; and an escalated case only to a senior.
What is held apart for child safety it hands to nobody: that has a place of its own.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import (
    require_impartial,
    require_moderator,
    require_not_apart,
    require_other_than_decider,
    require_senior,
)
from moderation.cases import case_hand_over, case_take, case_transition
from moderation.errors import Conflict, Invalid, NotAllowed
from moderation.inquiries import inquiry_close, time_waited
from moderation.models import Account, Case, CaseFacet, Decision, Finding, Report
from moderation.prepared import Prepared
from moderation.states import (
    HELD_CASES,
    LISTED_CASES,
    SENIOR,
    WAITING_CASES,
    Action,
    AppealState,
    CaseState,
    Concern,
)
from moderation.wellbeing import preference_of, require_rested

_TAKEN = {
    CaseState.QUEUED: CaseState.CLAIMED,
    CaseState.ESCALATED: CaseState.CLAIMED,
    CaseState.ASKED: CaseState.CLAIMED,
    CaseState.APPEALED: CaseState.HEARING,
}
NOTE_LENGTH = 2000


def queue_after(account: Account, case: Case) -> Case | None:
    """Return the first waiting case that this moderator may take besides one."""
    return _first_besides.first(*_view_of(account), account=account.pk, besides=case.pk)


def _view_of(account: Account) -> tuple[bool, tuple[str, ...]]:
    """Return what decides which cases wait for a moderator, besides who they are."""
    return account.role in SENIOR, tuple(preference_of(account).opted_out)


def _waiting_for(is_senior: bool, opted_out: tuple[str, ...], *, account: int) -> QuerySet[Case]:
    """Return what this moderator may take as far as no appeal is concerned, first one first."""
    waiting = WAITING_CASES if is_senior else WAITING_CASES - {CaseState.ESCALATED}
    reported = Report.objects.filter(
        reporter=account,
        version__uploaded_model=OuterRef("version__uploaded_model"),
    )
    cases = (
        Case.objects.filter(
            Q(assigned_to__isnull=True) | Q(assigned_to=account),
            state__in=sorted(waiting),
            version__isolated_at__isnull=True,
        )
        .exclude(version__uploaded_model__creator=account)
        .exclude(Exists(reported))
        .order_by("turn_at", "pk")
    )
    return cases.exclude(_about(opted_out)) if opted_out else cases


def _about(rules: Iterable[str]) -> Q:
    """Return the condition that a case is about one of these, whether a probe or a person says so.

    A case that was opened for an appeal just now has not been weighed, and only its findings say
    it.
    """
    slugs = list(rules)
    found = Finding.objects.filter(version=OuterRef("version"), rule__slug__in=slugs)
    facets = CaseFacet.objects.filter(
        kind=CaseFacet.Kind.RULE, value__in=slugs, case=OuterRef("pk")
    )
    return Exists(found.exclude(concern=Concern.NONE)) | Exists(facets)


def _without_own_part(cases: QuerySet[Case], account: int) -> QuerySet[Case]:
    """Leave out the appeals against what this moderator took part in."""
    taking_part = Q(decided_by=account) | Q(effect__second_person=account)
    decided = Decision.objects.filter(taking_part, case=OuterRef("pk"))
    appealed = Decision.objects.filter(case=OuterRef(OuterRef("pk"))).exclude(chain="")
    chained = Decision.objects.filter(taking_part, chain__in=appealed.values("chain")).exclude(
        action=Action.REVERSE
    )
    beside = Decision.objects.filter(taking_part, appeals__case=OuterRef("pk"))
    remanded = Decision.objects.filter(
        taking_part, version=OuterRef("version"), appeals__state=AppealState.REMANDED
    )
    return cases.exclude(
        Q(state=CaseState.APPEALED) & (Exists(decided) | Exists(chained) | Exists(beside))
    ).exclude(Q(source=Case.Source.APPEAL) & Exists(remanded))


@transaction.atomic
def case_claim(*, case: Case, actor: Account) -> Case:
    """Give one case to a moderator for the length of a claim.

    Claiming again what one already holds renews the claim. Raises Conflict if somebody else has
    it, NotAllowed for a conflict of interest.
    """
    _require_may_hold(case, actor)
    if case.claimed_by_id == actor.pk and claim_renew(case=case, actor=actor):
        case.refresh_from_db()
        return case
    require_rested(actor)
    if case.state in HELD_CASES:
        raise Conflict(f"{_holder(case)} has this case. Take the next one instead.", code="claimed")
    if case.state not in _TAKEN:
        raise Conflict("This case is not waiting for anybody any more.", code="not_waiting")
    _take(case, actor)
    return case


def _take(case: Case, actor: Account) -> None:
    clock: dict[str, Any] = {}
    if case.state == CaseState.ASKED and (inquiry := inquiry_close(case=case)):
        waited = time_waited(inquiry)
        clock = {"paused_for": case.paused_for + waited, "due_at": case.due_at + waited}
    case_take(case=case, to=_TAKEN[CaseState(case.state)], actor=actor, until=_until(), **clock)


def queue_claim_next(*, actor: Account) -> Case | None:
    """Give a moderator the first case of the queue; None if nothing waits for them.

    A moderator who already holds a case gets that one.
    """
    require_moderator(actor)
    # Others may be quicker for the first few; 20 tries outlast any team's rush.
    for _ in range(20):
        try:
            return _claim_next(actor)
        except Conflict:
            continue
    return None


@transaction.atomic
def _claim_next(actor: Account) -> Case | None:
    # One press at a time for each moderator: a button pressed twice leads to one case.
    _locked_account.rows(account=actor.pk)
    held = _held_case.first(account=actor.pk)
    if held is not None:
        claim_renew(case=held, actor=actor)
        return held
    require_rested(actor)
    case = _first_free(actor)
    if case is not None:
        # Nothing more to ask of it: what is not for this moderator was not found.
        _take(case, actor)
    return case


def _first_free(actor: Account) -> Case | None:
    """Return the first case for this moderator that nobody else is just taking.

    PostgreSQL skips what another transaction has locked, so that a whole team pressing the button
    at once is served side by side. SQLite has one writer, who is alone here.
    """
    view = _view_of(actor)
    case = _free_case.first(*view, account=actor.pk)
    if case is None or case.state != CaseState.APPEALED and case.source != Case.Source.APPEAL:
        return case
    # Only who stands before an appeal has to be asked what they took part in.
    return _without_own_part(_free_cases(*view, account=actor.pk), actor.pk).first()


def _free_cases(is_senior: bool, opted_out: tuple[str, ...], *, account: int) -> QuerySet[Case]:
    # Of its columns only what taking it needs: people wait for every one that is read.
    cases = _waiting_for(is_senior, opted_out, account=account).only(
        *("code", "version_id", "state", "source", "claimed_by_id"),
        *("priority", "paused_for", "due_at"),
    )
    if connection.features.has_select_for_update_skip_locked:
        cases = cases.select_for_update(skip_locked=True, of=("self",), no_key=True)
    return cases


_free_case = Prepared(lambda *view, account: _free_cases(*view, account=account)[:1], account=int)
_first_besides = Prepared(
    lambda *view, account, besides: _without_own_part(
        _waiting_for(*view, account=account), account
    ).exclude(pk=besides)[:1],
    account=int,
    besides=int,
)
_locked_account = Prepared(
    lambda account: Account.objects.select_for_update(no_key=True).only("pk").filter(pk=account),
    account=int,
)
# What was set apart while somebody had it opens for them no more, and keeps them from nothing.
_held_case = Prepared(
    lambda account: (
        Case.objects.filter(
            state__in=sorted(HELD_CASES), claimed_by=account, version__isolated_at__isnull=True
        )
        .order_by("pk")
        .only("code")[:1]
    ),
    account=int,
)


@transaction.atomic
def case_take_over(*, case: Case, holder: str, actor: Account) -> Case:
    """Take a case out of another moderator's hands, which is recorded.

    ``holder`` is the user name that the person was shown when they confirmed. Raises Conflict if
    somebody else has the case by now, or nobody.
    """
    _require_may_hold(case, actor)
    if case.state not in HELD_CASES or case.claimed_by is None:
        raise Conflict("Nobody has this case: take it.", code="not_claimed")
    if case.claimed_by_id == actor.pk:
        return case
    require_rested(actor)
    if case.claimed_by.username != holder:
        raise Conflict(
            f"By now {case.claimed_by.username} has this case. Ask them, then take it over.",
            code="claimed",
        )
    case_hand_over(case=case, to=actor, until=_until(), actor=actor)
    return case


@transaction.atomic
def case_assign(*, case: Case, to: Account | None, actor: Account) -> Case:
    """Make a case somebody's for good, or nobody's. Who has it open stays as it is.

    An assigned case is offered to nobody else. Raises NotAllowed where the assignee could not
    decide it or, unless they assign it to themselves, opted out of what it is about; Conflict if
    it has ended or was assigned to another in the meantime.
    """
    require_moderator(actor)
    if case.state not in LISTED_CASES:
        raise Conflict("This case has ended; there is nothing left to assign.", code="not_waiting")
    if to is not None and to.pk == actor.pk:
        _require_may_hold(case, to)
    elif to is not None:
        _require_may_be_given(case, to)
    before = case.assigned_to
    changed = Case.objects.filter(pk=case.pk, assigned_to=before).update(assigned_to=to)
    if not changed:
        raise Conflict("Somebody else has just assigned this case.", code="stale_case")
    event_record(
        action="case.assigned",
        actor=actor,
        version=case.version,
        case=case,
        data={
            "from": before.username if before else "",
            "to": to.username if to else "",
        },
    )
    case.refresh_from_db()
    return case


def _require_may_be_given(case: Case, to: Account) -> None:
    """Let through who may be given a case by somebody else, who is not told why another may not.

    It would say what they reported, made, decided, or do not want to see.
    """
    try:
        _require_may_hold(case, to)
        unwanted = _about(preference_of(to).opted_out)
        is_fit = not Case.objects.filter(unwanted, pk=case.pk).exists()
    except NotAllowed:
        is_fit = False
    if not is_fit:
        raise NotAllowed(
            f"{to.username} cannot be given this case. Choose somebody else.",
            code="not_assignable",
            field="to",
        )


@transaction.atomic
def assignments_give_back(*, actor: Account) -> int:
    """Take from a person what was assigned to them of what they opted out of; return how much.

    It waits for anybody again; what they have in hand they can finish.
    """
    unwanted = _about(preference_of(actor).opted_out)
    return _unassign(Case.objects.filter(unwanted), account=actor, actor=actor)


@transaction.atomic
def assignments_end(*, account: Account, actor: Account) -> int:
    """Take from an account what it may not decide since its role changed; return how much.

    Everything where it moderates no more, else what was escalated, unless it is a senior one.
    """
    if account.is_senior:
        return 0
    cases = Case.objects.all()
    if account.is_moderator:
        cases = cases.filter(escalated_at__isnull=False)
    return _unassign(cases, account=account, actor=actor)


def _unassign(cases: QuerySet[Case], *, account: Account, actor: Account) -> int:
    own = cases.filter(assigned_to=account, state__in=sorted(LISTED_CASES))
    given_back = list(own.select_related("version"))
    for case in given_back:
        Case.objects.filter(pk=case.pk, assigned_to=account).update(assigned_to=None)
        event_record(
            action="case.assigned",
            actor=actor,
            version=case.version,
            case=case,
            data={"from": account.username, "to": ""},
        )
    return len(given_back)


@transaction.atomic
def case_escalate(*, case: Case, note: str, actor: Account) -> Case:
    """Hand a case one holds to the senior moderators, with a note for them.

    The note stays within the team. Raises Conflict unless the actor holds the case.
    """
    note = note.strip()
    if not note:
        raise Invalid("Say in a few words what a senior moderator should look at.", field="note")
    if len(note) > NOTE_LENGTH:
        raise Invalid(
            f"The note is {len(note):,} characters long; {NOTE_LENGTH:,} are the most.",
            field="note",
        )
    require_impartial(actor, case.version)
    if case.state != CaseState.CLAIMED or case.claimed_by_id != actor.pk:
        raise Conflict("Take the case first, then escalate it.", code="not_claimed")
    case_transition(
        case=case,
        to=CaseState.ESCALATED,
        actor=actor,
        claimed_by=None,
        claimed_until=None,
        assigned_to=None,
        escalated_at=case.escalated_at or timezone.now(),
    )
    event_record(
        action="case.note", actor=actor, version=case.version, case=case, data={"note": note}
    )
    return case


def claim_renew(*, case: Case, actor: Account) -> bool:
    """Extend a claim; False if the case is no longer this moderator's."""
    return bool(
        Case.objects.filter(pk=case.pk, state__in=HELD_CASES, claimed_by=actor).update(
            claimed_until=_until()
        )
    )


def case_release(*, case: Case, actor: Account) -> None:
    """Give a claimed case back to the queue."""
    if case.state not in HELD_CASES or case.claimed_by_id != actor.pk:
        raise NotAllowed("This case is not yours to give back.")
    _give_back(case, actor)


def claims_expire() -> int:
    """Give back the cases whose claim ran out; return how many."""
    released = 0
    for case in Case.objects.filter(
        state__in=HELD_CASES, claimed_until__lt=timezone.now()
    ).select_related("version"):
        # Its moderator may have come back since: only a claim that still stands as it was read.
        if not Case.objects.filter(pk=case.pk, claimed_until=case.claimed_until).exists():
            continue
        try:
            _give_back(case, None)
        except Conflict:
            continue
        released += 1
    return released


@transaction.atomic
def _give_back(case: Case, actor: Account | None) -> None:
    if case.state == CaseState.HEARING:
        to = CaseState.APPEALED
    else:
        to = CaseState.ESCALATED if case.escalated_at else CaseState.QUEUED
    case_transition(
        case=case,
        to=to,
        actor=actor,
        action="case.released" if actor else "case.claim_expired",
        claimed_by=None,
        claimed_until=None,
    )


def _require_may_hold(case: Case, account: Account) -> None:
    require_impartial(account, case.version)
    require_not_apart(account, case.version)
    if case.state in {CaseState.APPEALED, CaseState.HEARING}:
        require_other_than_decider(account, case)
    elif case.escalated_at:
        require_senior(account)


def _until() -> datetime:
    return timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)


def _holder(case: Case) -> str:
    return case.claimed_by.username if case.claimed_by else "Somebody else"
