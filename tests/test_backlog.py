"""Ten thousand jobs that can never succeed stand at the head: fresh uploads begin all the same."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.utils import timezone

from moderation.models import (
    Account,
    ModelFile,
    ModelVersion,
    Policy,
    PreviewImage,
    TriageJob,
    UploadedModel,
)
from tests import factories
from tests.processes import House, wait_until
from triage import tasks

pytestmark = pytest.mark.django_db(transaction=True)
HOPELESS = 10_000
FRESH = 5


@pytest.fixture
def house(settings: Any, tmp_path: Path) -> Iterator[House]:
    """Return a house whose worker is still to be started."""
    settings.MEDIA_ROOT = django_settings.DATA_DIR / "files"
    current_app.conf.task_always_eager = False
    running = House(tmp_path / "house.log")
    yield running
    running.close()


def _hopeless(creator: Account, policy: Policy) -> None:
    """Write versions whose stored files are gone; each of their jobs has failed once already."""
    long_ago = timezone.now() - timedelta(hours=1)
    count = HOPELESS // len(TriageJob.Stage.values)
    pages = UploadedModel.objects.bulk_create(
        UploadedModel(creator=creator, title=f"Lost {number}") for number in range(count)
    )
    versions = ModelVersion.objects.bulk_create(
        ModelVersion(uploaded_model=page, visibility="quarantined", submitted_at=long_ago)
        for page in pages
    )
    ModelFile.objects.bulk_create(
        ModelFile(version=version, name="lost.safetensors", content="quarantine/lost", size=1,
                  sha256="0" * 64, format="safetensors")
        for version in versions
    )  # fmt: skip
    PreviewImage.objects.bulk_create(
        PreviewImage(version=version, name="lost.png", original="quarantine/lost",
                     shown="quarantine/lost", sha256="0" * 64, width=1, height=1)
        for version in versions
    )  # fmt: skip
    TriageJob.objects.bulk_create(
        TriageJob(version=version, policy=policy, stage=stage, attempts=1, not_before=long_ago)
        for version in versions
        for stage in TriageJob.Stage.values
    )


def test_ten_thousand_hopeless_jobs_delay_no_fresh_one(
    house: House, uma: Account, rui: Account, policy: Policy
) -> None:
    _hopeless(rui, policy)
    house.start_worker()
    tried = TriageJob.objects.filter(attempts__gte=2)
    wait_until(lambda: tried.count() >= 20, seconds=120, what="the worker to try in vain")
    fresh = [factories.submitted(uma, title=f"Fresh {number}") for number in range(FRESH)]
    jobs = TriageJob.objects.filter(version__in=fresh)
    wait_until(lambda: not jobs.exclude(state="done").exists(), seconds=300, what="the fresh ones")
    waits = [
        (began - came).total_seconds()
        for came, began in jobs.values_list("created_at", "leased_at")
        if began
    ]
    assert len(waits) == 2 * FRESH
    assert np.percentile(waits, 95) < 60
    assert TriageJob.objects.filter(state="queued").count() > HOPELESS / 2
    assert not ModelVersion.objects.filter(
        uploaded_model__creator=rui, visibility="published"
    ).exists()


def test_a_worker_that_takes_a_newer_job_than_its_message_names_weighs_that_one(
    uma: Account, policy: Policy, asleep: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = (factories.submitted(uma, title=title) for title in ("Older", "Newer"))
    TriageJob.objects.filter(version=older).update(not_before=timezone.now() - timedelta(minutes=5))
    monkeypatch.setattr("moderation.jobs.NEWEST_SHARE", 1.0)
    tasks.files(older.jobs.get(stage="files").pk)
    assert not older.findings.exists()
    assert newer.jobs.get(stage="files").state == "done"
    found = newer.findings.get(probe="container")
    assert found.file == newer.files.get()
