"""Say how two files of weights are related, or what a merge is made of."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from triage import lineage, sandbox

# Room for two large adapters, and time for two full models.
_LIMITS = sandbox.Limits(memory_mb=6144, seconds=300.0)


class Command(BaseCommand):
    """``manage.py compare A B`` and ``manage.py compare M --parts A B …``."""

    help = (
        "Compare files of weights by what they change in a model, whatever their tensors are "
        "called. With two files: are they the same (cosine 0.9 and more), derived (0.1 and more) "
        "or unrelated? With --parts: which share has each part in a merge, and how much of it is "
        "explained by none of them? Nothing is unpickled or loaded."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("model", type=Path)
        parser.add_argument("other", type=Path, nargs="?")
        parser.add_argument("--parts", type=Path, nargs="+", help="what it may be merged from")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare and report."""
        parts = options["parts"]
        if (options["other"] is None) == (not parts):
            raise CommandError("Name either a second file, or the --parts of a merge.")
        model = str(options["model"])
        try:
            answer = (
                sandbox.run(lineage.explain_file, model, [str(p) for p in parts], limits=_LIMITS)
                if parts
                else sandbox.run(
                    lineage.compare_files, model, str(options["other"]), limits=_LIMITS
                )
            )
        except sandbox.SandboxError as error:
            raise CommandError(error.sentence, returncode=2) from error
        if "error" in answer:
            raise CommandError(answer["error"]["sentence"], returncode=2)
        if options["json"]:
            self.stdout.write(json.dumps(answer, indent=1))
            return
        for name, value in answer.items():
            self.stdout.write(f"{name}: {value}")
