"""The API as a marketplace uses it: submit, read, report, appeal, be told."""

import json
import re
import threading
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.appeals import appeal_file_by_reporter
from moderation.decisions import decision_make, decision_undo
from moderation.enforcement import decision_enforce
from moderation.holds import hold_end, holds_place
from moderation.likeness import likeness_confirm, likeness_request
from moderation.models import (
    Account,
    ApiToken,
    Appeal,
    Event,
    ExternalAccount,
    FileReference,
    Hold,
    IdempotentAnswer,
    LikenessRequest,
    ModelFile,
    ModelVersion,
    Policy,
    PreviewImage,
    Report,
    ThrottleBucket,
    TriageJob,
    UploadedModel,
)
from moderation.policy import policy_import
from moderation.policy_file import PolicyFile
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import Action, Role, Scope, Visibility
from moderation.tasks import reference_fetch, sweep
from moderation.throttle import _bucket
from moderation.tokens import token_create, token_revoke
from tests import factories, noting_inspector
from tests.receiver import receiver

pytestmark = pytest.mark.django_db
ALL = list(Scope.values)


# Everything that a key may change, whatever the role of its account. Nothing of it decides.
CHANGES = {
    ("post", "/models"),
    ("post", "/submissions"),
    ("post", "/versions/{code}/next"),
    ("post", "/versions/{code}/files"),
    ("post", "/versions/{code}/previews"),
    ("post", "/versions/{code}/references"),
    ("post", "/versions/{code}/submit"),
    ("post", "/decisions/{code}/appeals"),
    ("post", "/reports/{code}/appeals"),
    ("post", "/versions/{code}/objections"),
    ("post", "/reports"),
    ("post", "/webhooks"),
    ("post", "/webhooks/{code}/switch-on"),
    ("delete", "/webhooks/{code}"),
    ("delete", "/references/{code}"),
}


class Marketplace:
    """A marketplace with a key: every POST gets an Idempotency-Key of its own."""

    def __init__(self, account: Account, *scopes: str) -> None:
        self.account = account
        self.token, self.key = token_create(
            account=account, name="test", scopes=scopes or ALL, actor=None
        )
        self.client = Client()
        self.requests = 0

    def headers(self) -> dict[str, str]:
        return {"HTTP_AUTHORIZATION": f"Bearer {self.key}"}

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/v1{path}", query, **self.headers())

    def post(self, path: str, body: Any = None, *, key: str = "", **files: Any) -> Any:
        self.requests += 1
        headers = self.headers() | {"HTTP_IDEMPOTENCY_KEY": key or f"key-{self.requests}"}
        if files:
            return self.client.post(f"/api/v1{path}", {**(body or {}), **files}, **headers)
        return self.client.post(
            f"/api/v1{path}", json.dumps(body or {}), content_type="application/json", **headers
        )


@pytest.fixture
def shop(db: None) -> Marketplace:
    return Marketplace(factories.account("shop"))


@pytest.fixture
def maximiliana(db: None) -> Account:
    """Return a moderator whose name is part of no other word."""
    return factories.account("maximiliana", role=Role.MODERATOR)


def _draft(shop: Marketplace, **fields: Any) -> str:
    made = shop.post("/models", {"title": "Ink wash", **fields})
    assert made.status_code == 201, made.content
    return str(made.json()["code"])


def _submitted(shop: Marketplace, **fields: Any) -> ModelVersion:
    code = _draft(shop, **fields)
    assert shop.post(f"/versions/{code}/files", file=factories.weights_upload()).status_code == 201
    added = shop.post(
        f"/versions/{code}/previews", {"prompt": "ink"}, file=factories.preview_upload()
    )
    assert added.status_code == 201
    assert shop.post(f"/versions/{code}/submit").json()["visibility"] == "quarantined"
    return ModelVersion.objects.get(code=code)


def test_a_marketplace_submits_for_its_user_and_sees_how_it_stands(
    shop: Marketplace, policy: Policy
) -> None:
    version = _submitted(shop, on_behalf_of="user-42")
    assert version.uploaded_model.creator.external.external_id == "user-42"
    seen = shop.get(f"/versions/{version.code}").json()
    assert (seen["on_behalf_of"], seen["visibility"]) == ("user-42", "quarantined")
    assert [file["name"] for file in seen["files"]] == ["weights.safetensors"]
    again = _draft(shop, on_behalf_of="user-42")
    assert ModelVersion.objects.get(code=again).uploaded_model.creator_id == (
        version.uploaded_model.creator_id
    )


def test_two_marketplaces_see_nothing_of_each_other(shop: Marketplace, policy: Policy) -> None:
    other = Marketplace(factories.account("other"))
    version = _submitted(shop)
    assert other.get(f"/versions/{version.code}").status_code == 404
    assert other.get(f"/versions/{version.code}/findings").status_code == 404
    assert other.post(f"/versions/{version.code}/submit").status_code == 404
    assert other.get("/versions").json()["items"] == []
    assert other.get("/events").json()["items"] == []
    mine = Marketplace(factories.account("third")).post(
        "/models", {"title": "Same user", "on_behalf_of": "user-42"}
    )
    assert mine.status_code == 201


