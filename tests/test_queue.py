"""The queue: each case is handed to exactly one moderator, and never to one with a stake."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.appeals import appeal_file
from moderation.decisions import decision_make
from moderation.errors import NotAllowed
from moderation.models import Account, Case
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.selectors.queue import queue_tally
from moderation.states import Action, Role
from moderation.tasks import sweep
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


def test_the_next_case_is_claimed_by_one_and_the_next_moderator_gets_another(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    first = factories.held(uma, rule="red-star", title="Grave")
    second = factories.held(uma, rule="damaged-file", title="Slight")
    assert as_(mo).post(reverse("console:next")).url == reverse("console:case", args=[first.code])
    assert as_(ada).post(reverse("console:next")).url == reverse("console:case", args=[second.code])
    first.refresh_from_db()
    assert (first.state, first.claimed_by) == ("claimed", mo)


def test_asking_for_the_next_case_while_holding_one_gives_that_one(
    as_: Browser, uma: Account, mo: Account
) -> None:
    held = factories.held(uma, title="One")
    factories.held(uma, title="Two")
    client = as_(mo)
    client.post(reverse("console:next"))
    assert client.post(reverse("console:next")).url == reverse("console:case", args=[held.code])
    assert Case.objects.filter(claimed_by=mo).count() == 1


def test_claiming_what_another_holds_is_refused_with_their_name(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    as_(mo).post(reverse("console:claim", args=[case.code]))
    response = as_(ada).post(reverse("console:claim", args=[case.code]))
    assert response.status_code == 409
    assert "mo has this case" in response.content.decode()


def test_nobody_is_given_their_own_model_or_one_they_reported(
    as_: Browser, mo: Account, ada: Account, uma: Account
) -> None:
    own = factories.held(mo, title="Mo's own")
    reported = factories.published(uma, title="Reported by Mo")
    report_file(version=reported, text="No good.", actor=mo)
    client = as_(mo)
    assert client.post(reverse("console:next")).url == reverse("console:queue")
    for case in (own, reported.cases.get()):
        response = client.post(reverse("console:claim", args=[case.code]))
        assert response.status_code == 403
        case.refresh_from_db()
        assert case.claimed_by is None
    assert as_(ada).post(reverse("console:next")).status_code == 302
    assert Case.objects.filter(claimed_by=ada).exists()


def test_a_claim_that_ran_out_goes_back_to_the_queue(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    as_(mo).post(reverse("console:claim", args=[case.code]))
    Case.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    sweep()
    assert as_(ada).post(reverse("console:next")).url == reverse("console:case", args=[case.code])


def test_an_open_page_keeps_the_claim(as_: Browser, uma: Account, mo: Account) -> None:
    case = factories.held(uma)
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    Case.objects.update(claimed_until=timezone.now() + timedelta(seconds=1))
    assert client.post(reverse("console:renew", args=[case.code])).status_code == 200
    case.refresh_from_db()
    assert case.claimed_until is not None
    assert case.claimed_until > timezone.now() + timedelta(seconds=60)


def test_a_released_case_waits_again(as_: Browser, uma: Account, mo: Account) -> None:
    case = factories.held(uma)
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    assert client.post(reverse("console:release", args=[case.code])).status_code == 302
    case.refresh_from_db()
    assert (case.state, case.claimed_by) == ("queued", None)


@pytest.mark.parametrize("role", [Role.CREATOR, Role.POLICY_LEAD])
def test_only_moderators_claim(role: Role, as_: Browser, uma: Account) -> None:
    case = factories.held(uma)
    other = factories.account("other", role=role)
    client = as_(other)
    assert client.post(reverse("console:next")).status_code == 403
    assert client.post(reverse("console:claim", args=[case.code])).status_code == 403
    case.refresh_from_db()
    assert case.claimed_by is None


def test_the_console_is_closed_to_creators_and_visitors(
    as_: Browser, uma: Account, nobody: Account
) -> None:
    case = factories.held(uma)
    for address in (reverse("console:queue"), reverse("console:case", args=[case.code])):
        assert as_(nobody).get(address).status_code == 403
        assert as_(None).get(address).status_code == 302


def test_what_is_held_apart_is_handed_to_nobody_and_keeps_nobody_from_the_next_case(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo, action=Action.CHILD_SAFETY)
    appeal = as_(uma).post(reverse("creator:decision", args=[decision.code]), {"text": "Why?"})
    assert appeal.status_code == 302
    decision.case.refresh_from_db()
    assert decision.case.state == "appealed"
    other = factories.held(factories.account("una"), title="Another")
    client = as_(ada)
    page = client.get(reverse("console:queue")).content.decode()
    assert (queue_tally(ada).appealed, queue_tally(ada).waiting) == (0, 1)
    assert decision.case.code not in page
    # It is the older one.
    next_one = client.post(reverse("console:next"))
    assert next_one.url == reverse("console:case", args=[other.code])
    assert client.get(next_one.url).status_code == 200
    claim = reverse("console:claim", args=[decision.case.code])
    assert client.post(claim).status_code == 403
    with pytest.raises(NotAllowed):
        case_claim(case=decision.case, actor=ada)


def test_what_was_held_apart_while_a_moderator_had_it_can_be_given_back_and_blocks_nothing(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    limited = factories.decided(uma, mo, action=Action.LIMIT)
    appeal_file(decision=limited, text="It is a leaf.", actor=uma)
    client = as_(ada)
    hearing = client.post(reverse("console:next"))
    assert hearing.url == reverse("console:case", args=[limited.case.code])
    report_file(version=limited.version, text="A child.", actor=None)
    other = limited.version.cases.exclude(pk=limited.case_id).get()
    case_claim(case=other, actor=mo)
    decision_make(
        case=other, action=Action.CHILD_SAFETY, rules=["red-star"], facts="Seen.", actor=mo
    )
    waiting = factories.held(uma, title="Another")
    assert client.get(hearing.url).status_code == 403
    assert hearing.url not in client.get(reverse("console:queue")).content.decode()
    taken = client.post(reverse("console:next"))
    assert taken.url == reverse("console:case", args=[waiting.code])
    release = reverse("console:release", args=[limited.case.code])
    assert as_(mo).post(release).status_code == 403
    assert client.post(release).status_code == 302
    limited.case.refresh_from_db()
    assert (limited.case.state, limited.case.claimed_by) == ("appealed", None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("asleep")
def test_a_button_pressed_three_times_at_once_leads_to_one_case(
    uma: Account, mo: Account, as_: Browser
) -> None:
    for number in range(3):
        factories.held(uma, title=f"Held {number}")
    clients = [as_(mo) for _ in range(3)]
    start = threading.Barrier(3)
    places: list[str] = []

    def press(client: Client) -> None:
        start.wait()
        try:
            places.append(client.post(reverse("console:next"))["Location"])
        finally:
            connection.close()

    threads = [threading.Thread(target=press, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(places) == 3
    assert len(set(places)) == 1
    assert Case.objects.filter(claimed_by=mo).count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("asleep")
def test_of_two_hundred_concurrent_claims_on_one_case_exactly_one_wins(
    uma: Account, as_: Browser
) -> None:
    case = factories.held(uma)
    moderators = [factories.account(f"m{n}", role=Role.MODERATOR) for n in range(20)]
    clients = [as_(moderators[n % 20]) for n in range(200)]
    address = reverse("console:claim", args=[case.code])
    start = threading.Barrier(20)
    answers: list[tuple[int, int]] = []

    def rush(first: int) -> None:
        start.wait()
        try:
            for n in range(first, 200, 20):
                answers.append((n % 20, clients[n].post(address).status_code))
        finally:
            connection.close()

    threads = [threading.Thread(target=rush, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 200
    winners = {moderator for moderator, status in answers if status == 302}
    assert len(winners) == 1
    assert {status for moderator, status in answers if moderator not in winners} == {409}
    case.refresh_from_db()
    assert case.claimed_by == moderators[winners.pop()]
    assert case.events.filter(action="case.claimed").count() == 1
