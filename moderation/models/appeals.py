"""What was said against a decision, by whom, and what another person answered."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from moderation.models.cases import Case, Report
from moderation.models.codes import new_code
from moderation.models.decisions import Decision
from moderation.states import AppealState, Side

APPEAL_LENGTH = 4000
MESSAGE_LENGTH = 4000


class Appeal(models.Model):
    """Somebody concerned asks another person to look at a decision again."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    decision = models.ForeignKey(Decision, on_delete=models.PROTECT, related_name="appeals")
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="appeals")
    side = models.CharField(max_length=10, choices=Side.choices, default=Side.CREATOR)
    # Nobody, where a visitor appeals by the private link of the report.
    appellant = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="appeals",
    )
    report = models.ForeignKey(
        Report, null=True, blank=True, on_delete=models.PROTECT, related_name="appeals"
    )
    # A copy of the decision's, so that the constraint below can see it; a trigger keeps it true.
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    text = models.TextField(max_length=APPEAL_LENGTH)
    state = models.CharField(max_length=10, choices=AppealState.choices, default=AppealState.OPEN)
    answer = models.TextField(blank=True)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="answered_appeals",
    )
    filed_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True, blank=True, help_text="When we mean to have answered.")
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(answered_by__isnull=True) | ~Q(answered_by=F("decided_by")),
                name="appeal_answered_by_another_person",
            ),
            models.CheckConstraint(
                condition=Q(answered_by__isnull=True)
                | Q(appellant__isnull=True)
                | ~Q(answered_by=F("appellant")),
                name="appeal_not_answered_by_appellant",
            ),
            models.CheckConstraint(
                condition=Q(state=AppealState.OPEN, answered_by__isnull=True)
                | Q(state=AppealState.MOOT, answered_by__isnull=True, answered_at__isnull=False)
                | (
                    ~Q(state__in=[AppealState.OPEN, AppealState.MOOT])
                    & Q(answered_by__isnull=False, answered_at__isnull=False)
                    & ~Q(answer="")
                ),
                name="appeal_answered_by_a_person_with_reasons",
            ),
            models.CheckConstraint(
                condition=Q(side=Side.CREATOR, appellant__isnull=False, report__isnull=True)
                | Q(side=Side.REPORTER, report__isnull=False),
                name="appeal_by_creator_or_reporter",
            ),
            models.UniqueConstraint(
                fields=["decision", "appellant"],
                condition=Q(appellant__isnull=False),
                name="appeal_once_per_person_and_decision",
            ),
            models.UniqueConstraint(
                fields=["decision", "report"],
                condition=Q(report__isnull=False),
                name="appeal_once_per_report_and_decision",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class AppealMessage(models.Model):
    """One message between whoever appeals and the moderator who answers."""

    appeal = models.ForeignKey(Appeal, on_delete=models.PROTECT, related_name="messages")
    # Nobody, where a visitor writes by the private link of the report.
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    from_team = models.BooleanField()
    text = models.TextField(max_length=MESSAGE_LENGTH)
    written_at = models.DateTimeField()

    class Meta:
        ordering = ["written_at", "pk"]
        constraints = [
            models.CheckConstraint(condition=~Q(text=""), name="appeal_message_has_words"),
            models.CheckConstraint(
                condition=Q(from_team=False) | Q(author__isnull=False),
                name="appeal_message_of_team_has_author",
            ),
        ]

    def __str__(self) -> str:
        return f"message to {self.appeal_id}"


class AppealFile(models.Model):
    """A file that came with an appeal. Stored under a random name, served as a download only."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    appeal = models.ForeignKey(Appeal, on_delete=models.PROTECT, related_name="files")
    name = models.CharField(max_length=255)
    content = models.FileField(max_length=200)
    kind = models.CharField(max_length=40, help_text="Its type, told from its first bytes.")
    size = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    purged_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name
