"""The Python client against a running house: a folder of models, once and again."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from moderation.models import Account, ModelVersion, Policy, UploadedModel
from moderation.policy import policy_import
from moderation.policy_file import PolicyFile
from moderation.webhooks import signed_headers
from tests import factories
from tests.test_access_matrix import operations
from tests.test_api import ALL, Marketplace

pytestmark = pytest.mark.django_db(transaction=True)
CLIENT = settings.BASE_DIR / "clients" / "python"


@pytest.fixture
def client_of(live_server: Any, monkeypatch: pytest.MonkeyPatch, asleep: None) -> Any:
    """Return a way to make a client for an account."""
    monkeypatch.syspath_prepend(str(CLIENT))
    from weighhouse_client import Client

    return lambda account: Client(live_server.url, key=Marketplace(account, *ALL).key, attempts=2)


def _folder(root: Path) -> Path:
    root.mkdir()
    for name in ("ink", "sky"):
        (root / name).mkdir()
        (root / name / "weights.safetensors").write_bytes(factories.safetensors_bytes())
        (root / name / "preview.png").write_bytes(factories.picture_bytes())
    (root / "ink" / "model.json").write_text(json.dumps({"title": "Ink wash", "tags": ["ink"]}))
    (root / "notes").mkdir()
    return root


def test_a_folder_of_models_is_submitted_and_sent_again_changes_nothing(
    live_server: Any, policy: Policy, asleep: None, tmp_path: Path
) -> None:
    shop = Marketplace(factories.account("shop"))
    command = [
        sys.executable, "-m", "weighhouse_client.submit_folder", str(_folder(tmp_path / "models")),
        "--url", live_server.url, "--on-behalf-of", "user-1",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(CLIENT), "WEIGHHOUSE_KEY": shop.key}
    for _ in range(2):
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert "2 submitted" in run.stdout
        assert "1 without weights or previews" in run.stdout
    versions = ModelVersion.objects.filter(visibility="quarantined")
    assert sorted(str(version.uploaded_model) for version in versions) == ["Ink wash", "sky"]
    assert UploadedModel.objects.count() == 2


def test_what_was_refused_is_submitted_when_it_is_run_again_and_for_each_user_apart(
    live_server: Any, demo_policy: PolicyFile, asleep: None, tmp_path: Path
) -> None:
    shop = Marketplace(factories.account("shop"))
    environment = {**os.environ, "PYTHONPATH": str(CLIENT), "WEIGHHOUSE_KEY": shop.key}
    folder = str(_folder(tmp_path / "models"))

    def run(user: str) -> str:
        command = [
            sys.executable, "-m", "weighhouse_client.submit_folder", folder,
            "--url", live_server.url, "--on-behalf-of", user,
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout

    assert "2 refused" in run("user-1")
    policy_import(content=demo_policy, activate=True, actor=None)
    assert "2 submitted" in run("user-1")
    assert "2 submitted" in run("user-2")
    assert ModelVersion.objects.filter(visibility="quarantined").count() == 4


def test_the_client_reads_what_was_decided_and_appeals(
    client_of: Any, policy: Policy, mo: Account, uma: Account
) -> None:
    house = client_of(uma)
    decision = factories.decided(uma, mo)
    assert [read.code for read in house.decisions()] == [decision.code]
    assert house.findings(decision.version.code)[0].concern == "hold"
    (read,) = house.decisions()
    assert read.statement["effect"] == decision.statement.content["effect"]
    assert house.decision(decision.code) == read
    appeal = house.appeal(decision.code, "They are flowers.")
    assert appeal.state == "open"
    assert house.appeal_status(appeal.code) == appeal
    assert "decision.in_force" in [event.type for event in house.events()]


def test_the_client_has_a_method_for_each_operation_of_the_document(
    client_of: Any, uma: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    house = client_of(uma)
    asked = set()

    def noted(method: str, path: str, headers: Any, **_: Any) -> Any:
        asked.add((method, path.replace("/CODE", "/{code}")))
        raise InterruptedError  # its answer is for the other tests

    monkeypatch.setattr(house, "_send", noted)
    file = tmp_path / "x.png"
    file.touch()
    special: dict[str, dict[str, Any]] = {
        "add_file": {"path": file},
        "add_preview": {"path": file},
        "submit_whole": {"files": [file], "previews": [file]},
        "add_reference": {"kind": "file", "url": "u", "name": "n", "sha256": "s"},
    }
    for name, method in inspect.getmembers(house, inspect.ismethod):
        if name.startswith("_"):
            continue
        needed = [
            parameter.name
            for parameter in inspect.signature(method).parameters.values()
            if parameter.default is parameter.empty
        ]
        given = dict.fromkeys(needed, "CODE") | special.get(name, {})
        with pytest.raises(InterruptedError):
            answer = method(**given)
            list(answer)  # a list is asked for when it is read
    assert asked == operations()


def test_a_whole_version_is_submitted_in_one_request(
    client_of: Any, policy: Policy, uma: Account, tmp_path: Path
) -> None:
    weights, picture = tmp_path / "ink.safetensors", tmp_path / "ink.png"
    weights.write_bytes(factories.safetensors_bytes())
    picture.write_bytes(factories.picture_bytes())
    house = client_of(uma)
    made = house.submit_whole(
        title="Ink wash", tags=["ink"], files=[weights], previews=[picture], prompts=["ink"]
    )
    assert made.visibility == "quarantined"
    version = ModelVersion.objects.get(code=made.code)
    assert version.uploaded_model.tags == ["ink"]
    assert [preview.prompt for preview in version.previews.all()] == ["ink"]


def test_a_refusal_is_an_error_with_a_code_and_a_sentence(client_of: Any, uma: Account) -> None:
    from weighhouse_client import WeighhouseError

    house = client_of(uma)
    made = house.create_model(title="Empty")
    with pytest.raises(WeighhouseError, match="Add at least one file of weights") as caught:
        house.submit(made.code)
    assert caught.value.status == 422


def test_the_client_tells_our_messages_from_forged_ones(client_of: Any) -> None:
    from standardwebhooks.webhooks import WebhookVerificationError
    from weighhouse_client import verify

    secret = "whsec_" + "QUFB" * 8
    headers = signed_headers(secret=secret, message_id="msg_1", body='{"type":"version.published"}')
    assert verify(secret, headers, b'{"type":"version.published"}')["type"] == "version.published"
    with pytest.raises(WebhookVerificationError):
        verify(secret, headers, b'{"type":"version.removed"}')
