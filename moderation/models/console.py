"""What moderators set for themselves, and what they say about single findings."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

from moderation.models.cases import Case, Finding
from moderation.states import VerdictAnswer, VerdictSource


class ConsolePreference(models.Model):
    """How one person has set up the console: only the keys that differ from the usual ones."""

    account = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="console_preference"
    )
    keys = models.JSONField(default=dict)
    shows_sharp = models.BooleanField(default=False)
    shows_colour = models.BooleanField(default=False)
    # Rules whose cases this person does not want. They give no reason, and nobody else is told.
    opted_out = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"preferences of {self.account_id}"


class Exposure(models.Model):
    """A look: that a person was shown the pictures of a case under one rule, or one of a run.

    Who comes back to a case after a while has another. Theirs alone to read.
    """

    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="exposures"
    )
    case = models.ForeignKey(Case, null=True, on_delete=models.CASCADE, related_name="+")
    finding = models.ForeignKey(
        Finding,
        null=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="The single question, where no case was shown.",
    )
    rule = models.CharField(max_length=80)
    is_severe = models.BooleanField()
    seen_at = models.DateTimeField()
    looked_for = models.DurationField(
        default=timedelta, help_text="How long its page was open with pictures."
    )
    looked_until = models.DateTimeField(
        default=timezone.now, help_text="When the page last gave a sign of life."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "finding"], name="exposure_once_to_a_question"
            ),
            models.CheckConstraint(
                condition=models.Q(case__isnull=False) ^ models.Q(finding__isnull=False),
                name="exposure_to_a_case_or_a_question",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-looked_until"], name="exposure_of_account"),
            models.Index(fields=["account", "case", "-seen_at"], name="exposure_to_case"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} by {self.account_id}"


class Verdict(models.Model):
    """What a person says about one finding. Rows are added, never changed: the last one counts."""

    finding = models.ForeignKey(Finding, on_delete=models.PROTECT, related_name="verdicts")
    answer = models.CharField(max_length=10, choices=VerdictAnswer.choices)
    source = models.CharField(max_length=10, choices=VerdictSource.choices)
    given_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="verdicts"
    )
    given_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["finding", "-given_at"])]

    def __str__(self) -> str:
        return f"{self.answer} on {self.finding_id}"
