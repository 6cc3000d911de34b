"""Large files in parts: sent in any order, sent twice, broken off and resumed."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as configured
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.models import Account, ModelVersion, Upload
from moderation.tasks import sweep
from tests import factories

Browser = Callable[[Account | None], Client]
pytestmark = pytest.mark.django_db
PART = 1000


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any) -> None:
    monkeypatch.setattr("moderation.uploads.PART_SIZE", PART)
    settings.DATA_DIR = tmp_path


@pytest.fixture
def content() -> bytes:
    return factories.safetensors_bytes({"lora.down": np.arange(1200.0)})


@pytest.fixture
def draft(uma: Account) -> ModelVersion:
    version = factories.draft(uma)
    version.files.all().delete()
    return version


class Sender:
    """A page that sends a file in parts."""

    def __init__(self, client: Client, version: ModelVersion, content: bytes) -> None:
        self.client, self.content = client, content
        self.begin_at = reverse("creator:upload-begin", args=[version.code])
        self.code = ""

    def begin(
        self, name: str = "weights.safetensors", size: int | None = None, modified: int = 1
    ) -> Any:
        size = len(self.content) if size is None else size
        body = json.dumps({"name": name, "size": size, "modified": modified})
        answer = self.client.post(self.begin_at, body, content_type="application/json")
        self.code = answer.json().get("code", "")
        return answer

    def part(self, number: int, content: bytes | None = None, sha256: str | None = None) -> Any:
        sent = content
        if sent is None:
            sent = self.content[(number - 1) * PART : number * PART]
        digest = hashlib.sha256(sent).hexdigest() if sha256 is None else sha256
        address = reverse("creator:upload-part", args=[self.code, number])
        return self.client.put(
            address,
            sent,
            content_type="application/octet-stream",
            headers={"X-Content-SHA256": digest},
        )

    def progress(self) -> Any:
        return self.client.get(reverse("creator:upload", args=[self.code])).json()

    def complete(self) -> Any:
        return self.client.post(reverse("creator:upload-complete", args=[self.code]))


@pytest.fixture
def sender(as_: Browser, uma: Account, draft: ModelVersion, content: bytes) -> Sender:
    return Sender(as_(uma), draft, content)


def test_a_file_sent_in_parts_in_any_order_is_the_file(
    sender: Sender, draft: ModelVersion, content: bytes
) -> None:
    parts = sender.begin().json()["parts"]
    assert parts > 3
    for number in range(parts, 0, -1):
        assert sender.part(number).status_code == 200
    made = sender.complete()
    assert made.status_code == 200
    assert made.json()["sha256"] == hashlib.sha256(content).hexdigest()
    row = draft.files.get()
    assert Path(row.content.path).read_bytes() == content
    assert not (configured.DATA_DIR / "uploads" / sender.code).exists()


def test_after_a_broken_connection_only_what_is_missing_is_sent(
    sender: Sender, draft: ModelVersion
) -> None:
    parts = sender.begin().json()["parts"]
    first = sender.code
    sender.part(1)
    sender.part(2)
    assert sender.part(3, content=b"cut off").json()["code"] == "part_incomplete"
    again = sender.begin().json()
    assert again["code"] == first
    assert again["have"] == [1, 2]
    assert sender.complete().json()["code"] == "parts_missing"
    for number in range(3, parts + 1):
        sender.part(number)
    assert sender.complete().status_code == 200
    assert draft.files.count() == 1


def test_a_file_that_was_trained_anew_is_not_mixed_with_the_old_one_of_its_name_and_size(
    sender: Sender, draft: ModelVersion
) -> None:
    sender.begin(modified=1)
    old = sender.code
    sender.part(1, content=b"o" * PART)
    anew = sender.begin(modified=2).json()
    assert anew["code"] != old
    assert anew["have"] == []
    for number in range(1, anew["parts"] + 1):
        sender.part(number)
    assert sender.complete().json()["sha256"] == hashlib.sha256(sender.content).hexdigest()
    # And chosen once more, the old one goes on.
    assert sender.begin(modified=1).json()["have"] == [1]


@pytest.mark.parametrize("modified", [-1, 2**63, "yesterday", None])
def test_a_moment_of_change_that_is_none_is_refused(modified: Any, sender: Sender) -> None:
    assert sender.begin(modified=modified).json()["code"] == "bad_request"


def test_who_begins_again_while_the_parts_are_put_together_finds_that_upload(
    sender: Sender,
) -> None:
    parts = sender.begin().json()["parts"]
    for number in range(1, parts + 1):
        sender.part(number)
    Upload.objects.update(state="joining")
    again = sender.begin().json()
    assert (again["state"], again["have"]) == ("joining", list(range(1, parts + 1)))
    assert sender.complete().json()["code"] == "joining"
    Upload.objects.update(state="open")
    assert sender.complete().status_code == 200


def test_one_account_has_so_many_uploads_under_way_and_no_more_whatever_the_draft(
    sender: Sender, as_: Browser, uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moderation.uploads.OPEN_UPLOADS", 2)
    other = Sender(as_(uma), factories.draft(uma), sender.content)
    assert sender.begin().status_code == other.begin().status_code == 200
    more = Sender(as_(uma), factories.draft(uma), sender.content).begin()
    assert (more.status_code, more.json()["code"]) == (409, "too_many")
    assert sender.begin().status_code == 200


def test_a_file_that_the_draft_has_already_ends_its_upload(
    sender: Sender, draft: ModelVersion
) -> None:
    for modified in (1, 2):
        parts = sender.begin(modified=modified).json()["parts"]
        for number in range(1, parts + 1):
            sender.part(number)
        answer = sender.complete()
    assert (answer.status_code, answer.json()["code"]) == (409, "same_file")
    assert sorted(Upload.objects.values_list("state", flat=True)) == ["done", "refused"]


def test_a_part_that_arrives_changed_is_not_kept(sender: Sender) -> None:
    sender.begin()
    refused = sender.part(1, sha256="0" * 64)
    assert (refused.status_code, refused.json()["code"]) == (422, "part_digest_differs")
    assert sender.progress()["have"] == []


def test_a_part_sent_twice_and_a_completion_sent_twice_change_nothing(
    sender: Sender, draft: ModelVersion
) -> None:
    parts = sender.begin().json()["parts"]
    for number in [*range(1, parts + 1), 1, 2]:
        sender.part(number)
    assert sender.complete().json() == sender.complete().json()
    assert draft.files.count() == 1


def test_what_is_no_model_file_is_refused_with_the_reason_and_leaves_nothing(
    as_: Browser, uma: Account, draft: ModelVersion
) -> None:
    sender = Sender(as_(uma), draft, b"<html>" * 500)
    for number in range(1, sender.begin().json()["parts"] + 1):
        sender.part(number)
    refused = sender.complete()
    assert refused.status_code == 422
    assert refused.json()["sentence"]
    assert not draft.files.exists()
    assert not (configured.DATA_DIR / "uploads" / sender.code).exists()
    assert Upload.objects.get().state == "refused"


@pytest.mark.parametrize(("size", "code"), [(0, "empty"), (-5, "empty"), (10**15, "too_large")])
def test_a_size_that_is_not_admitted_is_refused_before_anything_is_sent(
    size: int, code: str, sender: Sender
) -> None:
    answer = sender.begin(size=size)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize("body", ["", "[]", '{"name": 1}', '{"name": "x", "size": "large"}'])
def test_a_beginning_that_says_nothing_is_refused(body: str, sender: Sender) -> None:
    answer = sender.client.post(sender.begin_at, body, content_type="application/json")
    assert answer.status_code == 422


def test_nobody_else_sees_or_feeds_an_upload(sender: Sender, as_: Browser, nobody: Account) -> None:
    sender.begin()
    sender.client = as_(nobody)
    assert sender.part(1).status_code == 404
    assert sender.complete().status_code == 404
    assert sender.client.get(reverse("creator:upload", args=[sender.code])).status_code == 404
    body = json.dumps({"name": "x", "size": 5})
    answer = sender.client.post(sender.begin_at, body, content_type="application/json")
    assert answer.status_code == 404


def test_a_submitted_version_takes_no_upload(
    sender: Sender, draft: ModelVersion, policy: Any
) -> None:
    parts = sender.begin().json()["parts"]
    for number in range(1, parts + 1):
        sender.part(number)
    ModelVersion.objects.filter(pk=draft.pk).update(
        visibility="quarantined", submitted_at=timezone.now()
    )
    assert sender.complete().json()["code"] == "not_a_draft"
    assert sender.begin(name="other").json()["code"] == "not_a_draft"
    assert not draft.files.exists()


@pytest.mark.parametrize("number", [0, 99])
def test_a_part_that_the_file_does_not_have_is_refused(number: int, sender: Sender) -> None:
    sender.begin()
    assert sender.part(number, content=b"x").json()["code"] == "bad_part"


def test_what_nobody_goes_on_with_is_thrown_away_after_a_week(sender: Sender) -> None:
    sender.begin()
    sender.part(1)
    folder = configured.DATA_DIR / "uploads" / sender.code
    sweep()
    assert folder.exists()
    Upload.objects.update(touched_at=timezone.now() - timedelta(days=8))
    sweep()
    assert not folder.exists()
    assert sender.part(2).json()["code"] == "upload_abandoned"
