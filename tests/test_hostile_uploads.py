"""Some four hundred hostile uploads: each is refused with a reason or handled, within the limits.

They come through the public door and are weighed by the real tasks. No child that reads a file may
take ten seconds or 512 MB, nor may the process that takes it in or weighs it, which goes on.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.intake import version_submit
from moderation.models import Account, ModelVersion
from tests import factories, hostile_pictures, hostile_texts, hostile_weights
from triage import sandbox, tasks

SECONDS, MEGABYTES = 10, 512
WEIGHTS = dict(hostile_weights.weights())
PICTURES = dict(hostile_pictures.pictures())
NAMES = dict(hostile_texts.names())
TEXTS = dict(hostile_texts.texts())
REQUESTS = dict(hostile_texts.requests())
# Strange, and yet nothing is wrong with these.
HARMLESS = {
    "safetensors: a pickle in the tensor",
    "safetensors: a program in the tensor",
    "safetensors: a page in the tensor",
    "pickle: a frame that ends in an instruction",
    "pickle: a memo of 2^32",
    "pickle: a list that holds itself",
    "pickle: a hundred thousand tuples in tuples",
    "zip: a name that is a page",
    "zip: a name that is turned around",
    "zip: a name that is 60,000 characters long",
    "zip: no entries",
}


def chunks(cases: Iterable[str], size: int) -> list[tuple[str, ...]]:
    """Return the names in tuples: what one version holds."""
    names = list(cases)
    return [tuple(names[at : at + size]) for at in range(0, len(names), size)]


class Children:
    """What each child of the sandbox took."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.megabytes: list[float] = []


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    """Watch every child of the sandbox, and say afterwards that each kept to the limits."""
    watched = Children()
    ask = sandbox._ask

    def watching(request: bytes, seconds: float) -> Any:
        began = time.monotonic()
        answer, ending = ask(request, seconds)
        watched.seconds.append(time.monotonic() - began)
        watched.megabytes.append(ending.peak_memory / (1 << 20))
        return answer, ending

    # One that is started meanwhile is ready before anything is asked of it.
    sandbox.run(os.getpid)
    monkeypatch.setattr(sandbox, "_ask", watching)
    parent = os.getpid()
    yield watched
    assert os.getpid() == parent
    assert max(watched.seconds, default=0) < SECONDS
    assert max(watched.megabytes, default=0) < MEGABYTES


@contextmanager
def within_limits(what: str, cases: int = 1) -> Iterator[None]:
    """Watch this process, which stands for the web server or a worker, while it handles cases.

    Its own computing counts, and the memory that it takes beyond what it had; looked at every few
    milliseconds, because the system keeps only the most that a process ever had.
    """
    process = psutil.Process()
    had = most = process.memory_info().rss
    began, done = time.process_time(), threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    most = max(most, process.memory_info().rss)
    assert (time.process_time() - began) / cases < SECONDS, what
    assert (most - had) / (1 << 20) < MEGABYTES, what


@pytest.fixture
def limited(request: pytest.FixtureRequest, client: Client) -> Iterator[None]:
    """Watch this process throughout a test, and say afterwards that it kept to the limits."""
    with within_limits(request.node.name):
        yield


@pytest.fixture
def client(uma: Account) -> Client:
    """Return Uma's browser, which is shown a broken page as one."""
    browser = Client(raise_request_exception=False)
    browser.force_login(uma)
    return browser


def add(client: Client, version: ModelVersion, **upload: Any) -> Any:
    return client.post(reverse("creator:add", args=[version.code]), upload)


def refused(answer: Any) -> bool:
    """Return whether an answer refuses, with a sentence."""
    if answer.status_code == 302:
        return False
    assert 400 <= answer.status_code < 500, answer.status_code
    text = answer.content.decode()
    assert 'role="alert"' in text or '"code"' in text or "<h1>" in text, text[:500]
    return True


