"""Where files lie: out of quarantine when published, behind links of a minute, in a bucket."""

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from config.environment import bucket_origin, bucket_storage
from moderation.intake import version_submit
from moderation.models import Account, Finding, ModelVersion, Policy, Upload
from moderation.stored import HEAD_BYTES, local_path
from moderation.tasks import files_publish, sweep
from tests import factories
from tests.test_api import Marketplace
from triage.containers.safetensors_header import MAX_HEADER_BYTES
from triage.tasks import files, previews

Browser = Callable[[Account | None], Client]
pytestmark = pytest.mark.django_db


def _download(client: Client, version: ModelVersion) -> Any:
    row = version.files.get()
    return client.get(reverse("download", args=[version.code, row.code]))


def test_files_leave_quarantine_when_the_version_is_published_and_not_before(
    policy: Policy, uma: Account, django_capture_on_commit_callbacks: Any
) -> None:
    held, version = factories.held(uma).version, factories.published(uma)
    for row in (held, version):
        files_publish(row.pk)
    assert held.files.get().content.name.startswith("quarantine/")
    file, preview = version.files.get(), version.previews.get()
    assert file.content.name.startswith("published/")
    assert preview.shown.name.startswith("published/")
    assert default_storage.exists(file.content.name)
    assert files_publish(version.pk) is None


def test_the_file_in_quarantine_goes_only_after_the_row_names_the_other(
    policy: Policy, uma: Account, django_capture_on_commit_callbacks: Any
) -> None:
    version = factories.published(uma)
    old = version.files.get().content.name
    with django_capture_on_commit_callbacks() as after:
        files_publish(version.pk)
    assert default_storage.exists(old)
    for callback in after:
        callback()
    assert not default_storage.exists(old)
    assert default_storage.exists(version.files.get().content.name)


def test_the_sweep_finds_published_versions_whose_files_are_in_quarantine(
    policy: Policy, uma: Account, django_capture_on_commit_callbacks: Any
) -> None:
    version = factories.published(uma)
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert version.files.get().content.name.startswith("published/")


