"""“This is me”: no account, a link that confirms, and 48 hours that are kept whatever happens."""

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.apps import apps
from django.core.files.storage import default_storage
from django.core.mail import EmailMultiAlternatives
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.exceptions import IrreversibleError
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from moderation.decisions import decision_make
from moderation.findings import findings_record
from moderation.intake import version_submit
from moderation.jobs import job_lease
from moderation.likeness import likeness_sweep
from moderation.models import (
    Account,
    Case,
    Event,
    Hold,
    LikenessRequest,
    ModelVersion,
    Notice,
    PreviewHash,
    Report,
    Rule,
    StatementOfReasons,
    WeightSketch,
)
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import HOLD_BEFORE, Action
from moderation.tasks import look_for_copies, sweep
from moderation.throttle import LIMITS
from moderation.transparency_schema import batch_faults
from tests import factories

Browser = Callable[[Account | None], Client]
pytestmark = pytest.mark.usefixtures("policy")

# A Friday afternoon.
FRIDAY = datetime(2026, 7, 3, 16, 0, tzinfo=UTC)


class Calendar:
    """The clock of a test: it stands until it is moved."""

    def __init__(self) -> None:
        self.now = FRIDAY

    def move(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    calendar = Calendar()
    monkeypatch.setattr(timezone, "now", lambda: calendar.now)
    return calendar


WORDS = {
    "text": "My face in all previews.",
    "email": "dana@example.org",
    "signature": "Dana Depicted",
    "agrees": "on",
    "is_intimate": "yes",
}


def _ask(client: Client, *versions: ModelVersion, **words: str) -> Any:
    models = "\n".join(f"https://x.example/models/{version.code}/" for version in versions)
    return client.post(reverse("likeness"), {**WORDS, "models": models, **words})


def _confirm(client: Client, request: LikenessRequest | None = None) -> LikenessRequest:
    request = request or LikenessRequest.objects.get()
    client.post(reverse("likeness-page", args=[request.token]))
    likeness_sweep(request_id=request.pk)
    request.refresh_from_db()
    return request


def _is_public(client: Client, version: ModelVersion) -> bool:
    """Whether anybody can open the page, the picture or the files, or finds it listed."""
    answers = {client.get(reverse("model", args=[version.code])).status_code == 200}
    preview = version.previews.get()
    answers.add(client.get(reverse("preview", args=[preview.code])).status_code == 200)
    file = version.files.get()
    answers.add(client.get(reverse("download", args=[version.code, file.code])).status_code < 400)
    answers.add(version.code in client.get("/").content.decode())
    assert len(answers) == 1, "hidden altogether or not at all"
    return answers.pop()


def test_a_request_is_valid_from_the_moment_its_link_is_confirmed(
    uma: Account,
    as_: Browser,
    calendar: Calendar,
    mailoutbox: list[EmailMultiAlternatives],
    django_capture_on_commit_callbacks: Any,
) -> None:
    versions = [factories.published(uma, title=title) for title in ("One", "Two")]
    client = as_(None)
    with django_capture_on_commit_callbacks(execute=True):
        sent = _ask(client, *versions)
    assert sent.status_code == 302
    for _ in range(2):
        # Loaded again, it sends nothing again.
        assert "dana@example.org" in client.get(sent["Location"]).content.decode()
    (letter,) = [letter for letter in mailoutbox if letter.to == ["dana@example.org"]]
    path = re.search(r"/likeness/[\w-]+/", str(letter.body))
    assert path is not None
    calendar.move(hours=5)
    assert client.get(path.group()).status_code == 200
    assert not Report.objects.exists(), "mail programs open links to look at them"
    client.post(path.group())
    request = LikenessRequest.objects.get()
    assert request.valid_at == calendar.now
    assert request.due_at == calendar.now + timedelta(hours=48)
    assert Case.objects.count() == Report.objects.count() == 2
    assert {case.due_at for case in Case.objects.all()} == {request.due_at}
    calendar.move(hours=1)
    client.post(path.group())
    request.refresh_from_db()
    assert request.due_at == calendar.now + timedelta(hours=47), "a second time changes nothing"


def test_moderators_see_who_signed_and_nobody_else_does(
    uma: Account, mo: Account, as_: Browser
) -> None:
    version = factories.published(uma)
    _ask(as_(None), version)
    _confirm(as_(None))
    case = version.cases.get()
    assert "Dana Depicted" in as_(mo).get(f"/console/cases/{case.code}/").content.decode()
    for address in (f"/studio/{version.code}/", f"/models/{version.code}/"):
        assert "Dana Depicted" not in as_(uma).get(address).content.decode()


@pytest.mark.parametrize("missing", ["text", "email", "signature", "agrees"])
def test_a_request_without_what_the_law_asks_for_is_refused(
    missing: str, uma: Account, as_: Browser
) -> None:
    version = factories.published(uma)
    words = {key: value for key, value in WORDS.items() if key != missing}
    models = f"/models/{version.code}/"
    response = as_(None).post(reverse("likeness"), {**words, "models": models})
    assert response.status_code == 422
    assert f'id="{missing}-error"' in response.content.decode()


def test_the_address_of_a_picture_names_the_model_that_shows_it_and_no_host_is_taken_for_one(
    uma: Account, as_: Browser
) -> None:
    shown, named = factories.published(uma), factories.published(uma, title="Other")
    site = "https://strangebrand.example.org"
    _ask(
        as_(None),
        shown,
        models=f"{site}/previews/{shown.previews.get().code}/\n{site}/models/{named.code}/?x=1",
    )
    assert set(LikenessRequest.objects.get().versions.all()) == {shown, named}


def test_letters_to_an_address_that_confirms_nothing_come_to_an_end(
    uma: Account, as_: Browser
) -> None:
    version = factories.published(uma)
    answers = [_ask(as_(None), version).status_code for _ in range(5)]
    assert answers == [302, 302, 302, 429, 429]


def test_a_long_address_is_as_good_as_a_short_one(uma: Account, as_: Browser) -> None:
    email = f"{'d' * 60}@{'e' * 39}.example.org"
    assert _ask(as_(None), factories.published(uma), email=email).status_code == 302
    assert LikenessRequest.objects.get().email == email


def test_over_a_weekend_without_workers_everything_is_down_in_time_copies_and_reuploads_too(
    uma: Account, rui: Account, as_: Browser, calendar: Calendar
) -> None:
    named = factories.published(uma, title="Named")
    copy = factories.published(rui, title="Copy of it")
    client = as_(None)
    _ask(client, named)
    request = _confirm(client)
    found = set(request.reports.values_list("version__uploaded_model__title", "found_by"))
    assert found == {("Named", "named"), ("Copy of it", "sha256")}
    assert Case.objects.count() == 2, "a copy has a case of its own"
    assert {case.due_at for case in Case.objects.all()} == {request.due_at}

    calendar.move(hours=20)  # Saturday: somebody uploads it again.
    again = factories.triaged(rui, title="Once more")
    assert again.visibility == "quarantined", "what an open request is about does not come up"
    assert again.cases.get().due_at == request.due_at
    assert not _is_public(client, again)

    calendar.move(hours=25)  # Sunday, 45 hours: no worker has run since Friday, no sweep.
    assert _is_public(client, named)
    assert _is_public(client, copy)
    calendar.move(hours=1)  # 46 hours: two before the deadline.
    assert calendar.now < request.due_at  # type: ignore[operator]
    for version in (named, copy, again):
        version.refresh_from_db()
        assert not _is_public(client, version), version
    assert not Hold.objects.exists(), "no worker was needed for it"

    sweep()  # Monday: the workers are back.
    assert Hold.objects.count() == 2
    assert Event.objects.filter(action="version.held_by_clock", actor=None).count() == 2
    told = Notice.objects.filter(kind="held_by_clock")
    assert {notice.recipient for notice in told} == {uma, rui}
    assert not [n for n in told if "Dana" in n.text or "dana@" in n.text]
    sweep()
    assert Hold.objects.count() == told.count() == 2, "a second sweep does nothing twice"
    detected = {
        str(statement.hold.version.uploaded_model.title): statement.content["automated_detection"]
        for statement in StatementOfReasons.objects.all()
        if statement.hold
    }
    assert detected == {"Named": False, "Copy of it": True}, "one for each hold, by provenance"


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_copy_that_is_held_apart_is_not_named_to_who_asked(
    language: str, uma: Account, rui: Account, as_: Browser
) -> None:
    named, copy = factories.published(uma, title="Named"), factories.published(rui, title="Cedar")
    client = as_(None)
    _ask(client, named)
    page = reverse("likeness-page", args=[_confirm(client).token]) + f"?language={language}"
    assert "Cedar" in client.get(page).content.decode()
    ModelVersion.objects.filter(pk=copy.pk).update(isolated_at=timezone.now())
    shown = client.get(page).content.decode()
    assert "Cedar" not in shown
    assert ("cannot be seen now" if language == "en" else "nicht zu sehen") in shown


def test_copies_of_the_same_bytes_are_claimed_at_once_and_the_others_until_the_time_is_over(
    uma: Account, rui: Account, mo: Account, as_: Browser, calendar: Calendar
) -> None:
    named, copy = factories.published(uma, title="Named"), factories.published(rui, title="Copy")
    like = factories.published(rui, title="Like it, which takes a worker to see")
    bytes_of = {row: row.sha256 for row in (like.files.get(), like.previews.get())}
    like.files.update(sha256="a" * 64)
    like.previews.update(sha256="b" * 64)
    client = as_(None)
    _ask(client, named)
    request = LikenessRequest.objects.get()
    # No worker hears of it, and none runs for two days.
    client.post(reverse("likeness-page", args=[request.token]))
    assert set(request.reports.values_list("version", "found_by")) == {
        (named.pk, "named"),
        (copy.pk, "sha256"),
    }
    calendar.move(hours=47)
    assert not _is_public(client, copy)
    # People decide all of it before any worker has looked for copies.
    for version in (named, copy):
        case = version.cases.get()
        case_claim(case=case, actor=mo)
        decision_make(
            case=case, action=Action.REMOVE, rules=["red-star"], facts="It is her.", actor=mo
        )
    for row, digest in bytes_of.items():
        type(row).objects.filter(pk=row.pk).update(sha256=digest)  # type: ignore[attr-defined]
    calendar.move(hours=100)
    look_for_copies()
    assert request.reports.filter(version=like).exists(), "looked for once in any case"
    request.refresh_from_db()
    assert request.swept_at == calendar.now


@pytest.mark.parametrize(("action", "claimed"), [(Action.REMOVE, True), (Action.APPROVE, False)])
def test_within_its_time_a_request_that_was_borne_out_keeps_copies_down(
    action: Action,
    claimed: bool,
    uma: Account,
    rui: Account,
    mo: Account,
    as_: Browser,
    calendar: Calendar,
) -> None:
    named = factories.published(uma)
    client = as_(None)
    _ask(client, named)
    request = _confirm(client)
    case_claim(case=named.cases.get(), actor=mo)
    rules = ["red-star"] if action == Action.REMOVE else []
    decision_make(case=named.cases.get(), action=action, rules=rules, facts="Seen.", actor=mo)
    again = factories.triaged(rui)
    assert request.reports.filter(version=again).exists() == claimed
    assert again.visibility == ("quarantined" if claimed else "published")


def test_a_person_who_decides_ends_the_hold_and_an_unfounded_one_leaves_no_trace(
    uma: Account, mo: Account, as_: Browser, calendar: Calendar
) -> None:
    version = factories.published(uma)
    client = as_(None)
    _ask(client, version)
    request = _confirm(client)
    calendar.move(hours=47)
    sweep()
    assert not _is_public(client, version)
    case = Case.objects.get()
    case_claim(case=case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="A drawing of a fox.", actor=mo)
    sweep()
    version.refresh_from_db()
    assert _is_public(client, version)
    assert Hold.objects.get().ended_at is not None
    told = Notice.objects.filter(email="dana@example.org", kind="report_no_action")
    assert told.count() == 1
    page = client.get(reverse("likeness-page", args=[request.token])).content.decode()
    assert "keeps the rules" in page


def _held_by_the_clock(client: Client, calendar: Calendar, version: ModelVersion) -> Hold:
    _ask(client, version)
    _confirm(client)
    calendar.move(hours=47)
    sweep()
    return Hold.objects.get()


def test_the_creator_gets_the_reasons_of_a_hold_as_sent_and_says_once_what_speaks_against_it(
    uma: Account, mo: Account, rui: Account, as_: Browser, calendar: Calendar
) -> None:
    version = factories.published(uma)
    hold = _held_by_the_clock(as_(None), calendar, version)
    statement = StatementOfReasons.objects.get()
    assert (statement.hold, statement.decision, statement.recipient) == (hold, None, uma)
    said = statement.content
    assert (said["automated_decision"], said["automated_detection"]) == ("fully", False)
    assert [clause["slug"] for clause in said["clauses"]] == ["real-person"]
    notice = Notice.objects.get(kind="held_by_clock")
    address = reverse("creator:hold", args=[version.code])
    page = as_(uma).get(address).content.decode()
    for part in ("facts", "effect", "detection", "elsewhere"):
        assert said[part] in page
        assert part == "elsewhere" or said[part] in notice.text
    assert address in notice.text
    assert address in as_(uma).get(reverse("creator:version", args=[version.code])).content.decode()
    for secret in ("Dana", "dana@", "My face"):
        assert secret not in page + notice.text + str(said)
    assert as_(rui).get(address).status_code == as_(rui).post(address).status_code == 404

    assert as_(uma).post(address, {"text": " "}).status_code == 422
    long = as_(uma).post(address, {"text": "x" * 4001})
    assert long.status_code == 422
    assert "x" * 4001 in long.content.decode(), "nothing that was typed is lost"
    assert as_(uma).post(address, {"text": "A drawing of my cat."}).status_code == 302
    assert as_(uma).post(address, {"text": "Once more."}).status_code == 409
    assert "A drawing of my cat." in as_(uma).get(address).content.decode()
    case = case_claim(case=hold.case, actor=mo)
    beside = reverse("console:conversation", args=[case.code])
    # Whoever decides is led to it: the page of the case fetches it.
    assert (
        f'hx-get="{beside}"'
        in as_(mo).get(reverse("console:case", args=[case.code])).content.decode()
    )
    assert "A drawing of my cat." in as_(mo).get(beside).content.decode()


def test_a_persons_decision_takes_the_place_of_a_hold_with_a_statement_and_an_appeal_of_its_own(
    uma: Account, mo: Account, as_: Browser, calendar: Calendar
) -> None:
    hold = _held_by_the_clock(as_(None), calendar, factories.published(uma))
    case = case_claim(case=hold.case, actor=mo)
    decision = decision_make(
        case=case, action=Action.REMOVE, rules=["real-person"], facts="It is she.", actor=mo
    )
    calendar.move(seconds=11)
    sweep()
    hold.refresh_from_db()
    assert hold.ended_at is not None
    assert StatementOfReasons.objects.filter(hold=hold).count() == 1
    assert StatementOfReasons.objects.filter(decision=decision).count() == 1
    page = as_(uma).get(reverse("creator:decision", args=[decision.code])).content.decode()
    assert "You can appeal until" in page
    late = as_(uma).post(
        reverse("creator:hold", args=[hold.version.code]), {"text": "It is nobody."}
    )
    assert late.status_code == 409
    assert "It is nobody." in late.content.decode()


@pytest.mark.parametrize("has_rule", [True, False])
def test_what_the_clock_hid_goes_out_as_decided_by_a_machine_alone(
    has_rule: bool, uma: Account, rui: Account, as_: Browser, calendar: Calendar, tmp_path: Path
) -> None:
    if not has_rule:
        Rule.objects.filter(slug="real-person").update(slug="other-rule")
    named = factories.published(uma, title="Named by Dana")
    factories.published(rui, title="Copy of it")
    _ask(as_(None), named)
    request = _confirm(as_(None))
    calendar.move(hours=47)
    sweep()
    as_(None).post(reverse("likeness-change", args=[request.token]), {"withdraw": "yes"})
    assert not Hold.objects.filter(ended_at=None).exists(), "what is over is still reported"
    call_command("transparency", "export", "--since", "2026-07-01", "--out", str(tmp_path))
    (file,) = tmp_path.glob("*.json")
    assert "Dana" not in file.read_text()
    batch = json.loads(file.read_text())
    assert batch_faults(batch) == []
    sent = {row["puid"]: row for row in batch["statements"]}
    assert set(sent) == {f"hold-{hold.pk}" for hold in Hold.objects.all()}
    assert len(sent) == 2
    for row in sent.values():
        assert row["automated_decision"] == "AUTOMATED_DECISION_FULLY"
        assert row["source_type"] == "SOURCE_TYPE_OTHER_NOTIFICATION"
        assert row["decision_visibility"] == ["DECISION_VISIBILITY_CONTENT_DISABLED"]
        ground = "INCOMPATIBLE_CONTENT" if has_rule else "ILLEGAL_CONTENT"
        assert row["decision_ground"] == f"DECISION_GROUND_{ground}"
        if not has_rule:
            assert row["illegal_content_legal_ground"] == "TAKE IT DOWN Act, section 3"
    assert sorted(row["automated_detection"] for row in sent.values()) == ["No", "Yes"]
    out = io.StringIO()
    call_command("transparency", "report", "--year", "2026", stdout=out)
    lines = [line for line in out.getvalue().splitlines() if "holds_by_detection" in line]
    assert [line.split(",")[-2] for line in lines] == ["1", "1", "2"]


def test_the_database_refuses_a_statement_of_nothing_or_of_two_things_and_keeps_what_was_sent(
    uma: Account, mo: Account, as_: Browser, calendar: Calendar
) -> None:
    decision = factories.decided(uma, mo)
    hold = _held_by_the_clock(as_(None), calendar, factories.published(uma, title="Other"))
    Hold.objects.filter(pk=hold.pk).update(ended_at=calendar.now)
    other = Hold.objects.create(
        version=hold.version, case=hold.case, due_at=calendar.now, held_at=calendar.now
    )
    row = {"recipient": uma, "content": {}, "issued_at": calendar.now}
    about_both = {"decision": decision, "hold": other}
    for about in ({}, about_both):
        with pytest.raises(IntegrityError), transaction.atomic():
            StatementOfReasons.objects.create(**row, **about)
    StatementOfReasons.objects.create(**row, hold=other)
    for change in ("update", "delete"):
        with pytest.raises(IntegrityError), transaction.atomic():
            found = StatementOfReasons.objects.filter(hold=hold)
            found.update(content={}) if change == "update" else found.delete()


def test_the_tables_of_statements_about_holds_are_not_taken_back_once_there_is_one(
    uma: Account, as_: Browser, calendar: Calendar
) -> None:
    migration = import_module("moderation.migrations.0024_reasons_of_holds").Migration
    # The last operation of a migration is the first on the way back.
    way_back = migration.operations[-1].reverse_code
    way_back(apps, connection.schema_editor())
    _held_by_the_clock(as_(None), calendar, factories.published(uma))
    with pytest.raises(IrreversibleError, match="1 holds have a statement"):
        way_back(apps, connection.schema_editor())


def test_a_copy_that_comes_up_another_way_is_found_by_its_look(
    uma: Account, rui: Account, as_: Browser
) -> None:
    noise = np.random.default_rng(7).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC)
    named, other = factories.published(uma), factories.draft(rui, title="Other")
    for version, quality in ((named, 95), (other, 40)):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        stream.seek(0)
        preview = version.previews.get()
        preview.shown = default_storage.save(f"look-{quality}.jpg", stream)
        preview.sha256 = f"{quality}" * 32
        preview.save()
        version.files.update(sha256=f"{quality:064d}")
    other.visibility, other.submitted_at = "published", timezone.now()
    other.save()
    look_for_copies()
    _ask(as_(None), named)
    request = _confirm(as_(None))
    assert request.reports.get(version=other).found_by == "pdq"


