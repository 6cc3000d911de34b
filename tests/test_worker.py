"""How a worker and whoever sends it messages fare while what they need is away."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings

from tests.conftest import require
from tests.processes import wait_until

ENDS = """
import threading, time, django
django.setup()
from moderation.worker import end_after_grace
def work():
    time.sleep(1)
    print("finished", flush=True)
threading.Thread(target=work).start()
end_after_grace()
"""
SENDS = """
import os, signal, sys, config.celery, django
django.setup()
from moderation import dispatch
server = int(sys.argv[1])
dispatch._send("moderation.nothing", 1)
print("room", dispatch.room_for("triage.files") > 0, flush=True)
os.kill(server, signal.SIGSTOP)
dispatch._send("moderation.nothing", 2)
print("hung", dispatch.room_for("triage.files"), flush=True)
dispatch._away_until = 0
print("hung", dispatch.room_for("triage.files"), flush=True)
os.kill(server, signal.SIGCONT)
dispatch._away_until = 0
print("room", dispatch.room_for("triage.files") > 0, flush=True)
dispatch._send("moderation.nothing", 3)
"""


def _ran(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Far longer than it takes where nothing waits for ever.
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_worker_that_is_told_to_end_finishes_its_work_though_the_database_is_away(
    tmp_path: Path,
) -> None:
    nowhere = f"sqlite:///{tmp_path}/none/database.sqlite3"
    ended = _ran(ENDS, DATABASE_URL=nowhere, DRAIN_SECONDS="5")
    assert ended.returncode == 0, ended.stderr
    assert "finished" in ended.stdout


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Run a Redis of this test alone; return its process and its address."""
    program = shutil.which("redis-server")
    require(program is not None, "No redis-server is installed.")
    assert program is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    url = f"redis://127.0.0.1:{port}/0"
    asked = redis.Redis.from_url(url)

    def answers() -> bool:
        try:
            return bool(asked.ping())
        except redis.ConnectionError:
            return False

    try:
        wait_until(answers, seconds=30, what="Redis")
        yield server.pid, url
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()


def test_a_redis_that_hangs_holds_nobody_for_ever_and_is_used_again_when_it_goes_on(
    own_redis: tuple[int, str],
) -> None:
    process, url = own_redis
    sent = _ran(SENDS, str(process), REDIS_URL=url)
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.split() == ["room", "True", "hung", "0", "hung", "0", "room", "True"]
    assert sent.stderr.count("does not answer") + sent.stdout.count("does not answer") >= 2
    # The second may have lain in the socket until Redis went on; the others were sent for certain.
    assert redis.Redis.from_url(url).llen("default") >= 2
