"""Logs for machines: one JSON object a line, with the ids of request, actor, task and job."""

import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings as configured
from django.test import Client
from django.urls import reverse

from moderation.models import Account, ModelVersion, Policy
from tests import factories
from tests.processes import House, wait_until

Browser = Callable[[Account | None], Client]
Line = dict[str, Any]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Line]]:
    """Return a way to read what was logged as a machine would."""
    described = dict(configured.LOGGING["formatters"]["json"])
    formatter = logging.config.DictConfigurator({}).configure_formatter(described)
    caplog.set_level(logging.INFO, logger="django_structlog")
    return lambda: [json.loads(formatter.format(record)) for record in caplog.records]


@pytest.mark.django_db
def test_a_line_about_a_request_names_the_request_and_who_asked(
    lines: Callable[[], list[Line]], as_: Browser, mo: Account
) -> None:
    as_(mo).get(reverse("console:queue"))
    as_(None).get(reverse("home"))
    finished = [line for line in lines() if line["event"] == "request_finished"]
    assert [line["user_id"] for line in finished] == [mo.pk, None]
    assert [line["request"] for line in finished] == ["GET /console/", "GET /"]
    ids = [line["request_id"] for line in finished]
    assert all(ids) and len(set(ids)) == 2
    assert mo.username not in json.dumps(lines())


@pytest.fixture
def house(settings: Any, tmp_path: Path) -> Iterator[House]:
    settings.MEDIA_ROOT = configured.DATA_DIR / "files"
    current_app.conf.task_always_eager = False
    running = House(tmp_path / "house.log", LOG_FORMAT="json")
    running.start_worker()
    yield running
    running.close()


@pytest.mark.django_db(transaction=True)
def test_a_line_about_a_job_names_the_job_and_the_request_that_it_comes_from(
    house: House,
    lines: Callable[[], list[Line]],
    as_: Browser,
    uma: Account,
    policy: Policy,
    tmp_path: Path,
) -> None:
    version = factories.draft(uma)
    as_(uma).post(reverse("creator:submit", args=[version.code]))
    (asked,) = [line for line in lines() if line["event"] == "request_finished"]

    def weighed() -> bool:
        return ModelVersion.objects.get().triaged_at is not None

    wait_until(weighed, seconds=90, what="the worker to weigh the upload")
    jobs = set(version.jobs.values_list("pk", flat=True))

    def done() -> dict[int, Line]:
        logged = [
            json.loads(line)
            for line in (tmp_path / "house.log").read_text().splitlines()
            if line.startswith("{") and line.endswith("}")
        ]
        return {
            line["job_id"]: line
            for line in logged
            if line["event"] == "task_succeeded" and "job_id" in line
        }

    wait_until(lambda: set(done()) == jobs, seconds=20, what="the lines about both jobs")
    for line in done().values():
        assert line["task_id"]
        assert (line["request_id"], line["user_id"]) == (asked["request_id"], uma.pk)
