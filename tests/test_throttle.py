"""Throttles: never more tokens than there are, however many processes ask at once."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection

from moderation import throttle
from moderation.models import ThrottleBucket
from moderation.throttle import LIMITS, Limit, address_digest, buckets_forget, throttle_take

PROCESSES = 8
ASKED_EACH = 12

# What each process does: ask for tokens of one bucket, and say how many it got.
ASK = """
import django; django.setup()
from moderation.throttle import throttle_take
print(sum(throttle_take(limit="report.account", key="crowd") for _ in range({asked})))
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1_000_000.0]
    monkeypatch.setattr(throttle.time, "time", lambda: now[0])
    yield now


@pytest.mark.django_db
def test_a_burst_is_let_through_and_then_one_as_often_as_the_limit_says(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "report.account", Limit(burst=3, per_day=24))  # type: ignore[index]
    takes = [throttle_take(limit="report.account", key="rui") for _ in range(5)]
    assert takes == [True, True, True, False, False]
    assert throttle_take(limit="report.account", key="uma"), "another one's bucket is another"
    clock[0] += 3599
    assert not throttle_take(limit="report.account", key="rui")
    clock[0] += 1
    assert throttle_take(limit="report.account", key="rui")
    assert not throttle_take(limit="report.account", key="rui")
    clock[0] += 10 * 86_400
    takes = [throttle_take(limit="report.account", key="rui") for _ in range(4)]
    assert takes == [True, True, True, False], "a bucket holds no more than a burst"


@pytest.mark.django_db
def test_a_bucket_that_is_full_again_is_forgotten(clock: list[float]) -> None:
    throttle_take(limit="report.account", key="rui")
    assert buckets_forget() == 0
    clock[0] += 2 * 86_400
    assert buckets_forget() == 1
    assert not ThrottleBucket.objects.exists()


@pytest.mark.django_db
def test_what_a_bucket_is_for_is_not_stored_however_long_it_is() -> None:
    longest = f"{'a' * 64}@{'b' * 185}.org"
    for limit in LIMITS:
        assert throttle_take(limit=limit, key=longest)
    kept = list(ThrottleBucket.objects.values_list("key", flat=True))
    assert len(kept) == len(LIMITS)
    column = ThrottleBucket._meta.get_field("key")
    # Sixteen in a row, for a digest in hexadecimal may well hold three.
    assert all("a" * 16 not in key and len(key) <= column.max_length for key in kept)


@pytest.mark.django_db(transaction=True)
def test_eight_processes_at_once_get_exactly_a_burst() -> None:
    database = connection.settings_dict
    if connection.vendor == "postgresql":
        url = (
            f"postgres://{database['USER']}@{database['HOST']}:{database['PORT']}"
            f"/{database['NAME']}"
        )
    else:
        url = f"sqlite:///{database['NAME']}"
    environment: dict[str, Any] = {
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SECRET_KEY": django_settings.SECRET_KEY,
        "WEIGHHOUSE_DATA": str(django_settings.DATA_DIR),
        "PATH": "/usr/bin:/bin",
    }
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", ASK.format(asked=ASKED_EACH)],
            cwd=django_settings.BASE_DIR,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    got = [int(process.communicate(timeout=120)[0]) for process in crowd]
    burst = LIMITS["report.account"].burst
    assert burst < PROCESSES * ASKED_EACH
    assert sum(got) == burst
    assert len([share for share in got if share]) > 1, "more than one process had its turn"


def test_no_network_address_is_stored_and_a_household_is_one(settings: Any) -> None:
    digest = address_digest("203.0.113.7")
    assert "203.0" not in digest
    assert digest == address_digest("203.0.113.7") != address_digest("203.0.113.8")
    assert address_digest("2001:db8:1:2:3::4") == address_digest("2001:db8:1:2:ffff::1")
    assert address_digest("2001:db8:1:2::1") != address_digest("2001:db8:1:3::1")
    settings.SECRET_KEY = "another key"
    assert address_digest("203.0.113.7") != digest, "without the key nobody can compute it"
