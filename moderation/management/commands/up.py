"""Start the whole of Weighhouse on one machine: web, worker and clock under one process."""

import os
import secrets
import shlex
import socket
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from moderation.management.keeping import House


class Command(BaseCommand):
    """``manage.py up``."""

    help = (
        "Migrate the database, load the demo, then run the web server, a Celery worker and the "
        "clock until Ctrl-C. PORT (default 8000) and WEIGHHOUSE_DATA (default var/) choose where."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--no-demo", action="store_true", help="start empty instead of loading the demo"
        )
        parser.add_argument("--concurrency", type=int, default=2, help="worker threads (default 2)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare the data folder, then supervise."""
        port = os.environ.get("PORT", "8000")
        self._require_free(port)
        self._ensure_secret_key()
        call_command("migrate", verbosity=0)
        call_command("collectstatic", verbosity=0, interactive=False)
        if not options["no_demo"]:
            call_command("demo", stdout=self.stdout)
        self.stdout.write(
            self.style.SUCCESS(f"\n  Weighhouse runs at http://127.0.0.1:{port}/")
            + "\n  Stop it with Ctrl-C; `make run` starts it again on the same data.\n"
        )
        self.stdout.flush()
        sys.exit(self._supervise(port, options["concurrency"]))

    def _require_free(self, port: str) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", int(port)))
            except (OSError, ValueError, OverflowError) as error:
                raise CommandError(
                    f"Port {port} cannot be used ({error}). Choose another: PORT=8001 make run"
                ) from error

    def _ensure_secret_key(self) -> None:
        if os.environ.get("SECRET_KEY"):
            return
        path = settings.DATA_DIR / "secret_key"
        # An empty one was left by a start that was stopped between the two lines below.
        if not path.exists() or not path.read_text().strip():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(48))
        settings.SECRET_KEY = path.read_text().strip()

    def _supervise(self, port: str, concurrency: int) -> int:
        # Each command goes through a shell: a folder may have a space in its name.
        python = shlex.quote(sys.executable)
        celery = f"{python} -m celery -A config"
        # Without its pages the house is no house; the others come back when they die.
        manager = House(kept={"worker", "clock"})
        environment = {**os.environ, "PORT": port, "PYTHONUNBUFFERED": "1"}
        commands = {
            "web": f"{python} -m granian --interface wsgi --host 127.0.0.1 --port {port} "
            "--workers 1 --blocking-threads 4 --no-ws --log-level warning config.wsgi:application",
            "worker": f"{celery} worker --pool threads --concurrency {concurrency} "
            "--loglevel warning --without-gossip --without-mingle --without-heartbeat "
            "-Q default,triage.cpu,triage.gpu,files,notices,webhooks,beat",
            "clock": f"{celery} beat --loglevel warning --pidfile= "
            f"--schedule {shlex.quote(str(settings.DATA_DIR / 'clock'))}",
        }
        for name, command in commands.items():
            manager.add_process(name, f"exec {command}", env=environment)
        manager.loop()
        # Ctrl-C ends the children by a signal, and honcho reports that signal; it is no failure.
        return 0 if manager.returncode in {0, 130, 143, -2, -15} else int(manager.returncode or 1)
