"""Say by the exit status whether this machine's worker is alive: a container's health check."""

import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from moderation.heartbeats import ALIVE_FOR
from moderation.models import Heartbeat


class Command(BaseCommand):
    """``manage.py worker_alive``."""

    help = (
        "Exit with 0 if a worker of this machine wrote its heartbeat in the last half minute, and "
        "with 1 if none did: the health check of the worker containers."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Look for the heartbeat."""
        since = timezone.now() - ALIVE_FOR
        host = socket.gethostname()
        mine = Heartbeat.objects.filter(
            kind="worker", name__endswith=f"@{host}", seen_at__gte=since
        )
        if not mine.exists():
            raise CommandError(f"No worker of {host} has been heard of for {ALIVE_FOR.seconds} s.")
        self.stdout.write("alive")