def test_findings_and_decisions_are_read_without_naming_who_decided(
    shop: Marketplace, policy: Policy, maximiliana: Account
) -> None:
    decision = factories.decided(shop.account, maximiliana)
    found = shop.get(f"/versions/{decision.version.code}/findings").json()
    assert found[0]["concern"] == "hold"
    answer = shop.get(f"/decisions/{decision.code}")
    assert answer.json()["facts"] == "The first preview shows a red star."
    assert answer.json()["clauses"][0]["slug"] == "red-star"
    listed = shop.get("/decisions").content.decode()
    for text in (answer.content.decode(), listed):
        assert maximiliana.username not in text
        assert "seen before" not in text


def test_a_decision_comes_with_the_statement_of_reasons_that_its_creator_was_sent(
    shop: Marketplace, policy: Policy, maximiliana: Account
) -> None:
    decision = factories.decided(shop.account, maximiliana)
    sent = decision.statement.content
    for read in (shop.get(f"/decisions/{decision.code}"), shop.get("/decisions")):
        said = read.json().get("items", [read.json()])[0]["statement"]
        assert said["effect"] and said["detection"] and said["elsewhere"]
        for name in (
            "what",
            "effect",
            "territory",
            "facts",
            "ground",
            "legal_ground",
            "detection",
            "automated_detection",
            "automated_decision",
            "elsewhere",
            "appeal_until",
        ):
            assert said[name] == sent[name], name  # fmt: skip
        assert said["clauses"][0]["slug"] == "red-star"
        # Whose hand it was, not even under another name.
        assert "decided" not in said
        assert sent["decided"] not in read.content.decode()


def test_nobody_hears_that_the_authorities_were_told_or_what_nobody_is_told_of_yet(
    shop: Marketplace, policy: Policy, settings: Any, mo: Account
) -> None:
    case = factories.held(shop.account)
    decision_make(case=case, action=Action.LAW, rules=[], facts="It is planned.", actor=mo)
    settings.UNDO_SECONDS = 10
    decision = factories.decided(shop.account, mo, title="Can still be undone")
    assert shop.get("/decisions").json()["items"] == []
    assert shop.get(f"/decisions/{decision.code}").status_code == 404
    settings.SECOND_PERSON_FOR = ["child_safety"]
    held = factories.held(shop.account, title="Waits for a second person")
    case_claim(case=held, actor=mo)
    decision_make(
        case=held, action=Action.CHILD_SAFETY, rules=["red-star"], facts="Seen.", actor=mo
    )
    undone = factories.decided(shop.account, mo, title="Undone")
    decision_undo(decision=undone, actor=mo)

    def told() -> list[tuple[str, str, str]]:
        items = shop.get("/events").json()["items"]
        rows = [(item["type"], item["data"]) for item in items]
        return [
            (kind, data["decision"], data.get("action", ""))
            for kind, data in rows
            if kind.startswith("decision.")
        ]

    assert told() == []
    decision_enforce(decision_id=decision.pk, early=True)
    assert told() == [("decision.in_force", decision.code, "remove")]


def test_what_reporters_appeal_is_no_event_of_the_model(
    shop: Marketplace, policy: Policy, rui: Account, mo: Account
) -> None:
    version = factories.published(shop.account)
    report = report_file(version=version, text="A red star.", actor=rui)
    case_claim(case=report.case, actor=mo)
    decision_make(case=report.case, action=Action.APPROVE, rules=[], facts="Orange.", actor=mo)
    report.refresh_from_db()
    appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    removal = factories.decided(shop.account, mo, title="Other")
    assert shop.post(f"/decisions/{removal.code}/appeals", {"text": "No."}).status_code == 201
    told = shop.get("/events").json()["items"]
    appealed = [event["data"]["decision"] for event in told if event["type"] == "appeal.filed"]
    assert appealed == [removal.code]


def test_what_the_clock_hides_is_told_with_its_reasons_and_objected_to_for_the_creator(
    shop: Marketplace, policy: Policy
) -> None:
    version = factories.published(shop.account)
    likeness_request(
        models=version.code, email="dana@example.org", signature="Dana", text="Me.", agrees=True
    )
    likeness_confirm(request=LikenessRequest.objects.get())
    ModelVersion.objects.update(hidden_from=timezone.now())
    holds_place()
    shown = shop.get(f"/versions/{version.code}").json()
    assert shown["held"]["clauses"][0]["slug"] == "real-person"
    assert "without their consent" in shown["held"]["facts"]
    assert shop.get("/versions").json()["items"][0]["held"] == shown["held"]
    assert "version.held_by_clock" in shop.get("/events").content.decode()
    path = f"/versions/{version.code}/objections"
    answer = shop.post(path, {"text": "It is a fox."})
    assert (answer.status_code, answer.json()["held"]["objected_at"] is None) == (201, False)
    assert Hold.objects.get().objection == "It is a fox."
    assert shop.post(path, {"text": "Again."}).status_code == 409
    other = Marketplace(factories.account("other"))
    assert other.post(path, {"text": "It is mine."}).status_code == 404
    hold_end(version=version, actor=None)
    assert shop.get(f"/versions/{version.code}").json()["held"] is None
    assert shop.post(path, {"text": "Once more."}).status_code == 409


