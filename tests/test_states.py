"""Every pair of states: allowed exactly where the table says so, refused everywhere else."""

import itertools

import pytest
from django.db.models import TextChoices

from moderation.cases import case_transition
from moderation.errors import IllegalTransition
from moderation.models import Account, Case
from moderation.states import (
    HELD_CASES,
    TRANSITIONS,
    CaseState,
    Visibility,
    may_follow,
)
from tests import factories

PAIRS = [
    (states, before, after)
    for states in TRANSITIONS
    for before, after in itertools.product(states, states)
]
# Written out by hand: a slip in the table must not be able to change this list as well.
CASE_MOVES = {
    ("queued", "claimed"),
    ("claimed", "queued"),
    ("claimed", "decided"),
    ("claimed", "closed"),
    ("claimed", "asked"),
    ("claimed", "escalated"),
    ("asked", "queued"),
    ("asked", "escalated"),
    ("asked", "claimed"),
    ("escalated", "claimed"),
    ("decided", "appealed"),
    ("appealed", "hearing"),
    ("hearing", "appealed"),
    ("hearing", "closed"),
    # Undo, and reporters' appeals.
    ("decided", "claimed"),
    ("closed", "claimed"),
    ("closed", "hearing"),
    ("closed", "appealed"),
    # The second person.
    ("claimed", "confirm"),
    ("confirm", "decided"),
    ("confirm", "closed"),
    ("confirm", "queued"),
    ("confirm", "escalated"),
    ("hearing", "reconfirm"),
    ("reconfirm", "closed"),
    ("reconfirm", "appealed"),
    # Taken back before the appeal was heard.
    ("appealed", "closed"),
}


@pytest.mark.parametrize("states", list(TRANSITIONS), ids=lambda states: states.__name__)
def test_every_state_has_a_row_and_leads_only_to_states_of_its_own_kind(
    states: type[TextChoices],
) -> None:
    table = TRANSITIONS[states]
    assert set(table) == set(states)
    assert all(after in states for row in table.values() for after in row)


@pytest.mark.parametrize(("states", "before", "after"), PAIRS, ids=str)
def test_no_state_follows_itself_and_every_pair_has_an_answer(
    states: type[TextChoices], before: str, after: str
) -> None:
    answer = may_follow(states, before, after)
    assert answer is (after in TRANSITIONS[states][before])
    if before == after:
        assert not answer


@pytest.mark.parametrize(
    ("before", "after"), list(itertools.product(CaseState, CaseState)), ids=str
)
def test_a_case_moves_only_along_the_table(
    before: CaseState, after: CaseState, policy: object, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    holder = {"claimed_by": mo, "claimed_until": case.due_at}
    Case.objects.filter(pk=case.pk).update(state=before, **(holder if before in HELD_CASES else {}))
    case.refresh_from_db()
    fields = holder if after in HELD_CASES else {"claimed_by": None, "claimed_until": None}
    events = case.events.count()
    if (before, after) in CASE_MOVES:
        case_transition(case=case, to=after, actor=mo, **fields)
        assert case.state == after
        assert case.events.count() == events + 1
    else:
        with pytest.raises(IllegalTransition):
            case_transition(case=case, to=after, actor=mo, **fields)
        case.refresh_from_db()
        assert case.state == before
        assert case.events.count() == events


def test_nothing_leads_back_to_a_draft() -> None:
    assert not any(may_follow(Visibility, before, Visibility.DRAFT) for before in Visibility)
