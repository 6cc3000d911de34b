"""Place and release legal holds."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from moderation.errors import Refusal
from moderation.models import Account, LegalHold, ModelVersion
from moderation.retention import hold_place, hold_release


class Command(BaseCommand):
    """Keeps versions from every purge."""

    help = (
        "`hold place VERSION --by NAME --reason …` keeps everything of a version from every purge; "
        "`hold release HOLD --by NAME` ends that; `hold list` shows what is held. NAME is the user "
        "name of a senior moderator or admin, and goes on record."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments."""
        parser.add_argument("what", choices=["place", "release", "list"])
        parser.add_argument("code", nargs="?", help="the version's code, or the hold's")
        parser.add_argument("--by", help="whose deed it is")
        parser.add_argument("--reason", default="", help="a letter, a lawsuit, an order")
        parser.add_argument("--days", type=int, help="for how long; without it until released")

    def handle(self, *args: Any, what: str, code: str | None, **options: Any) -> None:
        """Place, release or list."""
        if what == "list":
            for hold in LegalHold.objects.filter(released_at__isnull=True).select_related(
                "version"
            ):
                until = f"until {hold.until:%Y-%m-%d}" if hold.until else "until released"
                self.stdout.write(f"{hold.code}  {hold.version.code}  {until}  {hold.reason}")
            return
        actor = Account.objects.filter(username=options["by"]).first()
        if actor is None:
            raise CommandError("Say with --by whose deed it is.")
        try:
            self._change(what, code or "", actor, options)
        except Refusal as refusal:
            raise CommandError(refusal.sentence) from refusal

    def _change(self, what: str, code: str, actor: Account, options: dict[str, Any]) -> None:
        if what == "place":
            version = ModelVersion.objects.filter(code=code).first()
            if version is None:
                raise CommandError(f"There is no version “{code}”.")
            hold = hold_place(
                version=version, reason=options["reason"], days=options["days"], actor=actor
            )
            self.stdout.write(f"Held: {version}. The hold is {hold.code}.")
            return
        found = LegalHold.objects.filter(code=code).select_related("version").first()
        if found is None:
            raise CommandError(f"There is no hold “{code}”.")
        hold_release(hold=found, actor=actor)
        self.stdout.write(f"Released: {found.version}.")
