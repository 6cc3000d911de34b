"""Say by the exit status whether this machine's worker is alive: a container's health check."""

import socket
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from moderation.heartbeats import ALIVE_FOR
from moderation.worker import alive_file


class Command(BaseCommand):
    """``manage.py worker_alive``."""

    help = (
        "Exit with 0 if a worker of this machine said in the last half minute that it is alive, "
        "and with 1 if none did: the health check of the worker containers. It asks a file, not "
        "the database: ending workers brings no database back."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Look at the file that the worker touches."""
        try:
            silent = time.time() - alive_file().stat().st_mtime
        except FileNotFoundError:
            silent = float("inf")
        if silent > ALIVE_FOR.total_seconds():
            raise CommandError(
                f"No worker of {socket.gethostname()} has been heard of for {ALIVE_FOR.seconds} s."
            )
        self.stdout.write("alive")
