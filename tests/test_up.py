"""The house as a newcomer starts it: one process, on a folder of its own, stopped by Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _start(folder: Path, port: str, *options: str) -> subprocess.Popen[str]:
    # A newcomer has no servers, whatever database the other tests run on.
    environment = {
        name: text
        for name, text in os.environ.items()
        if name not in {"DATABASE_URL", "REDIS_URL", "STORAGE_URL"}
    }
    return subprocess.Popen(
        [sys.executable, "manage.py", "up", *options],
        cwd=settings.BASE_DIR,
        env={**environment, "WEIGHHOUSE_DATA": str(folder), "PORT": port},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _page(port: str, process: subprocess.Popen[str], *, seconds: float = 300) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout and process.stdout.read()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.2)
    raise AssertionError("The page did not answer.")


def _stop(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C, as a terminal does: the whole foreground group gets the signal."""
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    return output


def _processes(folder: Path, command: str = "") -> set[int]:
    """Return what runs on this folder, as far as the platform tells."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            line = (entry.parent / "cmdline").read_text().replace("\0", " ")
            if str(folder).encode() in entry.read_bytes() and command in line:
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the house: new to whoever comes first, as making tables takes long."""
    return tmp_path_factory.mktemp("house") / "data"


def test_the_house_starts_weighs_stops_and_starts_again_on_the_same_data(folder: Path) -> None:
    port = _free_port()
    house = _start(folder, port)
    try:
        first = _page(port, house)
        assert "Meadow shapes" in first
        assert "demo" in first.lower()
        deadline = time.monotonic() + 60
        while "Blue hour" not in _page(port, house):
            assert time.monotonic() < deadline, "the worker never weighed the fresh upload"
            time.sleep(0.5)
        output = _stop(house)
        assert f"http://127.0.0.1:{port}/" in output
        assert "weighhouse" in output
        assert not _processes(folder)

        house = _start(folder, port)
        assert "Meadow shapes" in _page(port, house)
        assert "0 uploads loaded" in _stop(house)
    finally:
        if house.poll() is None:
            os.killpg(house.pid, signal.SIGKILL)
            house.communicate()


def _wait_for(house: subprocess.Popen[str], happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert house.poll() is None, house.stdout and house.stdout.read()
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def test_neither_half_a_message_nor_a_worker_that_dies_ends_the_house(folder: Path) -> None:
    port = _free_port()
    messages = folder / "broker" / "messages"
    messages.mkdir(parents=True, exist_ok=True)
    # Somebody was killed while writing it.
    (messages / "1_x.notices.msg").touch()
    house = _start(folder, port, "--no-demo")
    try:
        aside = messages / "1_x.notices.unreadable"
        _wait_for(house, aside.exists, "no worker has read the message")
        workers = _processes(folder, "celery -A config worker")
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        _wait_for(
            house,
            lambda: _processes(folder, "celery -A config worker") - workers,
            "the worker was not started again",
        )
        (messages / "2_x.notices.msg").touch()
        aside = messages / "2_x.notices.unreadable"
        _wait_for(house, aside.exists, "the new worker reads nothing")
        _page(port, house)
        output = _stop(house)
        assert "worker died (status -9); it is started again." in output
        assert not _processes(folder)
    finally:
        if house.poll() is None:
            os.killpg(house.pid, signal.SIGKILL)
            house.communicate()


def test_a_port_in_use_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "manage.py", "up"],
            cwd=settings.BASE_DIR,
            env={**os.environ, "WEIGHHOUSE_DATA": str(tmp_path), "PORT": port},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"Port {port} cannot be used" in done.stderr
    assert "PORT=8001" in done.stderr
    assert not (tmp_path / "weighhouse.sqlite3").exists()
