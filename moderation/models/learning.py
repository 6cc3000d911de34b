"""What was learnt from verdicts: heads, which is in place, and what goes to a blind audit."""

from django.conf import settings
from django.db import models

from moderation.models.catalog import PreviewImage
from moderation.models.codes import new_code

SLUG_LENGTH = 80


class ConceptHead(models.Model):
    """A head that was fitted, with the report that judged it. Never edited, never deleted."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    rule = models.CharField(max_length=SLUG_LENGTH)
    concept = models.CharField(max_length=SLUG_LENGTH)
    encoder = models.CharField(max_length=200)
    revision = models.CharField(max_length=64)
    number = models.PositiveIntegerField()
    # A digest of the prompts it was learnt beside (``selectors.prompts``); "" where nobody noted
    # them. Beside any others its numbers mean nothing.
    prompts = models.CharField(max_length=64, default="", blank=True)
    # Weights and calibration, as ``triage.learning.heads`` writes them: all that scoring needs.
    parameters = models.JSONField()
    # By picture, what a head that had not seen it said of it; only learning reads it.
    held_out = models.JSONField(default=dict)
    labels = models.PositiveIntegerField()
    positives = models.PositiveIntegerField()
    # Old against new: log-loss, recall at equal load, and what changed.
    comparison = models.JSONField(default=dict)
    fitted_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "concept", "encoder", "revision", "number"], name="head_number_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule}/{self.concept} {self.number}"

    @property
    def space(self) -> str:
        """The encoder as findings name it."""
        return f"{self.encoder} {self.revision}"


class HeadPlacement(models.Model):
    """One change of the head in place; the last row of a concept counts. No head: zero-shot."""

    rule = models.CharField(max_length=SLUG_LENGTH)
    concept = models.CharField(max_length=SLUG_LENGTH)
    encoder = models.CharField(max_length=200)
    revision = models.CharField(max_length=64)
    head = models.ForeignKey(
        ConceptHead, null=True, blank=True, on_delete=models.PROTECT, related_name="placements"
    )
    reason = models.TextField()
    # Nobody: the comparison put it there.
    placed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    may_be_replaced = models.BooleanField(
        default=False, help_text="What a person put in place may give way to a better head."
    )
    placed_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["rule", "concept", "-id"], name="placement_last")]

    def __str__(self) -> str:
        return f"{self.rule}/{self.concept}: {self.head_id or 'zero-shot'}"


class ConceptThreshold(models.Model):
    """The review threshold that holds a wanted miss rate; the last row of a concept counts.

    It is true of what it was computed for alone: this head (or the prompts alone, where there is
    none), beside these prompts, for this miss rate.
    """

    rule = models.CharField(max_length=SLUG_LENGTH)
    concept = models.CharField(max_length=SLUG_LENGTH)
    encoder = models.CharField(max_length=200)
    revision = models.CharField(max_length=64)
    prompts = models.CharField(max_length=64)
    head = models.ForeignKey(
        ConceptHead, null=True, blank=True, on_delete=models.PROTECT, related_name="thresholds"
    )
    alpha = models.FloatField(help_text="The share that may be missed.")
    positives = models.PositiveIntegerField(help_text="How many it was computed from.")
    # Empty while there are too few: then the threshold of the policy stands.
    value = models.FloatField(null=True, blank=True)
    sentence = models.TextField()
    made_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["rule", "concept", "-id"], name="threshold_last")]

    def __str__(self) -> str:
        return f"{self.rule}/{self.concept}: {self.value}"


class ConceptReport(models.Model):
    """What is known of a concept as of the last time that something was learnt of it."""

    rule = models.CharField(max_length=SLUG_LENGTH)
    concept = models.CharField(max_length=SLUG_LENGTH)
    data = models.JSONField(default=dict)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rule", "concept"], name="report_once_per_concept"),
        ]

    def __str__(self) -> str:
        return f"{self.rule}/{self.concept}"


class AuditItem(models.Model):
    """A preview that passed and was drawn for the blind audit."""

    preview = models.OneToOneField(
        PreviewImage, on_delete=models.PROTECT, related_name="audit_item"
    )
    drawn_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"audit of {self.preview_id}"
