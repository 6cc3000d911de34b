"""Make, list and revoke keys to the API."""

import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from moderation.errors import Refusal
from moderation.models import Account, ApiToken
from moderation.states import Scope
from moderation.tokens import token_create, token_revoke


class Command(BaseCommand):
    """``manage.py api_token``."""

    help = (
        "Make, list and revoke keys to the API. A key belongs to an account, which stands for a "
        "marketplace, and may be used for its scopes alone. It is shown once, when it is made: "
        "only its digest is kept.\n"
        "Example: manage.py api_token create --account shop --name staging --scopes read submit"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a key")
        create.add_argument("--account", required=True, help="the account it acts for")
        create.add_argument("--name", required=True, help="so that you know it again")
        create.add_argument(
            "--scopes", nargs="+", required=True, help=f"some of: {', '.join(Scope.values)}"
        )
        create.add_argument("--days", type=int, help="how long it is valid (default: for ever)")
        create.add_argument("--json", action="store_true", help="print one JSON object")
        listing = actions.add_parser("list", help="list keys")
        listing.add_argument("--json", action="store_true", help="print one JSON list")
        revoke = actions.add_parser("revoke", help="end a key at once")
        revoke.add_argument("code", help="its code, as `list` shows it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do one of the three."""
        {"create": self._create, "list": self._list, "revoke": self._revoke}[options["action"]](
            options
        )

    def _create(self, options: dict[str, Any]) -> None:
        account = Account.objects.filter(username=options["account"]).first()
        if account is None:
            raise CommandError(f"There is no account “{options['account']}”.")
        days = options["days"]
        try:
            token, key = token_create(
                account=account,
                name=options["name"],
                scopes=options["scopes"],
                expires_at=timezone.now() + timedelta(days=days) if days else None,
                actor=None,
            )
        except Refusal as refusal:
            raise CommandError(refusal.sentence) from refusal
        if options["json"]:
            self.stdout.write(json.dumps({"code": token.code, "key": key, "scopes": token.scopes}))
            return
        self.stdout.write(f"{key}\n")
        self.stderr.write("This key is shown once. Whoever has it acts as the account.")

    def _list(self, options: dict[str, Any]) -> None:
        tokens = ApiToken.objects.select_related("account").order_by("created_at")
        rows = [
            {
                "code": token.code,
                "account": token.account.username,
                "name": token.name,
                "scopes": token.scopes,
                "last_used": token.last_used_at.isoformat() if token.last_used_at else None,
                "revoked": token.revoked_at is not None,
            }
            for token in tokens
        ]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            ended = " (revoked)" if row["revoked"] else ""
            scopes = " ".join(row["scopes"])
            self.stdout.write(f"{row['code']}  {row['account']}  {row['name']}  {scopes}{ended}")
        self.stdout.write(f"{len(rows)} keys.")

    def _revoke(self, options: dict[str, Any]) -> None:
        token = ApiToken.objects.filter(code=options["code"]).first()
        if token is None:
            raise CommandError(f"There is no key with the code {options['code']}.")
        token_revoke(token=token, actor=None)
        self.stdout.write(f"The key {token.code} is revoked.")