def test_an_appeal_is_filed_for_the_creator_and_its_answer_is_read(
    shop: Marketplace, policy: Policy, mo: Account
) -> None:
    decision = factories.decided(shop.account, mo)
    filed = shop.post(f"/decisions/{decision.code}/appeals", {"text": "They are flowers."})
    assert filed.status_code == 201
    assert Appeal.objects.get().text == "They are flowers."
    assert shop.get(f"/appeals/{filed.json()['code']}").json()["state"] == "open"
    second = shop.post(f"/decisions/{decision.code}/appeals", {"text": "Again."})
    assert (second.status_code, second["Content-Type"]) == (409, "application/problem+json")


def test_a_user_of_the_marketplace_reports_and_the_outcome_is_read(
    shop: Marketplace, policy: Policy, uma: Account
) -> None:
    version = factories.published(uma)
    body = {"version": version.code, "text": "A red star.", "on_behalf_of": "user-7"}
    filed = shop.post("/reports", body)
    assert filed.status_code == 201, filed.content
    report = Report.objects.get()
    assert report.reporter is not None
    assert report.reporter.external.external_id == "user-7"
    assert shop.get(f"/reports/{report.code}").json()["state"] == "open"
    twice = shop.post("/reports", body)
    assert (twice.status_code, twice.json()["code"]) == (409, "already_reported")


def test_a_user_who_reported_appeals_that_nothing_was_done(
    shop: Marketplace, policy: Policy, uma: Account, mo: Account
) -> None:
    version = factories.published(uma)
    body = {"version": version.code, "text": "A red star.", "on_behalf_of": "user-7"}
    report = shop.post("/reports", body).json()["code"]
    path = f"/reports/{report}/appeals"
    early = shop.post(path, {"text": "Look again."})
    assert (early.status_code, early.json()["code"]) == (409, "nothing_to_appeal")
    case = case_claim(case=Report.objects.get().case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="A leaf.", actor=mo)
    filed = shop.post(path, {"text": "Look again."})
    assert filed.status_code == 201, filed.content
    appeal = Appeal.objects.get()
    assert (appeal.side, appeal.appellant) == ("reporter", Report.objects.get().reporter)
    assert shop.get(f"/appeals/{appeal.code}").json()["state"] == "open"
    other = Marketplace(factories.account("other"))
    assert other.post(path, {"text": "Look again."}).status_code == 404


# --- Keys -----------------------------------------------------------------------------------


def test_without_a_valid_key_nothing_is_answered(shop: Marketplace, client: Client) -> None:
    assert client.get("/api/v1/versions").status_code == 401
    answer = client.get("/api/v1/versions", HTTP_AUTHORIZATION="Bearer wh_guess")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert shop.get("/versions").status_code == 200
    token_revoke(token=shop.token, actor=None)
    assert shop.get("/versions").status_code == 401


def test_an_expired_key_and_the_key_of_a_suspended_account_are_refused(shop: Marketplace) -> None:
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert shop.get("/versions").status_code == 401
    ApiToken.objects.update(expires_at=None)
    Account.objects.filter(pk=shop.account.pk).update(is_active=False)
    assert shop.get("/versions").status_code == 401


@pytest.mark.parametrize(
    ("scope", "allowed", "refused"),
    [
        ("read", ("GET", "/versions"), ("POST", "/models")),
        ("submit", ("POST", "/models"), ("GET", "/versions")),
        ("report", ("POST", "/reports"), ("POST", "/models")),
        ("webhook", ("GET", "/webhooks"), ("POST", "/reports")),
    ],
)
def test_a_key_does_what_its_scopes_say_and_nothing_else(
    scope: str, allowed: tuple[str, str], refused: tuple[str, str], db: None
) -> None:
    shop = Marketplace(factories.account("shop"), scope)

    def status(method: str, path: str) -> int:
        answer = shop.get(path) if method == "GET" else shop.post(path)
        return int(answer.status_code)

    assert status(*allowed) != 403
    assert status(*refused) == 403


def test_the_key_itself_is_nowhere_in_the_database(shop: Marketplace) -> None:
    row = ApiToken.objects.get()
    kept = [str(getattr(row, field.attname)) for field in ApiToken._meta.concrete_fields]
    assert not [value for value in kept if shop.key in value]


