"""Measures how much more two worker processes do than one, and whether a simulation foresees it.

Used by ``manage.py bench workers``. PostgreSQL and Redis only: that is where several processes
share the work. Each process has one thread and one core (``ENCODER_THREADS=1``).
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management.base import CommandError
from django.db import transaction
from django.test.utils import override_settings
from tqdm import tqdm

from moderation.dispatch import MOST_WAITING
from moderation.intake import model_create, version_add_file, version_add_preview, version_submit
from moderation.management.own_database import (
    database_of_its_own,
    database_url,
    require_postgresql,
)
from moderation.models import (
    Account,
    Finding,
    Heartbeat,
    ModelFile,
    ModelVersion,
    PreviewImage,
    TriageJob,
)
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.simulation import Durations, House, percentile, run
from moderation.states import JobState
from triage.demo_uploads import UPLOADS, weights_of

PREVIEWS = 4
# Versions before a run is measured: every process loads its encoder, and one embeds the prompts.
WARM_UP = 3
# Versions whose jobs tell the simulation how long work takes; none of those it then foresees.
CALIBRATION = 12
# The sweeper, which would send what does not fit into the queues, is not running.
MOST_VERSIONS = MOST_WAITING - 2 * WARM_UP
QUEUES = "triage.cpu,triage.gpu"
# A worker that has done nothing for so long has died or was never started.
PATIENCE = 300.0


@dataclass(frozen=True)
class Run:
    """What one run did: versions a second, waits of jobs, and processor time for a version."""

    throughput: float
    waits: tuple[float, ...]
    cpu: float


@dataclass(frozen=True)
class Calibration:
    """How long jobs took in a short run of one worker, and how long it took between them."""

    files: tuple[float, ...]
    previews: tuple[float, ...]
    between: float


def measure(*, encoder: str, picture: bytes, versions: int, turns: int) -> dict[str, Any]:
    """Let one process, then two, weigh ``versions`` versions, ``turns`` times; return the figures.

    Raises CommandError without PostgreSQL and an empty Redis database.
    """
    require_postgresql()
    if not CALIBRATION <= versions <= MOST_VERSIONS:
        raise CommandError(f"--versions should be from {CALIBRATION} to {MOST_VERSIONS}.")
    load = os.getloadavg()[0]
    with _redis_of_its_own(), TemporaryDirectory(prefix="weighhouse-bench-") as folder:
        house = _House(Path(folder), encoder)
        with database_of_its_own("bench_workers"), override_settings(MEDIA_ROOT=house.files):
            house.furnish(picture)
            runs: dict[int, list[Run]] = {1: [], 2: []}
            with house.workers(1):
                calibrated = house.calibrate()
            progress = tqdm(total=2 * turns, desc="workers", unit=" runs", file=sys.stderr)
            for turn in range(turns):
                # Who begins changes, so that what grows with the tables favours neither.
                for workers in (1, 2) if turn % 2 == 0 else (2, 1):
                    with house.workers(workers) as processes:
                        runs[workers].append(house.run(versions, processes))
                    progress.update()
            progress.close()
            if not Finding.objects.filter(probe="previews", outcome="scored").exists():
                raise CommandError("The previews were not scored, so nothing was measured.")
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": load,
        "encoder": "demo" if encoder == "demo" else "ViT-B/32 with random weights, fp32",
        "threads_of_a_process": 1,
        "versions": versions,
        "previews_of_a_version": PREVIEWS,
        "turns": turns,
        **_figures(runs[1], runs[2]),
        **_foreseen(calibrated, versions, runs[1]),
    }


def _figures(one: Sequence[Run], two: Sequence[Run]) -> dict[str, float]:
    return {
        "throughput_1": round(statistics.median(run.throughput for run in one), 3),
        "throughput_2": round(statistics.median(run.throughput for run in two), 3),
        "worker_ratio": round(
            statistics.median(
                both.throughput / alone.throughput for alone, both in zip(one, two, strict=True)
            ),
            3,
        ),
        "cpu_seconds_1": round(statistics.median(run.cpu for run in one), 3),
        "cpu_seconds_2": round(statistics.median(run.cpu for run in two), 3),
    }


def _foreseen(calibration: Calibration, versions: int, measured: Sequence[Run]) -> dict[str, float]:
    """Return what the simulation says of one worker, beside what one worker did."""
    house = House(
        files=Durations.drawn_from(calibration.files),
        previews=Durations.drawn_from(calibration.previews),
        handling=Durations(0),
        workers=1,
        moderators=1,
        review_share=0,
        overhead=calibration.between,
    )
    course = run(house, np.zeros(versions), 1.0, np.random.default_rng(0))
    throughput = versions / float(course.weighed.max())
    wait = percentile(course.lines["workers"].waits, 95)
    real = statistics.median(run.throughput for run in measured)
    real_wait = statistics.median(percentile(np.array(run.waits), 95) for run in measured)
    return {
        "files_seconds": round(house.files.mean, 4),
        "previews_seconds": round(house.previews.mean, 4),
        "between_jobs_seconds": round(calibration.between, 4),
        "simulated_throughput_1": round(throughput, 3),
        "simulated_over_measured": round(throughput / real, 3),
        "wait_p95_1": round(real_wait, 2),
        "simulated_wait_p95_1": round(wait, 2),
        "simulated_wait_over_measured": round(wait / real_wait, 3),
    }


class _House:
    """A creator, a policy, a version to copy, and workers that come and go."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.encoder = encoder

    def furnish(self, picture: bytes) -> None:
        """Bring one version through the door; the others are rows that name the same files."""
        policy_import(content=policy_read(POLICY_DIR / "demo.yaml"), activate=True, actor=None)
        self.creator = Account.objects.create(username="bench", email="bench@example.org")
        self.pattern = model_create(title="Bench", actor=self.creator)
        weights = SimpleUploadedFile(*weights_of(UPLOADS[0]))
        version_add_file(version=self.pattern, upload=weights, actor=self.creator)
        version_add_preview(
            version=self.pattern,
            upload=SimpleUploadedFile("preview.jpg", picture),
            actor=self.creator,
        )
        self.made = 0

    @contextmanager
    def workers(self, count: int) -> Iterator[list[psutil.Process]]:
        """Start so many worker processes, warm, and end them."""
        environment = {
            **os.environ,
            "WEIGHHOUSE_DATA": str(self.folder),
            "STORAGE_URL": self.files.as_uri(),
            "DATABASE_URL": database_url(),
            "ENCODER": self.encoder,
            "ENCODER_THREADS": "1",
        }
        command = [sys.executable, "-m", "celery", "-A", "config", "worker", "--pool", "threads"]
        command += ["--concurrency", "1", "-Q", QUEUES, "--loglevel", "warning"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "-n"]
        with (self.folder / "workers.log").open("ab") as log:
            started = [
                subprocess.Popen(
                    [*command, f"bench{number}@%h"],
                    cwd=settings.BASE_DIR,
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
                for number in range(count)
            ]
        try:
            self._wait(lambda: Heartbeat.objects.count() == count, started)
            self._weigh(WARM_UP * count, started)
            yield [psutil.Process(process.pid) for process in started]
        finally:
            for process in started:
                process.terminate()
            for process in started:
                try:
                    process.wait(timeout=40)
                except subprocess.TimeoutExpired:
                    process.kill()
            Heartbeat.objects.all().delete()

    def calibrate(self) -> Calibration:
        """Return how long the jobs of a few versions take the one worker that is there."""
        rows = self._weigh(CALIBRATION, [])
        times = {
            stage: tuple(
                (ended - began).total_seconds() for of, began, ended in rows if of == stage
            )
            for stage in TriageJob.Stage.values
        }
        gaps = [(after[1] - before[2]).total_seconds() for before, after in pairwise(rows)]
        return Calibration(times["files"], times["previews"], statistics.mean(gaps))

    def run(self, versions: int, processes: Sequence[psutil.Process]) -> Run:
        """Let the workers weigh so many versions that are there all at once."""
        before = processor_seconds(processes)
        rows = self._weigh(versions, [])
        used = processor_seconds(processes) - before
        begun = rows[0][1]
        lasted = (max(ended for _, _, ended in rows) - begun).total_seconds()
        waits = tuple((began - begun).total_seconds() for _, began, _ in rows)
        return Run(versions / lasted, waits, used / versions)

    def _weigh(
        self, count: int, started: Sequence[subprocess.Popen[bytes]]
    ) -> list[tuple[str, Any, Any]]:
        """Submit so many versions at once, wait, and return stage, begin and end of each job."""
        drafts = [self._draft() for _ in range(count)]
        with transaction.atomic():
            for draft in drafts:
                version_submit(version=draft, actor=self.creator)
        jobs = TriageJob.objects.filter(version__in=drafts)
        self._wait(
            lambda: not jobs.filter(state__in=[JobState.QUEUED, JobState.RUNNING]).exists(), started
        )
        if jobs.exclude(state=JobState.DONE, attempts=1).exists():
            raise CommandError(f"A job failed while measuring: {jobs.exclude(error='').first()}")
        return list(jobs.order_by("leased_at").values_list("stage", "leased_at", "finished_at"))

    def _draft(self) -> ModelVersion:
        """Return a draft with the files of the pattern under digests of their own.

        What was seen before is not embedded again, and here everything is to be.
        """
        self.made += 1
        version = model_create(title=f"Bench {self.made}", actor=self.creator)
        for file in self.pattern.files.all():
            ModelFile.objects.create(
                version=version, name=file.name, content=file.content.name, size=file.size,
                sha256=f"{self.made:064x}", format=file.format,
            )  # fmt: skip
        shown = self.pattern.previews.get()
        PreviewImage.objects.bulk_create(
            PreviewImage(
                version=version, name=shown.name, original=shown.original.name,
                shown=shown.shown.name, sha256=f"{self.made:032x}{place:032x}",
                width=shown.width, height=shown.height, position=place,
            )
            for place in range(PREVIEWS)
        )  # fmt: skip
        return version

    def _wait(self, done: Any, started: Sequence[subprocess.Popen[bytes]]) -> None:
        until = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > until or any(each.poll() is not None for each in started):
                lines = (self.folder / "workers.log").read_text(errors="replace").splitlines()
                raise CommandError("The workers did not do their work:\n" + "\n".join(lines[-20:]))
            time.sleep(0.1)


def processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the processor time of these, of what they started, and of what those waited for."""
    below = [child for process in processes for child in process.children(recursive=True)]
    times = [process.cpu_times() for process in (*processes, *below)]
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


@contextmanager
def _redis_of_its_own() -> Iterator[None]:
    """Empty the Redis database afterwards; refuse one that somebody uses."""
    if not settings.CELERY_BROKER_URL.startswith("redis"):
        raise CommandError("This needs Redis: set REDIS_URL to a database of your own.")
    from redis import Redis, RedisError  # an extra, as the settings that ask for it

    redis = Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=5)
    try:
        if redis.dbsize():
            raise CommandError(
                "The Redis database that REDIS_URL names is not empty, and would be emptied at the "
                "end. Name another, such as redis://127.0.0.1:6379/9."
            )
    except RedisError as error:
        raise CommandError(f"Redis at REDIS_URL does not answer: {error}") from error
    try:
        yield
    finally:
        redis.flushdb()
