"""Weigh files on disk without a database."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from moderation import errors
from moderation.policy import POLICY_DIR
from triage import pipeline
from triage.inspection import Refusal, reencode_preview
from triage.policy_files import read_policy
from triage.sample import Policy
from triage.scan import PICTURES, Scanned, files_below, scan


class Command(BaseCommand):
    """``manage.py scan PATH…``."""

    help = (
        "Weigh files of weights on disk with every probe that needs no database, and say for each "
        "whether it is `clean`, for a person to `review`, or to `block`, with the reasons. A "
        "folder stands for all files below it. Nothing is unpickled or loaded. Exit status: 0 if "
        "all are clean, 1 if there is something to look at, 2 if a path could not be read."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--json", action="store_true", help="print a list, for programs")
        parser.add_argument(
            "--policy", type=Path, default=POLICY_DIR / "demo.yaml", help="a policy file"
        )
        parser.add_argument(
            "--previews", type=Path, help="a folder of pictures that belong to every file"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Scan and report."""
        try:
            policy = read_policy(options["policy"])
        except errors.Refusal as refusal:
            raise CommandError(refusal.sentence, returncode=2) from refusal
        with TemporaryDirectory(prefix="previews-") as folder:
            self._scan(policy, Path(folder), options)

    def _scan(self, policy: Policy, folder: Path, options: dict[str, Any]) -> None:
        scanned: list[Scanned] = []
        unread: list[str] = []
        previews = _copies(_pictures(options["previews"]), folder, unread)
        among = pipeline.probes_of_files(encoder=settings.ENCODER)
        paths = list(files_below(options["paths"]))
        for path in tqdm(paths, unit=" files", disable=len(paths) < 2 or not sys.stderr.isatty()):
            try:
                result = scan(path, policy=policy, previews=previews, among=among)
            except OSError as error:
                unread.append(f"{path} cannot be read: {error.strerror or error}")
                continue
            scanned.append(result)
            if not options["json"]:
                self._say(result)
        if options["json"]:
            self.stdout.write(json.dumps([result.as_dict() for result in scanned], indent=1))
        for sentence in unread:
            self.stderr.write(sentence)
        if not options["json"]:
            self._tally(scanned, unread)
        if unread:
            sys.exit(2)
        if any(result.verdict != "clean" for result in scanned):
            sys.exit(1)

    def _say(self, result: Scanned) -> None:
        self.stdout.write(f"{result.verdict:6}  {result.path}  ({result.format})")
        for finding in result.findings:
            score = "" if finding.score is None else f" {finding.score:.2f}"
            self.stdout.write(f"        {finding.probe}{score}: {finding.reason}")

    def _tally(self, scanned: list[Scanned], unread: list[str]) -> None:
        counts = {
            verdict: sum(result.verdict == verdict for result in scanned)
            for verdict in ("clean", "review", "block")
        }
        words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        self.stdout.write(f"{len(scanned)} files: {words}; {len(unread)} could not be read.")


def _copies(pictures: list[Path], folder: Path, unread: list[str]) -> list[Path]:
    """Copy the pixels of pictures in the sandbox, as the door does; note what has none."""
    copies = []
    for number, picture in enumerate(pictures):
        copy = folder / f"{number}.jpg"
        answer = reencode_preview(picture, copy)
        if isinstance(answer, Refusal):
            unread.append(f"{picture} cannot be read: {answer.sentence}")
        else:
            copies.append(copy)
    return copies


def _pictures(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise CommandError(f"{folder} is no folder of previews.", returncode=2)
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
