"""What a second reader found by trying to break the flow; each test failed before it was mended."""

import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import intake
from moderation.accounts import account_sign_up
from moderation.appeals import appeal_file
from moderation.banks import bank_add_decided
from moderation.decisions import decision_make
from moderation.errors import Conflict, Invalid
from moderation.findings import findings_record
from moderation.hearings import appeal_answer
from moderation.jobs import job_lease
from moderation.management.commands import up
from moderation.models import Account, Appeal, Bank, BankEntry, Decision, ModelVersion, WeightSketch
from moderation.policy import ConceptFile
from moderation.queue import case_claim, claims_expire
from moderation.reports import report_file
from moderation.selectors.workers import known_stamp
from moderation.states import Action, AppealState, CaseState
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


def _decide_report(version: ModelVersion, moderator: Account, action: Action) -> Decision:
    """Let a visitor report a version and a moderator decide about it."""
    version.refresh_from_db()
    report_file(version=version, text="Look at this.", actor=None)
    case = version.cases.get(state=CaseState.QUEUED)
    case_claim(case=case, actor=moderator)
    return decision_make(
        case=case,
        action=action,
        rules=[] if action == Action.APPROVE else ["red-star"],
        facts="A red star.",
        actor=moderator,
    )


def _overturn(appeal: Appeal, moderator: Account) -> None:
    appeal.case.refresh_from_db()
    case_claim(case=appeal.case, actor=moderator)
    outcome = AppealState.OVERTURNED
    appeal_answer(appeal=appeal, outcome=outcome, answer="It is orange.", actor=moderator)


# --- What is shown was weighed --------------------------------------------------------------


def test_the_draft_of_the_next_version_does_not_change_what_was_weighed(
    as_: Browser, uma: Account
) -> None:
    version = factories.published(uma, title="Ink wash")
    draft = intake.version_create(uploaded_model=version.uploaded_model, actor=uma)
    address = reverse("creator:edit", args=[draft.code])
    answer = as_(uma).post(address, {"title": "Ink wash", "description": "Never weighed."})
    assert answer.status_code == 409
    assert "Never weighed." in answer.content.decode()
    assert as_(uma).post(address, {"title": "Ink wash", "trigger_words": "wash"}).status_code == 302
    version.uploaded_model.refresh_from_db()
    draft.refresh_from_db()
    assert version.uploaded_model.description == ""
    assert draft.trigger_words == ["wash"]


def test_a_job_that_ended_without_an_answer_publishes_nothing(uma: Account) -> None:
    version = factories.submitted(uma)
    for job in version.jobs.all():
        lease = job_lease(job_id=job.pk)
        assert lease is not None
        answer = [factories.finding()] if job.stage == "previews" else []
        assert findings_record(lease=lease, findings=answer)
    version.refresh_from_db()
    assert version.visibility == "quarantined"
    assert version.cases.exists()


# --- The way back ---------------------------------------------------------------------------


def test_a_later_report_without_merit_takes_no_appeal_away(uma: Account, mo: Account) -> None:
    version = factories.published(uma)
    decision = _decide_report(version, mo, Action.LIMIT)
    _decide_report(version, mo, Action.APPROVE)
    assert appeal_file(decision=decision, text="It is orange.", actor=uma).state == "open"


def test_a_won_appeal_does_not_lift_a_later_removal(
    uma: Account, mo: Account, ada: Account
) -> None:
    version = factories.published(uma)
    first = _decide_report(version, mo, Action.LIMIT)
    appeal = appeal_file(decision=first, text="It is orange.", actor=uma)
    second = _decide_report(version, mo, Action.REMOVE)
    _overturn(appeal, ada)
    version.refresh_from_db()
    assert version.visibility == "removed"
    # Nor does the second appeal bring back what the first one overturned.
    _overturn(appeal_file(decision=second, text="This too.", actor=uma), ada)
    version.refresh_from_db()
    assert version.visibility == "published"


def test_an_earlier_decision_can_be_appealed_once_the_later_one_is_overturned(
    uma: Account, mo: Account, ada: Account
) -> None:
    version = factories.published(uma)
    first = _decide_report(version, mo, Action.LIMIT)
    second = _decide_report(version, mo, Action.REMOVE)
    with pytest.raises(Conflict, match="newer decision"):
        appeal_file(decision=first, text="It is orange.", actor=uma)
    _overturn(appeal_file(decision=second, text="It is orange.", actor=uma), ada)
    version.refresh_from_db()
    assert version.visibility == "limited"
    _overturn(appeal_file(decision=first, text="It is orange.", actor=uma), ada)
    version.refresh_from_db()
    assert version.visibility == "published"


def test_a_won_appeal_takes_the_files_out_of_the_bank(
    uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo)
    bank_add_decided(name="removed", decision=decision, actor=mo)
    assert BankEntry.objects.exists()
    _overturn(appeal_file(decision=decision, text="It is orange.", actor=uma), ada)
    assert not BankEntry.objects.exists()
    with pytest.raises(Conflict, match="overturned"):
        bank_add_decided(name="removed", decision=decision, actor=mo)


