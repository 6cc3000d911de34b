"""Webhooks: signed, repeated until they are received, and never a way into the house."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from moderation.models import Account, Policy, Webhook, WebhookDelivery
from moderation.tasks import sweep, webhook_send
from tests import factories
from tests.receiver import Receiver, receiver
from tests.test_api import Marketplace

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(settings: Any) -> Any:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    with receiver() as told:
        yield told


@pytest.fixture
def shop(db: None) -> Marketplace:
    return Marketplace(factories.account("shop"))


def _register(shop: Marketplace, server: Receiver) -> str:
    made = shop.post("/webhooks", {"url": f"{server.url}/hook"})
    assert made.status_code == 201, made.content
    return str(made.json()["secret"])


def _send_all() -> None:
    sweep()
    for pk in WebhookDelivery.objects.filter(state="queued").values_list("pk", flat=True):
        webhook_send(pk)


def test_what_happens_to_a_model_is_told_with_a_signature_that_holds(
    shop: Marketplace, server: Receiver, policy: Policy, mo: Account
) -> None:
    secret = _register(shop, server)
    decision = factories.decided(shop.account, mo)
    _send_all()
    told = [json.loads(body) for _, body in server.received]
    made = next(event for event in told if event["type"] == "decision.in_force")
    assert made["data"]["decision"] == decision.code
    headers, body = server.received[0]
    assert Verifier(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(body + b" ", headers)
    stale = headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(body, stale)


def test_what_happened_before_it_was_registered_is_not_told(
    shop: Marketplace, server: Receiver, policy: Policy
) -> None:
    factories.submitted(shop.account)
    _register(shop, server)
    _send_all()
    assert server.received == []


def test_nothing_is_told_about_the_models_of_others(
    shop: Marketplace, server: Receiver, policy: Policy, uma: Account
) -> None:
    _register(shop, server)
    factories.published(uma)
    _send_all()
    assert server.received == []


def test_a_message_that_comes_twice_sends_nothing_twice(
    shop: Marketplace, server: Receiver, policy: Policy
) -> None:
    _register(shop, server)
    factories.submitted(shop.account)
    sweep()
    sweep()
    events = WebhookDelivery.objects.count()
    for pk in list(WebhookDelivery.objects.values_list("pk", flat=True)) * 10:
        webhook_send(pk)
    assert len(server.received) == events


def test_a_receiver_that_fails_is_asked_again_later_with_the_same_id(
    shop: Marketplace, server: Receiver, policy: Policy
) -> None:
    _register(shop, server)
    factories.submitted(shop.account)
    server.status = 500
    _send_all()
    delivery = WebhookDelivery.objects.first()
    assert delivery is not None
    assert (delivery.state, delivery.error) == ("queued", "It answered 500.")
    assert delivery.not_before > timezone.now() + timedelta(seconds=4)
    webhook_send(delivery.pk)
    sent = len(server.received)
    WebhookDelivery.objects.update(not_before=timezone.now())
    server.status = 204
    _send_all()
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"done"}
    ids = [headers["webhook-id"] for headers, _ in server.received]
    assert set(ids[:sent]) == set(ids[sent:])


def test_after_ten_attempts_it_is_given_up_and_can_be_switched_on_again(
    shop: Marketplace, server: Receiver, policy: Policy
) -> None:
    _register(shop, server)
    factories.submitted(shop.account)
    server.status = 500
    sweep()
    for _ in range(12):
        WebhookDelivery.objects.update(not_before=timezone.now())
        _send_all()
    assert set(WebhookDelivery.objects.values_list("state", "attempts")) == {("dead", 10)}
    Webhook.objects.update(failing_since=timezone.now() - timedelta(days=6))
    WebhookDelivery.objects.update(state="queued", attempts=1, not_before=timezone.now())
    _send_all()
    webhook = Webhook.objects.get()
    assert not webhook.is_active
    server.status = 200
    assert shop.post(f"/webhooks/{webhook.code}/switch-on").json()["is_active"] is True
    WebhookDelivery.objects.update(not_before=timezone.now())
    _send_all()
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"done"}


def test_a_closed_account_is_told_nothing_until_it_is_open_again(
    shop: Marketplace, server: Receiver, policy: Policy
) -> None:
    _register(shop, server)
    factories.submitted(shop.account)
    sweep()
    waiting = WebhookDelivery.objects.count()
    assert waiting
    Account.objects.filter(pk=shop.account.pk).update(is_active=False)
    factories.submitted(shop.account)
    _send_all()
    assert server.received == []
    assert WebhookDelivery.objects.count() == waiting
    Account.objects.filter(pk=shop.account.pk).update(is_active=True)
    _send_all()
    assert len(server.received) == WebhookDelivery.objects.count() > waiting


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook",
        "https://127.0.0.1:22/",
        "https://user:secret@example.org/",
        "javascript:alert(1)",
    ],
)
def test_an_address_that_may_not_be_asked_is_refused(url: str, shop: Marketplace) -> None:
    answer = shop.post("/webhooks", {"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_url")


def test_a_host_that_is_inside_is_never_asked(
    shop: Marketplace, policy: Policy, settings: Any
) -> None:
    assert shop.post("/webhooks", {"url": "https://169.254.169.254/latest"}).status_code == 201
    factories.submitted(shop.account)
    _send_all()
    assert "not a public one" in WebhookDelivery.objects.first().error  # type: ignore[union-attr]


def test_webhooks_are_listed_without_their_secret_and_removed(
    shop: Marketplace, server: Receiver
) -> None:
    secret = _register(shop, server)
    listed = shop.get("/webhooks")
    assert secret not in listed.content.decode()
    code = listed.json()[0]["code"]
    other = Marketplace(factories.account("other"))
    address = f"/api/v1/webhooks/{code}"
    assert other.client.delete(address, **other.headers()).status_code == 404
    assert shop.client.delete(address, **shop.headers()).status_code == 204
    assert shop.get("/webhooks").json() == []
    assert [shop.post("/webhooks", {"url": server.url}).status_code for _ in range(6)] == (
        [201] * 5 + [409]
    )
