"""The door, through HTTP: what is let in, what is refused, and that a refusal leaves no trace."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from moderation.models import Account, Event, ModelFile, ModelVersion, PreviewImage, TriageJob
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]

TEXTS = {
    "title": "Ink wash",
    "description": "Soft *washes*.",
    "tags": "ink, wash",
    "trigger_words": "inkwsh",
    "base_model": "Drawn 1.5",
    "licence": "CC BY 4.0",
}


def _files_on_disk() -> list[Path]:
    return [path for path in Path(django_settings.MEDIA_ROOT).rglob("*") if path.is_file()]


def _add(client: Client, version: ModelVersion, **files: SimpleUploadedFile) -> tuple[int, str]:
    response = client.post(reverse("creator:add", args=[version.code]), files)
    return response.status_code, response.content.decode()


def test_a_creator_signs_up_creates_a_model_adds_files_and_submits(as_: Browser) -> None:
    client = as_(None)
    person = {"username": "zoe", "email": "zoe@example.org", "password": "four plain words here"}
    assert client.post(reverse("account_signup"), person).status_code == 302
    assert client.post(reverse("creator:create"), TEXTS).status_code == 302
    version = ModelVersion.objects.get()
    assert version.uploaded_model.tags == ["ink", "wash"]
    files = {"file": factories.weights_upload(), "preview": factories.preview_upload()}
    assert _add(client, version, **files)[0] == 302
    assert client.post(reverse("creator:submit", args=[version.code])).status_code == 302
    version.refresh_from_db()
    assert version.visibility == "quarantined"
    assert set(version.jobs.values_list("stage", "state")) == {
        ("files", "queued"),
        ("previews", "queued"),
    }
    assert list(version.events.values_list("action", flat=True)) == [
        "model.created",
        "version.submitted",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"just some text", "no model file"),
        (b"", "empty"),
        (struct.pack("<Q", 100 * 1024**3) + b"{}", "header"),
        (factories.safetensors_bytes()[:-5], "cut short"),
        (struct.pack("<Q", 40) + b"{", "header"),
    ],
    ids=["text", "empty", "a header of 100 GB", "cut short", "cut within its header"],
)
def test_a_file_that_can_be_no_model_is_refused_with_a_sentence(
    content: bytes, words: str, as_: Browser, uma: Account
) -> None:
    version = factories.draft(uma)
    before = _files_on_disk()
    status, page = _add(as_(uma), version, file=SimpleUploadedFile("bad name.safetensors", content))
    assert 400 <= status < 500
    assert "bad name.safetensors" in page
    assert words in page.lower()
    assert ModelFile.objects.filter(version=version).count() == 1
    assert _files_on_disk() == before


@pytest.mark.parametrize(
    "content",
    [
        b"GIF89a but not really",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        factories.picture_bytes()[:60],
        factories.picture_bytes(size=(9000, 9000)),
    ],
    ids=["no picture", "an SVG", "a cut PNG", "a decompression bomb"],
)
def test_a_preview_that_is_no_picture_is_refused_with_a_sentence(
    content: bytes, as_: Browser, uma: Account
) -> None:
    version = factories.draft(uma)
    before = _files_on_disk()
    status, page = _add(as_(uma), version, preview=SimpleUploadedFile("p.png", content))
    assert 400 <= status < 500
    assert "p.png" in page
    assert PreviewImage.objects.filter(version=version).count() == 1
    assert _files_on_disk() == before


def test_a_good_file_beside_a_bad_one_is_kept(as_: Browser, uma: Account) -> None:
    version = factories.draft(uma)
    good = factories.weights_upload(tensors={"other": [1.0, 2.0]})
    bad = SimpleUploadedFile("p.png", b"no picture")
    status, _ = _add(as_(uma), version, file=good, preview=bad)
    assert status == 422
    assert version.files.count() == 2
    assert version.previews.count() == 1


def test_the_same_file_twice_is_refused(as_: Browser, uma: Account) -> None:
    version = factories.draft(uma)
    status, page = _add(as_(uma), version, file=factories.weights_upload())
    assert status == 409
    assert "byte for byte" in page
    assert version.files.count() == 1


def test_a_published_copy_of_a_preview_carries_no_metadata(as_: Browser, uma: Account) -> None:
    from PIL import Image

    picture = Image.new("RGB", (32, 32), "green")
    exif = picture.getexif()
    exif[0x010E] = "where I live"
    import io

    stream = io.BytesIO()
    picture.save(stream, "JPEG", exif=exif)
    version = factories.draft(uma)
    status, _ = _add(as_(uma), version, preview=SimpleUploadedFile("p.jpg", stream.getvalue()))
    assert status == 302
    row = version.previews.get(name="p.jpg")
    response = as_(uma).get(reverse("preview", args=[row.code]))
    served = b"".join(response.streaming_content)  # type: ignore[arg-type]
    assert b"where I live" in stream.getvalue()
    assert b"where I live" not in served
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cache-Control"] == "no-store"


def test_a_title_of_ten_thousand_characters_is_refused_and_what_was_typed_is_kept(
    as_: Browser, uma: Account
) -> None:
    response = as_(uma).post(reverse("creator:create"), {**TEXTS, "title": "x" * 10_000})
    assert response.status_code == 422
    page = response.content.decode()
    assert "10,000 characters" in page
    assert "Soft *washes*." in page
    assert not ModelVersion.objects.exists()


def test_a_prompt_of_three_thousand_characters_is_refused_and_not_cut(
    as_: Browser, uma: Account
) -> None:
    version = factories.draft(uma)
    before = _files_on_disk()
    response = as_(uma).post(
        reverse("creator:add", args=[version.code]),
        {"preview": factories.preview_upload(), "prompt": "x" * 3000},
    )
    assert response.status_code == 422
    page = response.content.decode()
    assert "The prompt is 3,000 characters long; 2,000 are the most." in page
    assert "x" * 3000 in page, "what was typed is still there"
    assert not version.previews.filter(prompt__startswith="x").exists()
    assert _files_on_disk() == before


def test_a_second_submit_of_the_same_draft_is_refused(as_: Browser, uma: Account) -> None:
    version = factories.draft(uma)
    address = reverse("creator:submit", args=[version.code])
    assert as_(uma).post(address).status_code == 302
    second = as_(uma).post(address)
    assert second.status_code == 409
    assert "has been submitted" in second.content.decode()
    assert TriageJob.objects.filter(version=version).count() == 2
    assert Event.objects.filter(version=version, action="version.submitted").count() == 1


@pytest.mark.parametrize("missing", ["files", "previews"])
def test_a_draft_without_weights_or_previews_is_not_submitted(
    missing: str, as_: Browser, uma: Account
) -> None:
    version = factories.draft(uma)
    getattr(version, missing).all().delete()
    response = as_(uma).post(reverse("creator:submit", args=[version.code]))
    assert response.status_code == 422
    version.refresh_from_db()
    assert version.visibility == "draft"
    assert not version.jobs.exists()


def test_a_submitted_version_cannot_be_changed(as_: Browser, uma: Account) -> None:
    version = factories.submitted(uma)
    item = version.files.get()
    client = as_(uma)
    assert client.post(reverse("creator:edit", args=[version.code]), TEXTS).status_code == 409
    assert _add(client, version, file=factories.weights_upload(tensors={"b": [1.0]}))[0] == 409
    remove = reverse("creator:remove", args=[version.code, item.code])
    assert client.post(remove).status_code == 409
    assert version.files.get() == item


def test_nobody_sees_or_touches_the_draft_of_another(
    as_: Browser, uma: Account, nobody: Account
) -> None:
    version = factories.draft(uma)
    client = as_(nobody)
    assert client.get(reverse("creator:version", args=[version.code])).status_code == 404
    assert client.post(reverse("creator:submit", args=[version.code])).status_code == 404
    assert client.get(reverse("model", args=[version.code])).status_code == 404
    preview = version.previews.get()
    assert client.get(reverse("preview", args=[preview.code])).status_code == 404


def test_a_quarantined_file_is_not_served_to_strangers(as_: Browser, uma: Account) -> None:
    version = factories.submitted(uma)
    row = version.files.get()
    address = reverse("download", args=[version.code, row.code])
    assert as_(None).get(address).status_code == 404
    assert as_(uma).get(address, follow=True).status_code == 200


def test_a_published_file_is_served_as_an_attachment_under_our_name(
    as_: Browser, uma: Account
) -> None:
    version = factories.published(uma)
    row = version.files.get()
    response = as_(None).get(reverse("download", args=[version.code, row.code]), follow=True)
    assert response.status_code == 200
    assert response["Content-Disposition"].startswith("attachment;")
    assert row.name not in response["Content-Disposition"]


@pytest.mark.parametrize("password", ["short", "password123", "12345678901"])
def test_a_weak_password_is_refused(password: str, as_: Browser) -> None:
    person = {"username": "zoe", "email": "zoe@example.org", "password": password}
    assert as_(None).post(reverse("account_signup"), person).status_code == 422
    assert not Account.objects.exists()


def test_signing_up_gives_no_role_whatever_is_sent(as_: Browser) -> None:
    person = {
        "username": "zoe",
        "email": "zoe@example.org",
        "password": "four plain words here",
        "role": "admin",
        "is_staff": "on",
        "is_superuser": "on",
    }
    as_(None).post(reverse("account_signup"), person)
    zoe = Account.objects.get()
    assert (zoe.role, zoe.is_staff, zoe.is_superuser) == ("creator", False, False)


def test_a_new_version_is_opened_once_and_numbered_on(as_: Browser, uma: Account) -> None:
    version = factories.published(uma)
    client = as_(uma)
    address = reverse("creator:next-version", args=[version.code])
    first, second = client.post(address), client.post(address)
    assert first.status_code == 302
    assert first.url == second.url
    assert list(ModelVersion.objects.order_by("number").values_list("number", "visibility")) == [
        (1, "published"),
        (2, "draft"),
    ]


def test_nobody_opens_a_version_of_another_creators_model(
    as_: Browser, uma: Account, nobody: Account
) -> None:
    version = factories.published(uma)
    response = as_(nobody).post(reverse("creator:next-version", args=[version.code]))
    assert response.status_code == 404
    assert ModelVersion.objects.count() == 1


def test_an_address_with_many_open_reports_gets_no_more_letters(as_: Browser, uma: Account) -> None:
    client = as_(None)
    for number in range(6):
        version = factories.published(uma, title=f"Model {number}")
        response = client.post(
            reverse("report", args=[version.code]), {"text": "No.", "email": "v@example.org"}
        )
    assert response.status_code == 409
    assert version.reports.count() == 0
