"""The house itself on private servers: web server, workers and clock, as in production."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.faults.servers import Postgres, Redis, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
LEASE_SECONDS = 8
# Short spans, so that a run of minutes sees what production sees in hours; the rest is as it is
# delivered. Nobody rests from severe cases here, and each visitor has an address of their own.
ENVIRONMENT = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "SWEEP_SECONDS": "1",
    "RESEND_SECONDS": "5",
    "UNDO_SECONDS": "3",
    "SEVERE_A_DAY": "0",
    "SEVERE_AN_HOUR": "0",
    "TRUSTED_PROXIES": "1",
    "ENCODER": "demo",
    "LOG_LEVEL": "WARNING",
}
QUEUES = "default,triage.cpu,triage.gpu,files,notices,webhooks,beat"
# What is said to the processes of the house alone.
OF_OTHERS = ("CI", "STORAGE_URL", "EMAIL_URL", "METRICS_TOKEN", "WEIGHHOUSE_DEBUG", "SITE_URL")


class House:
    """Everything that runs, in one temporary folder."""

    def __init__(self, folder: Path, *, workers: int = 2, threads: int = 4) -> None:
        self.folder = folder
        self.threads = threads
        self.data = folder / "data"
        self.mail = folder / "mail"
        self.data.mkdir()
        self.mail.mkdir()
        self.port = free_port()
        self.postgres = Postgres(folder)
        self.redis = Redis(folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.places = [f"worker-{number + 1}" for number in range(workers)]
        # Held while something is done to a worker, so that one fault at a time befalls it.
        self.hands = {place: threading.Lock() for place in self.places}
        self.starts = 0
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in OF_OTHERS},
            **ENVIRONMENT,
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "WEIGHHOUSE_DATA": str(self.data),
            "SECRET_KEY": secrets.token_urlsafe(48),
            "EMAIL_URL": f"filemail:///{self.mail}",
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
        }

    def start_servers(self) -> None:
        """Start PostgreSQL and Redis."""
        self.postgres.start()
        self.redis.start()

    def start_web(self) -> None:
        """Start the web server with two processes and wait until it answers."""
        command = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "2", "--blocking-threads", "20", "--no-ws"]
        self._start("web", "granian", *command, "--log-level", "warning", "config.wsgi:application")
        wait_until(self._answers, what="the web server to answer")

    def start_clock(self) -> None:
        """Start beat."""
        schedule = f"--schedule={self.folder / 'clock'}"
        self._start("clock", "celery", "-A", "config", "beat", "--pidfile=", schedule)

    def start_worker(self, place: str) -> None:
        """Start a worker on every queue in this place."""
        self.starts += 1
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        self._start(
            place,
            *("celery", "-A", "config", "worker", "--pool=threads", *quiet),
            *(f"--concurrency={self.threads}", f"--hostname=w{self.starts}@%h", "-Q", QUEUES),
        )

    def signal(self, place: str, number: signal.Signals) -> None:
        """Send a signal to a process and all that it started."""
        os.killpg(self.processes[place].pid, number)

    def kill(self, place: str) -> None:
        """End a process and all that it started, at once: ``kill -9``."""
        process = self.processes.pop(place, None)
        if process is None:
            return
        family = []
        if process.poll() is None:
            # Whoever left the group, such as the children that strangers' files are read in.
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for child in family:
            if child.is_running():
                child.kill()

    def close(self) -> None:
        """End everything."""
        for place in list(self.processes):
            self.kill(place)
        self.redis.close()
        self.postgres.close()

    def _start(self, place: str, module: str, *arguments: str) -> None:
        with (self.folder / f"{place}.log").open("ab") as log:
            self.processes[place] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        if self.processes["web"].poll() is not None:
            raise OSError(f"The web server ended:\n{self.log_of('web')[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5):
                return True
        except OSError:
            return False

    def log_of(self, place: str) -> str:
        """Return what a process has said."""
        path = self.folder / f"{place}.log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def house(*, keep: Path | None = None, workers: int = 2, threads: int = 4) -> Iterator[House]:
    """Yield a house with its servers running, and leave nothing behind.

    With ``keep`` the logs of all processes are copied there at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="weighhouse-faults-"))
    # PostgreSQL's user has to get through to its own folder.
    folder.chmod(0o711)
    built: House | None = None
    try:
        built = House(folder, workers=workers, threads=threads)
        built.start_servers()
        yield built
    finally:
        try:
            if built is not None:
                built.close()
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                for log in folder.glob("*.log"):
                    shutil.copy(log, keep)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
