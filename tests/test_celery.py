"""Celery: every task has a route, every name that is sent is a task, and Redis is used right."""

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from queue import Empty

import pytest
from celery import current_app
from django.conf import settings
from kombu import Connection

from moderation.dispatch import (
    NOTICE_TASK,
    PUBLISHING_TASK,
    REFERENCE_TASK,
    STAGE_TASKS,
    WEBHOOK_TASK,
)


def _ours() -> set[str]:
    return {name for name in current_app.tasks if not name.startswith("celery.")}


def test_every_task_has_a_route_of_its_own() -> None:
    assert _ours() == set(settings.CELERY_TASK_ROUTES)


def test_every_name_that_is_sent_is_a_task() -> None:
    sent = {*STAGE_TASKS.values(), NOTICE_TASK, WEBHOOK_TASK, REFERENCE_TASK, PUBLISHING_TASK}
    sent |= {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert sent <= _ours()


def test_only_json_is_accepted() -> None:
    assert current_app.conf.accept_content == ["json"]
    assert current_app.conf.task_serializer == "json"
    assert current_app.conf.result_accept_content in (None, ["json"])


def test_nobody_waits_for_results() -> None:
    assert current_app.conf.task_ignore_result is True
    assert type(current_app.backend).__name__ == "DisabledBackend"


def test_on_redis_all_three_places_agree_when_a_message_is_given_out_again() -> None:
    script = (
        "import json; from config.celery import app; c = app.conf; print(json.dumps(["
        "c.broker_transport_options['visibility_timeout'], "
        "c.result_backend_transport_options['visibility_timeout'], c.visibility_timeout]))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=settings.BASE_DIR,
        env={**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        check=True,
    )
    places = json.loads(process.stdout)
    assert len(set(places)) == 1
    # Longer than any work may take: the lease of an hour, and the time a drain takes.
    from moderation.jobs import LONGEST_LEASE

    assert places[0] > LONGEST_LEASE.total_seconds() + settings.LEASE_SECONDS


def _folder_broker(folder: Path) -> Connection:
    places = {"data_folder_in": str(folder), "data_folder_out": str(folder)}
    return Connection(
        "filesystem://",
        transport="moderation.folder_transport:Transport",
        transport_options={**places, "control_folder": str(folder / "control")},
    )


@pytest.mark.parametrize("half", [b"", b'{"body": "W1', b"\xff", b"5", b'{"body": ""}'])
def test_half_a_message_in_the_folder_is_put_aside_and_stops_nobody(
    tmp_path: Path, half: bytes
) -> None:
    # kombu remembers queues for the whole process, whatever the folder.
    name = uuid.uuid4().hex
    (tmp_path / f"1_x.{name}.msg").write_bytes(half)
    with _folder_broker(tmp_path) as broker, broker.SimpleQueue(name) as queue:
        queue.put({"wake": "up"})
        message = queue.get(block=True, timeout=5)
        assert message.payload == {"wake": "up"}
        message.ack()
        with pytest.raises(Empty):
            queue.get(block=False)
    assert (tmp_path / f"1_x.{name}.unreadable").read_bytes() == half
    assert not list(tmp_path.glob("*.msg"))
    assert not list(tmp_path.glob("*.taken"))


def test_a_message_that_is_still_written_is_seen_by_nobody(tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    with _folder_broker(tmp_path) as broker, broker.SimpleQueue(name) as queue:
        queue.put({"wake": "up"})
        (message,) = tmp_path.glob(f"*.{name}.msg")
        message.rename(message.with_suffix(".writing"))
        with pytest.raises(Empty):
            queue.get(block=False)


def test_the_page_for_operators_names_every_queue() -> None:
    page = (settings.BASE_DIR / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| worker[^|]*\| ([^|]*)\|", page, re.MULTILINE)
    named = {queue for row in rows for queue in re.findall(r"[a-z]+(?:\.[a-z]+)?", row)}
    assert {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()} <= named
