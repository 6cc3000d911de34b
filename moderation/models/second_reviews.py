"""Decisions that are looked at a second time, blind, and what the second person said."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from moderation.models.codes import new_code
from moderation.models.decisions import Decision
from moderation.states import Answer

NOTE_LENGTH = 2000


class ReviewItem(models.Model):
    """A decision that somebody else is asked about without being told what was decided.

    Drawn by chance from what comes into force, or given by a policy lead as a known answer.
    """

    class Kind(models.TextChoices):
        """How it came to be asked about."""

        DRAWN = "drawn", "Drawn by chance"
        KNOWN = "known", "Known answer"

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    decision = models.ForeignKey(Decision, on_delete=models.PROTECT, related_name="review_items")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    # What the first person said, and all rules that the question is about.
    answer = models.CharField(max_length=10, choices=Answer.choices)
    rules = models.JSONField(default=list)
    at_stake = models.JSONField(default=list)
    # Of a known answer: why it is the right one, and who says so.
    reason = models.TextField(blank=True, max_length=NOTE_LENGTH)
    given_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    drawn_at = models.DateTimeField()
    # Nobody is asked any more: the decision was taken back.
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["decision", "kind"], name="review_item_once"),
            models.CheckConstraint(
                condition=~Q(kind="known") | (~Q(reason="") & Q(given_by__isnull=False)),
                name="review_item_known_has_reason",
            ),
        ]
        indexes = [
            models.Index(fields=["code"], condition=Q(ended_at__isnull=True), name="review_open"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.code}"


class SecondReview(models.Model):
    """One person's blind answer. It changes nothing about the decision."""

    item = models.ForeignKey(ReviewItem, on_delete=models.PROTECT, related_name="reviews")
    # Copies, so that the constraints below can see them.
    kind = models.CharField(max_length=10, choices=ReviewItem.Kind.choices)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="second_reviews"
    )
    answer = models.CharField(max_length=10, choices=Answer.choices)
    rules = models.JSONField(default=list)
    note = models.TextField(blank=True, max_length=NOTE_LENGTH)
    agrees = models.BooleanField()
    given_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["item", "reviewer"], name="second_review_once"),
            models.UniqueConstraint(
                fields=["item"], condition=Q(kind="drawn"), name="second_review_of_drawn_once"
            ),
            models.CheckConstraint(
                condition=~Q(reviewer=F("decided_by")), name="second_review_by_another_person"
            ),
            models.CheckConstraint(
                condition=Q(answer=Answer.ALLOW) | ~Q(rules=[]), name="second_review_names_rules"
            ),
        ]
        indexes = [models.Index(fields=["-given_at"], name="second_review_given")]

    def __str__(self) -> str:
        return f"{self.answer} on {self.item_id}"
