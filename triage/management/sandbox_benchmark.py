"""Measures what reading strangers' files costs: processor time of files jobs and of previews.

Used by ``manage.py bench sandbox``, in a database of its own.
"""

import os
import statistics
from typing import Any

import psutil
from django.core.files.uploadedfile import SimpleUploadedFile
from tqdm import tqdm

from moderation.intake import model_create, version_add_file, version_add_preview, version_submit
from moderation.models import Account, ModelVersion, TriageJob
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.states import JobState
from triage import tasks
from triage.demo_uploads import UPLOADS, weights_of
from triage.management.workers_benchmark import processor_seconds

PER_ROUND = 4


def measure(*, picture: bytes, rounds: int) -> dict[str, Any]:
    """Return the median and the range of processor seconds, user and system, of all processes.

    Each is the mean of a round, since processor time is told in hundredths of a second. A round
    adds previews (JPEGs of 1,024 pixels a side, through the service behind the door) and does the
    files jobs of as many versions, each with one small LoRA. The first warms up and is left out.
    """
    load, here = os.getloadavg()[0], [psutil.Process()]
    policy_import(content=policy_read(POLICY_DIR / "default.yaml"), activate=True, actor=None)
    creator = Account.objects.create(username="bench")
    taken: dict[str, list[float]] = {"files_job": [], "preview": []}
    for number in tqdm(range(rounds + 1), desc="sandbox", unit=" rounds"):
        versions = [_draft(creator, f"Bench {number} {place}") for place in range(PER_ROUND)]
        began = processor_seconds(here)
        for version in versions:
            # Another picture each time: readers stop where a JPEG ends.
            shown = SimpleUploadedFile("shown.jpg", picture + version.code.encode())
            version_add_preview(version=version, upload=shown, actor=creator)
        added = processor_seconds(here)
        jobs = [
            version_submit(version=version, actor=creator).jobs.get(stage="files").pk
            for version in versions
        ]
        submitted = processor_seconds(here)
        for job in jobs:
            tasks.files(job)
        weighed = processor_seconds(here)
        if number:
            taken["preview"].append((added - began) / PER_ROUND)
            taken["files_job"].append((weighed - submitted) / PER_ROUND)
    done = TriageJob.objects.filter(stage="files", state=JobState.DONE).count()
    figures = {
        f"{name}_cpu_seconds{suffix}": round(number(seconds), 4)
        for name, seconds in taken.items()
        for suffix, number in (("", statistics.median), ("_least", min), ("_most", max))
    }
    return {"cores": os.cpu_count(), "load_average": load, "jobs_done": done, **figures}


def _draft(creator: Account, title: str) -> ModelVersion:
    version = model_create(title=title, actor=creator)
    weights = SimpleUploadedFile(*weights_of(UPLOADS[0]))
    version_add_file(version=version, upload=weights, actor=creator)
    return version