def test_nothing_goes_into_a_bank_under_a_rule_that_nobody_decided_under(
    uma: Account, mo: Account
) -> None:
    Bank.objects.create(name="removed", rule="damaged-file")
    with pytest.raises(Invalid, match="Choose another name"):
        bank_add_decided(name="removed", decision=factories.decided(uma, mo), actor=mo)


# --- Who sees what --------------------------------------------------------------------------


def test_a_moderator_does_not_learn_who_reported_their_own_model(
    as_: Browser, mo: Account, rui: Account
) -> None:
    version = factories.published(mo)
    report_file(version=version, text="A secret.", actor=rui)
    answer = as_(mo).get(reverse("console:case", args=[version.cases.get().code]))
    assert answer.status_code == 403
    assert not re.search(r"\brui\b", answer.content.decode())
    assert "A secret." not in answer.content.decode()


def test_previews_for_adults_are_shown_to_adults_the_creator_and_the_team(
    as_: Browser, uma: Account, mo: Account, nobody: Account
) -> None:
    version = factories.published(uma)
    ModelVersion.objects.filter(pk=version.pk).update(visibility="age_restricted")
    address = reverse("preview", args=[version.previews.get().code])
    assert as_(None).get(address).status_code == 404
    assert as_(nobody).get(address).status_code == 404
    for client in (as_(uma), as_(mo)):
        assert client.get(address).status_code == 200
    visitor = as_(None)
    visitor.post(reverse("adult"), {"adult": "yes"})
    assert visitor.get(address).status_code == 200


def test_a_draft_is_seen_by_its_creator_alone(as_: Browser, uma: Account, mo: Account) -> None:
    address = reverse("model", args=[factories.draft(uma).code])
    assert as_(mo).get(address).status_code == 404
    assert as_(uma).get(address).status_code == 200


def test_who_signs_up_under_a_ligature_can_log_in(client: Client) -> None:
    password = factories.PASSWORD
    account_sign_up(username="ﬁona", email="fiona@example.org", password=password)
    answer = client.post(reverse("account_login"), {"login": "ﬁona", "password": password})
    assert answer.status_code == 302
    with pytest.raises(Conflict):
        account_sign_up(username="ｆｉｏｎａ", email="other@example.org", password=password)


# --- Figures and clocks ---------------------------------------------------------------------


def test_what_becomes_public_with_a_restriction_has_a_date(uma: Account, mo: Account) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    decision_make(case=case, action=Action.LIMIT, rules=["red-star"], facts="A star.", actor=mo)
    case.version.refresh_from_db()
    assert case.version.published_at is not None


def test_a_removal_and_a_restoration_at_once_do_not_look_like_no_change(
    uma: Account, mo: Account, ada: Account
) -> None:
    other = factories.published(uma, title="Other")
    appeal = appeal_file(decision=factories.decided(uma, mo), text="It is orange.", actor=uma)
    for version in (other, appeal.decision.version):
        file = version.files.get()
        WeightSketch.objects.create(file=file, sketch=b"\0" * 4096)
    before = known_stamp()
    _decide_report(other, mo, Action.REMOVE)
    _overturn(appeal, ada)
    assert known_stamp() != before


def test_a_claim_that_was_renewed_meanwhile_is_not_given_back(
    uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    late = timezone.now() + timedelta(hours=1)
    model = type(case)
    stale = model.objects.select_related("version").get()
    model.objects.update(claimed_until=late)
    monkeypatch.setattr(model.objects, "filter", _first(model.objects.filter, [stale]))
    assert claims_expire() == 0
    case.refresh_from_db()
    assert case.claimed_by == mo


def _first(usual: Callable[..., object], rows: list[object]) -> Callable[..., object]:
    """Answer the first query with rows as they were a moment ago, and all others as usual."""
    answers = [type("Rows", (list,), {"select_related": lambda self, *_: self})(rows)]
    return lambda *args, **fields: answers.pop() if answers else usual(*args, **fields)


def test_a_sentence_that_stands_twice_in_a_policy_is_named() -> None:
    with pytest.raises(ValueError, match="“a red star” stands there twice"):
        ConceptFile(slug="star", prohibited=["a red star", "a red star"])


# --- Operators ------------------------------------------------------------------------------


def test_a_data_folder_with_a_space_in_its_name_reaches_the_clock_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any
) -> None:
    commands: dict[str, list[str]] = {}

    class House:
        returncode = 0

        def __init__(self, kept: set[str]) -> None:
            assert "clock" in kept

        def add_process(self, name: str, command: str, env: dict[str, str]) -> None:
            commands[name] = shlex.split(command)

        def loop(self) -> None:
            pass

    monkeypatch.setattr(up, "House", House)
    settings.DATA_DIR = tmp_path / "my data"
    assert up.Command()._supervise("8000", 2) == 0
    assert str(settings.DATA_DIR / "clock") in commands["clock"]


def test_a_key_that_a_stopped_start_left_empty_is_written_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any
) -> None:
    monkeypatch.delenv("SECRET_KEY", raising=False)
    settings.DATA_DIR = tmp_path
    (tmp_path / "secret_key").touch()
    up.Command()._ensure_secret_key()
    assert len((tmp_path / "secret_key").read_text()) >= 50
    assert (tmp_path / "secret_key").read_text() == settings.SECRET_KEY
