"""The drill: dump, restore into an empty database, and what waited goes on with a whole record."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from moderation.models import Account, Policy
from tests import factories
from tests.conftest import require
from tests.processes import database_url

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "weighhouse_restored"


@pytest.fixture
def empty_database() -> Iterator[str]:
    if connection.vendor != "postgresql":
        pytest.skip("The drill is about PostgreSQL.")
    require(shutil.which("pg_dump") is not None, "pg_dump is not installed.")
    address = database_url().rsplit("/", 1)[0]
    _run("dropdb", "--if-exists", f"--maintenance-db={address}/postgres", NAME)
    _run("createdb", f"--maintenance-db={address}/postgres", NAME)
    yield f"{address}/{NAME}"
    _run("dropdb", f"--maintenance-db={address}/postgres", NAME)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _manage(url: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_what_was_dumped_is_restored_whole(
    empty_database: str, tmp_path: Path, policy: Policy, uma: Account, mo: Account, asleep: None
) -> None:
    factories.decided(uma, mo)
    waiting = factories.submitted(uma)
    dump = tmp_path / "house.dump"
    subprocess.run(["pg_dump", "--format=custom", f"--file={dump}", database_url()], check=True)
    subprocess.run(
        ["pg_restore", "--no-owner", f"--dbname={empty_database}", str(dump)], check=True
    )
    said = _manage(empty_database, "audit_verify")
    assert "events hold" in said
    code = (
        "from moderation.models import TriageJob as J; "
        "print(J.objects.filter(state='queued').count())"
    )
    assert _manage(empty_database, "shell", "-v", "0", "-c", code).strip() == str(
        waiting.jobs.count()
    )


def test_a_record_that_lost_its_end_is_noticed(
    tmp_path: Path, policy: Policy, uma: Account, empty_database: str
) -> None:
    factories.submitted(uma)
    _manage(empty_database, "migrate", "--verbosity", "0")
    from moderation.models import Event

    head: Any = Event.objects.order_by("-sequence").values_list("digest", flat=True).first()
    failed = subprocess.run(
        [sys.executable, "manage.py", "audit_verify", "--head", head],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": empty_database},
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode != 0
