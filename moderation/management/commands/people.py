"""Keep the people list."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from moderation.errors import Refusal
from moderation.people import people_import, people_read


class Command(BaseCommand):
    """``manage.py people import FILE``."""

    help = (
        "Keep the list of people whose likeness is protected. `import` reads a CSV with the "
        "columns `name` and `aliases` (separated by `;`), adds who is new, replaces the aliases "
        "of those on the list, and takes nobody off it. --dry-run only counts."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verb and its options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        load = verbs.add_parser("import", help="add the people in a CSV file")
        load.add_argument("file", type=Path)
        load.add_argument("--dry-run", action="store_true", help="change nothing")
        load.add_argument("--json", action="store_true", help="print the tally as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import and report."""
        try:
            tally = people_import(
                people=people_read(options["file"]), dry_run=options["dry_run"], actor=None
            )
        except Refusal as refusal:
            raise CommandError(refusal.sentence) from refusal
        if options["json"]:
            self.stdout.write(json.dumps(tally.__dict__))
            return
        would = "Would be: " if options["dry_run"] else ""
        self.stdout.write(
            f"{would}{tally.added} added, {tally.changed} changed, {tally.unchanged} as they were."
        )
