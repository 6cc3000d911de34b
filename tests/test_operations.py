"""Health, readiness, metrics and logs: what operators' machines ask and read."""

import json
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings as configured
from django.core.cache import cache
from django.core.files.storage import FileSystemStorage, default_storage
from django.test import Client
from django.utils import timezone

from moderation.heartbeats import heart_beat
from moderation.jobs import job_lease
from moderation.models import Account, FileReference, Heartbeat, Policy, TriageJob
from tests import factories

Browser = Callable[[Account | None], Client]
pytestmark = pytest.mark.django_db
KUBERNETES = configured.BASE_DIR / "docker" / "kubernetes.yaml"
WATCHED = sorted((configured.BASE_DIR / "docker" / "watch").glob("*.*"))


def _ready(client: Client, query: str = "") -> tuple[int, dict[str, Any]]:
    response = client.get(f"/readyz{query}")
    return response.status_code, response.json()


def test_a_process_that_answers_is_alive_without_asking_the_database(
    client: Client, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("name", ["10.1.2.3:8000", "127.0.0.1:8000", "weighhouse-web-0"])
def test_whoever_watches_is_answered_by_whatever_name_they_ask(
    name: str, client: Client, settings: Any
) -> None:
    settings.ALLOWED_HOSTS, settings.METRICS_TOKEN = ["models.example.org"], "secret"
    token = {"Authorization": "Bearer secret", "Host": name}
    assert client.get("/healthz", headers={"Host": name}).status_code == 200
    assert client.get("/readyz", headers={"Host": name}).json()["checks"]
    assert client.get("/metrics", headers=token).status_code == 200
    assert client.get("/metrics", headers={"Host": name}).status_code == 404
    assert client.get("/policy/", headers={"Host": name}).status_code == 400


def test_with_a_worker_and_nothing_waiting_the_house_is_ready(client: Client) -> None:
    heart_beat(name="worker@one", kind="worker", queues=["triage.gpu"])
    status, answer = _ready(client, "?strict")
    assert (status, answer["status"]) == (200, "ready")
    assert set(answer["checks"]) == {"database", "storage", "jobs", "workers"}


def test_without_a_worker_the_house_still_takes_work_in_but_says_it_is_degraded(
    client: Client,
) -> None:
    heart_beat(name="worker@one", kind="worker")
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=2))
    status, answer = _ready(client)
    assert (status, answer["status"]) == (200, "degraded")
    assert answer["checks"]["workers"]["ok"] is False
    assert _ready(client, "?strict")[0] == 503


def test_a_job_that_waits_too_long_shows(
    client: Client, policy: Policy, uma: Account, asleep: None
) -> None:
    heart_beat(name="worker@one", kind="worker")
    factories.submitted(uma)
    TriageJob.objects.update(not_before=timezone.now() - timedelta(minutes=10))
    status, answer = _ready(client, "?strict")
    assert status == 503
    assert re.search(r"waited 6\d\d s", answer["checks"]["jobs"]["says"])


def test_a_house_that_cannot_store_a_file_is_not_ready(
    client: Client, tmp_path: Path, settings: Any
) -> None:
    (tmp_path / "a file").write_text("in the way")
    settings.MEDIA_ROOT = tmp_path / "a file"
    status, answer = _ready(client)
    assert (status, answer["status"]) == (503, "unready")
    assert answer["checks"]["storage"]["ok"] is False


