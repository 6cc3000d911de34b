"""Whose a case is: taken by one, taken over, assigned, escalated, put aside until an answer."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.decisions import decision_make
from moderation.inquiries import inquiries_expire, inquiry_send
from moderation.models import Account, Case, Decision, Event, Inquiry, Notice
from moderation.queue import case_claim, queue_claim_next
from moderation.reports import report_file
from moderation.states import Action, Role
from moderation.tasks import sweep
from tests import factories
from tests.test_queue_page import copies

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


def post(client: Client, name: str, case: Case, **fields: str) -> tuple[int, str]:
    answer = client.post(reverse(f"console:{name}", args=[case.code]), fields)
    return answer.status_code, answer.content.decode()


def state(case: Case) -> tuple[str, str]:
    case.refresh_from_db()
    return case.state, case.claimed_by.username if case.claimed_by else ""


# --- Taking over ----------------------------------------------------------------------------


def test_taking_over_asks_first_and_is_recorded(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    client = as_(ada)
    page = client.get(reverse("console:take-over", args=[case.code])).content.decode()
    assert re.search(r"over\s+from mo\?", page)
    assert state(case) == ("claimed", "mo")
    assert post(client, "take-over", case, holder="mo")[0] == 302
    assert state(case) == ("claimed", "ada")
    event = Event.objects.get(action="case.taken_over")
    assert (event.actor, event.data) == (ada, {"from": "mo", "to": "ada"})


def test_whoever_lost_the_case_keeps_what_they_typed(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    post(as_(ada), "take-over", case, holder="mo")
    client = as_(mo)
    for name, field in (("decide", "facts"), ("escalate", "note"), ("ask", "text")):
        status, page = post(
            client, name, case, action="approve", **{field: "Forty lines of careful words."}
        )
        assert status == 409
        assert "Forty lines of careful words." in page
        assert "ada has this case" in page
    assert not Decision.objects.exists()


def test_it_is_taken_only_from_whom_one_was_shown(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    third = factories.account("third", role=Role.MODERATOR)
    post(as_(ada), "take-over", case, holder="mo")
    status, page = post(as_(third), "take-over", case, holder="mo")
    assert (status, "By now ada has this case" in page) == (409, True)
    assert state(case) == ("claimed", "ada")


def test_nobody_takes_over_their_own_model_or_one_they_reported(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    reported = factories.published(uma)
    report_file(version=reported, text="No good.", actor=ada)
    case = reported.cases.get()
    case_claim(case=case, actor=mo)
    assert post(as_(ada), "take-over", case, holder="mo")[0] == 403
    assert post(as_(uma), "take-over", case, holder="mo")[0] == 403
    assert state(case) == ("claimed", "mo")


# --- Assignment -----------------------------------------------------------------------------


def test_an_assigned_case_is_offered_to_nobody_else_and_outlives_the_claim(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    assert post(as_(ada), "assign", case, to="mo")[0] == 302
    assert queue_claim_next(actor=ada) is None
    assert queue_claim_next(actor=mo) == case
    Case.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    sweep()
    case.refresh_from_db()
    assert (case.state, case.assigned_to) == ("queued", mo)
    post(as_(ada), "assign", case, to="")
    assert queue_claim_next(actor=ada) == case
    assert [event.data["to"] for event in Event.objects.filter(action="case.assigned")] == [
        "mo",
        "",
    ]


def test_an_appeal_against_what_was_decided_by_whose_it_was_is_offered_to_the_others(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    post(as_(ada), "assign", case, to="mo")
    client = as_(mo)
    client.post(reverse("console:next"))
    post(client, "decide", case, action="remove", rules="red-star", facts="A red star.")
    appeal = reverse("creator:decision", args=[case.decisions.get().code])
    assert as_(uma).post(appeal, {"text": "It is orange."}).status_code == 302
    assert as_(ada).post(reverse("console:next")).url == reverse("console:case", args=[case.code])


def test_an_answer_that_nobody_confirms_leaves_the_appeal_to_others_than_whose_it_was(
    as_: Browser, uma: Account, mo: Account, ada: Account, settings: Any
) -> None:
    settings.SECOND_PERSON_FOR = ["overturn"]
    decision = factories.decided(uma, mo)
    as_(uma).post(reverse("creator:decision", args=[decision.code]), {"text": "It is orange."})
    decision.case.refresh_from_db()
    sam, pat = (factories.account(name, role=Role.MODERATOR) for name in ("sam", "pat"))
    assert post(as_(sam), "assign", decision.case, to="ada")[0] == 302
    post(as_(ada), "claim", decision.case)
    answer = reverse("console:answer", args=[decision.case.code, decision.appeals.get().code])
    given = {"outcome": "overturned", "answer": "It is orange."}
    assert as_(ada).post(answer, given).status_code == 302
    granted = Decision.objects.get(action=Action.REVERSE)
    assert as_(pat).post(reverse("console:cancel", args=[granted.code])).status_code == 302
    assert queue_claim_next(actor=ada) is None
    assert queue_claim_next(actor=sam) == decision.case


@pytest.mark.parametrize(
    ("changed", "given_back"),
    [
        ({"role": Role.SENIOR_MODERATOR, "is_active": ""}, {"Common", "Escalated"}),
        ({"role": Role.POLICY_LEAD, "is_active": "on"}, {"Common", "Escalated"}),
        ({"role": Role.MODERATOR, "is_active": "on"}, {"Escalated"}),
        ({"role": Role.ADMIN, "is_active": "on"}, set()),
    ],
)
def test_what_was_assigned_to_somebody_who_may_not_decide_it_any_more_waits_for_all_again(
    changed: dict[str, str],
    given_back: set[str],
    as_: Browser,
    uma: Account,
    mo: Account,
    ada: Account,
) -> None:
    common, escalated = (factories.held(uma, title=title) for title in ("Common", "Escalated"))
    case_claim(case=escalated, actor=mo)
    post(as_(mo), "escalate", escalated, note="Is it one?")
    for case in (common, escalated):
        assert post(as_(ada), "assign", case, to="ada")[0] == 302
    Account.objects.filter(pk=mo.pk).update(is_staff=True, is_superuser=True)
    fields = {"username": "ada", "email": ada.email, "date_joined_0": "2026-01-01"}
    fields |= {"date_joined_1": "00:00:00", **changed}
    address = reverse("admin:moderation_account_change", args=[ada.pk])
    assert as_(mo).post(address, fields).status_code == 302
    free = Case.objects.filter(assigned_to__isnull=True)
    assert set(free.values_list("version__uploaded_model__title", flat=True)) == given_back


@pytest.mark.parametrize("name", ["nobody", "no-such-person"])
@pytest.mark.usefixtures("nobody")
def test_a_case_is_assigned_only_to_a_moderator(
    name: str, as_: Browser, uma: Account, ada: Account
) -> None:
    case = factories.held(uma)
    status, page = post(as_(ada), "assign", case, to=name)
    assert (status, "No moderator is called" in page) == (422, True)


def test_a_case_is_not_assigned_to_whoever_may_not_decide_it(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="No good.", actor=mo)
    assert post(as_(ada), "assign", version.cases.get(), to="mo")[0] == 403


# --- Escalation -----------------------------------------------------------------------------


def test_an_escalated_case_goes_to_a_senior_moderator_alone(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    assert post(as_(mo), "escalate", case, note=" ")[0] == 422
    assert post(as_(mo), "escalate", case, note="Is this satire?")[0] == 302
    assert state(case) == ("escalated", "")
    assert queue_claim_next(actor=mo) is None
    assert post(as_(mo), "claim", case)[0] == 403
    read = as_(mo).get(f"/console/cases/{case.code}/").content.decode()
    assert "a senior moderator decides it" in read
    assert "/claim/" not in read
    assert queue_claim_next(actor=ada) == case
    assert "Is this satire?" in as_(ada).get(f"/console/cases/{case.code}/").content.decode()
    # Given back, it still waits for a senior one.
    assert post(as_(ada), "release", case)[0] == 302
    assert state(case) == ("escalated", "")


# --- Asking the creator ---------------------------------------------------------------------


def test_a_case_waits_for_the_creator_and_comes_back_with_the_answer(
    as_: Browser, uma: Account, mo: Account, nobody: Account
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    due_at = case.due_at
    assert post(as_(mo), "ask", case, text="Whose <b>drawing</b> is it?")[0] == 302
    assert state(case) == ("asked", "")
    assert queue_claim_next(actor=mo) is None
    inquiry = Inquiry.objects.get()
    assert "Whose <b>drawing</b> is it?" in Notice.objects.get(kind="inquiry").text
    Inquiry.objects.update(asked_at=timezone.now() - timedelta(hours=30))

    studio = as_(uma)
    page = studio.get(f"/studio/{case.version.code}/").content.decode()
    assert "Whose &lt;b&gt;drawing&lt;/b&gt; is it?" in page
    address = reverse("creator:answer-inquiry", args=[case.version.code, inquiry.code])
    assert as_(nobody).post(address, {"answer": "Mine!"}).status_code == 404
    assert studio.post(address, {"answer": " "}).status_code == 422
    assert studio.post(address, {"answer": "My own."}).status_code == 302
    assert studio.post(address, {"answer": "Again."}).status_code == 409
    assert state(case) == ("queued", "")
    # The clock stood still meanwhile: nobody could get the model.
    assert timedelta(hours=29) < case.due_at - due_at < timedelta(hours=31)
    assert "What was written" in as_(mo).get(f"/console/cases/{case.code}/").content.decode()
    assert "My own." in as_(mo).get(f"/console/cases/{case.code}/conversation/").content.decode()


def test_without_an_answer_the_case_comes_back_by_itself(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    inquiry_send(case=case, text="Whose is it?", actor=mo)
    assert inquiries_expire() == 0
    Inquiry.objects.update(answer_until=timezone.now() - timedelta(seconds=1))
    sweep()
    assert state(case) == ("queued", "")
    codes = [case.version.code, Inquiry.objects.get().code]
    address = reverse("creator:answer-inquiry", args=codes)
    assert as_(uma).post(address, {"answer": "Late."}).status_code == 410
    assert Event.objects.filter(action="case.not_answered").count() == 1


def test_the_clock_of_a_public_model_runs_on_while_its_creator_is_asked(
    uma: Account, rui: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="No good.", actor=rui)
    case = version.cases.get()
    case_claim(case=case, actor=mo)
    due_at = case.due_at
    inquiry_send(case=case, text="Whose is it?", actor=mo)
    Inquiry.objects.update(asked_at=timezone.now() - timedelta(hours=30))
    case.refresh_from_db()
    case_claim(case=case, actor=mo)
    assert case.due_at == due_at
    assert Inquiry.objects.get().closed_at is not None


def test_only_whoever_holds_the_case_asks_or_escalates(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    assert post(as_(ada), "ask", case, text="Whose is it?")[0] == 409
    assert post(as_(ada), "escalate", case, note="Look.")[0] == 409
    assert state(case) == ("claimed", "mo")


# --- Many at once ---------------------------------------------------------------------------

# The whole figure, 2,000 cases, takes minutes; WEIGHHOUSE_RUSH=2000 asks for it.
RUSH = int(os.environ.get("WEIGHHOUSE_RUSH", "160"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("asleep")
@pytest.mark.skipif(
    "postgres" not in os.environ.get("DATABASE_URL", ""),
    reason="SQLite has one writer at a time; this is about many: set DATABASE_URL.",
)
def test_thirty_two_moderators_decide_every_case_exactly_once(uma: Account) -> None:
    copies(factories.held(uma), RUSH - 1)
    moderators = [factories.account(f"m{n}", role=Role.MODERATOR) for n in range(32)]
    start = threading.Barrier(len(moderators))
    decided: list[tuple[str, int]] = []
    faults: list[str] = []

    def work(actor: Account) -> None:
        start.wait()
        try:
            while (case := queue_claim_next(actor=actor)) is not None:
                decided.append((case.code, actor.pk))
                decision_make(
                    case=case,
                    action=Action.APPROVE,
                    rules=[],
                    facts="Nothing that a rule is about.",
                    actor=actor,
                )
        except BaseException as fault:
            faults.append(repr(fault))
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(actor,)) for actor in moderators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(decided) == len({code for code, _ in decided}) == RUSH
    assert Decision.objects.count() == Case.objects.filter(state="closed").count() == RUSH
    by_database = set(Decision.objects.values_list("case__code", "decided_by"))
    assert by_database == set(decided)
    assert Event.objects.filter(action="case.claimed").count() == RUSH
    assert len({actor for _, actor in decided}) > 1


@pytest.mark.skipif(
    "postgres" not in os.environ.get("DATABASE_URL", ""),
    reason="The queue is measured on PostgreSQL: set DATABASE_URL.",
)
def test_the_measurement_of_the_queue_plays_and_reports(db: None) -> None:
    command = [sys.executable, "manage.py", "bench", "queue", "--json", "--seconds", "4"]
    sizes = ["--cases", "400", "--open", "40", "--events", "400"]
    ran = subprocess.run(
        [*command, *sizes], cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert (found["cases"], found["open"], found["events"]) == (400, 40, 400)
    assert min(found[name] for name in ("queue_page_p95_ms", "claim_p95_ms", "vs_changelist")) > 0
