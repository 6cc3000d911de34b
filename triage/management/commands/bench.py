"""Measure triage, the sandbox, the queue, a flood of reports, or workers, on this machine."""

import gc
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from celery import current_app
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections
from django.test.utils import override_settings
from PIL import Image
from tqdm import tqdm

from moderation.intake import model_create, version_add_file, version_add_preview, version_submit
from moderation.management import queue_benchmark, reports_benchmark
from moderation.models import Account, Finding, ModelVersion
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.selectors.workers import triage_sample
from triage import encoders, tasks
from triage.demo_uploads import UPLOADS, weights_of
from triage.encoders.base import Array, Encoder
from triage.encoders.onnx import OnnxEncoder
from triage.management import sandbox_benchmark, workers_benchmark
from triage.pictures import read_picture
from triage.probes.previews import PreviewsProbe
from triage.rescreening import rescreen
from triage.sample import Concept, Policy, Preview, Rule, Sample
from triage.tasks import previews

ARCHITECTURE = "ViT-B-32"
BATCH = 8
PER_VERSION = 8  # previews; a batch of the encoder
# Versions that each thread of the worker weighs in one turn. With one, nobody would read while
# somebody else's pictures are embedded; with few, the first reading and the last commit, beside
# which the encoder has nothing to do, would weigh more than they do in a worker that goes on.
PER_WORKER = 8


