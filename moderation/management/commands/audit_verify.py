"""Check that the record of events is whole."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from moderation.audit import chain_verify


class Command(BaseCommand):
    """``manage.py audit_verify``."""

    help = (
        "Walk the chain of events from the first to the last and name the first row that was "
        "changed, removed or put out of order. Keep the printed head elsewhere: with --head, a "
        "chain that was cut at its end is found too. Exit status 1 if the chain does not hold."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--head", default="", help="a digest that must still be in the chain")

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify and report."""
        found = chain_verify(must_contain=options["head"])
        if options["json"]:
            self.stdout.write(json.dumps(found.__dict__))
        if found.bad_sequence is not None:
            raise CommandError(f"Event {found.bad_sequence} does not hold: {found.reason}.")
        if not options["json"]:
            self.stdout.write(f"{found.events} events hold. Head: {found.head}")
