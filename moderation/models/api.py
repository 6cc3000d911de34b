"""Marketplaces that use the API: their tokens, their users, what they asked and are told."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from moderation.models.catalog import PROMPT_LENGTH
from moderation.models.codes import new_code
from moderation.models.record import Event
from moderation.states import DeliveryState

EXTERNAL_ID_LENGTH = 100


class ApiToken(models.Model):
    """A key to the API. Only its digest is kept: who steals the table has no key."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="api_tokens"
    )
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class ExternalAccount(models.Model):
    """A marketplace's user, under the marketplace's own name for them."""

    marketplace = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="external_accounts"
    )
    external_id = models.CharField(max_length=EXTERNAL_ID_LENGTH)
    account = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="external"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["marketplace", "external_id"], name="external_account_once"
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class IdempotentAnswer(models.Model):
    """The first answer to a POST, given again to whoever repeats it with the same key."""

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=100)
    route = models.CharField(max_length=300)
    body_digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    content_type = models.CharField(max_length=80, blank=True)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token", "key"], name="idempotency_key_once"),
        ]

    def __str__(self) -> str:
        return self.key


class FileReference(models.Model):
    """A file that a marketplace keeps, to be fetched into a draft by a worker."""

    class Kind(models.TextChoices):
        """What the file is."""

        FILE = "file", "weights"
        PREVIEW = "preview", "preview"

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    version = models.ForeignKey(
        "moderation.ModelVersion", on_delete=models.PROTECT, related_name="references"
    )
    kind = models.CharField(max_length=10, choices=Kind.choices)
    url = models.CharField(max_length=2000)
    name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    prompt = models.CharField(max_length=PROMPT_LENGTH, blank=True)
    state = models.CharField(
        max_length=10, choices=DeliveryState.choices, default=DeliveryState.QUEUED
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField()
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "sha256"], name="reference_once"),
        ]
        indexes = [
            models.Index(
                fields=["not_before"], condition=Q(state=DeliveryState.QUEUED), name="reference_due"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Webhook(models.Model):
    """Where a marketplace wants to be told. ``after`` is the last event it was considered for."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="webhooks"
    )
    url = models.CharField(max_length=2000)
    # Signing needs the secret itself (standardwebhooks.com, "Signature scheme").
    secret = models.CharField(max_length=80)
    after = models.PositiveBigIntegerField(default=0)
    is_active = models.BooleanField(default=True)
    failing_since = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One event on its way to one webhook. The row is the outbox."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, on_delete=models.PROTECT, related_name="+")
    body = models.TextField()
    state = models.CharField(
        max_length=10, choices=DeliveryState.choices, default=DeliveryState.QUEUED
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField()
    error = models.CharField(max_length=300, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["webhook", "event"], name="delivery_once_per_event"),
        ]
        indexes = [
            models.Index(
                fields=["not_before"], condition=Q(state=DeliveryState.QUEUED), name="delivery_due"
            ),
        ]

    def __str__(self) -> str:
        return self.code