def test_a_request_sweeps_copies_by_their_tensors_and_by_the_lineage_of_their_weights(
    uma: Account, rui: Account, as_: Browser
) -> None:
    chance = np.random.default_rng(11)
    weights = chance.standard_normal(2048)
    sketches = {
        "Named": (weights, "a" * 64),
        "Another header": (chance.standard_normal(2048), "a" * 64),
        "Trained on": (weights + 0.1 * chance.standard_normal(2048), "b" * 64),
        "Unrelated": (chance.standard_normal(2048), "c" * 64),
    }
    versions = {}
    for title, (sketch, data) in sketches.items():
        version = versions[title] = factories.published(
            uma if title == "Named" else rui, title=title
        )
        # Neither bytes nor pictures are the same.
        version.files.update(sha256=f"{version.pk:064d}")
        version.previews.update(sha256=f"{version.pk:064x}f"[1:])
        PreviewHash.objects.filter(preview__version=version).delete()
        PreviewHash.objects.create(preview=version.previews.get(), pdq="", quality=0)
        WeightSketch.objects.create(
            file=version.files.get(), sketch=sketch.astype("<f2").tobytes(), data_sha256=data
        )
    _ask(as_(None), versions["Named"])
    request = _confirm(as_(None))
    found = set(request.reports.values_list("version__uploaded_model__title", "found_by"))
    assert found == {("Named", "named"), ("Another header", "data"), ("Trained on", "weights")}


