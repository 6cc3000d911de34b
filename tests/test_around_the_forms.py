"""What stands around the forms of reporters, depicted persons and creators, in both languages."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse

from moderation.appeal_files import appeal_files_kept
from moderation.appeals import appeal_file
from moderation.decisions import decision_make
from moderation.inquiries import inquiry_send
from moderation.intake import version_create
from moderation.likeness import likeness_confirm, likeness_request, likeness_sweep
from moderation.models import Account, LikenessRequest, ModelVersion, Notice, Report
from moderation.queue import case_claim
from moderation.report_changes import report_withdraw
from moderation.reports import report_file
from moderation.states import Action, Language
from moderation.templatetags.text import points
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


def _page(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


def _dismissed_request(uma: Account, mo: Account) -> LikenessRequest:
    version = factories.published(uma)
    likeness_request(
        models=f"https://x.example/models/{version.code}/",
        email="dana@example.org",
        signature="Dana",
        text="My face.",
        is_intimate=False,
        agrees=True,
        language=Language.GERMAN,
        address="",
    )
    request = LikenessRequest.objects.get()
    likeness_confirm(request=request)
    likeness_sweep(request_id=request.pk)
    case = case_claim(case=request.reports.get().case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="Somebody else.", actor=mo)
    return request


# --- A form's address, opened ----------------------------------------------------------------

HTML = {"Accept": "text/html,*/*;q=0.8"}


@pytest.mark.parametrize("name", ["report-change", "report-appeal"])
def test_the_address_of_a_reporters_form_leads_to_their_page(
    name: str, as_: Browser, uma: Account
) -> None:
    report = report_file(version=factories.published(uma), text="A red star.", actor=None)
    client = as_(None)
    refused = client.post(reverse("report-change", args=[report.token]), {"text": " "})
    page = reverse("report-status", args=[report.token])
    assert f'href="{page}?language=de"' in refused.content.decode()
    address = reverse(name, args=[report.token])
    led = client.get(address + "?language=de", headers=HTML)
    assert (led.status_code, led["Location"]) == (302, f"{page}?language=de")
    # A program is told what it did wrong.
    assert client.get(address).status_code == 405
    assert client.delete(address, headers=HTML).status_code == 405


def test_the_address_of_a_creators_form_leads_to_the_page_it_stands_on(
    as_: Browser, uma: Account, mo: Account
) -> None:
    draft, case = factories.draft(uma), factories.held(uma)
    inquiry = inquiry_send(case=case_claim(case=case, actor=mo), text="Who is it?", actor=mo)
    public, decision = factories.published(uma), factories.decided(uma, mo)
    appeal_file(decision=decision, text="No.", actor=uma)
    forms: dict[str, list[str]] = {
        "edit": [draft.code],
        "add": [draft.code],
        "remove": [draft.code, draft.previews.get().code],
        "submit": [draft.code],
        "withdraw": [public.code],
        "next-version": [public.code],
        "answer-inquiry": [case.version.code, inquiry.code],
        "appeal-message": [decision.code],
        "read-all": [],
        "language": [],
    }
    client = as_(uma)
    for name, codes in forms.items():
        address = reverse(f"creator:{name}", args=codes)
        led = client.get(address + "?page=1", headers=HTML)
        assert led.status_code == 302, name
        assert led["Location"].endswith("?page=1"), name
        assert f'action="{address}"' in _page(client, led["Location"]), name


# --- Depicted persons ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "way", "clock"),
    [
        ("en", "Look at it again", "The 48 hours end"),
        ("de", "Noch einmal ansehen lassen", "Die 48 Stunden enden"),
    ],
)
def test_whose_request_was_dismissed_is_led_to_an_appeal_and_told_of_no_clock(
    language: str, way: str, clock: str, as_: Browser, uma: Account, mo: Account
) -> None:
    request = _dismissed_request(uma, mo)
    client = as_(None)
    address = reverse("likeness-page", args=[request.token]) + f"?language={language}"
    page = _page(client, address)
    token = request.reports.get().token
    assert way in page
    assert clock not in page
    assert reverse("report-status", args=[token]) in page
    assert reverse("report-appeal", args=[token]) in _page(client, f"/reports/{token}/")
    led = client.get(reverse("likeness-change", args=[request.token]), headers=HTML)
    assert led["Location"] == reverse("likeness-page", args=[request.token])


@pytest.mark.parametrize("language", [Language.ENGLISH, Language.GERMAN])
def test_the_letter_that_nothing_was_done_names_our_own_appeal_before_others(
    language: Language, uma: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report = report_file(
        version=version, text="A star.", email="rui@x.example", actor=None, language=language
    )
    case = case_claim(case=report.case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="Orange.", actor=mo)
    letter = Notice.objects.get(kind="report_no_action")
    for words in (letter.text, letter.html):
        assert 0 < words.index("184") < words.index("2022/2065")


# --- Reporters -------------------------------------------------------------------------------


def test_a_second_report_is_said_to_be_one_and_its_words_are_kept(
    as_: Browser, uma: Account, rui: Account
) -> None:
    version = factories.published(uma)
    first = report_file(version=version, text="A red star.", actor=rui)
    client = as_(rui)
    again = client.post(reverse("report", args=[version.code]), {"text": "And a hammer."})
    page = again.content.decode()
    assert again.status_code == 409
    assert "You have reported this already" in page
    assert "What you wrote just now is in the form below" in page
    assert ">And a hammer.</textarea>" in page
    assert reverse("report-change", args=[first.token]) in page
    assert Report.objects.get().text == "A red star."


def _form_of(client: Client, version: ModelVersion) -> dict[str, str]:
    page = client.get(reverse("report", args=[version.code])).content.decode()
    (key,) = re.findall(r'name="form_key" value="([^"]+)"', page)
    return {"form_key": key, "text": "A red star.", "email": "vic@example.org"}


def test_a_visitor_who_sends_a_form_twice_has_one_report(as_: Browser, uma: Account) -> None:
    version = factories.published(uma)
    client = as_(None)
    address = reverse("report", args=[version.code])
    form = _form_of(client, version)
    sent = [client.post(address, form) for _ in range(2)]
    report = Report.objects.get()
    status = reverse("report-status", args=[report.token])
    assert [(answer.status_code, answer["Location"]) for answer in sent] == [(302, status)] * 2
    assert Notice.objects.filter(kind="report_received").count() == 1


def test_another_form_or_other_words_are_another_report(as_: Browser, uma: Account) -> None:
    version = factories.published(uma)
    client = as_(None)
    address = reverse("report", args=[version.code])
    form = _form_of(client, version)
    assert form["form_key"] != _form_of(client, version)["form_key"]
    # As where a cache has given one page to two people: neither is led to the other's report.
    for given in (form, {**form, "email": "eve@example.org"}, {**form, "text": "A hammer."}):
        assert client.post(address, given).status_code == 302
    assert client.post(address, _form_of(client, version)).status_code == 302
    assert Report.objects.count() == len({report.token for report in Report.objects.all()}) == 4


def test_a_refused_form_keeps_its_key(as_: Browser, uma: Account) -> None:
    version = factories.published(uma)
    client = as_(None)
    form = _form_of(client, version)
    refused = client.post(reverse("report", args=[version.code]), {**form, "text": ""})
    assert refused.status_code == 422
    assert f'name="form_key" value="{form["form_key"]}"' in refused.content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("policy", "asleep")
def test_a_form_pressed_three_times_at_once_is_one_report(as_: Browser, uma: Account) -> None:
    version = factories.published(uma)
    address = reverse("report", args=[version.code])
    form = _form_of(as_(None), version)

    def press(_: int) -> str:
        try:
            return str(Client().post(address, form).get("Location"))
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        places = set(pool.map(press, range(3)))
    assert places == {reverse("report-status", args=[Report.objects.get().token])}


@pytest.mark.parametrize(
    ("language", "wrong"),
    [
        ("en", ("not told", "only way", "Answered")),
        ("de", ("erfahren nicht", "Nur so", "Beantwortet")),
    ],
)
def test_the_page_of_a_withdrawn_report_promises_no_answer(
    language: str, wrong: tuple[str, ...], as_: Browser, uma: Account
) -> None:
    report = report_file(version=factories.published(uma), text="A red star.", actor=None)
    report_withdraw(report=report)
    page = _page(as_(None), f"/reports/{report.token}/?language={language}")
    assert not [words for words in wrong if words in page]


# --- Creators --------------------------------------------------------------------------------


def test_a_creator_adds_to_an_open_appeal_before_the_team_has_written(
    as_: Browser, uma: Account, mo: Account
) -> None:
    decision = factories.decided(uma, mo)
    appeal_file(decision=decision, text="No.", actor=uma)
    client = as_(uma)
    address = reverse("creator:appeal-message", args=[decision.code])
    assert address in _page(client, reverse("creator:decision", args=[decision.code]))
    assert client.post(address, {"message": "One more thing."}).status_code == 302
    page = _page(client, reverse("creator:decision", args=[decision.code]))
    assert "One more thing." in page


def test_the_notice_of_an_appeal_does_not_say_how_to_appeal(
    as_: Browser, uma: Account, mo: Account
) -> None:
    decision = factories.decided(uma, mo)
    appeal_file(decision=decision, text="No.", actor=uma)
    buttons = {
        notice.kind: _page(as_(uma), reverse("creator:notice", args=[notice.code]))
        for notice in Notice.objects.filter(recipient=uma, decision=decision)
    }
    assert ">The decision</a>" in buttons["appeal_received"]
    assert ">The decision and how to appeal</a>" in buttons["decision_remove"]


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("x.html", b"<script>alert(1)</script>", "x.html.txt"),
        ("a" * 300, b"words", "a" * 251 + ".txt"),
        ("photo.JPEG", b"\xff\xd8\xff\xe0", "photo.JPEG"),
        ("photo.svg", b"\xff\xd8\xff\xe0", "photo.svg.jpg"),
    ],
)
def test_the_file_of_an_appeal_is_named_as_what_it_is(name: str, content: bytes, kept: str) -> None:
    with appeal_files_kept([SimpleUploadedFile(name, content)]) as (row,):
        assert row.name == kept


def test_adding_a_preview_to_a_draft_keeps_the_texts_and_saving_them_the_preview(
    as_: Browser, uma: Account
) -> None:
    client = as_(uma)
    client.post(reverse("creator:create"), {"title": "Kiln"})
    draft = ModelVersion.objects.get()
    texts = {"title": "Kiln", "description": "Fired clay.", "prompt": "a bowl"}
    for address, colour in (("creator:add", (9, 9, 9)), ("creator:edit", (99, 9, 9))):
        picture = SimpleUploadedFile("p.png", factories.picture_bytes(colour))
        sent = client.post(reverse(address, args=[draft.code]), {**texts, "preview": picture})
        assert sent.status_code == 302
    draft.uploaded_model.refresh_from_db()
    assert draft.uploaded_model.description == "Fired clay."
    assert draft.previews.filter(prompt="a bowl").count() == 2
    page = _page(client, reverse("creator:version", args=[draft.code]))
    assert 'form="draft" name="preview"' in page
    assert 'form="draft" formaction=' in page


@pytest.mark.parametrize("button", ["creator:add", "creator:edit", "creator:submit"])
def test_whichever_button_of_a_draft_is_pressed_texts_weights_and_pictures_are_kept(
    button: str, as_: Browser, uma: Account, policy: Any
) -> None:
    client = as_(uma)
    client.post(reverse("creator:create"), {"title": "Kiln"})
    draft = ModelVersion.objects.get()
    sent = {
        "title": "Kiln",
        "description": "Fired clay.",
        "file": factories.weights_upload(),
        "preview": factories.preview_upload(),
    }
    assert client.post(reverse(button, args=[draft.code]), sent).status_code == 302
    draft.refresh_from_db()
    draft.uploaded_model.refresh_from_db()
    assert draft.uploaded_model.description == "Fired clay."
    assert (draft.files.count(), draft.previews.count()) == (1, 1)
    assert (draft.visibility == "draft") == (button != "creator:submit")


def test_a_draft_whose_texts_are_refused_is_not_submitted_and_shows_what_was_typed(
    as_: Browser, uma: Account, policy: Any
) -> None:
    draft = factories.draft(uma)
    typed = {"title": " ", "description": "Fired clay."}
    answer = as_(uma).post(reverse("creator:submit", args=[draft.code]), typed)
    assert answer.status_code == 422
    assert "Fired clay." in answer.content.decode()
    draft.refresh_from_db()
    assert draft.visibility == "draft"


def test_the_texts_of_a_next_version_are_sent_back_by_its_page_and_count_as_unchanged(
    as_: Browser, uma: Account, policy: Any
) -> None:
    version = factories.published(uma)
    page = version.uploaded_model
    page.description, page.tags = "First line.\nSecond line.", ["ink, wash", "fox"]
    page.save()
    draft = version_create(uploaded_model=page, actor=uma)
    typed = {
        "title": page.title,
        "description": "First line.\r\nSecond line.",
        "tags": "ink, wash, fox",
        "base_model": page.base_model,
        "licence": page.licence,
        "file": factories.weights_upload(),
        "preview": factories.preview_upload(),
    }
    assert as_(uma).post(reverse("creator:submit", args=[draft.code]), typed).status_code == 302
    page.refresh_from_db()
    assert page.description == "First line.\nSecond line.", "as it was weighed"


def test_points_are_said_as_people_say_them() -> None:
    said = [points(Decimal(count)) for count in ("1.00", "0.50", "10", "2")]
    assert said == ["1 point", "0.5 points", "10 points", "2 points"]
    assert points(Decimal("0.50"), "de") == "0,5 Punkte"
    assert points(Decimal("1.00"), "de") == "1 Punkt"


# --- Logging in ------------------------------------------------------------------------------


def test_logging_in_leads_the_team_to_its_queue_and_others_to_the_models(
    client: Client, mo: Account, uma: Account
) -> None:
    for person, page in ((mo, reverse("console:queue")), (uma, "/")):
        words = {"login": person.username, "password": factories.PASSWORD}
        led = client.post(reverse("account_login"), words)
        assert (led.status_code, led["Location"]) == (302, page)
        client.post(reverse("account_logout"))
    wished = client.post(reverse("account_login") + "?next=/policy/", words)
    assert wished["Location"] == "/policy/"
