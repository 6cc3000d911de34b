"""Webhooks: each event of a marketplace's models, signed, until it is received or given up.

As standardwebhooks.com specifies: the id stays the same over all attempts, the signature covers
id, time and body, and receivers refuse what is older than five minutes.
Writes ``Webhook`` and ``WebhookDelivery``.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Max, QuerySet
from django.utils import timezone
from standardwebhooks.webhooks import Webhook as Signer

from moderation.audit import event_record
from moderation.dispatch import WEBHOOK_TASK, room_for, wake_webhook
from moderation.errors import Conflict, Invalid
from moderation.models import Account, Event, Webhook, WebhookDelivery
from moderation.outbound import OutboundError, ask, target_of
from moderation.selectors.marketplace import events_of, public_event
from moderation.states import DeliveryState

MAX_WEBHOOKS = 5
# The schedule that standardwebhooks.com recommends, in seconds; about three days in all.
PAUSES = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
ANSWER_SECONDS = 10
# A webhook that has failed for so long is switched off; its owner switches it on again.
OFF_AFTER = timedelta(days=5)
FAN_OUT = 500
SWEEP_LIMIT = 100


@transaction.atomic
def webhook_create(*, account: Account, url: str) -> Webhook:
    """Register an address; it is told of events from now on.

    Raises Invalid for an address that may not be asked, Conflict for one too many.
    """
    if len(url) > 2000:
        raise Invalid("The address has more than 2,000 characters.", code="bad_url", field="url")
    target_of(url)
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    mine = Webhook.objects.filter(account=account)
    if mine.count() >= MAX_WEBHOOKS:
        raise Conflict(f"There are {MAX_WEBHOOKS} webhooks already.", code="too_many")
    webhook = Webhook.objects.create(
        account=account,
        url=url,
        secret="whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        after=Event.objects.aggregate(last=Max("sequence"))["last"] or 0,
    )
    event_record(action="webhook.created", actor=account, data={"webhook": webhook.code})
    return webhook


@transaction.atomic
def webhook_remove(*, webhook: Webhook, actor: Account) -> None:
    """Remove an address with all that was on its way to it."""
    event_record(action="webhook.removed", actor=actor, data={"webhook": webhook.code})
    webhook.delete()


@transaction.atomic
def webhook_switch_on(*, webhook: Webhook, actor: Account) -> None:
    """Switch an address on again; what was given up for it is sent again."""
    Webhook.objects.filter(pk=webhook.pk).update(is_active=True, failing_since=None)
    WebhookDelivery.objects.filter(webhook=webhook, state=DeliveryState.DEAD).update(
        state=DeliveryState.QUEUED, attempts=0, not_before=timezone.now()
    )
    event_record(action="webhook.switched_on", actor=actor, data={"webhook": webhook.code})


def webhooks_fan_out() -> int:
    """Write a delivery for each new event and each webhook it concerns; return how many."""
    written = 0
    for webhook in Webhook.objects.filter(is_active=True, account__is_active=True):
        with transaction.atomic():
            locked = Webhook.objects.select_for_update(no_key=True).get(pk=webhook.pk)
            last = Event.objects.aggregate(last=Max("sequence"))["last"] or 0
            if last <= locked.after:
                continue
            events = list(events_of(locked.account, after=locked.after)[:FAN_OUT])
            now = timezone.now()
            WebhookDelivery.objects.bulk_create(
                WebhookDelivery(
                    webhook=locked, event=event, body=_body(public_event(event)), not_before=now
                )
                for event in events
            )
            # A full batch may not be all there is.
            locked.after = events[-1].sequence if len(events) == FAN_OUT else last
            locked.save(update_fields=["after"])
            written += len(events)
    return written


def deliveries_send() -> int:
    """Wake a worker for every delivery that is due; return how many."""
    due = _due().order_by("not_before")
    most = min(SWEEP_LIMIT, room_for(WEBHOOK_TASK))
    woken = list(due.values_list("pk", flat=True)[:most])
    for delivery_id in woken:
        wake_webhook(delivery_id=delivery_id)
    return len(woken)


def delivery_send(*, delivery_id: int) -> bool:
    """Send one delivery; True if it was received.

    Taking the attempt first moves the row into the future: a message that comes twice finds
    nothing to do, and a worker that dies has cost one attempt.
    """
    now = timezone.now()
    delivery = _due().filter(pk=delivery_id).select_related("webhook").first()
    if delivery is None:
        return False
    planned = PAUSES[min(delivery.attempts, len(PAUSES) - 1)]
    pause = planned * (1 + JITTER * secrets.SystemRandom().random())
    # By the row alone: PostgreSQL looks again at what it waited for, and not at what it joined.
    same = WebhookDelivery.objects.filter(
        pk=delivery.pk, state=DeliveryState.QUEUED, attempts=delivery.attempts
    )
    taken = same.update(attempts=F("attempts") + 1, not_before=now + timedelta(seconds=pause))
    if not taken:
        return False
    error = _post(delivery)
    if not error:
        WebhookDelivery.objects.filter(pk=delivery.pk).update(
            state=DeliveryState.DONE, delivered_at=timezone.now(), error=""
        )
        Webhook.objects.filter(pk=delivery.webhook_id).update(failing_since=None)
        return True
    dead = delivery.attempts + 1 > len(PAUSES)
    WebhookDelivery.objects.filter(pk=delivery.pk).update(
        error=error[:300], state=DeliveryState.DEAD if dead else DeliveryState.QUEUED
    )
    failing = Webhook.objects.filter(pk=delivery.webhook_id)
    failing.filter(failing_since__isnull=True).update(failing_since=now)
    failing.filter(failing_since__lt=now - OFF_AFTER).update(is_active=False)
    return False


def _due() -> QuerySet[WebhookDelivery]:
    """Return what is to be sent now. To a closed account, as to one switched off, nothing is."""
    return WebhookDelivery.objects.filter(
        state=DeliveryState.QUEUED,
        not_before__lte=timezone.now(),
        webhook__is_active=True,
        webhook__account__is_active=True,
    )


def signed_headers(*, secret: str, message_id: str, body: str) -> dict[str, str]:
    """Return the three headers by which a receiver knows us (Standard Webhooks)."""
    now = timezone.now()
    signature = Signer(secret).sign(message_id, now, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }


def _post(delivery: WebhookDelivery) -> str:
    """Send a delivery; return what went wrong, or an empty string."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Weighhouse-Webhooks/1",
        **signed_headers(
            secret=delivery.webhook.secret, message_id=f"msg_{delivery.code}", body=delivery.body
        ),
    }
    try:
        with ask(
            delivery.webhook.url,
            method="POST",
            body=delivery.body.encode(),
            headers=headers,
            seconds=ANSWER_SECONDS,
        ) as answer:
            # The status is enough; the connection is closed without reading on.
            if 200 <= answer.status < 300:
                return ""
            return f"It answered {answer.status}."
    except (OutboundError, Invalid) as error:
        return str(error)


def _body(event: Mapping[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)
