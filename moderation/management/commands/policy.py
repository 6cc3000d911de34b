"""Check policy files and put them in force."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from moderation.errors import Refusal
from moderation.policy import policy_import, policy_read


class Command(BaseCommand):
    """``manage.py policy check|import FILE``."""

    help = (
        "Work with policy files. `check` says what is wrong in one. `import` stores it as a new, "
        "immutable version and puts it in force; --dry-run only says what would happen."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verbs and their options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        check = verbs.add_parser("check", help="say what is wrong in a policy file")
        check.add_argument("file", type=Path)
        load = verbs.add_parser("import", help="store a policy file and put it in force")
        load.add_argument("file", type=Path)
        load.add_argument(
            "--keep", action="store_true", help="store it, but keep the policy now in force"
        )
        load.add_argument("--dry-run", action="store_true", help="change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb."""
        try:
            content = policy_read(options["file"])
            prompts = sum(
                len(concept.prohibited) + len(concept.contrast)
                for rule in content.rules
                for concept in rule.concepts
            )
            tally = (
                f"{content.name} v{content.version}: {len(content.rules)} rules, {prompts} prompts"
            )
            if options["verb"] == "check" or options["dry_run"]:
                self.stdout.write(f"{tally}. Nothing is wrong with it; nothing was changed.")
                return
            policy = policy_import(content=content, activate=not options["keep"], actor=None)
        except Refusal as refusal:
            raise CommandError(refusal.sentence) from refusal
        self.stdout.write(f"{tally}. {'In force.' if policy.is_active else 'Stored.'}")
