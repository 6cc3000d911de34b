"""A private PostgreSQL and a private Redis in a folder of their own, to be stopped and killed."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import redis

# What starts slowly on a busy machine is waited for; what never starts is said.
PATIENCE_SECONDS = 120.0


class MissingError(Exception):
    """A server's program is not on this machine."""


def wait_until(
    condition: Callable[[], Any], *, what: str, seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait for a condition; raises TimeoutError with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds:.0f} s for {what}.")
        time.sleep(0.1)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs, the newest of Debian's; raises MissingError."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
    )
    on_path = shutil.which("initdb")
    for folder in [*([Path(on_path).parent] if on_path else []), *reversed(debian)]:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise MissingError("PostgreSQL's initdb and pg_ctl are not on this machine")


def redis_program() -> str:
    """Return the path of redis-server; raises MissingError."""
    found = shutil.which("redis-server")
    if not found:
        raise MissingError("redis-server is not on this machine")
    return found


class Postgres:
    """A cluster of its own. PostgreSQL refuses to run as root, so root lends it another user."""

    def __init__(self, folder: Path) -> None:
        self.programs = postgres_programs()
        self.port = free_port()
        self.data = folder / "postgres"
        self.log = folder / "postgres.log"
        self.user: dict[str, Any] = {}
        self.data.mkdir()
        self.log.touch()
        if os.geteuid() == 0:
            lent = _unprivileged()
            self.user = {"user": lent.pw_uid, "group": lent.pw_gid, "extra_groups": []}
            for path in (self.data, self.log):
                os.chown(path, lent.pw_uid, lent.pw_gid)
        self._run("initdb", "--auth=trust", "--username=weighhouse", "--encoding=UTF8", "--no-sync")
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n"
                "unix_socket_directories = ''\nmax_connections = 150\n"
            )

    @property
    def url(self) -> str:
        """Return the address of its one database."""
        return f"postgres://weighhouse@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, recovery included, and wait until it answers."""
        self._run("pg_ctl", "-w", "-t", f"{PATIENCE_SECONDS:.0f}", "-l", str(self.log), "start")
        wait_until(self._answers, what="PostgreSQL to answer")

    def stop_at_once(self) -> None:
        """Stop it without letting anybody finish: ``pg_ctl stop -m immediate``."""
        self._run("pg_ctl", "-w", "-t", f"{PATIENCE_SECONDS:.0f}", "-m", "immediate", "stop")

    def close(self) -> None:
        """End it, if it runs."""
        if (self.data / "postmaster.pid").exists():
            self.stop_at_once()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, "-D", self.data, *arguments],
            # What it starts must hold no pipe of ours, and Ctrl-C is for us alone.
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            check=False,
            **self.user,
        )
        if done.returncode:
            raise OSError(f"{program} failed:\n{self.log.read_text()[-2000:]}")


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise MissingError("root runs this, and there is no user “postgres” or “nobody” to lend")


class Redis:
    """A server that keeps nothing on disk: a restart is a loss of everything."""

    def __init__(self, folder: Path) -> None:
        self.program = redis_program()
        self.port = free_port()
        self.log = folder / "redis.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(port=self.port, socket_timeout=10)

    @property
    def url(self) -> str:
        """Return its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [
                self.program,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                *("--appendonly", "no", "--maxmemory-policy", "noeviction"),
            ],
            cwd=self.log.parent,
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_until(self._answers, what="Redis to answer")

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    close = kill

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False
