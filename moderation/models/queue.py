"""What the queue is found by, and what a case waits for: facets, texts, filters, inquiries."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from moderation.models.cases import Case, Report
from moderation.models.codes import new_code

INQUIRY_LENGTH = 2000
ANSWER_LENGTH = 4000


class CaseFacet(models.Model):
    """One thing a case is about, to filter by. Derived: written anew whenever a case is weighed."""

    class Kind(models.TextChoices):
        """What the value names."""

        RULE = "rule", "rule"
        PROBE = "probe", "probe"
        LANGUAGE = "language", "language"
        TRACK = "track", "track of a report"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="facets")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    value = models.CharField(max_length=60)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["case", "kind", "value"], name="facet_once"),
        ]
        indexes = [models.Index(fields=["kind", "value", "case"], name="facet_cases")]

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


class CaseText(models.Model):
    """What a case is searched by, folded: one row for the upload, one for each report.

    Apart from the case, whose row changes at every claim: PostgreSQL would have to write the
    index of all words again each time.
    """

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="texts")
    report = models.OneToOneField(
        Report, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    text = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["case"], condition=Q(report__isnull=True), name="case_text_of_upload_once"
            ),
        ]

    def __str__(self) -> str:
        return self.text[:60]


class Inquiry(models.Model):
    """A moderator's question to the creator. While it is open, its case waits."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="inquiries")
    text = models.TextField(max_length=INQUIRY_LENGTH)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="inquiries"
    )
    asked_at = models.DateTimeField()
    answer_until = models.DateTimeField()
    answer = models.TextField(blank=True, max_length=ANSWER_LENGTH)
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was answered, ran out, or was taken back."
    )

    class Meta:
        verbose_name_plural = "inquiries"
        constraints = [
            models.UniqueConstraint(
                fields=["case"], condition=Q(closed_at__isnull=True), name="inquiry_one_open"
            ),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=False) | Q(answer=""),
                name="inquiry_answered_is_closed",
            ),
        ]
        indexes = [
            models.Index(
                fields=["answer_until"], condition=Q(closed_at__isnull=True), name="inquiry_due"
            ),
        ]

    def __str__(self) -> str:
        return self.code


class SavedFilter(models.Model):
    """A view of the queue that a person comes back to: the query of its link."""

    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_filters"
    )
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "name"], name="saved_filter_name_once"),
        ]

    def __str__(self) -> str:
        return self.name