def weigh(version: ModelVersion, stage: str) -> list[Any]:
    """Submit a draft and do one of its jobs as a worker does; return what was found."""
    version_submit(version=version, actor=version.uploaded_model.creator)
    job = version.jobs.get(stage=stage)
    {"files": tasks.files, "previews": tasks.previews}[stage].apply(args=[job.pk], throw=True)
    job.refresh_from_db()
    assert job.state == "done", (job.state, job.last_error)
    return list(version.findings.all())


def test_there_are_more_than_two_hundred_and_no_two_are_alike() -> None:
    files = [make() for make in [*WEIGHTS.values(), *PICTURES.values()]]
    digests = {hashlib.sha256(file).hexdigest() for file in files}
    assert len(digests) == len(files) >= 200


@pytest.mark.parametrize("names", chunks(WEIGHTS, 8), ids=str)
def test_hostile_weights_never_pass_as_sound(
    names: tuple[str, ...], client: Client, uma: Account, policy: Any, children: Children
) -> None:
    version = factories.draft(uma)
    version.files.all().delete()
    kept: dict[str, str] = {}
    for name in names:
        before = version.files.count()
        weights = SimpleUploadedFile(f"{name}.ckpt", WEIGHTS[name]())
        with within_limits(name):
            answer = add(client, version, file=weights)
        if refused(answer):
            assert version.files.count() == before, name
        else:
            kept[version.files.latest("pk").code] = name
    if not kept:
        return
    with within_limits(", ".join(kept.values()), len(kept)):
        weighed = weigh(version, "files")
    found = [finding for finding in weighed if finding.code != "container.no_rule"]
    assert all(finding.code != "probe.broke" for finding in found), [f.reason for f in found]
    container = [finding for finding in found if finding.probe == "container"]
    assert {finding.file.code for finding in container} == set(kept)
    assert all(finding.reason.endswith((".", ")")) for finding in container)
    sound = {kept[f.file.code] for f in container if f.code == "container.sound"}
    assert sound == HARMLESS & set(names)


@pytest.mark.parametrize("names", chunks(PICTURES, 8), ids=str)
def test_hostile_pictures_are_refused_or_copied(
    names: tuple[str, ...], client: Client, uma: Account, policy: Any, children: Children
) -> None:
    version = factories.draft(uma)
    version.previews.all().delete()
    for name in names:
        before = version.previews.count()
        picture = SimpleUploadedFile("x.png", PICTURES[name]())
        with within_limits(name):
            answer = add(client, version, preview=picture)
        if refused(answer):
            assert version.previews.count() == before, name
            continue
        preview = version.previews.latest("pk")
        shown = Path(preview.shown.path).read_bytes()
        assert shown.startswith(b"\xff\xd8\xff")
        hidden = (b"script", b"Exif", b"ICC_PROFILE", b"PK\x03\x04", b"<?php")
        assert not any(words in shown for words in hidden), name
        page = client.get(reverse("preview", args=[preview.code]))
        assert page["Content-Type"] == "image/jpeg"
        assert page["X-Content-Type-Options"] == "nosniff"
    if version.previews.exists():
        with within_limits(", ".join(names), version.previews.count()):
            found = weigh(version, "previews")
        assert all(finding.code != "probe.broke" for finding in found), [f.reason for f in found]


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_data(name: str, client: Client, uma: Account, settings: Any) -> None:
    version = factories.draft(uma)
    content = factories.safetensors_bytes({"other": [1.0, 2.0]})
    begun = client.post(
        reverse("creator:upload-begin", args=[version.code]),
        json.dumps({"name": NAMES[name], "size": len(content)}),
        content_type="application/json",
    )
    if refused_or_ok(begun):
        return
    code = begun.json()["code"]
    part = reverse("creator:upload-part", args=[code, 1])
    assert client.put(part, content, content_type="application/octet-stream").status_code == 200
    answer = client.post(reverse("creator:upload-complete", args=[code]))
    assert answer.status_code == 200, answer.content
    file = version.files.get(code=answer.json()["file"])
    assert 0 < len(file.name) <= 255
    # Where it lies is our own choice, and below our own folder.
    assert Path(file.content.path).resolve().is_relative_to(Path(settings.MEDIA_ROOT).resolve())
    assert Path(file.content.name).name.isalnum()
    assert client.get(reverse("creator:version", args=[version.code])).status_code == 200
    # Somebody who may fetch it gets it as an attachment, whatever it is called.
    publish(version)
    fetched = client.get(reverse("download", args=[version.code, file.code]), follow=True)
    assert fetched.status_code == 200
    assert fetched["Content-Disposition"].startswith("attachment")
    assert not set("\r\n\0") & set(fetched["Content-Disposition"])