def test_keys_are_made_listed_and_revoked_at_the_terminal(uma: Account) -> None:
    out = StringIO()
    call_command(
        "api_token", "create", "--account", "uma", "--name", "ci", "--scopes", "read", "--json",
        stdout=out,
    )  # fmt: skip
    made = json.loads(out.getvalue())
    assert made["key"].startswith("wh_")
    call_command("api_token", "revoke", made["code"], stdout=StringIO())
    out = StringIO()
    call_command("api_token", "list", "--json", stdout=out)
    assert json.loads(out.getvalue())[0]["revoked"] is True
    with pytest.raises(CommandError, match="no scope"):
        call_command("api_token", "create", "--account", "uma", "--name", "x", "--scopes", "all")


# --- At once ----------------------------------------------------------------------------------


def _whole(shop: Marketplace, *, key: str = "", **changed: Any) -> Any:
    """Submit a model with two files and two previews in one request."""
    fields = {
        "title": "Ink wash",
        "tags": ["ink", "wash"],
        "on_behalf_of": "user-42",
        "prompts": ["ink on paper"],
        "files": [
            factories.weights_upload("one.safetensors"),
            factories.weights_upload("two.safetensors", metadata={"seed": "2"}),
        ],
        "previews": [
            factories.preview_upload("first.png"),
            factories.preview_upload("second.png", factories.picture_bytes((0, 0, 128))),
        ],
        **changed,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return shop.post("/submissions", given, key=key, files=given.pop("files", []))


# What was recorded before anything was sent.
OF_THE_HOUSE = {"api_token.created", "policy.imported", "policy.activated"}


def _left_behind(settings: Any) -> list[str]:
    """Return everything that a submission writes and that is there."""
    folder = Path(settings.MEDIA_ROOT)
    rows = [UploadedModel, ModelVersion, ModelFile, PreviewImage, TriageJob, ExternalAccount]
    return [
        *(row.__name__ for row in rows if row.objects.exists()),
        *(event.action for event in Event.objects.all() if event.action not in OF_THE_HOUSE),
        *(path.name for path in folder.rglob("*") if path.is_file()),
    ]


@pytest.mark.usefixtures("policy", "asleep")
def test_a_version_is_submitted_with_all_its_files_at_once(shop: Marketplace) -> None:
    answer = _whole(shop)
    assert answer.status_code == 201, answer.content
    said = answer.json()
    assert (said["visibility"], said["on_behalf_of"]) == ("quarantined", "user-42")
    assert [file["name"] for file in said["files"]] == ["one.safetensors", "two.safetensors"]
    assert [preview["name"] for preview in said["previews"]] == ["first.png", "second.png"]
    version = ModelVersion.objects.get()
    assert version.uploaded_model.tags == ["ink", "wash"]
    assert [preview.prompt for preview in version.previews.all()] == ["ink on paper", ""]
    assert version.jobs.count() == len(TriageJob.Stage.values)
    actions = list(Event.objects.filter(version=version).values_list("action", flat=True))
    assert actions == ["model.created", "version.submitted"]
    assert shop.get(f"/versions/{version.code}").json() == said
    # What is submitted is closed, as it is after the long way.
    again = shop.post(f"/versions/{version.code}/submit")
    assert (again.status_code, again.json()["code"]) == (409, "not_a_draft")


@pytest.mark.usefixtures("policy", "asleep")
def test_a_version_that_is_sent_at_once_twice_is_there_once(
    shop: Marketplace, settings: Any
) -> None:
    first, second = _whole(shop, key="same"), _whole(shop, key="same")
    assert first.json() == second.json()
    assert second["Idempotent-Replay"] == "true"
    assert ModelVersion.objects.count() == 1
    files = [name for name in _left_behind(settings) if "." not in name and len(name) == 32]
    # Two files and the originals of two previews.
    assert len(files) == 4
    other = _whole(shop, key="same", title="Another")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"previews": None}, 422, "invalid_request"),
        ({"files": None}, 422, "invalid_request"),
        ({"title": None}, 422, "invalid_request"),
        ({"title": " "}, 422, "invalid"),
        ({"tags": ["x" * 61]}, 422, "too_long"),
        ({"prompts": ["1", "2", "3"]}, 422, "invalid"),
        ({"on_behalf_of": "user\t42"}, 422, "bad_user"),
        ({"files": [SimpleUploadedFile("a.safetensors", b"no weights")]}, 422, None),
        ({"files": [factories.weights_upload(), factories.weights_upload()]}, 409, "same_file"),
        ({"previews": [factories.preview_upload(), SimpleUploadedFile("b.png", b"x")]}, 422, None),
        ({"previews": [factories.preview_upload("a.png")] * 21}, 422, "invalid"),
        ({"files": [SimpleUploadedFile("a.safetensors", b"")]}, 422, "empty"),
    ],
)
@pytest.mark.usefixtures("policy", "asleep")
def test_a_version_that_is_refused_at_once_leaves_nothing(
    changed: dict[str, Any], status: int, code: str | None, shop: Marketplace, settings: Any
) -> None:
    for uploads in changed.values():
        for upload in uploads if isinstance(uploads, list) else []:
            if isinstance(upload, SimpleUploadedFile):
                upload.seek(0)
    answer = _whole(shop, **changed)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    if code:
        assert answer.json()["code"] == code
    assert _left_behind(settings) == []
    # Put right and sent with a new key it is taken.
    assert _whole(shop).status_code == 201


