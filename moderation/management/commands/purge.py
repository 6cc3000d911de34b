"""Erase what has been kept for long enough."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from moderation.retention import KEPT_AFTER_DECISION, purge


class Command(BaseCommand):
    """Erases files of versions, and what was sent about them, once nobody may need them."""

    help = (
        "Erases the files and previews of versions that were removed, or taken down by their "
        "creator, and what was sent with reports and appeals about any version, once "
        f"{KEPT_AFTER_DECISION.days} days have passed since every decision about the version and "
        "nothing about it is open. Legal holds and child safety keep everything. "
        "Rows and decisions stay. The worker does the same every day."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--dry-run", action="store_true", help="only say what would be erased")
        parser.add_argument("--limit", type=int, default=1000, help="at most so many versions")
        parser.add_argument("--json", action="store_true", help="write the tally as JSON")

    def handle(self, *args: Any, dry_run: bool, limit: int, **options: Any) -> None:
        """Purge and say what that was."""
        tally = purge(dry_run=dry_run, limit=limit)
        if options["json"]:
            self.stdout.write(json.dumps(asdict(tally)))
            return
        verb = "Would erase" if dry_run else "Erased"
        self.stdout.write(
            f"{verb} {tally.files} files and previews ({tally.size / 1024**2:.1f} MB) of "
            f"{tally.versions} versions, {tally.appeal_files} files sent with appeals, and "
            f"{tally.report_pictures} pictures sent with reports."
        )