def publish(version: ModelVersion) -> None:
    now = timezone.now()
    ModelVersion.objects.filter(pk=version.pk).update(
        visibility="published", submitted_at=now, triaged_at=now, published_at=now
    )


def refused_or_ok(answer: Any) -> bool:
    return answer.status_code != 200 and refused(answer)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_in_an_envelope_is_data(name: str, client: Client, uma: Account) -> None:
    version = factories.draft(uma)
    written = NAMES[name].encode(errors="surrogatepass").replace(b'"', b"%22")
    head = b'--wall\r\nContent-Disposition: form-data; name="file"; filename="' + written
    content = factories.safetensors_bytes({"other": [1.0, 2.0]})
    answer = client.post(
        reverse("creator:add", args=[version.code]),
        head + b'"\r\n\r\n' + content + b"\r\n--wall--\r\n",
        content_type="multipart/form-data; boundary=wall",
    )
    assert refused(answer) or version.files.count() in {1, 2}
    assert client.get(reverse("creator:version", args=[version.code])).status_code == 200


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_is_refused_or_shown(name: str, client: Client) -> None:
    fields = {"title": "Ink wash", "description": "", **TEXTS[name]}
    body = "&".join(f"{field}={_quoted(text)}" for field, text in fields.items())
    answer = client.post(
        reverse("creator:create"), body, content_type="application/x-www-form-urlencoded"
    )
    if refused(answer):
        return
    version = ModelVersion.objects.get()
    assert client.get(reverse("creator:version", args=[version.code])).status_code == 200
    publish(version)
    for page in (reverse("home"), reverse("model", args=[version.code])):
        assert client.get(page).status_code == 200


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_in_json_is_refused_or_shown(name: str, uma: Account) -> None:
    from tests.test_api import ALL, Marketplace

    key = Marketplace(uma, *ALL).key
    fields = {"title": "Ink wash", **TEXTS[name]}
    for words in ("tags", "trigger_words"):
        if words in fields:
            fields[words] = fields[words].split(",")  # type: ignore[assignment]
    client = Client(raise_request_exception=False)
    answer = client.post(
        "/api/v1/models",
        json.dumps(fields),
        content_type="application/json",
        headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "one"},
    )
    assert answer.status_code in {201, 400, 413, 422}, answer.content
    if answer.status_code != 201:
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["code"]


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, errors="surrogatepass")


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("name", REQUESTS)
def test_an_envelope_that_lies_is_refused_or_handled(
    name: str, client: Client, uma: Account
) -> None:
    version = factories.draft(uma)
    kind, body = REQUESTS[name]()
    address = reverse("creator:add", args=[version.code])
    answer = client.generic("POST", address, body, content_type=kind)
    assert refused(answer) or version.files.count() in {1, 2}


def test_after_all_that_an_ordinary_upload_is_weighed(
    client: Client, uma: Account, policy: Any, children: Children
) -> None:
    version = factories.draft(uma)
    found = weigh(version, "files")
    assert [finding.code for finding in found if finding.probe == "container"] == [
        "container.sound"
    ]
