"""The images and the files beside them: no root, no torch in the web, every variable named."""

import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import CommandError, call_command

from moderation.worker import _ending, alive_file, live_visibly
from tests.processes import wait_until

DOCKER = settings.BASE_DIR / "docker"
IMAGES = sorted(DOCKER.glob("*.Dockerfile"))


def test_the_example_of_the_environment_names_every_variable() -> None:
    named = set(re.findall(r"^#?([A-Z_]+)=", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    table = (settings.BASE_DIR / "docs" / "settings.md").read_text()
    ours = set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))
    of_other_services = set(re.findall(r"\$\{([A-Z_]+)", (DOCKER / "compose.yaml").read_text()))
    assert ours <= named <= ours | of_other_services


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_no_image_runs_as_root_and_each_has_a_health_check(image: Path) -> None:
    lines = image.read_text()
    assert re.search(r"^USER weighhouse$", lines, re.MULTILINE)
    assert "HEALTHCHECK" in lines
    assert ("torch" in lines.split("pip install")[1].splitlines()[0]) == (image.stem == "worker")


def _command(image: str) -> str:
    return (DOCKER / f"{image}.Dockerfile").read_text().rpartition("\nCMD ")[2]


def test_a_card_has_one_process_of_threads_that_does_nothing_else() -> None:
    command = _command("worker")
    assert '"--pool", "threads"' in command
    assert command.rstrip().endswith('"-Q", "triage.gpu"]')
    # CUDA comes with torch's own wheels for Linux; ONNX Runtime is in every image.
    assert "torch" in (DOCKER / "worker.Dockerfile").read_text()
    assert '"--pool", "threads"' in _command("worker-cpu")
    assert "granian" in _command("web")


def test_every_process_of_the_compose_file_is_read_only_and_without_capabilities() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services: dict[str, Any] = compose["services"]
    ours = [name for name in services if "restart" in services[name]]
    assert {"web", "worker-cpu", "worker-gpu", "beat"} <= set(ours)
    assert {"postgres", "redis", "minio"} <= set(services)
    for name in ours:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert "noeviction" in services["redis"]["command"]


def test_what_is_large_lies_in_the_volume_until_it_is_stored_and_not_in_memory() -> None:
    assert Path(settings.FILE_UPLOAD_TEMP_DIR).is_relative_to(settings.DATA_DIR)
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for name in ("web", "worker-cpu", "worker-gpu"):
        assert "data:/data" in services[name]["volumes"]
    for image in IMAGES:
        assert "WEIGHHOUSE_DATA=/data" in image.read_text()


def test_the_kubernetes_example_scales_each_kind_of_worker_by_how_long_work_waits() -> None:
    documents = list(yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text()))
    kinds = {(row["kind"], row["metadata"]["name"]) for row in documents}
    for worker in ("weighhouse-worker-gpu", "weighhouse-worker-cpu"):
        assert ("Deployment", worker) in kinds
        assert ("HorizontalPodAutoscaler", worker) in kinds
    for row in documents:
        if row["kind"] == "Deployment":
            pod = row["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            for container in pod["containers"]:
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_workers_serve_every_queue_that_a_task_is_sent_to() -> None:
    sent_to = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    served = set()
    for image in IMAGES:
        for queues in re.findall(r'"-Q", "([^"]+)"', image.read_text()):
            served |= set(queues.split(","))
    assert sent_to <= served


def test_a_container_is_well_while_its_worker_lives_whatever_the_database_does(
    settings: Any, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    with pytest.raises(CommandError, match="No worker"):
        call_command("worker_alive")
    living = threading.Thread(target=live_visibly, daemon=True)
    living.start()
    try:
        wait_until(alive_file().exists, seconds=30, what="its file")
        # Tests without a mark for the database are refused each query.
        call_command("worker_alive")
    finally:
        _ending.set()
        living.join()
        _ending.clear()
    old = time.time() - 60
    os.utime(alive_file(), (old, old))
    with pytest.raises(CommandError, match="No worker"):
        call_command("worker_alive")