def test_a_link_works_for_a_minute_without_a_session_and_dies_with_a_removal(
    policy: Policy, uma: Account, as_: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = factories.published(uma)
    link = _download(as_(None), version).url
    assert as_(None).get(link).status_code == 200
    assert as_(None).get(link[:-3] + "xxx/").status_code == 404
    ModelVersion.objects.filter(pk=version.pk).update(visibility="removed")
    assert as_(None).get(link).status_code == 404
    ModelVersion.objects.filter(pk=version.pk).update(visibility="published")
    later = timezone.now().timestamp() + 61
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    assert as_(None).get(link).status_code == 404


# --- A bucket -------------------------------------------------------------------------------


def _keys(bucket: Any) -> list[str]:
    return [row["Key"] for row in bucket.list_objects_v2(Bucket="weighhouse").get("Contents", [])]


@pytest.mark.django_db(transaction=True)
def test_an_upload_travels_through_a_bucket_and_is_downloaded_from_it(
    bucket: Any, policy: Policy, uma: Account, as_: Browser
) -> None:
    import requests

    client = as_(uma)
    client.post(reverse("creator:create"), {"title": "In a bucket"})
    version = ModelVersion.objects.get()
    weights = factories.weights_upload()
    content = weights.read()
    weights.seek(0)
    files = {"file": weights, "preview": factories.preview_upload()}
    assert client.post(reverse("creator:add", args=[version.code]), files).status_code == 302
    assert all(key.startswith("house/quarantine/") for key in _keys(bucket))
    # The weights, the picture, and two copies of its pixels.
    assert len(_keys(bucket)) == 4
    client.post(reverse("creator:submit", args=[version.code]))
    version.refresh_from_db()
    assert version.visibility == "published"
    sweep()
    assert all(key.startswith("house/published/") for key in _keys(bucket))
    preview = as_(None).get(reverse("preview", args=[version.previews.get().code]))
    assert preview.status_code == 200
    link = _download(as_(None), version).url
    answer = requests.get(link, timeout=5)
    assert answer.content == content
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "X-Amz-Expires=60" in link


def test_parts_go_straight_to_the_bucket_and_are_joined_and_checked(
    bucket: Any, uma: Account, as_: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    # The least part that S3 admits, the last one aside.
    size = 5 * 1024**2
    monkeypatch.setattr("moderation.uploads.PART_SIZE", size)
    draft = factories.draft(uma)
    draft.files.all().delete()
    content = factories.safetensors_bytes({"lora.down": np.arange(1_500_000.0)})
    client = as_(uma)
    begin = reverse("creator:upload-begin", args=[draft.code])
    body = json.dumps({"name": "weights.safetensors", "size": len(content)})
    upload = client.post(begin, body, content_type="application/json").json()
    assert upload["parts"] == 2
    complete = reverse("creator:upload-complete", args=[upload["code"]])
    for number in (2, 1):
        part = content[(number - 1) * size : number * size]
        assert requests.put(upload["addresses"][str(number)], part, timeout=10).status_code == 200
        if number == 2:
            assert client.post(complete).json()["code"] == "parts_missing"
    again = client.post(begin, body, content_type="application/json").json()
    assert (again["code"], again["have"], again["addresses"]) == (upload["code"], [1, 2], {})
    made = client.post(complete).json()
    assert made["sha256"] == hashlib.sha256(content).hexdigest()
    assert not [key for key in _keys(bucket) if "uploads/" in key]


def _sent_to_the_bucket(bucket: Any, client: Client, draft: ModelVersion) -> tuple[str, Any]:
    """Send all parts of a file; return the body that began it and what the house answered."""
    import requests

    content = factories.safetensors_bytes({"lora.down": np.arange(500.0)})
    body = json.dumps({"name": "weights.safetensors", "size": len(content)})
    begin = reverse("creator:upload-begin", args=[draft.code])
    upload = client.post(begin, body, content_type="application/json").json()
    assert requests.put(upload["addresses"]["1"], content, timeout=10).status_code == 200
    return body, upload


def test_what_the_bucket_joined_before_the_house_broke_is_gone_on_with(
    bucket: Any, uma: Account, as_: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = factories.draft(uma)
    draft.files.all().delete()
    client = as_(uma)
    body, upload = _sent_to_the_bucket(bucket, client, draft)
    complete = reverse("creator:upload-complete", args=[upload["code"]])
    with monkeypatch.context() as patch:

        def broken(**_: Any) -> None:
            raise OperationalError("the connection was lost")

        patch.setattr("moderation.uploads.version_add_file", broken)
        client.raise_request_exception = False
        assert client.post(complete).status_code == 503
    begin = reverse("creator:upload-begin", args=[draft.code])
    again = client.post(begin, body, content_type="application/json").json()
    assert (again["code"], again["have"]) == (upload["code"], [1])
    assert client.post(complete).status_code == 200
    assert draft.files.count() == 1
    assert not [key for key in _keys(bucket) if "uploads/" in key]


def test_an_upload_that_the_bucket_has_ended_itself_is_begun_anew(
    bucket: Any, uma: Account, as_: Browser
) -> None:
    draft = factories.draft(uma)
    client = as_(uma)
    body, upload = _sent_to_the_bucket(bucket, client, draft)
    row = Upload.objects.get()
    bucket.abort_multipart_upload(
        Bucket="weighhouse", Key=f"house/{row.key}", UploadId=row.multipart_id
    )
    begin = reverse("creator:upload-begin", args=[draft.code])
    anew = client.post(begin, body, content_type="application/json").json()
    assert (anew["code"] != upload["code"], anew["have"]) == (True, [])
    over = client.get(reverse("creator:upload", args=[upload["code"]])).json()
    assert (over["state"], over["addresses"]) == ("abandoned", {})


def test_whoever_goes_on_with_an_upload_into_the_bucket_keeps_it(
    bucket: Any, uma: Account, as_: Browser
) -> None:
    draft = factories.draft(uma)
    client = as_(uma)
    _, upload = _sent_to_the_bucket(bucket, client, draft)
    Upload.objects.update(touched_at=timezone.now() - timedelta(days=8))
    client.get(reverse("creator:upload", args=[upload["code"]]))
    sweep()
    assert Upload.objects.get().state == "open"


def test_a_large_file_of_the_bucket_is_read_from_the_disk_and_not_from_memory(
    bucket: Any, tmp_path: Path
) -> None:
    content = b"w" * (3 * 1024**2)
    name = default_storage.save("quarantine/large", ContentFile(content))
    with default_storage.open(name) as opened:
        assert opened.read(1) == b"w"
        assert opened.file._rolled
    path = local_path(name)
    assert path.is_relative_to(tmp_path)
    assert path.read_bytes() == content
    with pytest.raises(FileNotFoundError):
        local_path("quarantine/gone")


def test_copies_of_fetched_files_are_forgotten_where_they_lie(
    bucket: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = default_storage.save("quarantine/one", ContentFile(b"weights"))
    copy = local_path(name)
    client.get("/readyz")
    assert copy.exists()
    quarter = time.time() - 15 * 60
    os.utime(copy, (quarter, quarter))
    cache.clear()
    client.get("/readyz")
    assert copy.exists()
    # Where the disk is nearly full it goes sooner, and after an hour in any case.
    monkeypatch.setattr("moderation.stored.FULL_SHARE", 0.0)
    cache.clear()
    client.get("/readyz")
    assert not copy.exists()
    assert local_path(name).read_bytes() == b"weights"


@pytest.mark.django_db(transaction=True)
def test_beside_the_previews_only_the_head_of_the_weights_is_fetched(
    bucket: Any, policy: Policy, uma: Account, settings: Any, asleep: None
) -> None:
    assert MAX_HEADER_BYTES + 8 <= HEAD_BYTES
    thumbnail = base64.b64encode(factories.picture_bytes()).decode()
    content = factories.safetensors_bytes(
        {"lora.down": np.zeros(6_000_000)},
        metadata={"modelspec.thumbnail": f"data:image/png;base64,{thumbnail}"},
    )
    draft = factories.draft(uma)
    row = draft.files.get()
    name = default_storage.save("quarantine/long", ContentFile(content))
    draft.files.update(content=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    version = version_submit(version=draft, actor=uma)
    previews(version.jobs.get(stage="previews").pk)
    found = Finding.objects.filter(version=version, probe="thumbnails", file=row)
    assert set(found.values_list("outcome", flat=True)) == {"scored"}
    here = {path.name: path.stat().st_size for path in (settings.DATA_DIR / "fetched").iterdir()}
    assert "quarantine_long" not in here
    assert here["head_quarantine_long"] == len(content)
    head = (settings.DATA_DIR / "fetched" / "head_quarantine_long").read_bytes()
    assert head[:HEAD_BYTES] == content[:HEAD_BYTES]
    assert not head[HEAD_BYTES:].strip(b"\0")
    files(version.jobs.get(stage="files").pk)
    assert local_path(name).read_bytes() == content
    version.refresh_from_db()
    assert version.triaged_at is not None


@pytest.mark.django_db(transaction=True)
def test_while_the_bucket_is_away_nothing_dies_and_pages_say_not_now(
    bucket: Any, policy: Policy, uma: Account, as_: Browser, settings: Any, asleep: None
) -> None:
    shop = Marketplace(factories.account("shop"))
    code = shop.post("/models", {"title": "Ink wash"}).json()["code"]
    version = factories.submitted(uma)
    here = settings.STORAGES
    for copy in settings.DATA_DIR.glob("fetched/*"):
        copy.unlink()
    nowhere = "s3://weighhouse?region=us-east-1&endpoint=http://127.0.0.1:1"
    settings.STORAGES = {**here, "default": bucket_storage(nowhere)}
    jobs = list(version.jobs.all())
    for _ in range(2):
        for job in jobs:
            {"files": files, "previews": previews}[job.stage](job.pk)
            job.refresh_from_db()
            assert (job.state, job.attempts) == ("queued", 0)
            assert job.not_before > timezone.now()
        version.jobs.update(not_before=timezone.now())
    shop.client.raise_request_exception = False
    answer = shop.post(f"/versions/{code}/files", file=factories.weights_upload(), key="file")
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_away")
    assert int(answer["Retry-After"]) > 0
    settings.STORAGES = here
    answer = shop.post(f"/versions/{code}/files", file=factories.weights_upload(), key="file")
    assert answer.status_code == 201
    for job in jobs:
        {"files": files, "previews": previews}[job.stage](job.pk)
    version.refresh_from_db()
    assert version.triaged_at is not None


def test_a_part_of_another_length_does_not_count(bucket: Any, uma: Account, as_: Browser) -> None:
    import requests

    draft = factories.draft(uma)
    client = as_(uma)
    body = json.dumps({"name": "weights.safetensors", "size": 1000})
    begin = reverse("creator:upload-begin", args=[draft.code])
    upload = client.post(begin, body, content_type="application/json").json()
    requests.put(upload["addresses"]["1"], b"short", timeout=10)
    complete = reverse("creator:upload-complete", args=[upload["code"]])
    assert client.post(complete).json()["code"] == "parts_missing"
    Upload.objects.update(touched_at=timezone.now() - timedelta(days=8))
    sweep()
    assert Upload.objects.get().state == "abandoned"


def test_browsers_are_sent_to_the_address_by_which_they_reach_the_bucket(
    bucket: Any, store: str, policy: Policy, uma: Account, as_: Browser, settings: Any
) -> None:
    import requests

    outside = store.replace("127.0.0.1", "localhost")
    url = f"s3://weighhouse/house?region=us-east-1&endpoint={store}&public={outside}"
    settings.STORAGES = {**settings.STORAGES, "links": bucket_storage(url, for_links=True)}
    draft = factories.draft(uma)
    body = json.dumps({"name": "weights.safetensors", "size": 5})
    begin = reverse("creator:upload-begin", args=[draft.code])
    upload = as_(uma).post(begin, body, content_type="application/json").json()
    part = upload["addresses"]["1"]
    assert part.startswith(f"{outside}/weighhouse/house/uploads/")
    assert requests.put(part, b"bytes", timeout=10).status_code == 200
    link = _download(as_(None), factories.published(uma)).url
    assert link.startswith(f"{outside}/weighhouse/house/")
    assert requests.get(link, timeout=5).status_code == 200


def test_a_store_that_does_not_answer_makes_the_house_unready(
    bucket: Any, settings: Any, client: Client
) -> None:
    nowhere = "s3://weighhouse?region=us-east-1&endpoint=http://127.0.0.1:1"
    settings.STORAGES = {**settings.STORAGES, "default": bucket_storage(nowhere)}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["storage"]["ok"]) == (503, False)


def test_the_browser_may_send_to_the_bucket_and_nowhere_else() -> None:
    assert bucket_origin("s3://b/p?endpoint=http://minio:9000") == "http://minio:9000"
    inside_and_outside = "s3://b?endpoint=http://minio:9000&public=https://files.example.org"
    assert bucket_origin(inside_and_outside) == "https://files.example.org"
    assert bucket_origin("s3://b?region=eu-west-1") == "https://b.s3.eu-west-1.amazonaws.com"