class Command(BaseCommand):
    """``manage.py bench triage``, ``sandbox``, ``queue``, ``reports`` and ``workers``."""

    help = (
        "Measure triage on this machine: encoders side by side, from stored files to committed "
        "findings, memory over thousands of pictures, and scoring again after a change of policy. "
        "Ratios come from one run in which the rivals take turns, so they hold on a busy machine "
        "too. Uses a database and files of its own. Needs the torch extra. With a GPU it adds a "
        "table in bf16. “bench queue” fills a database of its own on PostgreSQL with as many "
        "cases and events as it is told, and measures the queue with eight moderators. “bench "
        "reports” sends a flood of reports against one model to a real web server on PostgreSQL. "
        "“bench workers” lets one worker process and then two weigh the same uploads, on "
        "PostgreSQL and an empty Redis database, and says what the simulation had foreseen. "
        "“bench sandbox” says how much processor time a files job and a preview take. "
        "docs/benchmarks.md holds what was measured."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare what to measure and how long."""
        parser.add_argument("what", choices=["triage", "sandbox", "queue", "reports", "workers"])
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--rounds", type=int, default=8, help="turns of each rival (8)")
        parser.add_argument("--pictures", type=int, default=5000, help="for memory (5000)")
        parser.add_argument("--embeddings", type=int, default=100_000, help="to score (100000)")
        parser.add_argument(
            "--threads",
            type=int,
            help="of encoders side by side (all cores); fewer on a machine that is busy",
        )
        parser.add_argument("--workers", type=int, default=2, help="threads of the worker (2)")
        queue = parser.add_argument_group("bench queue")
        queue.add_argument("--cases", type=int, default=1_000_000, help="in the tables (1000000)")
        queue.add_argument("--open", type=int, default=100_000, help="of them open (100000)")
        queue.add_argument("--events", type=int, default=5_000_000, help="in the record (5000000)")
        queue.add_argument("--seconds", type=float, default=60, help="of moderating (60)")
        queue.add_argument(
            "--keep",
            action="store_true",
            help="the database, to measure again without filling it (then there is no growth)",
        )

        flood = parser.add_argument_group("bench reports (and --seconds)")
        flood.add_argument("--reports", type=int, default=3000, help="on one model (3000)")
        flood.add_argument("--accounts", type=int, default=1000, help="who send them (1000)")

        workers = parser.add_argument_group("bench workers")
        workers.add_argument("--versions", type=int, default=24, help="in each run (24)")
        workers.add_argument("--turns", type=int, default=2, help="of one and of two (2)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure and report."""
        if options["what"] == "sandbox":
            with _house_of_its_own():
                figures = sandbox_benchmark.measure(picture=_jpeg(0), rounds=options["rounds"])
            self._report(figures, as_json=options["json"])
            return
        if options["what"] == "workers":
            self._report(
                workers_benchmark.measure(
                    encoder=self._encoder_folder(),
                    picture=_jpeg(0),
                    versions=options["versions"],
                    turns=options["turns"],
                ),
                as_json=options["json"],
            )
            return
        if options["what"] == "reports":
            self._report(
                reports_benchmark.measure(
                    reports=options["reports"],
                    accounts=options["accounts"],
                    seconds=options["seconds"],
                ),
                as_json=options["json"],
            )
            return
        if options["what"] == "queue":
            self._report(
                queue_benchmark.measure(
                    cases=options["cases"],
                    opened=options["open"],
                    events=options["events"],
                    seconds=options["seconds"],
                    keep=options["keep"],
                ),
                as_json=options["json"],
            )
            return
        threads = options["threads"] or os.cpu_count() or 1
        # Before torch is loaded: memory that something else has freed would hide a leak.
        memory = _memory(options["pictures"])
        try:
            from triage.encoders import speed
        except ImportError as error:
            raise CommandError(f"This needs the extra “torch” ({error}).") from error
        speed.use_threads(threads)
        kept = settings.DATA_DIR / "bench"
        checkpoint = speed.random_checkpoint(ARCHITECTURE, kept)
        for int8 in (False, True):
            self._exported(checkpoint, int8=int8)
        found: dict[str, Any] = {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "threads": threads,
            "architecture": ARCHITECTURE,
            **memory,
        }
        loop = speed.plain_loop(ARCHITECTURE, checkpoint)
        found |= _side_by_side(loop, kept, options["rounds"], threads)
        del loop
        gc.collect()
        found |= _end_to_end(f"onnx:{kept / 'fp32'}", options["rounds"], options["workers"])
        found |= _rescreening(options["embeddings"])
        found["gpu"] = speed.gpu_name()
        if found["gpu"]:
            found["gpu_table"] = speed.gpu_rows(kept, [_jpeg(number) for number in range(64)])
        self._report(found, as_json=options["json"])

    def _encoder_folder(self) -> str:
        """Return the encoder that workers are measured with: a real size where torch is there."""
        try:
            from triage.encoders import speed
        except ImportError:
            self.stderr.write("Without the extra “torch” this measures with the demo encoder.")
            return "demo"
        checkpoint = speed.random_checkpoint(ARCHITECTURE, settings.DATA_DIR / "bench")
        return f"onnx:{self._exported(checkpoint, int8=False)}"

    def _exported(self, checkpoint: Path, *, int8: bool) -> Path:
        """Return the folder of the encoder, exported once and kept."""
        folder: Path = settings.DATA_DIR / "bench" / ("int8" if int8 else "fp32")
        if not (folder / "config.json").exists():
            self.stderr.write(f"Exporting {ARCHITECTURE} as {folder.name}, once ...")
            _export(checkpoint, folder, int8)
        return folder

    def _report(self, found: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(found))
            return
        for name, value in found.items():
            self.stdout.write(f"{name:28} {value}")


def _export(checkpoint: Path, folder: Path, int8: bool) -> None:
    """Export in a process of its own, which takes its memory with it."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "encoder", "export"]
    command += ["--model", ARCHITECTURE, "--pretrained", str(checkpoint), "--out", str(folder)]
    subprocess.run([*command, *(["--int8"] if int8 else [])], check=True, capture_output=True)


def _jpeg(number: int, side: int = 1024) -> bytes:
    """Return a picture as a JPEG of the size that image models make: soft shapes and grain."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    grain = random.normal(0, 6, (side, side, 1))
    pixels = (np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _side_by_side(
    loop: Callable[[Sequence[Image.Image]], Array], folder: Path, rounds: int, threads: int
) -> dict[str, float]:
    """Return how quick each rival is with the same decoded pictures, taking turns."""
    images = [Image.open(io.BytesIO(_jpeg(n, 512))).convert("RGB") for n in range(BATCH)]
    rivals: dict[str, Callable[[Sequence[Image.Image]], Array]] = {
        "loop": loop,
        "onnx": OnnxEncoder.load(folder / "fp32", threads=threads).embed_images,
        "int8": OnnxEncoder.load(folder / "int8", threads=threads).embed_images,
    }
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for embed in rivals.values():
        embed(images)
    for _ in tqdm(range(rounds), desc="encoders side by side", unit=" turns"):
        for name, embed in rivals.items():
            taken[name].append(_seconds(lambda embed=embed: embed(images)))  # type: ignore[misc]
    ratios = {
        f"{name}_vs_loop": statistics.median(
            plain / own for plain, own in zip(taken["loop"], taken[name], strict=True)
        )
        for name in ("onnx", "int8")
    }
    speeds = {
        f"{name}_per_second": BATCH / statistics.median(times) for name, times in taken.items()
    }
    return ratios | speeds


@contextmanager
def _house_of_its_own() -> Iterator[None]:
    """Give the measurement a database, files and a broker that nobody else sees."""
    before = str(connection.settings_dict["NAME"])
    with TemporaryDirectory(prefix="weighhouse-bench-") as folder:
        current_app.conf.update(broker_url="memory://")
        if connection.vendor == "sqlite":
            # A file of its own each time: SQLite does not bear one that is removed while open.
            connection.settings_dict["TEST"]["NAME"] = Path(folder, "bench.sqlite3")
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        try:
            with override_settings(MEDIA_ROOT=folder):
                yield
        finally:
            connections.close_all()
            connection.creation.destroy_test_db(before, verbosity=0)


def _end_to_end(encoder: str, rounds: int, workers: int) -> dict[str, float]:
    """Return the speed from stored files to committed findings, beside the encoder's own.

    Its own is that of the network alone, on the same pictures in batches of one version, prepared
    beforehand: nothing is read, resized, queued or written. ``with_preparation`` starts from
    decoded pictures instead, as ``embed_images`` does.
    """
    files = [_jpeg(number) for number in range(PER_VERSION)]
    alone = OnnxEncoder.load(Path(encoder.removeprefix("onnx:")))
    whole: list[float] = []
    own: list[float] = []
    with_preparation: list[float] = []
    with _house_of_its_own(), override_settings(ENCODER=encoder):
        tasks._probes.cache_clear()
        together = workers * PER_WORKER
        jobs = _submitted(files, rounds * together + 1)
        stored = [
            Path(preview.path)
            for preview in tasks.sample_from(triage_sample(job_id=jobs[0])).previews
        ]
        images = [read_picture(path) for path in stored]
        prepared = [alone.prepare(image) for image in images]
        _weigh(jobs[:1], 1)  # embeds the prompts, once for a policy
        for turn in tqdm(range(rounds), desc="end to end", unit=" turns"):
            mine = jobs[1 + turn * together : 1 + (turn + 1) * together]
            whole.append(_seconds(lambda mine=mine: _weigh(mine, workers)))  # type: ignore[misc]
            own.append(_seconds(lambda: [alone.embed_prepared(prepared) for _ in range(together)]))
            with_preparation.append(
                _seconds(lambda: [alone.embed_images(images) for _ in range(together)])
            )
        committed = Finding.objects.filter(probe="previews", outcome="scored").count()
        if not committed:
            raise CommandError("The previews were not scored, so nothing was measured.")
    pictures = together * PER_VERSION
    return {
        "end_to_end_ratio": _share(own, whole),
        "end_to_end_ratio_with_preparation": _share(with_preparation, whole),
        "end_to_end_per_second": pictures / statistics.median(whole),
        "encoder_per_second": pictures / statistics.median(own),
        "encoder_with_preparation_per_second": pictures / statistics.median(with_preparation),
    }


def _share(parts: Sequence[float], wholes: Sequence[float]) -> float:
    """Return the median over the turns of part / whole."""
    return statistics.median(part / whole for part, whole in zip(parts, wholes, strict=True))


def _submitted(files: Sequence[bytes], count: int) -> list[int]:
    """Upload versions with these previews and return the jobs that look at them."""
    policy_import(content=policy_read(POLICY_DIR / "demo.yaml"), activate=True, actor=None)
    creator = Account.objects.create(username="bench")
    jobs = []
    for number in range(count):
        version: ModelVersion = model_create(title=f"Bench {number}", actor=creator)
        upload = UPLOADS[0]
        version_add_file(
            version=version, upload=SimpleUploadedFile(*weights_of(upload)), actor=creator
        )
        for place, content in enumerate(files):
            # Readers stop where a JPEG ends. With other bytes behind it is another picture, which
            # no embedding is remembered of.
            picture = SimpleUploadedFile(f"{place}.jpg", content + f"{number}".encode())
            version_add_preview(version=version, upload=picture, actor=creator)
        submitted = version_submit(version=version, actor=creator)
        jobs.append(submitted.jobs.get(stage="previews").pk)
    return jobs


def _weigh(jobs: Sequence[int], workers: int) -> None:
    def one(job: int) -> None:
        try:
            previews(job)
        finally:
            connection.close()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, jobs))


