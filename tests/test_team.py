"""The page of the team: what waits, how long deciding takes, how far people agree."""

import csv
import io
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from moderation.agreement import agreement
from moderation.appeals import appeal_file
from moderation.hearings import appeal_answer
from moderation.models import Account, Case, ReviewItem
from moderation.queue import case_claim
from moderation.states import Action, AppealState, Role
from tests import factories

Browser = Callable[[Account | None], Client]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("policy")]


def _page(client: Client, query: str = "") -> str:
    return re.sub(r"\s+", " ", client.get(f"{reverse('console:team')}{query}").content.decode())


def _csv(client: Client, table: str) -> list[dict[str, str]]:
    response = client.get(reverse("console:team-table", args=[table]))
    assert response["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(response.content.decode())))


def test_open_and_breached_cases_are_counted_by_rule_and_by_source(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    late = factories.held(uma, rule="red-star", title="Late")
    factories.held(rui, rule="red-star", title="In time")
    now = timezone.now()
    Case.objects.filter(pk=late.pk).update(
        due_at=now - timedelta(hours=1), opened_at=now - timedelta(days=3)
    )
    client = as_(mo)
    (rule,) = _csv(client, "rules")
    assert (rule["open"], rule["breached"]) == ("2", "1")
    (source,) = _csv(client, "sources")
    assert (source["name"], source["open"]) == ("opened by a probe's finding", "2")
    page = _page(client)
    assert 'href="/console/?rule=red-star"' in page
    assert "3 days ago" in page


def test_decisions_are_counted_by_day_with_the_time_that_they_took(
    as_: Browser, uma: Account, mo: Account
) -> None:
    factories.decided(uma, mo)
    factories.decided(uma, mo, title="Another")
    today = _csv(as_(mo), "decisions")[-1]
    assert (today["removed"], today["left"]) == ("2", "0")
    assert 0 <= int(today["median_seconds"]) < 60
    assert "<dd>2</dd>" in _page(as_(mo))


def test_a_decision_that_was_undone_or_withdrawn_or_can_still_be_is_not_counted(
    as_: Browser, uma: Account, mo: Account, ada: Account, settings: Any
) -> None:
    factories.decided(uma, mo, title="In force")
    settings.SECOND_PERSON_FOR = ["limit"]
    client = as_(mo)
    withdrawn, _ = (factories.decided(uma, mo, action=Action.LIMIT) for _ in range(2))
    client.post(reverse("console:cancel", args=[withdrawn.code]))
    settings.UNDO_SECONDS = 10
    undone, _ = (factories.decided(uma, mo) for _ in range(2))
    client.post(reverse("console:undo", args=[undone.code]))
    today = _csv(client, "decisions")[-1]
    assert (today["removed"], today["restricted"]) == ("1", "0")
    assert "of 1 decisions" in _page(client)


def test_granted_appeals_are_a_share_of_the_answered_by_rule(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    for number in range(2):
        decision = factories.decided(uma, mo, title=f"Model {number}")
        appeal = appeal_file(decision=decision, text="It is a flower.", actor=uma)
        case_claim(case=appeal.case, actor=ada)
        outcome = AppealState.UPHELD if number else AppealState.OVERTURNED
        appeal_answer(appeal=appeal, outcome=outcome, answer="Looked at again.", actor=ada)
    (line,) = [row for row in _csv(as_(mo), "appeals") if row["kind"] == "rule"]
    assert (line["answered"], line["overturned"], line["percent"]) == ("2", "1", "50.0")


def test_the_page_takes_the_same_number_of_queries_however_much_there_is(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account, settings: Any
) -> None:
    settings.SECOND_REVIEW_SHARE = 1.0
    client = as_(ada)

    def queries() -> int:
        _page(client)
        with CaptureQueriesContext(connection) as captured:
            _page(client)
        return len(captured)

    def more(number: int) -> None:
        factories.held(rui, rule="red-star", title=f"Waits {number}")
        factories.decided(uma, mo, title=f"Decided {number}")

    more(0)
    few = queries()
    for number in range(1, 5):
        more(number)
    assert queries() == few
    assert few <= 18


def test_the_page_is_for_the_team_alone(as_: Browser, uma: Account, mo: Account) -> None:
    assert as_(uma).get(reverse("console:team")).status_code == 403
    assert as_(None).get(reverse("console:team")).status_code == 302
    assert as_(mo).get(reverse("console:team-table", args=["people"])).status_code == 404
    assert "30 days" in _page(as_(mo), "?days=4000")


def test_a_disagreement_is_shown_to_leads_with_a_link_and_to_nobody_else(
    as_: Browser, uma: Account, mo: Account, ada: Account, settings: Any
) -> None:
    settings.SECOND_REVIEW_SHARE = 1.0
    decision = factories.decided(uma, mo, title="Ink wash")
    item = ReviewItem.objects.get()
    address = reverse("console:second-review", args=[item.code])
    as_(ada).post(address, {"answer": "allow", "note": "A flower, to me."})
    lead = factories.account("pol", role=Role.POLICY_LEAD)
    page = _page(as_(lead))
    assert "A flower, to me." in page
    assert reverse("console:case", args=[decision.case.code]) in page
    assert "A flower, to me." not in _page(as_(mo))
    (line,) = _csv(as_(mo), "agreement")
    assert (line["pairs"], line["kappa"]) == ("1", "")


def test_kappa_is_as_worked_out_by_hand_and_missing_where_it_says_nothing() -> None:
    table = {("a", "a"): 20, ("a", "b"): 5, ("b", "a"): 10, ("b", "b"): 15}
    found = agreement([pair for pair, number in table.items() for _ in range(number)])
    # p_o = 35/50 = 0.7; p_e = (25*30 + 25*20)/50² = 0.5; kappa = 0.4.
    assert found.kappa == pytest.approx(0.4)
    assert found.low == pytest.approx(0.4 - 1.96 * (0.7 * 0.3 / (50 * 0.25)) ** 0.5)
    assert agreement([("a", "a")] * 9).kappa is None
    assert agreement([("a", "a")] * 20).kappa is None
    assert agreement([("a", "b"), ("b", "a")] * 10).kappa == pytest.approx(-1)