def test_without_a_policy_nothing_is_submitted_at_once(shop: Marketplace, settings: Any) -> None:
    answer = _whole(shop)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_policy")
    assert _left_behind(settings) == []


@pytest.mark.usefixtures("policy", "asleep")
def test_a_user_whose_account_is_suspended_submits_nothing_at_once(
    shop: Marketplace, settings: Any
) -> None:
    _whole(shop)
    before = _left_behind(settings)
    Account.objects.filter(external__external_id="user-42").update(suspended_at=timezone.now())
    answer = _whole(shop, title="Another")
    assert (answer.status_code, answer.json()["code"]) == (403, "suspended")
    assert _left_behind(settings) == before


# --- Sent twice -----------------------------------------------------------------------------


def test_a_post_sent_twice_with_one_key_has_one_effect_and_one_answer(shop: Marketplace) -> None:
    first = shop.post("/models", {"title": "Once"}, key="same")
    second = shop.post("/models", {"title": "Once"}, key="same")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second["Idempotent-Replay"] == "true"
    assert UploadedModel.objects.count() == 1


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_however_the_scheme_is_spelled_a_post_needs_a_key_and_is_done_once(
    scheme: str, shop: Marketplace
) -> None:
    headers = {"HTTP_AUTHORIZATION": f"{scheme} {shop.key}"}
    body = json.dumps({"title": "Ink wash"})

    def sent(**key: str) -> Any:
        return shop.client.post(
            "/api/v1/models", body, content_type="application/json", **headers, **key
        )

    assert sent().json()["code"] == "idempotency_key_missing"
    first, second = sent(HTTP_IDEMPOTENCY_KEY="once"), sent(HTTP_IDEMPOTENCY_KEY="once")
    assert first.status_code == 201
    assert second["Idempotent-Replay"] == "true"
    assert first.json() == second.json()
    assert UploadedModel.objects.count() == 1


def test_what_was_refused_may_be_sent_again_with_its_key_once_the_reason_has_passed(
    shop: Marketplace, demo_policy: PolicyFile
) -> None:
    assert shop.post("/models", {"title": " "}, key="model").status_code == 422
    code = shop.post("/models", {"title": "Ink wash"}, key="model").json()["code"]
    early = shop.post(f"/versions/{code}/submit", key="submit")
    assert (early.status_code, "Idempotent-Replay" in early) == (422, False)
    shop.post(f"/versions/{code}/files", file=factories.weights_upload())
    shop.post(f"/versions/{code}/previews", file=factories.preview_upload())
    refused = shop.post(f"/versions/{code}/submit", key="submit")
    assert refused.json()["code"] == "no_policy"
    Account.objects.update(suspended_at=timezone.now())
    assert shop.post("/models", {"title": "More"}, key="more").json()["code"] == "suspended"
    Account.objects.update(suspended_at=None)
    assert shop.post("/models", {"title": "More"}, key="more").status_code == 201
    policy_import(content=demo_policy, activate=True, actor=None)
    assert shop.post(f"/versions/{code}/submit", key="submit").status_code == 200
    assert shop.post(f"/versions/{code}/submit", key="submit")["Idempotent-Replay"] == "true"


def test_whoever_was_told_that_it_was_too_much_may_send_it_again(
    shop: Marketplace, policy: Policy, uma: Account
) -> None:
    published = factories.published(uma)
    body = {"version": published.code, "text": "A star."}
    full_at = time.time() + 86_400 * 365
    key = _bucket("report.account", str(shop.account.pk))
    ThrottleBucket.objects.create(key=key, full_at=full_at)
    assert shop.post("/reports", body, key="report").status_code == 429
    ThrottleBucket.objects.all().delete()
    assert shop.post("/reports", body, key="report").status_code == 201
    assert shop.post("/reports", body, key="report")["Idempotent-Replay"] == "true"
    assert Report.objects.count() == 1


def test_the_same_key_with_another_body_or_address_is_refused(shop: Marketplace) -> None:
    shop.post("/models", {"title": "Once"}, key="same")
    other = shop.post("/models", {"title": "Twice"}, key="same")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert shop.post("/reports", {"title": "Once"}, key="same").status_code == 409
    assert UploadedModel.objects.count() == 1


def test_a_file_sent_again_is_recognised_whatever_the_boundary(shop: Marketplace) -> None:
    code = _draft(shop)
    first = shop.post(f"/versions/{code}/files", file=factories.weights_upload(), key="file")
    second = shop.post(f"/versions/{code}/files", file=factories.weights_upload(), key="file")
    assert first.json() == second.json()


