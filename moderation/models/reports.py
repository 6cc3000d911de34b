"""What stands around reports: evidence, likeness requests, who reports how well, and throttles."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from moderation.models.cases import NAME_LENGTH, REPORT_LENGTH, Case, Report
from moderation.models.catalog import ModelVersion, PreviewImage
from moderation.models.codes import new_code, new_token
from moderation.models.policy import Rule
from moderation.states import Language, Measure, MeasureState

# How a request came to concern a version (``Report.found_by``) where its sender named it.
NAMED = "named"
# What a creator may say against a hold.
OBJECTION_LENGTH = 4000


class ReportEvidence(models.Model):
    """A picture that a reporter sent along: a copy of its pixels, shown to moderators alone."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="evidence")
    name = models.CharField(max_length=255)
    content = models.FileField(max_length=200)
    purged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "report evidence"

    def __str__(self) -> str:
        return self.name


class LikenessRequest(models.Model):
    """A person asks that what shows them be taken down: no account, an e-mail link confirms.

    It counts from ``valid_at``, when the link was opened and everything the law asks for is there.
    """

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    token = models.CharField(max_length=40, unique=True, default=new_token, editable=False)
    email = models.EmailField("e-mail")
    signature = models.CharField(max_length=NAME_LENGTH)
    is_intimate = models.BooleanField(default=False)
    text = models.TextField(max_length=REPORT_LENGTH)
    language = models.CharField(max_length=5, choices=Language.choices, default=Language.ENGLISH)
    versions = models.ManyToManyField(ModelVersion, related_name="+")
    filed_at = models.DateTimeField()
    valid_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    # When a worker last began to look for copies of everything it names, and finished.
    swept_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(valid_at__isnull=True, due_at__isnull=True)
                | Q(valid_at__isnull=False, due_at__gt=F("valid_at")),
                name="request_valid_has_deadline",
            ),
            models.CheckConstraint(
                condition=~Q(signature="") & ~Q(text=""), name="request_is_signed_and_says_why"
            ),
        ]

    def __str__(self) -> str:
        return self.code


class Hold(models.Model):
    """A version hidden by a clock until a person decides.

    Its visibility stays what it is: ``ModelVersion.hidden_from`` hides it.
    """

    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="clock_holds")
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="clock_holds")
    # Whose clock it is: its rule and how the version was found are the reasons.
    report = models.ForeignKey(
        Report, null=True, blank=True, on_delete=models.PROTECT, related_name="clock_holds"
    )
    due_at = models.DateTimeField()
    held_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    # What the creator says against it; whoever decides the case reads it.
    objection = models.TextField(blank=True, max_length=OBJECTION_LENGTH)
    objected_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["version"], condition=Q(ended_at__isnull=True), name="hold_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(objection="", objected_at__isnull=True)
                | (~Q(objection="") & Q(objected_at__isnull=False)),
                name="hold_objection_has_moment",
            ),
        ]

    def __str__(self) -> str:
        return f"hold of {self.version_id}"

    @property
    def rule(self) -> Rule | None:
        """The rule under which the version is held, as it read when the request was made."""
        return self.report.rule if self.report else None

    @property
    def is_found_by_machine(self) -> bool:
        """Whether a comparison, and not the request itself, pointed to the version."""
        return self.report is not None and self.report.found_by != NAMED


class PreviewHash(models.Model):
    """The perceptual hash (PDQ) of a preview, by which copies are found."""

    preview = models.OneToOneField(PreviewImage, on_delete=models.CASCADE, related_name="hash")
    pdq = models.CharField(max_length=64, blank=True)
    quality = models.PositiveSmallIntegerField(default=0)

    class Meta:
        verbose_name_plural = "preview hashes"

    def __str__(self) -> str:
        return self.pdq


class TrustedFlagger(models.Model):
    """An organisation whose notices are looked at first (DSA Art. 22), by its account."""

    account = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="trusted_flagger"
    )
    organisation = models.CharField(max_length=NAME_LENGTH)
    expertise = models.CharField(
        max_length=NAME_LENGTH,
        blank=True,
        help_text="In what, and by which Digital Services Coordinator the status was awarded.",
    )
    registered_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(
        null=True, blank=True, help_text="From then on its reports are like anybody's."
    )

    def __str__(self) -> str:
        return self.organisation


class ThrottleBucket(models.Model):
    """A token bucket: ``full_at`` is when, in seconds, it is full again."""

    key = models.CharField(max_length=100, unique=True)
    full_at = models.FloatField()

    def __str__(self) -> str:
        return self.key


class ReportingMeasure(models.Model):
    """A measure against misuse of reporting: proposed by figures, decided by a person."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="reporting_measures"
    )
    measure = models.CharField(max_length=10, choices=Measure.choices)
    state = models.CharField(
        max_length=10, choices=MeasureState.choices, default=MeasureState.PROPOSED
    )
    # DSA Art. 23(3): number, share, gravity and, as far as it can be told, intent.
    figures = models.JSONField(default=dict)
    proposed_at = models.DateTimeField()
    reason = models.TextField(blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    appeal_until = models.DateTimeField(null=True, blank=True)
    appeal = models.TextField(blank=True)
    appealed_at = models.DateTimeField(null=True, blank=True)
    answer = models.TextField(blank=True)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account"],
                condition=Q(state=MeasureState.PROPOSED),
                name="measure_one_proposal",
            ),
            models.CheckConstraint(
                condition=Q(state=MeasureState.PROPOSED)
                | Q(decided_by__isnull=False, decided_at__isnull=False) & ~Q(reason=""),
                name="measure_decided_by_a_person_with_reason",
            ),
            models.CheckConstraint(
                condition=~Q(measure=Measure.SUSPENSION)
                | Q(state__in=[MeasureState.PROPOSED, MeasureState.DISMISSED])
                | Q(until__isnull=False, appeal_until__isnull=False),
                name="measure_suspension_ends_and_can_be_appealed",
            ),
            models.CheckConstraint(
                condition=Q(answered_by__isnull=True)
                | ~Q(answered_by=F("decided_by")) & ~Q(answered_by=F("account")),
                name="measure_appeal_answered_by_another_person",
            ),
            models.CheckConstraint(
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("account")),
                name="measure_not_decided_by_oneself",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.measure} {self.code}"