def test_an_upload_that_is_nobodys_likeness_is_published_while_a_request_is_open(
    uma: Account, rui: Account, as_: Browser
) -> None:
    _ask(as_(None), factories.published(uma))
    _confirm(as_(None))
    version = factories.draft(rui, title="Something else")
    version.files.update(sha256="a" * 64)
    version.previews.update(sha256="b" * 64)
    version_submit(version=version, actor=rui)
    for job in version.jobs.all():
        lease = job_lease(job_id=job.pk)
        assert lease is not None
        findings_record(lease=lease, findings=[factories.finding()])
    version.refresh_from_db()
    assert version.visibility == "published"


def test_who_takes_a_request_back_stops_its_clock_and_only_its_own(
    uma: Account, rui: Account, as_: Browser, calendar: Calendar
) -> None:
    named, copy = factories.published(uma), factories.published(rui)
    client = as_(None)
    _ask(client, named)
    request = _confirm(client)
    change = reverse("likeness-change", args=[request.token])
    page = client.post(change, {"text": "My face in the first two."}, follow=True).content.decode()
    assert "My face in the first two." in page
    assert set(request.reports.values_list("text", flat=True)) == {"My face in the first two."}
    assert client.post(change, {"text": " "}).status_code == 422
    for number in range(LIMITS["report.edit"].burst - 1):
        assert client.post(change, {"text": f"My face in {number}."}).status_code == 302
    refused = client.post(change, {"text": "My face in all."})
    assert refused.status_code == 429
    assert "My face in all." in refused.content.decode()
    calendar.move(hours=1)
    _ask(client, named, email="eve@example.org")
    other = _confirm(client, LikenessRequest.objects.get(email="eve@example.org"))

    calendar.move(hours=46)  # Both are held by the clock.
    sweep()
    assert client.post(change, {"withdraw": "yes"}).status_code == 302
    assert {report.state for report in request.reports.all()} == {"withdrawn"}
    assert client.post(change, {"withdraw": "yes"}).status_code == 409
    assert (
        "You took this request back"
        in client.get(reverse("likeness-page", args=[request.token])).content.decode()
    )
    for version in (named, copy):
        version.refresh_from_db()
        assert not _is_public(client, version), "somebody else still asks for it"

    client.post(reverse("likeness-change", args=[other.token]), {"withdraw": "yes"})
    sweep()
    look_for_copies()
    for version in (named, copy):
        version.refresh_from_db()
        assert version.hidden_from is None
        assert _is_public(client, version)
        assert version.cases.get().state == "queued", "a person may look all the same"
    assert not Hold.objects.filter(ended_at__isnull=True).exists()


