"""Second factors: who of the team has none, a new start for whoever lost theirs, a new key."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from moderation.accounts import account_second_factor_reset
from moderation.authentication.stored_secrets import Unreadable, secrets_encrypt_again
from moderation.models import Account
from moderation.selectors.accounts import people_without_second_factor


class Command(BaseCommand):
    """``manage.py second_factor``."""

    help = (
        "List members of the team who have no second factor, or remove those of somebody who lost "
        "phone, passkey and recovery codes alike. Make sure first, by another way than e-mail, "
        "that it is they who ask: afterwards their password alone leads to setting up a new one. "
        "It is written to the record. Or encrypt all stored secrets under the SECRET_KEY of now: "
        "after it changed, with the old one in SECRET_KEY_FALLBACKS, and once where older versions "
        "stored them in clear.\n"
        "Example: manage.py second_factor reset mo"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="who of the team has none")
        listing.add_argument("--json", action="store_true", help="print one JSON list")
        reset = actions.add_parser("reset", help="remove those of one account")
        reset.add_argument("name", help="the name of the account")
        actions.add_parser("encrypt", help="encrypt all stored secrets under the SECRET_KEY of now")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do one of the three."""
        if options["action"] == "list":
            self._list(as_json=options["json"])
        elif options["action"] == "encrypt":
            self._encrypt()
        else:
            self._reset(options["name"])

    def _list(self, *, as_json: bool) -> None:
        people = [
            {"name": account.username, "role": account.role}
            for account in people_without_second_factor()
        ]
        if as_json:
            self.stdout.write(json.dumps(people))
            return
        for person in people:
            self.stdout.write(f"{person['name']:20} {person['role']}")
        self.stdout.write(f"{len(people)} without a second factor.")

    def _reset(self, name: str) -> None:
        account = Account.objects.filter(username=name).first()
        if account is None:
            raise CommandError(f"There is no account “{name}”.")
        removed = account_second_factor_reset(account=account, actor=None)
        self.stdout.write(f"{removed} removed. {name} sets up a new one after the next log-in.")

    def _encrypt(self) -> None:
        try:
            done = secrets_encrypt_again()
        except Unreadable as error:
            raise CommandError(
                "A secret opens with none of the keys. Add the key it was stored under to "
                "SECRET_KEY_FALLBACKS, or reset the second factors of whoever cannot log in."
            ) from error
        self.stdout.write(f"{done} encrypted under the key of now.")
