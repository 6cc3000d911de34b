"""The work on a version: triage jobs, findings, cases and reports."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from moderation.models.catalog import ModelFile, ModelVersion, PreviewImage
from moderation.models.codes import new_code, new_token
from moderation.models.policy import Policy, Rule
from moderation.states import (
    ANSWERED_REPORTS,
    HELD_CASES,
    LISTED_CASES,
    NOTICES_OF_ILLEGALITY,
    OPEN_CASES,
    UNFINISHED_JOBS,
    WAITING_CASES,
    CaseState,
    Concern,
    JobState,
    Language,
    Outcome,
    ReportState,
    Track,
)

REPORT_LENGTH = 4000
PLACE_LENGTH = 500
NAME_LENGTH = 200


class TriageJob(models.Model):
    """One piece of machine work on a version. The row is the truth; a message only wakes."""

    class Stage(models.TextChoices):
        """Which probes the job runs."""

        FILES = "files", "weights"
        PREVIEWS = "previews", "previews"

    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="jobs")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="+")
    stage = models.CharField(max_length=10, choices=Stage.choices)
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    scorer = models.CharField(
        max_length=16,
        blank=True,
        help_text="A digest of the encoder and the heads that are asked to weigh the previews, "
        "then of those that did. Empty: nobody knows, or they could not look at all of them.",
    )
    token = models.CharField(max_length=40, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField()
    woken_at = models.DateTimeField(
        null=True, blank=True, help_text="When a worker was last told about the job."
    )
    error = models.TextField(blank=True)
    seconds = models.JSONField(
        null=True, blank=True, help_text="How long each probe took in the attempt that finished."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    leased_at = models.DateTimeField(
        null=True, blank=True, help_text="When the last attempt began."
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["version", "stage"],
                condition=Q(state__in=UNFINISHED_JOBS),
                name="job_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(state=JobState.RUNNING)
                | (Q(lease_until__isnull=False) & ~Q(token="")),
                name="job_running_has_lease_and_token",
            ),
        ]
        indexes = [
            models.Index(fields=["not_before"], condition=Q(state=JobState.QUEUED), name="job_due"),
            models.Index(
                fields=["lease_until"], condition=Q(state=JobState.RUNNING), name="job_leased"
            ),
            models.Index(
                fields=["-finished_at"],
                condition=Q(finished_at__isnull=False),
                name="job_finished",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.stage} of {self.version_id}"


class Finding(models.Model):
    """What one probe said about one subject under one rule, with all that explains it."""

    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="findings")
    job = models.ForeignKey(TriageJob, on_delete=models.PROTECT, related_name="findings")
    # Who said it about what under which rule: makes a second hand-in of the same job harmless.
    key = models.CharField(max_length=200)
    rule = models.ForeignKey(
        Rule, null=True, blank=True, on_delete=models.PROTECT, related_name="findings"
    )
    file = models.ForeignKey(
        ModelFile, null=True, blank=True, on_delete=models.PROTECT, related_name="findings"
    )
    preview = models.ForeignKey(
        PreviewImage, null=True, blank=True, on_delete=models.PROTECT, related_name="findings"
    )
    probe = models.CharField(max_length=40)
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    concern = models.CharField(max_length=10, choices=Concern.choices)
    score = models.FloatField(null=True, blank=True)
    review = models.FloatField(null=True, blank=True)
    hold = models.FloatField(null=True, blank=True)
    code = models.CharField(max_length=80)
    reason = models.TextField()
    evidence = models.JSONField(default=dict)
    versions = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "key"], name="finding_once_per_job"),
            models.CheckConstraint(
                condition=Q(outcome=Outcome.SCORED, score__gte=0, score__lte=1)
                | (~Q(outcome=Outcome.SCORED) & Q(score__isnull=True)),
                name="finding_scored_has_score",
            ),
            models.CheckConstraint(
                condition=~Q(outcome=Outcome.FAILED) | ~Q(concern=Concern.NONE),
                name="finding_failed_is_never_a_pass",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.probe}: {self.reason}"


class Case(models.Model):
    """The one open moderation job on a version, to which findings and reports attach."""

    class Source(models.TextChoices):
        """What opened the case."""

        TRIAGE = "triage", "a probe's finding"
        REPORT = "report", "a report"
        APPEAL = "appeal", "an appeal that was sent back"
        MODERATOR = "moderator", "a moderator who doubts a decision"

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="cases")
    state = models.CharField(max_length=10, choices=CaseState.choices, default=CaseState.QUEUED)
    source = models.CharField(max_length=10, choices=Source.choices)
    is_incomplete = models.BooleanField(
        default=False, help_text="A probe failed or a triage job died: not everything was seen."
    )
    priority = models.PositiveIntegerField(
        default=0, help_text="Harm times probability times reach, in hundredths (ordering.py)."
    )
    reasons = models.JSONField(
        default=dict, help_text="What the priority was computed from, for the people who ask why."
    )
    weighed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the priority was computed; empty asks for it."
    )
    # The clock: from when it runs, how long it stood still, when it ends.
    clock_from = models.DateTimeField(default=timezone.now)
    paused_for = models.DurationField(default=timedelta)
    due_at = models.DateTimeField()
    turn_at = models.DateTimeField(
        default=timezone.now,
        help_text="The queue's order: the deadline, earlier the greater the risk (ordering.py).",
    )
    # Whose it is for good; `claimed_by` is only who has it open.
    assigned_to = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="assigned_cases",
    )
    escalated_at = models.DateTimeField(null=True, blank=True)
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="claimed_cases",
    )
    claimed_until = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["version"],
                condition=Q(state__in=sorted(OPEN_CASES)),
                name="case_one_open_per_version",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=sorted(HELD_CASES),
                    claimed_by__isnull=False,
                    claimed_until__isnull=False,
                )
                | (~Q(state__in=sorted(HELD_CASES)) & Q(claimed_by__isnull=True)),
                name="case_held_by_exactly_one",
            ),
        ]
        indexes = [
            # What the next case is taken from.
            models.Index(
                fields=["turn_at", "id"],
                condition=Q(state__in=sorted(WAITING_CASES)),
                name="case_waiting",
            ),
            # What the queue shows, without and with a state chosen.
            models.Index(
                fields=["turn_at", "id"],
                condition=Q(state__in=sorted(LISTED_CASES)),
                name="case_listed",
            ),
            models.Index(fields=["state", "turn_at", "id"], name="case_by_state"),
            models.Index(
                fields=["due_at"], condition=Q(state__in=sorted(LISTED_CASES)), name="case_due"
            ),
            models.Index(
                fields=["claimed_until"],
                condition=Q(state__in=sorted(HELD_CASES)),
                name="case_claimed_until",
            ),
            models.Index(
                fields=["opened_at"],
                condition=Q(state__in=sorted(LISTED_CASES), weighed_at__isnull=True),
                name="case_unweighed",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class Report(models.Model):
    """Somebody's notice that something is wrong with a version."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    token = models.CharField(max_length=40, unique=True, default=new_token, editable=False)
    # Of the form and its words: sent twice, it is one report (``reports.report_file``).
    form_digest = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="reports")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="reports")
    track = models.CharField(max_length=10, choices=Track.choices, default=Track.RULE)
    rule = models.ForeignKey(Rule, null=True, blank=True, on_delete=models.PROTECT)
    # Where it is to be seen: an address, filled in beforehand, and the preview if it is one.
    place = models.CharField(max_length=PLACE_LENGTH, blank=True)
    preview = models.ForeignKey(
        PreviewImage, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    reporter = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="reports",
    )
    email = models.EmailField("e-mail", blank=True)
    name = models.CharField(max_length=NAME_LENGTH, blank=True)
    language = models.CharField(max_length=5, choices=Language.choices, default=Language.ENGLISH)
    text = models.TextField(max_length=REPORT_LENGTH)
    law = models.CharField(max_length=NAME_LENGTH, blank=True)
    good_faith = models.BooleanField(default=False)
    is_child_safety = models.BooleanField(
        default=False, help_text="About abuse of a child: nobody is asked for a name."
    )
    links = models.JSONField(default=list, blank=True)
    # On the track COPY: the reporter's own work, and what the two have in common.
    original = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    comparison = models.JSONField(default=dict, blank=True)
    # On the track LIKENESS: the request, how this version was found, and its deadline.
    request = models.ForeignKey(
        "moderation.LikenessRequest",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="reports",
    )
    found_by = models.CharField(max_length=12, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=ReportState.choices, default=ReportState.OPEN)
    decision = models.ForeignKey(
        "moderation.Decision",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="answered_reports",
    )
    # Said by a person, of a report without any ground that its sender must have known of.
    unfounded_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    edited_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    told_at = models.DateTimeField(
        null=True, blank=True, help_text="When the outcome was written to the reporter."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                # Whoever said that a rule is broken may still say that it is a crime.
                fields=["case", "reporter", "track", "is_child_safety"],
                condition=Q(reporter__isnull=False) & ~Q(state=ReportState.WITHDRAWN),
                name="report_once_per_account_case_and_kind",
            ),
            models.UniqueConstraint(
                fields=["form_digest"],
                condition=Q(form_digest__isnull=False),
                name="report_once_per_form",
            ),
            models.UniqueConstraint(
                fields=["case", "request"],
                condition=Q(request__isnull=False),
                name="report_once_per_request_and_case",
            ),
            models.CheckConstraint(
                condition=~Q(track=Track.LIKENESS) | Q(request__isnull=False, due_at__isnull=False),
                name="report_of_likeness_has_request_and_deadline",
            ),
            models.CheckConstraint(
                # The service asks for an address as well, and leaves out one that is flooded.
                condition=~Q(track__in=sorted(NOTICES_OF_ILLEGALITY))
                | Q(is_child_safety=True)
                | Q(good_faith=True)
                & ~Q(place="")
                & (~Q(email="") | ~Q(name="") | Q(reporter__isnull=False)),
                name="report_of_illegality_is_complete",
            ),
        ]
        indexes = [
            models.Index(fields=["email"], condition=~Q(email=""), name="report_email"),
            models.Index(
                fields=["answered_at"],
                condition=Q(state__in=sorted(ANSWERED_REPORTS), told_at__isnull=True),
                name="report_untold",
            ),
            models.Index(
                fields=["due_at"],
                condition=Q(state=ReportState.OPEN, due_at__isnull=False),
                name="report_due",
            ),
        ]

    def __str__(self) -> str:
        return self.code