def test_the_storage_is_asked_once_however_often_anybody_asks(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    save = FileSystemStorage.save

    def noted(storage: FileSystemStorage, name: str, content: Any) -> str:
        written.append(name)
        return str(save(storage, name, content))

    monkeypatch.setattr(FileSystemStorage, "save", noted)
    for _ in range(5):
        assert _ready(client)[1]["checks"]["storage"]["ok"]
    assert len(written) == 1
    cache.clear()
    _ready(client)
    # Each under a name of its own, so that no web process reads or deletes the file of another.
    assert len(set(written)) == 2


def test_asking_leaves_no_file_behind(client: Client) -> None:
    _ready(client)
    assert default_storage.listdir("ready")[1] == []


def _metrics(client: Client, settings: Any) -> str:
    settings.METRICS_TOKEN = "secret-of-the-scraper"
    response = client.get("/metrics", HTTP_AUTHORIZATION="Bearer secret-of-the-scraper")
    assert response.status_code == 200
    return response.content.decode()


def test_metrics_are_for_the_holder_of_the_token_alone(client: Client, settings: Any) -> None:
    assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer ").status_code == 404
    settings.METRICS_TOKEN = "secret-of-the-scraper"
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer guess").status_code == 404


def test_metrics_count_what_waits_and_what_was_done(
    client: Client, settings: Any, policy: Policy, uma: Account, asleep: None
) -> None:
    version = factories.submitted(uma)
    heart_beat(name="worker@one", kind="worker")
    text = _metrics(client, settings)
    assert 'weighhouse_jobs{stage="previews",state="queued"} 1.0' in text
    assert 'weighhouse_heartbeat_age_seconds{kind="worker",process="worker@one"}' in text
    assert "weighhouse_lease_expiries_total 0.0" in text
    TriageJob.objects.filter(version=version).update(
        state="running", token="t", lease_until=timezone.now() - timedelta(seconds=1)
    )
    from moderation.tasks import sweep

    sweep()
    assert "weighhouse_lease_expiries_total 2.0" in _metrics(client, settings)


def test_a_clock_that_stands_still_and_what_waits_for_it_show(
    client: Client, settings: Any, policy: Policy, uma: Account
) -> None:
    from moderation.tasks import sweep

    assert 'kind="sweep"' not in _metrics(client, settings)
    sweep()
    silent = r'weighhouse_heartbeat_age_seconds\{kind="sweep",process="sweep"\} (\S+)'
    found = re.search(silent, _metrics(client, settings))
    assert found and float(found[1]) < 60
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
    found = re.search(silent, _metrics(client, settings))
    assert found and float(found[1]) >= 300
    said = _metrics(client, settings)
    for outbox in ("decisions", "notices", "references", "webhooks"):
        assert f'weighhouse_oldest_due_delivery_seconds{{outbox="{outbox}"}} 0.0' in said
    FileReference.objects.create(
        version=factories.draft(uma),
        kind="file",
        url="https://files.example.org/a",
        name="a",
        sha256="0" * 64,
        not_before=timezone.now() - timedelta(minutes=20),
    )
    waits = r'weighhouse_oldest_due_delivery_seconds\{outbox="references"\} 12\d\d'
    assert re.search(waits, _metrics(client, settings))


def _expressions() -> list[str]:
    """Return every question that the alerts, the dashboard and the autoscalers' rule ask."""
    found = []
    for page in WATCHED:
        read = json.loads if page.suffix == ".json" else yaml.safe_load
        told = read(page.read_text())
        for group in told.get("groups", []):
            found += [rule["expr"] for rule in group["rules"]]
        for panel in told.get("panels", []):
            found += [target["expr"] for target in panel["targets"]]
        found += [rule["metricsQuery"] for rule in told.get("externalRules", [])]
    return found


def test_what_every_web_process_tells_is_counted_once() -> None:
    asked = _expressions()
    assert len(asked) > 15
    # Over the processes only the greatest or the least is taken: alike in each of them.
    once = r"\b(max|min)( by \([a-z, ]+\))? \(?|\b(max|min|absent)\("
    for expression in asked:
        measures = re.findall(r"(?:weighhouse_|<<\.Series>>)", expression)
        assert len(re.findall(once, expression)) >= len(measures), expression


def test_no_measure_is_told_twice(
    client: Client, settings: Any, policy: Policy, uma: Account, asleep: None
) -> None:
    factories.submitted(uma)
    for job in factories.submitted(uma).jobs.all():
        assert job_lease(job_id=job.pk) is not None
    said = re.findall(r"^(weighhouse_\S+) ", _metrics(client, settings), re.MULTILINE)
    assert 'weighhouse_job_attempts{stage="files"}' in said
    assert len(said) == len(set(said))


def test_where_nothing_waits_the_autoscaler_is_told_so(client: Client, settings: Any) -> None:
    said = _metrics(client, settings)
    scaled = re.findall(
        r"name: (\w+), selector: { matchLabels: { stage: (\w+) } }", KUBERNETES.read_text()
    )
    assert len(scaled) == 2
    for name, stage in scaled:
        assert f'{name}{{stage="{stage}"}} 0.0' in said


@pytest.mark.django_db(transaction=True)
def test_metrics_tell_how_long_each_probe_took_and_how_often_it_failed(
    client: Client, settings: Any, policy: Policy, uma: Account
) -> None:
    factories.submitted(uma)
    text = _metrics(client, settings)
    assert re.search(r'weighhouse_probe_seconds\{probe="previews",quantile="0.95"\} 0\.\d+', text)
    assert 'weighhouse_probe_runs_recent_count{probe="previews"} 1.0' in text


def test_the_number_of_questions_does_not_grow_with_the_house(
    client: Client,
    settings: Any,
    policy: Policy,
    uma: Account,
    asleep: None,
    django_assert_max_num_queries: Any,
) -> None:
    for _ in range(3):
        factories.submitted(uma)
    with django_assert_max_num_queries(16):
        _metrics(client, settings)


@pytest.mark.parametrize("page", WATCHED, ids=lambda page: page.name)
def test_dashboard_and_alerts_ask_for_measures_that_exist(
    page: Path, client: Client, settings: Any
) -> None:
    if page.suffix == ".json":
        json.loads(page.read_text())
    else:
        yaml.safe_load(page.read_text())
    exist = set(re.findall(r"^# TYPE (\w+)", _metrics(client, settings), re.MULTILINE))
    asked = set(re.findall(r"weighhouse_\w+", page.read_text()))
    asked = {re.sub("_(count|sum)$", "", name) for name in asked}
    assert asked
    assert asked <= exist, f"{page.name} asks for {asked - exist}"


def test_log_lines_name_the_route_and_never_a_private_link(
    rui: Account, as_: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    token = "A" * 40
    with caplog.at_level(logging.INFO):
        as_(rui).get(f"/reports/{token}/")
    lines = [_line(record) for record in caplog.records]
    assert lines
    assert not [line for line in lines if token in line]


def _line(record: logging.LogRecord) -> str:
    """Format a record as the handler does."""
    formatting = logging.config.DictConfigurator(configured.LOGGING)  # type: ignore[attr-defined]
    formatting.configure()
    handler = logging.getLogger().handlers[0]
    handler.filter(record)
    return handler.format(record)
