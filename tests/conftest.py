"""The fixed cast, the network block, and what every test stands on.

Uma uploads, Rui reports, Mo moderates, Ada hears appeals, and Nobody may not.
"""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.core.cache import cache
from django.core.servers.basehttp import WSGIRequestHandler
from django.db import connection
from django.test import Client, TransactionTestCase

from config.environment import bucket_storage
from moderation.models import Account, Policy
from moderation.policy import policy_import, policy_read
from moderation.policy_file import PolicyFile
from moderation.states import Role
from tests import factories
from tests.processes import queues_empty

IN_CI = os.environ.get("CI") == "true"
SHARED_DATA = Path(
    os.environ.get("WEIGHHOUSE_TEST_DATA", django_settings.BASE_DIR.parent / "shared" / "data")
)

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# A machine without background traffic: the browser looks up nothing that the test did not ask for.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def require(condition: bool, reason: str) -> None:
    """Skip with a reason on a laptop; fail where everything is meant to be installed."""
    if condition:
        return
    if IN_CI:
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _tasks_are_registered() -> None:
    # Under eager mode a task name that is not registered would silently go to the broker.
    current_app.autodiscover_tasks(force=True)


@pytest.fixture(autouse=True)
def _quiet_places(settings: Any, tmp_path: Path) -> None:
    """Give each test its own folder for files, plain static files and eager tasks."""
    settings.MEDIA_ROOT = tmp_path / "files"
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    # Tests of undo and of the second person say so themselves.
    settings.UNDO_SECONDS = 0
    # One sweep may follow the other at once.
    settings.SWEEP_SECONDS = 0
    settings.SECOND_PERSON_FOR = []
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    current_app.conf.task_always_eager = True
    # A task that breaks breaks the test, instead of being noted in a result nobody reads.
    current_app.conf.task_eager_propagates = True
    cache.clear()


@pytest.fixture
def asleep() -> Iterator[None]:
    """Let no worker wake up: messages go to a broker that nobody reads, and is emptied."""
    current_app.conf.task_always_eager = False
    yield
    queues_empty()


@pytest.fixture(scope="session", autouse=True)
def _tables_can_be_emptied(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Lift the triggers while a test with real transactions is tidied up, and put them back.

    SQLite empties tables row by row, which the append-only record refuses; PostgreSQL truncates.
    """
    if connection.vendor != "sqlite":
        yield
        return
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = cursor.fetchall()
    tidy_up = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]

    def lifted(self: TransactionTestCase) -> None:
        with connection.cursor() as cursor:
            for name, _ in triggers:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
        tidy_up(self)
        with connection.cursor() as cursor:
            for _, sql in triggers:
                cursor.execute(sql)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lifted)
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"A test tried to reach {address[0]}.")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real files, or skip where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("The folder of real files (WEIGHHOUSE_TEST_DATA) is not on this machine.")
    return SHARED_DATA


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Return the address of a Redis of this machine; skip, or fail in CI, where there is none."""
    url = os.environ.get("REDIS_TEST_URL", "redis://127.0.0.1:6379/15")
    try:
        import redis

        redis.Redis.from_url(url, socket_timeout=2).ping()
    except (ImportError, OSError, redis.RedisError) as error:
        require(False, f"a Redis server at REDIS_TEST_URL ({error})")
    return url


@pytest.fixture(scope="session", autouse=True)
def _pages_come_at_once() -> Iterator[None]:
    """Have the tests' web server send small answers at once, as the house's own (granian) does.

    Otherwise the second packet of each answer waits 40 ms for the browser to confirm the first.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WSGIRequestHandler, "disable_nagle_algorithm", True)
        yield


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a browser for the tests of a file; each opens windows of its own."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    require(program is not None, "No Chromium is installed.")
    playwright = pytest.importorskip("playwright.sync_api")
    with pytest.MonkeyPatch.context() as patch, playwright.sync_playwright() as driver:
        # The driver keeps an event loop in this thread; the database is used between its calls.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Run an object store on this machine; return its address."""
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(store: str, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let files lie in a bucket of that store; return a client of it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    settings.DATA_DIR = tmp_path
    url = f"s3://weighhouse/house?region=us-east-1&endpoint={store}"
    settings.STORAGES = {**settings.STORAGES, "default": bucket_storage(url)}
    import boto3

    client = boto3.client("s3", region_name="us-east-1", endpoint_url=store)
    client.create_bucket(Bucket="weighhouse")
    yield client
    for row in client.list_objects_v2(Bucket="weighhouse").get("Contents", []):
        client.delete_object(Bucket="weighhouse", Key=row["Key"])


@pytest.fixture(scope="session")
def demo_policy() -> PolicyFile:
    """Return the demo policy as its file says it; reading it costs more than storing it."""
    return policy_read(django_settings.BASE_DIR / "moderation" / "policies" / "demo.yaml")


@pytest.fixture
def policy(db: None, demo_policy: PolicyFile) -> Policy:
    """Put the demo policy in force."""
    content = demo_policy.model_copy(deep=True)
    return policy_import(content=content, activate=True, actor=None)


@pytest.fixture
def uma(db: None) -> Account:
    """Return Uma, who uploads."""
    return factories.account("uma")


@pytest.fixture
def rui(db: None) -> Account:
    """Return Rui, who reports."""
    return factories.account("rui")


@pytest.fixture
def mo(db: None) -> Account:
    """Return Mo, who moderates."""
    return factories.account("mo", role=Role.MODERATOR)


@pytest.fixture
def ada(db: None) -> Account:
    """Return Ada, who hears appeals."""
    return factories.account("ada", role=Role.SENIOR_MODERATOR)


@pytest.fixture
def nobody(db: None) -> Account:
    """Return Nobody, who may not."""
    return factories.account("nobody")


@pytest.fixture
def as_() -> Iterator[Callable[[Account | None], Client]]:
    """Return a browser in which this person is logged in."""

    def browser(account: Account | None) -> Client:
        client = Client()
        if account is not None:
            client.force_login(account)
        return client

    yield browser