def test_keys_are_forgotten_after_a_day(shop: Marketplace) -> None:
    shop.post("/models", {"title": "Once"}, key="same")
    IdempotentAnswer.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert shop.post("/models", {"title": "Twice"}, key="same").status_code == 201


@pytest.mark.parametrize("key", [None, "", "x" * 101, "line\u00e9"])
def test_a_post_without_a_usable_key_is_refused(key: str | None, shop: Marketplace) -> None:
    headers = shop.headers() | ({"HTTP_IDEMPOTENCY_KEY": key} if key is not None else {})
    answer = shop.client.post(
        "/api/v1/models", '{"title": "x"}', content_type="application/json", **headers
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_missing")


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_while_what_was_sent_is_stored_and_looked_at(
    shop: Marketplace, policy: Policy, settings: Any, asleep: None
) -> None:
    settings.UPLOAD_INSPECTOR = noting_inspector.__name__
    noting_inspector.in_transaction.clear()
    assert _submitted(shop).files.count() == 1
    assert _whole(shop).status_code == 201
    # One file and one preview, then two of each.
    assert noting_inspector.in_transaction == [False] * 6


def test_what_was_stored_for_a_refused_or_repeated_file_is_deleted(
    shop: Marketplace, settings: Any
) -> None:
    def stored() -> int:
        return sum(path.is_file() for path in Path(settings.MEDIA_ROOT).rglob("*"))

    code = _draft(shop)
    address = f"/versions/{code}/files"
    assert shop.post(address, file=factories.weights_upload(), key="file").status_code == 201
    assert shop.post(address, file=factories.weights_upload(), key="file").status_code == 201
    assert shop.post(address, file=factories.weights_upload()).json()["code"] == "same_file"
    assert shop.post("/versions/none/files", file=factories.weights_upload()).status_code == 404
    assert shop.post(address, {"file": "no file"}).status_code == 422
    assert stored() == 1


@pytest.mark.django_db(transaction=True)
def test_three_at_once_with_one_file_have_one_effect_and_leave_one_file(
    shop: Marketplace, settings: Any
) -> None:
    code = _draft(shop)
    answers: list[Any] = []

    def send() -> None:
        try:
            answers.append(
                Client().post(
                    f"/api/v1/versions/{code}/files",
                    {"file": factories.weights_upload()},
                    **shop.headers(),
                    HTTP_IDEMPOTENCY_KEY="file",
                )
            )
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert ModelFile.objects.count() == 1
    assert sum(path.is_file() for path in Path(settings.MEDIA_ROOT).rglob("*")) == 1


@pytest.mark.django_db(transaction=True)
def test_three_at_once_with_one_key_have_one_effect(shop: Marketplace) -> None:
    answers: list[Any] = []

    def send() -> None:
        try:
            answers.append(shop.post("/models", {"title": "Once"}, key="same"))
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {201, 503}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert UploadedModel.objects.count() == 1


# --- Lists and events -----------------------------------------------------------------------


def test_lists_are_read_page_by_page_while_rows_are_added(shop: Marketplace) -> None:
    codes = [_draft(shop) for _ in range(5)]
    first = shop.get("/versions", limit=2).json()
    _draft(shop)
    second = shop.get("/versions", limit=2, cursor=first["next"]).json()
    third = shop.get("/versions", limit=2, cursor=second["next"]).json()
    seen = [item["code"] for page in (first, second, third) for item in page["items"]]
    assert seen == codes[::-1]
    assert third["next"] is None


@pytest.mark.parametrize("cursor", ["x", "djE6", "djI6MQ", "djE6LTE", "%00", "é"])
def test_a_cursor_that_was_not_given_out_is_refused(cursor: str, shop: Marketplace) -> None:
    answer = shop.get("/versions", cursor=cursor)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


def test_lists_ask_the_database_the_same_number_of_questions_however_long(
    shop: Marketplace, django_assert_max_num_queries: Any
) -> None:
    for _ in range(6):
        _draft(shop)
    with django_assert_max_num_queries(8):
        shop.get("/versions")


def test_events_are_streamed_by_cursor_and_hold_nothing_private(
    shop: Marketplace, policy: Policy, maximiliana: Account
) -> None:
    decision = factories.decided(shop.account, maximiliana)
    first = shop.get("/events").json()
    kinds = [event["type"] for event in first["items"]]
    assert "version.submitted" in kinds
    assert "decision.in_force" in kinds
    assert not [kind for kind in kinds if kind.startswith(("case.", "report."))]
    text = json.dumps(first)
    assert maximiliana.username not in text
    assert decision.private_note not in text
    assert shop.get("/events", cursor=first["next"]).json()["items"] == []
    _submitted(shop)
    later = shop.get("/events", cursor=first["next"]).json()
    assert [event["type"] for event in later["items"]] == ["version.submitted"]


# --- Files that the marketplace keeps -------------------------------------------------------


def _reference(shop: Marketplace, code: str, url: str, content: bytes, kind: str) -> Any:
    import hashlib

    sha256 = hashlib.sha256(content).hexdigest()
    body = {"kind": kind, "url": url, "name": f"a {kind}", "sha256": sha256}
    return shop.post(f"/versions/{code}/references", body)


def test_files_are_fetched_from_where_the_marketplace_keeps_them(
    shop: Marketplace, policy: Policy, settings: Any
) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    weights, picture = factories.safetensors_bytes(), factories.picture_bytes()
    with receiver() as server:
        server.files = {"/weights": weights, "/picture": picture}
        code = _draft(shop)
        assert _reference(shop, code, f"{server.url}/weights", weights, "file").status_code == 202
        _reference(shop, code, f"{server.url}/picture", picture, "preview")
        for reference in FileReference.objects.all():
            reference_fetch(reference.pk)
            reference_fetch(reference.pk)
        assert len(server.received) == 2
    seen = shop.get(f"/versions/{code}").json()
    assert {row["state"] for row in seen["references"]} == {"done"}
    assert (len(seen["files"]), len(seen["previews"])) == (1, 1)
    assert shop.post(f"/versions/{code}/submit").status_code == 200


def test_a_file_that_is_not_the_one_that_was_named_is_refused(
    shop: Marketplace, settings: Any
) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    with receiver() as server:
        server.files["/weights"] = factories.safetensors_bytes()
        code = _draft(shop)
        _reference(shop, code, f"{server.url}/weights", b"something else", "file")
        reference_fetch(FileReference.objects.get().pk)
    row = shop.get(f"/versions/{code}").json()["references"][0]
    assert row["state"] == "dead"
    assert "SHA-256" in row["error"]
    assert not ModelVersion.objects.get(code=code).files.exists()


def test_nothing_is_submitted_while_a_file_that_was_named_is_missing(
    shop: Marketplace, policy: Policy, settings: Any, asleep: None
) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    code = _draft(shop)
    shop.post(f"/versions/{code}/files", file=factories.weights_upload())
    shop.post(f"/versions/{code}/previews", file=factories.preview_upload())
    more = factories.safetensors_bytes({"lora.up": np.arange(9.0)})
    with receiver() as server:
        named = _reference(shop, code, f"{server.url}/weights", more, "file").json()
        early = shop.post(f"/versions/{code}/submit", key="submit")
        assert (early.status_code, early.json()["code"]) == (409, "references_pending")
        held = shop.client.delete(f"/api/v1/references/{named['code']}", **shop.headers())
        assert held.json()["code"] == "reference_not_dead"
        server.files["/weights"] = b"something else"
        reference_fetch(FileReference.objects.get().pk)
        refused = shop.post(f"/versions/{code}/submit").json()
        assert refused["code"] == "reference_dead"
        assert "SHA-256" in refused["detail"]
        # Named again, it is the same one; it cannot be named twice while it is on its way.
        server.files["/weights"] = more
        again = _reference(shop, code, f"{server.url}/weights", more, "file")
        assert (again.status_code, again.json()["code"]) == (202, named["code"])
        twice = _reference(shop, code, f"{server.url}/weights", more, "file")
        assert (twice.status_code, twice.json()["code"]) == (409, "same_file")
        reference_fetch(FileReference.objects.get().pk)
    assert shop.post(f"/versions/{code}/submit").status_code == 200
    assert ModelFile.objects.count() == 2


def test_a_file_that_could_not_be_fetched_is_taken_back(
    shop: Marketplace, policy: Policy, settings: Any, asleep: None
) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    code = _draft(shop)
    shop.post(f"/versions/{code}/files", file=factories.weights_upload())
    shop.post(f"/versions/{code}/previews", file=factories.preview_upload())
    with receiver() as server:
        server.files["/weights"] = b"something else"
        named = _reference(shop, code, f"{server.url}/weights", b"weights", "file").json()
        reference_fetch(FileReference.objects.get().pk)
    address = f"/api/v1/references/{named['code']}"
    other = Marketplace(factories.account("other"))
    assert other.client.delete(address, **other.headers()).status_code == 404
    assert shop.client.delete(address, **shop.headers()).status_code == 204
    assert shop.client.delete(address, **shop.headers()).status_code == 404
    assert shop.post(f"/versions/{code}/submit").status_code == 200


def test_where_nothing_can_be_written_a_file_is_fetched_later_and_not_given_up(
    shop: Marketplace, settings: Any, tmp_path: Path, asleep: None
) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    # A large file lies beside the data until it is stored, and never in memory.
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "gone"
    code = _draft(shop)
    with receiver() as server:
        server.files["/weights"] = factories.safetensors_bytes()
        content = factories.safetensors_bytes()
        _reference(shop, code, f"{server.url}/weights", content, "file")
        for _ in range(5):
            FileReference.objects.update(not_before=timezone.now())
            reference_fetch(FileReference.objects.get().pk)
        row = FileReference.objects.get()
        assert (row.state, row.attempts) == ("queued", 0)
        settings.FILE_UPLOAD_TEMP_DIR.mkdir()
        FileReference.objects.update(not_before=timezone.now())
        reference_fetch(row.pk)
    assert FileReference.objects.get().state == "done"


def test_a_file_whose_worker_is_lost_each_time_is_given_up(
    shop: Marketplace, settings: Any, asleep: None
) -> None:
    code = _draft(shop)
    _reference(shop, code, "https://files.example.org/a", b"weights", "file")
    due = timezone.now() - timedelta(seconds=1)
    FileReference.objects.update(attempts=3, not_before=due)
    sweep()
    assert FileReference.objects.get().state == "queued"
    FileReference.objects.update(attempts=4, not_before=due)
    sweep()
    row = shop.get(f"/versions/{code}").json()["references"][0]
    assert (row["state"], row["error"]) == ("dead", "The worker was lost during the last attempt.")


def test_a_host_that_does_not_answer_is_asked_again_and_then_given_up(
    shop: Marketplace, settings: Any
) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    with receiver() as server:
        server.status = 500
        code = _draft(shop)
        _reference(shop, code, f"{server.url}/weights", b"x", "file")
        for _ in range(6):
            FileReference.objects.update(not_before=timezone.now())
            reference_fetch(FileReference.objects.get().pk)
        assert len(server.received) == 4
    assert FileReference.objects.get().state == "dead"


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "https://user:pw@example.org/", "ftp://x/"])
def test_an_address_that_may_not_be_asked_is_refused_at_once(url: str, shop: Marketplace) -> None:
    answer = _reference(shop, _draft(shop), url, b"x", "file")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_url")