class _Directions(Encoder):
    """Gives each text a direction of its own, in place of an encoder."""

    name, revision, dim, logit_scale, demo = "directions", "1", 512, 100.0, False

    def embed_texts(self, texts: Sequence[str]) -> Array:
        return _unit_rows(len(texts), 1)

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        return _unit_rows(len(images), 2)


def _unit_rows(count: int, seed: int) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, 512)).astype(np.float32)
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _rescreening(count: int) -> dict[str, float | str]:
    """Return the seconds to score embeddings in memory against 300 prompts in 25 concepts.

    What `manage.py rescreen` reads from the database and unpacks before is not in it.
    """
    rules = tuple(
        Rule(
            f"rule-{number}", "Bench", 0.5, 0.9, ("previews",),
            (
                Concept(
                    f"concept-{number}",
                    tuple(f"prohibited {number} {place}" for place in range(8)),
                    tuple(f"contrast {number} {place}" for place in range(4)),
                ),
            ),
        )
        for number in range(25)
    )  # fmt: skip
    images = _unit_rows(count, 3)
    policy = Policy("bench", 1, rules)
    return {
        "rescreen_seconds": _seconds(lambda: rescreen(policy, _Directions(), images)),
        "rescreen_embeddings": count,
        "rescreen_of": "scoring alone, of arrays in memory; nothing is read or unpacked",
    }