def test_a_decision_about_another_report_leaves_the_clock_of_a_request_running(
    uma: Account, mo: Account, as_: Browser, calendar: Calendar, settings: Any
) -> None:
    settings.UNDO_SECONDS = 10
    version, client = factories.published(uma), as_(None)
    report_file(version=version, text="A red star.", actor=None)
    case = case_claim(case=version.cases.get(), actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="Orange.", actor=mo)
    # Confirmed while that decision can still be undone: it has a case of its own.
    _ask(client, version)
    request = _confirm(client)
    assert request.due_at is not None
    calendar.move(seconds=11)
    sweep()
    version.refresh_from_db()
    assert case.reports.get().state == "no_action"
    assert version.hidden_from == request.due_at - HOLD_BEFORE
    calendar.move(hours=46)
    sweep()
    version.refresh_from_db()
    assert not _is_public(client, version), "nobody has answered the request"
    assert Hold.objects.get().report == request.reports.get()

    own = case_claim(case=request.reports.get().case, actor=mo)
    decision_make(case=own, action=Action.APPROVE, rules=[], facts="A fox.", actor=mo)
    calendar.move(seconds=11)
    sweep()
    version.refresh_from_db()
    assert _is_public(client, version)
    assert Hold.objects.get().ended_at is not None


def test_a_hold_ends_with_the_request_it_is_for_and_the_next_one_has_its_own_time(
    uma: Account, mo: Account, as_: Browser, calendar: Calendar, settings: Any
) -> None:
    version, client = factories.published(uma), as_(None)
    _ask(client, version)
    first = _confirm(client)
    calendar.move(hours=47)
    sweep()
    assert Hold.objects.get().ended_at is None
    settings.UNDO_SECONDS = 10
    case = case_claim(case=first.reports.get().case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="A fox.", actor=mo)
    other = LikenessRequest.objects.create(
        email="eve@example.org", signature="Eve", text="Me.", filed_at=calendar.now
    )
    other.versions.set([version])
    _confirm(client, other)
    calendar.move(seconds=11)
    sweep()
    version.refresh_from_db()
    assert Hold.objects.get().ended_at is not None
    assert _is_public(client, version), "a person has answered, and the other has its 48 hours"
    calendar.move(hours=47)
    sweep()
    version.refresh_from_db()
    assert not _is_public(client, version)
    assert Hold.objects.filter(ended_at__isnull=True).get().report == other.reports.get()


def test_a_request_taken_back_before_its_link_was_confirmed_never_becomes_valid(
    uma: Account, as_: Browser
) -> None:
    client = as_(None)
    _ask(client, factories.published(uma))
    request = LikenessRequest.objects.get()
    client.post(reverse("likeness-change", args=[request.token]), {"withdraw": "yes"})
    request = _confirm(client, request)
    assert request.valid_at is None
    assert not Report.objects.exists()