# --- The description ------------------------------------------------------------------------


def test_the_document_describes_every_post_with_its_key(client: Client) -> None:
    document = client.get("/api/v1/openapi.json").json()
    posts = [item["post"] for item in document["paths"].values() if "post" in item]
    assert len(posts) >= 8
    for post in posts:
        assert "Idempotency-Key" in [parameter["name"] for parameter in post["parameters"]]


def test_every_post_of_the_document_is_refused_without_its_key(shop: Marketplace) -> None:
    document = shop.client.get("/api/v1/openapi.json").json()
    for path in (path for path, item in document["paths"].items() if "post" in item):
        answer = shop.client.post(
            path.replace("{code}", "AAAAAAAAAAAA"),
            "{}",
            content_type="application/json",
            headers={"Authorization": f"Bearer {shop.key}"},
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_missing"), path


def test_the_page_about_the_api_names_every_operation(client: Client) -> None:
    page = client.get("/api/v1/docs/").content.decode()
    document = client.get("/api/v1/openapi.json").json()
    for path in document["paths"]:
        assert path in page
    assert not re.search(r"<script(?![^>]*src=)|style=|onclick=", page)


def test_what_does_not_fit_its_description_is_a_problem_with_the_place(shop: Marketplace) -> None:
    answer = shop.post("/models", {"title": "x" * 500})
    assert (answer.status_code, answer["Content-Type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["where"].endswith("title")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("DELETE", "/versions", 405, "method_not_allowed"),
        ("GET", "/versions?cursor=%00", 400, "unreadable"),
    ],
)
def test_what_no_operation_answers_is_a_problem_too(
    method: str, path: str, status: int, code: str, shop: Marketplace
) -> None:
    answer: Any = shop.client.generic(method, f"/api/v1{path}", **shop.headers())
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"
    if status == 405:
        assert answer["Allow"] == "GET"


def test_nothing_sent_along_changes_what_is_not_in_the_description(shop: Marketplace) -> None:
    code = _draft(shop, visibility="published", is_staff=True, creator=1, code="mine")
    version = ModelVersion.objects.get(code=code)
    assert version.visibility == Visibility.DRAFT
    assert version.uploaded_model.creator == shop.account


def test_no_key_restricts_anything_not_even_that_of_a_moderator(
    policy: Policy, uma: Account, mo: Account
) -> None:
    key = Marketplace(mo)
    document = key.get("/openapi.json").json()
    changes = {
        (method, path.removeprefix("/api/v1"))
        for path, operations in document["paths"].items()
        for method in operations
        if method != "get"
    }
    assert changes == CHANGES
    case = factories.held(uma)
    for path in ("/decisions", f"/cases/{case.code}/decide", f"/versions/{case.version.code}"):
        answer = key.post(path, {"case": case.code, "action": "remove", "rules": ["red-star"]})
        assert answer.status_code in {404, 405}, path
    # Its key opens no page of the console, either.
    address = reverse("console:decide", args=[case.code])
    refused = key.client.post(address, {"action": "remove", "facts": "So."}, **key.headers())
    assert refused.status_code in {302, 403}
    assert not case.decisions.exists()
