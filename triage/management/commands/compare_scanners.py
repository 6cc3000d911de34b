"""Hold the container probe beside other scanners, on the same files in one run."""

import json
import shutil
import subprocess
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from moderation.policy import POLICY_DIR
from triage.containers.digests import digests
from triage.policy_files import read_policy
from triage.probes.container import ContainerProbe
from triage.sample import Outcome, Sample, WeightFile
from triage.scan import files_below

# What modelscan's manual says of its exit status.
_MODELSCAN = {0: "clean", 1: "flagged", 2: "error", 3: "skipped", 4: "error"}


class Command(BaseCommand):
    """``manage.py compare_scanners PATH…``."""

    help = (
        "Run the container probe, picklescan (from the dev extra) and modelscan (where its "
        "program is found, or named by --modelscan) over the same files, and count for each "
        "scanner what it flagged, called clean, skipped or failed on. Nothing is loaded by us; "
        "run it on hostile files inside a machine that you can lose, for the others' sake."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--modelscan", default="modelscan", help="the program to run")
        parser.add_argument("--json", action="store_true", help="print the verdict on every file")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare and report."""
        scanners: dict[str, Callable[[Path], str]] = {"weighhouse": _ours()}
        try:
            scanners["picklescan"] = _picklescan()
        except ImportError:
            self.stderr.write("picklescan is not installed; it is left out.")
        program = shutil.which(options["modelscan"])
        if program:
            scanners["modelscan"] = lambda path: _modelscan(program, path)
        else:
            self.stderr.write("modelscan was not found; it is left out.")
        paths = list(files_below(options["paths"]))
        if not paths:
            raise CommandError("There are no files to compare on.")
        verdicts = {
            str(path): {name: scan(path) for name, scan in scanners.items()}
            for path in tqdm(paths, unit=" files")
        }
        if options["json"]:
            self.stdout.write(json.dumps(verdicts, indent=1))
            return
        self.stdout.write(f"{len(paths)} files")
        for name in scanners:
            counts = Counter(found[name] for found in verdicts.values())
            told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
            self.stdout.write(f"{name:11} {told}")


def _ours() -> Callable[[Path], str]:
    policy = read_policy(POLICY_DIR / "demo.yaml")
    probe = ContainerProbe()

    def scan(path: Path) -> str:
        file = WeightFile("file", path.name, path, path.stat().st_size, digests(path)[0])
        found = list(probe.examine(Sample(key="sample", policy=policy, files=(file,))))
        if any(finding.score for finding in found):
            return "flagged"
        failed = any(finding.outcome is Outcome.FAILED for finding in found)
        return "error" if failed else "clean"

    return scan


def _picklescan() -> Callable[[Path], str]:
    from picklescan.scanner import scan_file_path

    def scan(path: Path) -> str:
        try:
            result = scan_file_path(str(path))
        # picklescan raises bare exceptions, for archives that need a further package among others.
        except Exception:  # noqa: BLE001
            return "error"
        if result.infected_files:
            return "flagged"
        return "error" if result.scan_err else "clean" if result.scanned_files else "skipped"

    return scan


def _modelscan(program: str, path: Path) -> str:
    done = subprocess.run([program, "-p", str(path)], capture_output=True, check=False)
    if b"Total Skipped: 1" in done.stdout and done.returncode == 0:
        return "skipped"
    return _MODELSCAN.get(done.returncode, "error")
