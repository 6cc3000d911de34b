"""What is kept, for how long, and what beats every purge; and the place apart."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.contrib import admin
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import appeals, enforcement, retention
from moderation.appeals import appeal_file, appeal_file_by_reporter
from moderation.child_safety import STEPS
from moderation.decisions import decision_confirm, decision_make, decision_reverse
from moderation.enforcement import decision_enforce
from moderation.hearings import appeal_answer
from moderation.intake import version_withdraw
from moderation.models import (
    Account,
    AppealFile,
    Case,
    ChildSafetyRecord,
    Decision,
    Embedding,
    ModelVersion,
    Notice,
    Report,
    ReportEvidence,
    Rule,
)
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.retention import KEPT_AFTER_DECISION, hold_place, hold_release, purge
from moderation.selectors.beside import related
from moderation.selectors.groups import group_of
from moderation.selectors.look_alikes import look_alikes
from moderation.selectors.marketplace import versions_of
from moderation.selectors.workers import known_models
from moderation.states import Action, AppealState, Role
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


def _at(monkeypatch: pytest.MonkeyPatch, moment: Any) -> None:
    monkeypatch.setattr(retention.timezone, "now", lambda: moment)


def _stored(version: ModelVersion) -> list[str]:
    names = [file.content.name for file in version.files.all()]
    names += [name for preview in version.previews.all() for name in preview.names]
    return [name for name in names if name and default_storage.exists(name)]


@pytest.fixture
def decision(uma: Account, mo: Account) -> Decision:
    return factories.decided(uma, mo)


# --- The purge ------------------------------------------------------------------------------


def test_evidence_is_kept_for_the_time_to_appeal_and_a_month_and_then_erased(
    decision: Decision,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    assert KEPT_AFTER_DECISION.days == 215
    until = decision.decided_at + KEPT_AFTER_DECISION
    _at(monkeypatch, until - timedelta(minutes=1))
    assert purge().versions == 0
    _at(monkeypatch, until + timedelta(minutes=1))
    out = io.StringIO()
    call_command("purge", "--dry-run", stdout=out)
    assert "Would erase 2 files" in out.getvalue()
    assert len(_stored(decision.version)) == 3
    with django_capture_on_commit_callbacks(execute=True):
        call_command("purge", "--json", stdout=io.StringIO())
    assert _stored(decision.version) == []
    assert Decision.objects.get() == decision
    assert decision.version.files.get().purged_at is not None
    assert purge().versions == 0


def test_what_goes_with_its_whole_model_is_kept_as_long_as_the_decision_about_the_model(
    settings: Any,
    uma: Account,
    mo: Account,
    monkeypatch: pytest.MonkeyPatch,
    as_: Browser,
) -> None:
    named, sibling = factories.published(uma), factories.published(uma, title="Later")
    ModelVersion.objects.filter(pk=sibling.pk).update(uploaded_model=named.uploaded_model, number=2)
    report_file(version=named, text="All of them.", actor=None)
    case = case_claim(case=named.cases.get(), actor=mo)
    settings.UNDO_SECONDS = 10
    decision = decision_make(
        case=case, action=Action.REMOVE_MODEL, rules=["red-star"], facts="All.", actor=mo
    )
    kept = {version: len(_stored(version)) for version in (named, sibling)}
    # At once, while it can be undone, and as long as anybody may ask that it be taken back.
    assert purge(dry_run=True).files == 0
    decision_enforce(decision_id=decision.pk, early=True)
    late = decision.decided_at + KEPT_AFTER_DECISION
    _at(monkeypatch, late - timedelta(minutes=1))
    assert purge(dry_run=True).files == 0
    settings.UNDO_SECONDS = 0
    in_force = Decision.objects.get()
    decision_reverse(decision=in_force, facts="One was meant.", actor=mo)
    _at(monkeypatch, late + timedelta(minutes=1))
    assert purge(dry_run=True).files == 0
    for version, files in kept.items():
        assert as_(None).get(reverse("model", args=[version.code])).status_code == 200
        assert len(_stored(version)) == files


def test_what_went_with_its_whole_model_is_erased_with_it(
    uma: Account,
    mo: Account,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    named, sibling = factories.published(uma), factories.published(uma, title="Later")
    ModelVersion.objects.filter(pk=sibling.pk).update(uploaded_model=named.uploaded_model, number=2)
    report_file(version=named, text="All of them.", actor=None)
    case = case_claim(case=named.cases.get(), actor=mo)
    decision = decision_make(
        case=case, action=Action.REMOVE_MODEL, rules=["red-star"], facts="All.", actor=mo
    )
    _at(monkeypatch, decision.decided_at + KEPT_AFTER_DECISION + timedelta(minutes=1))
    with django_capture_on_commit_callbacks(execute=True):
        assert purge().versions == 2
    assert _stored(named) == _stored(sibling) == []


def test_what_anybody_can_see_is_never_erased(
    uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.published(uma)
    _at(monkeypatch, timezone.now() + timedelta(days=4000))
    assert purge(dry_run=True).versions == 0


@pytest.fixture
def sent_along(uma: Account, mo: Account, ada: Account) -> Report:
    """Return a report with a picture, and an appeal with a file, about what stays public."""
    version = factories.published(uma)
    picture = factories.preview_upload()
    report = report_file(version=version, text="A star.", pictures=[picture], actor=None)
    case = case_claim(case=report.case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="Seen.", actor=mo)
    proof = SimpleUploadedFile("proof.txt", b"Look at the third one.")
    appeal = appeal_file_by_reporter(report=report, text="Look.", uploads=[proof], actor=None)
    case_claim(case=appeal.case, actor=ada)
    appeal_answer(appeal=appeal, outcome=AppealState.UPHELD, answer="It is orange.", actor=ada)
    return report


def _attachments() -> list[str]:
    rows = [*ReportEvidence.objects.all(), *AppealFile.objects.all()]
    return [row.content.name for row in rows if default_storage.exists(row.content.name or "")]


def test_what_was_sent_along_is_erased_when_no_appeal_is_possible_and_its_place_says_when(
    sent_along: Report,
    as_: Browser,
    mo: Account,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    picture, file = ReportEvidence.objects.get(), AppealFile.objects.get()
    case = reverse("console:case", args=[sent_along.case.code])
    look = reverse("console:evidence", args=[picture.code])
    assert look in as_(mo).get(case).content.decode()
    last = Decision.objects.get().decided_at + KEPT_AFTER_DECISION
    _at(monkeypatch, last - timedelta(minutes=1))
    with django_capture_on_commit_callbacks(execute=True):
        purge()
    assert len(_attachments()) == 2
    _at(monkeypatch, last + timedelta(minutes=1))
    assert purge(dry_run=True).report_pictures == 1
    with django_capture_on_commit_callbacks(execute=True):
        done = purge()
    assert (done.versions, done.files, done.appeal_files, done.report_pictures) == (0, 0, 1, 1)
    assert _attachments() == []
    monkeypatch.undo()
    assert len(_stored(sent_along.version)) == 3, "what is public stays"
    event = sent_along.version.events.get(action="purge.done")
    assert (event.data["report_pictures"], event.data["appeal_files"]) == (1, 1)
    for row in (picture, file):
        row.refresh_from_db()
        assert row.purged_at is not None
    page = as_(mo).get(case).content.decode()
    assert look not in page
    assert "1 picture sent along: deleted on" in page
    assert as_(mo).get(look).status_code == 404
    status = reverse("report-status", args=[sent_along.token])
    assert "deleted on" in as_(None).get(status).content.decode()
    assert "gelöscht am" in as_(None).get(status, {"language": "de"}).content.decode()


def test_a_legal_hold_and_an_open_case_keep_what_was_sent_along(
    sent_along: Report, ada: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = timezone.now() + timedelta(days=4000)
    hold = hold_place(version=sent_along.version, reason="A lawsuit.", days=None, actor=ada)
    _at(monkeypatch, late)
    assert purge(dry_run=True).report_pictures == 0
    hold_release(hold=hold, actor=ada)
    assert purge(dry_run=True).report_pictures == 1
    report_file(version=sent_along.version, text="A second star.", actor=None)
    assert purge(dry_run=True).report_pictures == 0


def test_what_was_sent_along_stays_as_long_as_nothing_was_decided(
    uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="A.", pictures=[factories.preview_upload()], actor=None)
    _at(monkeypatch, timezone.now() + timedelta(days=4000))
    assert purge(dry_run=True).report_pictures == 0
    monkeypatch.undo()
    # Its creator takes it down before anybody has decided: it goes with the version.
    version_withdraw(version=version, actor=uma)
    Case.objects.update(state="closed", closed_at=timezone.now())
    for days, pictures in ((1, 0), (32, 1)):
        with monkeypatch.context() as later:
            _at(later, timezone.now() + timedelta(days=days))
            assert purge(dry_run=True).report_pictures == pictures


def test_what_is_confirmed_late_is_kept_and_can_be_appealed_from_then_on(
    uma: Account, mo: Account, ada: Account, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECOND_PERSON_FOR, settings.POPULAR_DOWNLOADS = ["popular"], -1
    Rule.objects.update(appeal_days=400)
    decision = factories.decided(uma, mo)
    with monkeypatch.context() as later:
        _at(later, decision.decided_at + timedelta(days=100))
        later.setattr(enforcement.timezone, "now", retention.timezone.now)
        decision_confirm(decision=decision, actor=ada)
    decision = Decision.objects.get()
    assert decision.effect.ended_at is not None
    told_at = decision.effect.ended_at
    assert told_at - decision.decided_at >= timedelta(days=100)
    assert decision.appeal_ends_at == told_at + timedelta(days=400)
    for days, versions in ((399, 0), (430, 0), (432, 1)):
        with monkeypatch.context() as later:
            _at(later, told_at + timedelta(days=days))
            assert purge(dry_run=True).versions == versions, days


def test_an_open_appeal_keeps_the_evidence(
    decision: Decision, uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decision.appeal_until is not None
    last = decision.appeal_until
    monkeypatch.setattr(appeals.timezone, "now", lambda: last)
    appeal_file(decision=decision, text="No.", actor=uma)
    _at(monkeypatch, decision.decided_at + timedelta(days=400))
    assert purge(dry_run=True).versions == 0


def test_a_legal_hold_beats_the_purge_until_it_is_released(
    decision: Decision, ada: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = hold_place(version=decision.version, reason="A lawsuit.", days=None, actor=ada)
    _at(monkeypatch, decision.decided_at + timedelta(days=4000))
    assert purge(dry_run=True).versions == 0
    hold_release(hold=hold, actor=ada)
    assert purge(dry_run=True).versions == 1


def test_only_seniors_place_a_hold_and_they_say_why(
    decision: Decision, ada: Account, uma: Account
) -> None:
    code = decision.version.code
    for by, reason in (("uma", "Mine."), ("ada", ""), ("nobody", "X")):
        with pytest.raises(CommandError):
            call_command("hold", "place", code, "--by", by, "--reason", reason)
    out = io.StringIO()
    call_command("hold", "place", code, "--by", "ada", "--reason", "A lawsuit.", stdout=out)
    call_command("hold", "list", stdout=out)
    assert out.getvalue().count("A lawsuit.") == 1


# --- The place apart ------------------------------------------------------------------------


@pytest.fixture
def chris(db: None) -> Account:
    """Return Chris, a child-safety specialist."""
    return factories.account("chris", role=Role.CHILD_SAFETY)


@pytest.fixture
def apart(settings: Any, uma: Account, mo: Account, chris: Account) -> ChildSafetyRecord:
    """Return the record of a version that Mo escalated and Chris confirmed."""
    settings.SECOND_PERSON_FOR = ["child_safety"]
    version = factories.published(uma, title="Kept apart")
    report_file(version=version, text="Look.", actor=None)
    case = case_claim(case=version.cases.get(), actor=mo)
    decision = decision_make(
        case=case, action=Action.CHILD_SAFETY, rules=["red-star"], facts="Seen.", actor=mo
    )
    version.refresh_from_db()
    # Hidden at once, although a second person has yet to confirm.
    assert (version.visibility, decision.effect.state) == ("removed", "held")
    assert not ChildSafetyRecord.objects.exists()
    decision_confirm(decision=decision, actor=chris)
    return ChildSafetyRecord.objects.get()


def test_what_is_held_apart_is_seen_nowhere_else(
    apart: ChildSafetyRecord,
    as_: Browser,
    uma: Account,
    mo: Account,
    ada: Account,
    chris: Account,
) -> None:
    version = apart.version
    admin = factories.account("boss", role=Role.ADMIN)
    addresses = [
        reverse("model", args=[version.code]),
        reverse("preview", args=[version.previews.get().code]),
        reverse("console:case", args=[version.cases.get().code]),
    ]
    for person in (None, uma, mo, ada, admin, chris):
        for address in addresses:
            if person is None and "console" in address:
                continue
            assert as_(person).get(address).status_code in {403, 404}, (person, address)
    for person in (mo, ada, admin):
        listed = as_(person).get(reverse("console:queue"), {"state": "decided", "q": "apart"})
        assert "Kept apart" not in listed.content.decode()
        place = reverse("console:child-safety-record", args=[apart.code])
        assert as_(person).get(place).status_code == 404
        assert as_(person).get(reverse("console:child-safety")).status_code == 404
    assert "Kept apart" not in [known["title"] for known in known_models()]


def test_what_is_held_apart_stands_in_no_list_of_admin_creator_marketplace_or_relatives(
    apart: ChildSafetyRecord, as_: Browser, uma: Account, mo: Account, rui: Account
) -> None:
    version = apart.version
    root = Account.objects.create_superuser("root", "root@example.org", factories.PASSWORD)
    client, shown = as_(root), []
    for model in admin.site._registry:
        if model._meta.app_label != "moderation":
            continue
        name = f"admin:moderation_{model._meta.model_name}"
        answer = client.get(reverse(f"{name}_changelist")).content.decode()
        if version.code in answer or "Kept apart" in answer:
            shown.append(model.__name__)
        for row in model._default_manager.filter(**_of(model, version))[:1]:
            looked_at = client.get(reverse(f"{name}_change", args=[row.pk]))
            assert looked_at.status_code == 302, (model, "its page leads back to the list")
    assert shown == []
    assert "Kept apart" not in as_(uma).get(reverse("creator:models")).content.decode()
    assert as_(uma).get(reverse("creator:version", args=[version.code])).status_code == 404
    assert version not in versions_of(uma)
    # Rui uploads the same: its case comes up, and names nothing.
    same = factories.triaged(rui, [factories.finding(0.9, rule="red-star")], title="Again")
    for preview in (version.previews.get(), same.previews.get()):
        Embedding.objects.get_or_create(
            kind="picture",
            encoder="demo",
            revision="1",
            sha256=preview.sha256,
            defaults={"vector": np.ones(8, "<f2").tobytes(), "dim": 8},
        )
    assert look_alikes(same, mo) == []
    case = case_claim(case=same.cases.get(), actor=mo)
    assert related(case).same == []
    assert {member.case.version for member in group_of(case, mo).members} == {same}
    seen = as_(mo).get(reverse("console:case", args=[case.code])).content.decode()
    assert "Kept apart" not in seen


def _of(model: Any, version: ModelVersion) -> dict[str, Any]:
    """Return how to find the rows of a table that belong to a version, if any do."""
    if model is ModelVersion:
        return {"pk": version.pk}
    names = [
        field.name for field in model._meta.concrete_fields if field.related_model is ModelVersion
    ]
    return {names[0]: version} if names else {"pk": -1}


def test_no_picture_is_shown_in_the_place_apart_and_asking_for_one_goes_on_record(
    apart: ChildSafetyRecord, as_: Browser, chris: Account
) -> None:
    address = reverse("console:child-safety-record", args=[apart.code])
    page = as_(chris).get(address)
    assert page["Cache-Control"] == "no-store"
    assert "<img" not in page.content.decode()
    preview = reverse(
        "console:child-safety-preview", args=[apart.code, apart.version.previews.get().code]
    )
    assert as_(chris).get(preview).status_code == 405
    answer = as_(chris).post(preview)
    assert answer["Content-Disposition"].startswith("attachment")
    assert apart.version.events.filter(action="child_safety.picture", actor=chris).count() == 1


def test_an_appeal_against_what_is_held_apart_is_answered_there_by_who_took_no_part(
    apart: ChildSafetyRecord, as_: Browser, uma: Account, mo: Account, chris: Account
) -> None:
    decision = apart.decision
    filed = as_(uma).post(reverse("creator:decision", args=[decision.code]), {"text": "A doll."})
    assert filed.status_code == 302
    appeal = decision.appeals.get()
    address = reverse("console:child-safety-appeal", args=[apart.code, appeal.code])
    place = reverse("console:child-safety-record", args=[apart.code])
    assert "1 to answer" in as_(chris).get(reverse("console:child-safety")).content.decode()
    # Chris confirmed it, so another specialist answers.
    page = as_(chris).get(place).content.decode()
    assert "A doll." in page
    assert address not in page
    given = {"outcome": "overturned", "answer": "It is a doll."}
    assert as_(chris).post(address, given).status_code == 403
    ask = reverse("console:child-safety-message", args=[apart.code, appeal.code])
    assert ask not in page
    assert as_(chris).post(ask, {"message": "Whose?"}).status_code == 403
    assert as_(mo).post(ask, {"message": "Whose?"}).status_code == 404
    assert as_(mo).post(address, given).status_code == 404
    cleo = as_(factories.account("cleo", role=Role.CHILD_SAFETY))
    page = cleo.get(place).content.decode()
    assert address in page
    assert ask in page
    assert "<img" not in page
    unsaid = cleo.post(address, {"outcome": "remanded", "answer": "Look again."})
    assert unsaid.status_code == 422
    assert "Look again." in unsaid.content.decode()
    appeal.case.refresh_from_db()
    assert (appeal.state, appeal.case.state) == ("open", "appealed"), "nothing was half taken"
    assert cleo.post(ask, {"message": " "}).status_code == 422
    assert cleo.post(ask, {"message": "Whose doll is it?"}).status_code == 302
    reply = reverse("creator:appeal-message", args=[decision.code])
    assert "Whose doll is it?" in (
        as_(uma).get(reverse("creator:decision", args=[decision.code])).content.decode()
    )
    assert as_(uma).post(reply, {"message": "My daughter's."}).status_code == 302
    page = cleo.get(place).content.decode()
    assert "Whose doll is it?" in page and "My daughter&#x27;s." in page
    assert cleo.post(address, given).status_code == 302
    appeal.refresh_from_db()
    apart.version.refresh_from_db()
    assert (appeal.state, apart.version.isolated_at) == ("overturned", None)
    assert cleo.post(address, given).status_code == 404


def test_a_specialist_takes_it_back_in_the_place_apart_and_is_led_to_no_page_that_is_closed(
    apart: ChildSafetyRecord, as_: Browser, mo: Account, chris: Account, settings: Any
) -> None:
    settings.SECOND_PERSON_FOR = ["child_safety", "overturn"]
    cleo = as_(factories.account("cleo", role=Role.CHILD_SAFETY))
    place = reverse("console:child-safety-record", args=[apart.code])
    back = reverse("console:reverse", args=[apart.decision.code])
    assert back in cleo.get(place).content.decode()
    refused = cleo.post(back, {"facts": " "})
    assert refused.status_code == 422
    assert "The report to the authorities" in refused.content.decode()
    answer = cleo.post(back, {"facts": "It is a doll."}, follow=True)
    assert answer.redirect_chain == [(place, 302)]
    assert answer.status_code == 200
    # It waits for another specialist, on whose page nothing leads to what is closed.
    assert back not in answer.content.decode()
    held = as_(chris).get(reverse("console:held")).content.decode()
    assert "It is a doll." in held
    assert reverse("console:case", args=[apart.decision.case.code]) not in held
    assert "It is a doll." not in as_(mo).get(reverse("console:held")).content.decode()
    reversal = apart.decision.overridden_by.get()
    confirm = reverse("console:confirm", args=[reversal.code])
    assert as_(chris).post(confirm).status_code == 302
    apart.version.refresh_from_db()
    assert apart.version.isolated_at is None


def test_a_report_to_the_authorities_is_recorded_by_a_person_once_every_step_is_ticked(
    apart: ChildSafetyRecord, as_: Browser, chris: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = as_(chris)
    sent = reverse("console:child-safety-sent", args=[apart.code])
    given = {"authority": "The hotline", "reference": "2026-1"}
    assert client.post(sent, given).status_code == 422
    for step in STEPS:
        tick = reverse("console:child-safety-step", args=[apart.code])
        assert client.post(tick, {"step": step}).status_code == 302
    assert client.post(sent, {"authority": "", "reference": ""}).status_code == 422
    assert client.post(sent, given).status_code == 302
    assert client.post(sent, given).status_code == 409
    apart.refresh_from_db()
    assert (apart.sent_by, apart.reference) == (chris, "2026-1")
    assert apart.preserve_until >= apart.opened_at + timedelta(days=365)
    _at(monkeypatch, apart.preserve_until - timedelta(days=1))
    assert purge(dry_run=True).versions == 0
    _at(monkeypatch, apart.preserve_until + timedelta(days=1))
    assert purge(dry_run=True).versions == 1


def test_what_was_not_reported_is_kept_however_long_it_takes(
    apart: ChildSafetyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    _at(monkeypatch, timezone.now() + timedelta(days=4000))
    assert purge(dry_run=True).versions == 0


def test_the_database_refuses_a_report_that_nobody_sent_to_nobody(
    apart: ChildSafetyRecord, chris: Account
) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        ChildSafetyRecord.objects.update(sent_at=timezone.now(), sent_by=chris)


def test_the_reporter_is_told_and_the_reasons_are_stated_once(apart: ChildSafetyRecord) -> None:
    assert Notice.objects.filter(decision=apart.decision).count() == 1
    assert apart.decision.statement.content["facts"] == "Seen."
