"""Settings: what cannot work is refused at the start, in a sentence that names the variable."""

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.core import checks


@pytest.fixture(autouse=True)
def _the_clock_of_a_fresh_machine(settings: Any) -> None:
    # Other tests sweep as often as they like.
    settings.SWEEP_SECONDS = 2.0


def _start(**environment: str) -> subprocess.CompletedProcess[str]:
    """Start a fresh process on these variables and let it check its settings."""
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=configured.BASE_DIR,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _found() -> dict[str, str]:
    messages = checks.run_checks(include_deployment_checks=True)
    return {message.id or "": message.msg for message in messages}


@pytest.mark.parametrize(
    ("variable", "value", "kind"),
    [
        ("LEASE_SECONDS", "soon", "a whole number"),
        ("SWEEP_SECONDS", "often", "a number"),
        ("DATABASE_URL", "mysql://user:hunter2@host/name", "postgres:"),
        ("DATABASE_URL", "postgres://user:hunter2@host:port/name", "a port that is none"),
        ("REDIS_URL", "amqp://user:hunter2@host", "redis:"),
        ("REDIS_URL", "redis://:hunter2@host:port/0", "a port that is none"),
        ("EMAIL_URL", "imap://user:hunter2@host", "smtp+tls:"),
        ("STORAGE_URL", "ftp://user:hunter2@host", "s3:"),
        ("STORAGE_URL", "s3://bucket?password=hunter2", "the option “password”"),
        ("WEIGHHOUSE_DEBUG", "maybe", "true or false"),
        ("WEIGHHOUSE_DATA", "/proc/weighhouse", "cannot be made"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO"),
        ("LOG_FORMAT", "jsn", "line, json"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named_and_its_value_is_not_repeated(
    variable: str, value: str, kind: str
) -> None:
    process = _start(**{variable: value})
    assert process.returncode != 0
    last = process.stderr.strip().splitlines()[-1]
    assert variable in last
    assert kind in last
    assert "hunter2" not in process.stderr


@pytest.mark.parametrize("query", ["", "?sslmode=require", "?connect_timeout=9"])
def test_what_the_address_of_the_database_says_takes_no_timeout_away(query: str) -> None:
    script = (
        "import json; from config.settings import DATABASES; "
        "print(json.dumps(DATABASES['default']['OPTIONS']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=configured.BASE_DIR,
        env={**os.environ, "DATABASE_URL": f"postgres://user@127.0.0.1:5432/name{query}"},
        capture_output=True,
        text=True,
        check=True,
    )
    options = json.loads(process.stdout)
    assert "lock_timeout=20s" in options.pop("options")
    given = dict(part.split("=") for part in query.removeprefix("?").split("&") if part)
    assert {name: str(value) for name, value in options.items()} == {
        "connect_timeout": "5",
        **given,
    }


def test_an_encoder_keeps_to_the_cores_that_it_is_given() -> None:
    script = (
        "import django; django.setup(); import numpy, os; from triage import encoders; "
        "options = encoders.load('demo').encoder._visual.get_session_options(); "
        "print(options.intra_op_num_threads, os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    for given, expected in (("1", "1 1"), ("0", "0 None")):
        process = subprocess.run(
            [sys.executable, "-c", script],
            cwd=configured.BASE_DIR,
            env={
                **{name: text for name, text in os.environ.items() if "NUM_THREADS" not in name},
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "ENCODER_THREADS": given,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert process.stdout.strip() == expected


def test_the_settings_of_a_fresh_machine_have_nothing_to_complain_about() -> None:
    said = [message for message in checks.run_checks() if message.level >= checks.ERROR]
    assert said == []


PUBLIC: dict[str, Any] = {
    "SITE_URL": "https://models.example.org",
    "ALLOWED_HOSTS": ["models.example.org"],
    "SECRET_KEY_IS_OF_THIS_PROCESS": False,
    "DEBUG": False,
}


@pytest.mark.parametrize(
    ("wrong", "code", "names"),
    [
        ({"SITE_URL": "models.example.org"}, "weighhouse.E001", "SITE_URL"),
        ({"SITE_URL": "http://localhost:many"}, "weighhouse.E001", "SITE_URL"),
        ({**PUBLIC, "ALLOWED_HOSTS": ["localhost"]}, "weighhouse.E002", "ALLOWED_HOSTS"),
        ({**PUBLIC, "SECRET_KEY_IS_OF_THIS_PROCESS": True}, "weighhouse.E003", "SECRET_KEY"),
        ({**PUBLIC, "DEBUG": True}, "weighhouse.E004", "WEIGHHOUSE_DEBUG"),
        ({**PUBLIC, "REQUIRE_MFA": False}, "weighhouse.W006", "REQUIRE_MFA"),
        ({"LEASE_SECONDS": 1}, "weighhouse.E005", "LEASE_SECONDS"),
        ({"ENCODER_THREADS": -1}, "weighhouse.E005", "ENCODER_THREADS"),
        ({"ENCODER_BATCH": 0}, "weighhouse.E005", "ENCODER_BATCH"),
        ({"RESEND_SECONDS": 2, "SWEEP_SECONDS": 9.0}, "weighhouse.E006", "RESEND_SECONDS"),
        ({"DRAIN_SECONDS": -1}, "weighhouse.E005", "DRAIN_SECONDS"),
        ({"DRAIN_SECONDS": 60}, "weighhouse.W007", "DRAIN_SECONDS"),
        ({"AUDIT_SHARE": 7}, "weighhouse.E008", "AUDIT_SHARE"),
        ({"SECOND_REVIEW_SHARE": -0.1}, "weighhouse.E008", "SECOND_REVIEW_SHARE"),
        ({"SECOND_PERSON_FOR": ["popuar"]}, "weighhouse.E009", "SECOND_PERSON_FOR"),
        ({"OUTBOUND_PRIVATE_HOSTS": ["http://x"]}, "weighhouse.E010", "OUTBOUND_PRIVATE_HOSTS"),
        ({"OUTBOUND_PRIVATE_HOSTS": ["files:80"]}, "weighhouse.E010", "OUTBOUND_PRIVATE_HOSTS"),
        ({"ENCODER": "clip"}, "weighhouse.E007", "ENCODER"),
        ({"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}, "weighhouse.W004", "REDIS_URL"),
    ],
)
def test_what_cannot_work_together_is_said_with_the_variable_to_change(
    wrong: dict[str, Any], code: str, names: str, settings: Any
) -> None:
    for name, value in wrong.items():
        setattr(settings, name, value)
    assert names in _found()[code]


def test_a_server_without_its_other_half_is_warned_of(settings: Any) -> None:
    on_files, on_redis = "filesystem://", "redis://127.0.0.1:1/0"
    sqlite = {"default": {"ENGINE": "django.db.backends.sqlite3"}}
    postgres = {"default": {"ENGINE": "django.db.backends.postgresql"}}
    for databases, broker, expected in [
        (sqlite, on_files, set()),
        (sqlite, on_redis, {"weighhouse.W001"}),
        (postgres, on_files, {"weighhouse.W002", "weighhouse.W003"}),
        (postgres, on_redis, {"weighhouse.W003"}),
    ]:
        settings.CELERY_BROKER_URL = broker
        # Only what this house checks: Django's own checks would open the database.
        settings.DATABASES = databases
        from moderation.checks import check_servers

        assert {message.id for message in check_servers(None)} == expected


@pytest.fixture
def own_redis(redis_url: str) -> Iterator[str]:
    """Return the Redis of this machine while nobody else changes how it is set up.

    The suite may run beside itself, on SQLite and on PostgreSQL, and there is one Redis.
    """
    from redis import Redis

    client = Redis.from_url(redis_url)
    with (Path(tempfile.gettempdir()) / "weighhouse-test-redis.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        before = client.config_get("maxmemory-policy")["maxmemory-policy"]
        client.config_set("maxmemory-policy", "noeviction")
        yield redis_url
        client.config_set("maxmemory-policy", before)


def test_redis_that_throws_messages_away_is_warned_of(own_redis: str, settings: Any) -> None:
    from redis import Redis

    settings.CELERY_BROKER_URL = own_redis
    assert "weighhouse.W005" not in _found()
    Redis.from_url(own_redis).config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in _found()["weighhouse.W005"]


def test_a_house_on_servers_that_is_set_up_as_the_guide_says_is_warned_of_nothing(
    own_redis: str, tmp_path: Path
) -> None:
    process = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=configured.BASE_DIR,
        env={
            "PATH": os.environ["PATH"],
            "WEIGHHOUSE_DATA": str(tmp_path),
            "SITE_URL": "https://weigh.example.org",
            "ALLOWED_HOSTS": "weigh.example.org",
            "SECRET_KEY": "".join(map(chr, range(40, 125))),
            "DATABASE_URL": "postgres://weighhouse@postgres:5432/weighhouse",
            "REDIS_URL": own_redis,
            "STORAGE_URL": "s3://weighhouse?region=eu-west-1",
            "EMAIL_URL": "smtp+tls://user:password@mail.example.org:587",
            "ENCODER": "onnx:/encoders/clip",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


WORKER = ("-m", "celery", "-A", "config", "worker", "--pool=threads", "-Q", "nobody")
CLOCK = ("-m", "celery", "-A", "config", "beat", "--pidfile=", "--schedule={folder}/clock")


@pytest.mark.parametrize(
    "arguments", [("-c", "import config.wsgi"), WORKER, CLOCK], ids=["web", "worker", "clock"]
)
def test_no_process_starts_on_settings_that_cannot_work(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    process = subprocess.run(
        [sys.executable, *(part.format(folder=tmp_path) for part in arguments)],
        cwd=configured.BASE_DIR,
        env={**os.environ, "SITE_URL": "nowhere"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert process.returncode != 0
    assert "weighhouse.E001" in process.stderr


def test_every_check_of_this_house_is_tested_here() -> None:
    ids = set(
        re.findall(
            r'id="(weighhouse\.[EW]\d+)"',
            (configured.BASE_DIR / "moderation" / "checks.py").read_text(),
        )
    )
    assert len(ids) >= 16
    assert ids <= set(re.findall(r"weighhouse\.[EW]\d+", Path(__file__).read_text()))
