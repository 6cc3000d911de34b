"""Measures what reading strangers' files costs: processor time of files jobs and of previews.

Used by ``manage.py bench sandbox``, in a database of its own.
"""

import os
import statistics
from collections.abc import Callable
from typing import Any

import psutil
from django.core.files.uploadedfile import SimpleUploadedFile
from tqdm import tqdm

from moderation.intake import model_create, version_add_file, version_add_preview, version_submit
from moderation.models import Account, TriageJob
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.states import JobState
from triage import tasks
from triage.demo_uploads import UPLOADS, weights_of


def measure(*, picture: bytes, rounds: int) -> dict[str, Any]:
    """Return the median and the range of processor seconds, user and system, of all processes.

    One round adds a preview (a JPEG of 1,024 pixels a side, through the service behind the door)
    and does the files job of a version with one small LoRA. The first round warms up and does not
    count.
    """
    load = os.getloadavg()[0]
    policy_import(content=policy_read(POLICY_DIR / "default.yaml"), activate=True, actor=None)
    creator = Account.objects.create(username="bench")
    taken: dict[str, list[float]] = {"files_job": [], "preview": []}
    for number in tqdm(range(rounds + 1), desc="sandbox", unit=" rounds"):
        version = model_create(title=f"Bench {number}", actor=creator)
        weights = SimpleUploadedFile(*weights_of(UPLOADS[0]))
        version_add_file(version=version, upload=weights, actor=creator)
        shown = SimpleUploadedFile("shown.jpg", picture + str(number).encode())
        preview = _processor_seconds(
            lambda version=version, shown=shown: version_add_preview(  # type: ignore[misc]
                version=version, upload=shown, actor=creator
            )
        )
        job = version_submit(version=version, actor=creator).jobs.get(stage="files")
        files = _processor_seconds(lambda job=job: tasks.files(job.pk))  # type: ignore[misc]
        if number:
            taken["preview"].append(preview)
            taken["files_job"].append(files)
    done = TriageJob.objects.filter(stage="files", state=JobState.DONE).count()
    figures = {
        f"{name}_cpu_seconds{suffix}": round(number(seconds), 4)
        for name, seconds in taken.items()
        for suffix, number in (("", statistics.median), ("_least", min), ("_most", max))
    }
    return {"cores": os.cpu_count(), "load_average": load, "jobs_done": done, **figures}


def _processor_seconds(work: Callable[[], object]) -> float:
    before = _used()
    work()
    return _used() - before


def _used() -> float:
    """Return the processor seconds of this process, of those it started and of those it ended."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)
