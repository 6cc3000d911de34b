"""Fill banks of known prohibited material."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from moderation.banks import bank_import, bank_read
from moderation.errors import Refusal
from moderation.models import BankEntry


class Command(BaseCommand):
    """``manage.py bank import FILE --kind … --name … --rule …``."""

    help = (
        "Fill a bank of known prohibited material. `import` reads hashes of 64 hexadecimal digits "
        "from CSV (a column `value`, `signal`, `indicator`, `hash`, `sha256` or `pdq`, or the "
        "first one), JSON, JSON lines or plain lines. Whatever matches is scored 1.0 under the "
        "rule of the bank. Hashes that are there already are left alone; --dry-run only counts."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verb and its options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        load = verbs.add_parser("import", help="add the hashes in a file")
        load.add_argument("file", type=Path)
        load.add_argument("--kind", required=True, choices=BankEntry.Kind.values)
        load.add_argument("--name", required=True, help="the bank, made if there is none")
        load.add_argument("--rule", required=True, help="slug of the rule a match falls under")
        load.add_argument("--dry-run", action="store_true", help="change nothing")
        load.add_argument("--json", action="store_true", help="print the tally as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import and report."""
        try:
            tally = bank_import(
                name=options["name"],
                rule=options["rule"],
                kind=BankEntry.Kind(options["kind"]),
                values=bank_read(options["file"]),
                dry_run=options["dry_run"],
                actor=None,
            )
        except Refusal as refusal:
            raise CommandError(refusal.sentence) from refusal
        if options["json"]:
            self.stdout.write(json.dumps(tally.__dict__))
            return
        would = "Would be: " if options["dry_run"] else ""
        self.stdout.write(f"{would}{tally.added} added, {tally.present} there already.")