def _memory(count: int) -> dict[str, float | str]:
    """Return by what share memory grows from the second tenth of the pictures to the last.

    Of the previews' probe with the demo encoder, over 40 files again and again: a leak in reading,
    preparing and scoring shows, one of a larger network's or of the database's would not.
    """
    policy = policy_read(POLICY_DIR / "demo.yaml")
    rules = (
        Rule("shapes", policy.name, 0.5, 0.9, ("previews",),
             (Concept("star", ("a red star",), ("a blue circle",)),)),
    )  # fmt: skip
    probe = PreviewsProbe(lambda: encoders.load("demo"))
    process = psutil.Process()
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(40)]
        for number, path in enumerate(paths):
            path.write_bytes(_jpeg(number, 256 + 16 * number))
        stored = Policy("bench", 1, rules)
        shown = tuple(Preview(path.stem, path.name, path, "") for path in paths)
        turns = max(count // len(paths), 20)
        resident: list[int] = []
        for _ in tqdm(range(turns), desc="memory", unit=" versions"):
            # A sample of its own each time: one keeps the pictures that it has opened.
            list(probe.examine(Sample(key="bench", policy=stored, previews=shown)))
            resident.append(process.memory_info().rss)
    # A single reading moves by a fifth with what happens to be freed just then.
    tenth = turns // 10
    start, end = (
        statistics.median(resident[tenth : 2 * tenth]),
        statistics.median(resident[-tenth:]),
    )
    return {
        "rss_growth": end / start - 1,
        "rss_megabytes": end / 1e6,
        "rss_pictures": turns * len(paths),
        "rss_of": "the previews' probe with the demo encoder, 40 files over and over, no database",
    }
