"""One upload from draft to overturned appeal: real worker, real clock, real demo encoder."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from moderation import intake
from moderation.models import Account, Case, Decision, Heartbeat, ModelVersion, Notice
from tests import factories
from tests.processes import House, at_work, wait_until
from triage.demo_encoder.scenes import compose, draw

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("policy")]
Browser = Callable[[Account | None], Client]


@pytest.fixture
def house(settings: Any, tmp_path: Path) -> Iterator[House]:
    """Start a worker and a clock; messages really travel."""
    settings.MEDIA_ROOT = django_settings.DATA_DIR / "files"
    current_app.conf.task_always_eager = False
    running = House(tmp_path / "house.log")
    running.start_worker()
    yield running
    running.close()


def drawing(*things: tuple[str, str], seed: int = 7) -> SimpleUploadedFile:
    """Return a preview with these coloured shapes on white."""
    scene = compose(list(things), np.random.default_rng(seed), background="white", pattern="plain")
    stream = io.BytesIO()
    draw(scene, 256).save(stream, "PNG")
    return SimpleUploadedFile("drawing.png", stream.getvalue())


def _upload(client: Client, title: str, preview: SimpleUploadedFile) -> ModelVersion:
    client.post(reverse("creator:create"), {"title": title, "description": "Shapes."})
    version = ModelVersion.objects.get(uploaded_model__title=title)
    files = {"file": factories.weights_upload(), "preview": preview}
    assert client.post(reverse("creator:add", args=[version.code]), files).status_code == 302
    assert client.post(reverse("creator:submit", args=[version.code])).status_code == 302
    return version


def _weighed(version: ModelVersion) -> bool:
    version.refresh_from_db()
    return version.triaged_at is not None


def test_an_upload_travels_from_draft_to_an_overturned_appeal(
    house: House, as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    creator, moderator, second = as_(uma), as_(mo), as_(ada)

    version = _upload(creator, "Evening sky", drawing(("red", "star"), ("red", "star")))
    wait_until(lambda: _weighed(version), seconds=90, what="the worker to weigh the upload")
    assert version.visibility == "quarantined"
    case = version.cases.get()
    assert not case.is_incomplete
    worst = version.findings.filter(outcome="scored").order_by("-score").first()
    assert worst is not None
    assert worst.rule is not None
    assert (worst.rule.slug, worst.concern) == ("red-star", "hold")
    assert {"probe", "policy", "encoder"} <= set(worst.versions)
    assert as_(None).get(reverse("model", args=[version.code])).status_code == 404

    assert moderator.post(reverse("console:next")).url == reverse("console:case", args=[case.code])
    page = moderator.get(reverse("console:case", args=[case.code])).content.decode()
    assert "Red stars" in page
    removal = {
        "action": "remove",
        "rules": ["red-star"],
        "facts": "Two red stars on white.",
        "private_note": "",
    }
    moderator.post(reverse("console:decide", args=[case.code]), removal)
    decision = Decision.objects.get()
    version.refresh_from_db()
    assert version.visibility == "removed"
    wait_until(
        lambda: Notice.objects.filter(kind="decision_remove", state="sent").exists(),
        # Ten seconds in which it can be undone, a sweep, and another if a message got lost.
        seconds=120,
        what="the notice to be sent",
    )

    address = reverse("creator:decision", args=[decision.code])
    assert "Two red stars on white." in creator.get(address).content.decode()
    assert creator.post(address, {"text": "They are flowers."}).status_code == 302
    assert moderator.post(reverse("console:claim", args=[case.code])).status_code == 403
    assert second.post(reverse("console:next")).url == reverse("console:case", args=[case.code])
    answer = {"outcome": "overturned", "answer": "They are flowers indeed."}
    heard = reverse("console:answer", args=[case.code, case.appeals.get().code])
    assert second.post(heard, answer).status_code == 302

    version.refresh_from_db()
    assert version.visibility == "published"
    assert as_(None).get(reverse("model", args=[version.code])).status_code == 200
    case = Case.objects.get()
    assert case.state == "closed"
    assert "They are flowers indeed." in creator.get(address).content.decode()
    assert [event.action for event in version.events.all()] == [
        "model.created",
        "version.submitted",
        "triage.answered",
        "case.opened",
        "triage.answered",
        "case.claimed",
        "decision.made",
        "case.decided",
        "decision.in_force",
        "case.appealed",
        "appeal.filed",
        "case.claimed",
        "decision.made",
        "decision.in_force",
        "appeal.overturned",
        "version.restored",
        "case.closed",
    ]
    call_command("audit_verify")


def test_a_clean_upload_is_published_by_the_machine_and_its_creator_told(
    house: House, as_: Browser, uma: Account
) -> None:
    version = _upload(as_(uma), "Meadow", drawing(("green", "circle"), ("blue", "square")))
    wait_until(lambda: _weighed(version), seconds=90, what="the worker to weigh the upload")
    assert version.visibility == "published", list(version.findings.values_list("reason", "score"))
    assert Notice.objects.filter(kind="published", recipient=uma).exists()


def test_fifty_uploads_survive_three_kills_of_the_worker_with_each_finding_once(
    house: House, uma: Account
) -> None:
    house.kill(house.processes[-1])
    house.environment["LEASE_SECONDS"] = "8"
    versions = [factories.submitted(uma, title=f"Upload {number}") for number in range(50)]

    def weighed() -> int:
        return ModelVersion.objects.filter(triaged_at__isnull=False).count()

    for kill in range(3):
        worker = house.start_worker()
        before = weighed()
        wait_until(lambda: weighed() >= before + 3, seconds=120, what="some uploads")  # noqa: B023
        assert weighed() < 50, f"kill {kill + 1} came after all was done"
        house.kill(worker)
    house.start_worker()
    wait_until(lambda: weighed() == 50, seconds=300, what="all 50 uploads to be weighed")

    for version in versions:
        version.refresh_from_db()
        assert set(version.jobs.values_list("state", flat=True)) == {"done"}
        assert version.visibility == "published"
        keys = list(version.findings.values_list("job", "key"))
        assert len(keys) == len(set(keys))
        # One answer for the file, and one for each rule about the preview.
        assert version.findings.filter(probe="container").count() == 1
        assert version.findings.filter(probe="previews").count() == 4
    call_command("audit_verify")


def test_a_worker_that_is_told_to_end_ends_in_time_and_gives_its_work_back(
    uma: Account, settings: Any, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = django_settings.DATA_DIR / "files"
    current_app.conf.task_always_eager = False
    house = House(tmp_path / "house.log", DRAIN_SECONDS="0.5")
    try:
        version = factories.draft(uma)
        weights = version.files.get()
        size = 3_000_000_000
        header = f'{{"weight":{{"dtype":"F16","shape":[{size // 2}],"data_offsets":[0,{size}]}}}}'
        with Path(weights.content.path).open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header.encode())
            stream.truncate(8 + len(header) + size)
        version = intake.version_submit(version=version, actor=uma)
        job = version.jobs.get(stage="files")
        worker = house.start_worker()

        def running() -> bool:
            job.refresh_from_db()
            return job.state == "running"

        wait_until(running, seconds=60, what="the worker to begin")
        children = psutil.Process(worker.pid).children(recursive=True)
        worker.terminate()
        worker.wait(timeout=10)
        job.refresh_from_db()
        assert (job.state, job.attempts) == ("queued", 0)
        assert not Heartbeat.objects.filter(kind="worker").exists()
        assert not [child for child in children if at_work(child)]
    finally:
        house.close()
