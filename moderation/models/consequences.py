"""What follows from decisions: strikes, countries, cleared content, holds, child safety."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from moderation.models.catalog import ModelVersion
from moderation.models.codes import new_code
from moderation.models.decisions import Decision
from moderation.models.policy import Policy


class Strike(models.Model):
    """A consequence for an account. Voided by a won appeal, never deleted: a trigger refuses it.

    Everything that its weight is computed from is frozen here, so that a later policy changes no
    one's past.
    """

    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="strikes"
    )
    decision = models.OneToOneField(Decision, on_delete=models.PROTECT, related_name="strike")
    rule = models.SlugField(max_length=60)
    points = models.DecimalField(max_digits=5, decimal_places=2)
    was_first = models.BooleanField(default=False, help_text="Counted at half for that.")
    half_life_days = models.PositiveSmallIntegerField()
    given_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True, blank=True)
    voided_by = models.ForeignKey(
        Decision, null=True, blank=True, on_delete=models.PROTECT, related_name="voided_strikes"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(points__gt=0), name="strike_has_points"),
            models.CheckConstraint(
                condition=Q(voided_at__isnull=True, voided_by__isnull=True)
                | Q(voided_at__isnull=False, voided_by__isnull=False),
                name="strike_voided_by_a_decision",
            ),
        ]
        indexes = [models.Index(fields=["account", "-given_at"], name="strike_of_account")]

    def __str__(self) -> str:
        return f"{self.points} points for {self.account_id}"


class CountryBlock(models.Model):
    """A country in which a version is not shown, while a decision says so."""

    version = models.ForeignKey(
        ModelVersion, on_delete=models.CASCADE, related_name="country_blocks"
    )
    country = models.CharField(max_length=2)
    until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "country"], name="country_blocked_once"),
        ]

    def __str__(self) -> str:
        return f"{self.version_id} not in {self.country}"


class ClearedDigest(models.Model):
    """Content that a person found to keep a rule, under one version of the policy.

    The same content is not held against anybody again by a machine, until the policy changes.
    """

    class Kind(models.TextChoices):
        """What the digest is of."""

        FILE = "file", "a file of weights"
        PREVIEW = "preview", "a preview"
        TEXTS = "texts", "what the page says"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    sha256 = models.CharField(max_length=64)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="+")
    rule = models.SlugField(max_length=60)
    decision = models.ForeignKey(
        Decision, on_delete=models.PROTECT, related_name="cleared", help_text="Who cleared it."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["sha256", "kind", "policy", "rule"], name="cleared_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.sha256[:12]}"


class LegalHold(models.Model):
    """Keeps everything of a version from every purge, until it is released."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="holds")
    reason = models.TextField()
    until = models.DateTimeField(null=True, blank=True, help_text="Empty: until it is released.")
    placed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    placed_at = models.DateTimeField()
    released_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    released_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="hold_has_reason"),
        ]

    def __str__(self) -> str:
        return self.code


class ChildSafetyRecord(models.Model):
    """What is kept apart, and what was done to report it. The system reports to nobody itself."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    version = models.OneToOneField(
        ModelVersion, on_delete=models.PROTECT, related_name="child_safety"
    )
    decision = models.ForeignKey(Decision, on_delete=models.PROTECT, related_name="+")
    opened_at = models.DateTimeField()
    # 18 U.S.C. § 2258A(h)(1): one year from the report, and before that from the escalation.
    preserve_until = models.DateTimeField()
    # Steps by name, each with who ticked it and when.
    checklist = models.JSONField(default=dict)
    authority = models.CharField(max_length=200, blank=True)
    reference = models.CharField(max_length=200, blank=True)
    sent_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(sent_at__isnull=True, sent_by__isnull=True)
                | (
                    Q(sent_at__isnull=False, sent_by__isnull=False)
                    & ~Q(authority="")
                    & ~Q(reference="")
                ),
                name="child_safety_sent_by_a_person_to_an_authority",
            ),
        ]

    def __str__(self) -> str:
        return self.code
