"""`manage.py simulate`: agrees with queueing theory, with the measured day, and with itself."""

import json
import math
from datetime import timedelta
from io import StringIO
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from moderation.models import Account, ModelVersion, TriageJob
from moderation.simulation import DAY, Durations, House, arrive, needed, run, serve
from tests import factories

GIVEN = {
    "files_seconds": 0.5,
    "previews_seconds": 0.4,
    "handling_seconds": 60,
    "review_share": 0.02,
}


def _simulate(**options: Any) -> dict[str, Any]:
    out = StringIO()
    call_command(
        "simulate",
        **{"arrivals": "100000", "workers": 3, "moderators": 5, "json": True, **options},
        stdout=out,
    )
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def _mean_wait_in_theory(per_second: float, mean: float, servers: int) -> float:
    """Return the mean wait of an M/M/c queue by Erlang's C formula."""
    load = per_second * mean
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    empty = sum(load**number / math.factorial(number) for number in range(servers))
    return last / (empty + last) * mean / (servers - load)


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.7), (4, 0.8), (12, 0.9)])
def test_random_arrivals_wait_as_long_as_erlang_says(servers: int, busy: float) -> None:
    random = np.random.default_rng(1)
    rate = busy * servers / 30
    came = arrive(rate * DAY, 60, random)
    served = serve(came, Durations(30).draw(len(came), random), servers)
    theory = _mean_wait_in_theory(rate, 30, servers)
    assert served.waits.mean() == pytest.approx(theory, rel=0.1)
    assert served.utilisation(60 * DAY) == pytest.approx(busy, rel=0.02)


def test_equal_service_halves_the_wait_as_pollaczek_and_khinchine_say() -> None:
    random = np.random.default_rng(2)
    came = arrive(0.7 / 30 * DAY, 120, random)
    served = serve(came, np.full(len(came), 30.0), 1)
    assert served.waits.mean() == pytest.approx(_mean_wait_in_theory(0.7 / 30, 30, 1) / 2, rel=0.1)


def test_a_handful_is_served_first_come_first_served_by_whoever_is_free_first() -> None:
    served = serve(np.array([0.0, 0, 0, 5, 50]), np.array([10.0, 4, 4, 4, 1]), 2)
    assert served.began.tolist() == [0, 0, 4, 8, 50]
    assert served.ended.tolist() == [10, 4, 8, 12, 51]
    assert served.longest_backlog() == 1
    assert (served.backlog(3), served.backlog(7), served.backlog(60)) == (1, 1, 0)
    assert served.utilisation(10) == pytest.approx((10 + 4 + 4 + 2) / 20)


def test_a_version_is_weighed_when_its_last_job_ends_and_only_then_waits_for_a_person() -> None:
    house = House(
        files=Durations.drawn_from([10.0]),
        previews=Durations.drawn_from([30.0]),
        handling=Durations.drawn_from([100.0]),
        workers=2,
        moderators=1,
        review_share=1.0,
        overhead=1.0,
    )
    course = run(house, np.array([0.0, 1000]), DAY, np.random.default_rng(0))
    assert course.weighed.tolist() == [31, 1031]
    assert course.decided.tolist() == [131, 1131]


def test_one_fewer_than_needed_is_too_few() -> None:
    random = np.random.default_rng(3)
    came = arrive(2000, 1, random)
    takes = Durations(600).draw(len(came), random)
    people = needed(came, takes, DAY, 900)
    assert np.percentile(serve(came, takes, people).waits, 95) <= 900
    assert np.percentile(serve(came, takes, people - 1).waits, 95) > 900


@pytest.mark.django_db
def test_the_same_seed_is_the_same_day_and_another_is_another() -> None:
    assert _simulate(**GIVEN) == _simulate(**GIVEN)
    assert _simulate(**GIVEN) != _simulate(**GIVEN, seed=1)


@pytest.mark.django_db
def test_more_moderators_wait_less_and_too_few_fall_behind() -> None:
    few, enough = _simulate(**GIVEN, moderators=1), _simulate(**GIVEN, moderators=3)
    assert few["moderators"]["offered"] > 1
    assert few["moderators"]["backlog_at_end"] > 100
    assert few["moderators"]["wait_p95"] > 100 * enough["moderators"]["wait_p95"]
    assert enough["moderators"]["backlog_at_end"] < 10
    assert few["moderators"]["needed"] == enough["moderators"]["needed"] == 2
    assert few["people"] == 8


@pytest.mark.django_db
def test_previews_may_have_workers_of_their_own() -> None:
    found = _simulate(**GIVEN, preview_workers=1)
    assert (found["files"]["servers"], found["previews"]["servers"]) == (3, 1)
    assert "workers" not in found


@pytest.mark.django_db
def test_a_person_reads_a_table_and_is_warned_of_too_few() -> None:
    out = StringIO()
    call_command(
        "simulate", arrivals="100000", workers=1, moderators=5, **GIVEN, no_color=True, stdout=out
    )
    said = out.getvalue()
    assert "1 cannot keep up" in said
    assert "For 95 % within 60.0 s" in said
    assert "moderators" in said


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"files_seconds": None}, "Nothing was measured here yet: give --files-seconds"),
        ({"handling_seconds": None}, "give --handling-seconds, such as 60"),
        ({"review_share": None}, "give --review-share"),
        ({"arrivals": "measured"}, "No upload was measured here yet"),
        ({"arrivals": "many"}, "“many” should be a number of 1 or more. Or “measured”"),
        ({"arrivals": "-3"}, "“-3” should be a number of 1 or more"),
    ],
)
def test_what_is_neither_given_nor_measured_is_asked_for(
    wrong: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        _simulate(**{**GIVEN, **wrong})


@pytest.mark.usefixtures("policy", "asleep")
def test_the_measured_day_is_repeated_with_its_own_times(uma: Account, mo: Account) -> None:
    began = timezone.now() - timedelta(hours=3)
    decision = factories.decided(uma, mo)
    versions = [decision.version, *(factories.triaged(uma) for _ in range(3))]
    for number, version in enumerate(versions):
        came = began + timedelta(minutes=number)
        ModelVersion.objects.filter(pk=version.pk).update(submitted_at=came)
        version.jobs.update(created_at=came)
        for stage, seconds in (("files", 2), ("previews", 4)):
            TriageJob.objects.filter(version=version, stage=stage).update(
                leased_at=came + timedelta(seconds=7),
                finished_at=came + timedelta(seconds=7 + seconds),
            )
    found = _simulate(arrivals="measured", workers=1, overhead=0.5)
    assert (found["uploads"], found["workers"]["wait_p50"]) == (4, pytest.approx(1.25))
    assert found["workers"]["offered"] == pytest.approx(4 * 7 / DAY, abs=0.001)
    assert found["weighed_p95"] == pytest.approx(7)
    assert found["measured_wait_p95"] == pytest.approx(7)
    assert found["cases"] <= 4
