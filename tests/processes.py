"""Real worker and clock processes on the database of the tests."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from celery import current_app
from django.conf import settings
from django.db import connection


def wait_until(condition: Callable[[], Any], *, seconds: float, what: str) -> None:
    """Wait for a condition; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {seconds:.0f} s for {what}.")
        time.sleep(0.1)


def database_url() -> str:
    """Return the address of the database of this test."""
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{given['NAME']}"
    host = given["HOST"] or "127.0.0.1"
    return f"postgres://{given['USER']}@{host}:{given['PORT'] or 5432}/{given['NAME']}"


def queues_empty() -> None:
    """Throw away the messages that tests have left."""
    with current_app.pool.acquire(block=True) as connection, connection.channel() as channel:
        for queue in {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}:
            channel.queue_purge(queue)


class House:
    """A worker and a clock, started as ``manage.py up`` starts them."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.log = log.open("ab")
        self.environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "SWEEP_SECONDS": "1",
            "RESEND_SECONDS": "2",
            **environment,
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        queues_empty()
        shutil.rmtree(settings.DATA_DIR / "clock", ignore_errors=True)
        self.start("beat", "--pidfile=", f"--schedule={settings.DATA_DIR / 'clock'}")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one Celery process of its own group."""
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "config", *arguments, "--loglevel=info"],
            cwd=settings.BASE_DIR,
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start_worker(self, *, concurrency: int = 2) -> subprocess.Popen[bytes]:
        """Start a worker on every queue."""
        return self.start(
            "worker",
            "--pool=threads",
            f"--concurrency={concurrency}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "-Q",
            "default,triage.cpu,triage.gpu,files,notices,webhooks,beat",
        )

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a process and all it started, at once and without a chance to tidy up."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)
        self.log.close()


def at_work(process: psutil.Process) -> bool:
    """Say whether a process still runs. One that ended and that nobody has waited for does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
