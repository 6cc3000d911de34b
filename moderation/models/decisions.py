"""What was decided, and what was said against it. Decisions are immutable rows."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from moderation.models.cases import Case
from moderation.models.catalog import ModelVersion
from moderation.models.codes import new_code
from moderation.models.policy import Policy, Rule
from moderation.states import Action, AppealState, Visibility

APPEAL_LENGTH = 4000


class Decision(models.Model):
    """A moderator's decision on a case. Triggers refuse UPDATE and DELETE."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="decisions")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="decisions")
    action = models.CharField(max_length=20, choices=Action.choices)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="+")
    rules = models.ManyToManyField(Rule, related_name="decisions")
    # The rules as they read on the day, so that a later policy cannot change the reason.
    clauses = models.JSONField(default=list)
    facts = models.TextField()
    private_note = models.TextField(blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="decisions"
    )
    creator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="decisions_received"
    )
    # Derived from the findings the case stood on (DSA Art. 17(3)(c)).
    automated_detection = models.BooleanField()
    previous_visibility = models.CharField(max_length=20, choices=Visibility.choices)
    new_visibility = models.CharField(max_length=20, choices=Visibility.choices)
    appeal_until = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(decided_by=F("creator")), name="decision_not_on_own_model"
            ),
            models.CheckConstraint(condition=~Q(facts=""), name="decision_has_facts"),
            models.CheckConstraint(
                condition=Q(action=Action.APPROVE)
                | (~Q(clauses=[]) & Q(appeal_until__isnull=False)),
                name="decision_restriction_has_rule_and_way_back",
            ),
        ]
        indexes = [models.Index(fields=["version", "-decided_at"])]

    def __str__(self) -> str:
        return f"{self.action} {self.code}"


class Appeal(models.Model):
    """A creator asks another person to look at a decision again."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    decision = models.OneToOneField(Decision, on_delete=models.PROTECT, related_name="appeal")
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="appeals")
    appellant = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="appeals"
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
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(answered_by__isnull=True) | ~Q(answered_by=F("decided_by")),
                name="appeal_answered_by_another_person",
            ),
            models.CheckConstraint(
                condition=Q(answered_by__isnull=True) | ~Q(answered_by=F("appellant")),
                name="appeal_not_answered_by_appellant",
            ),
            models.CheckConstraint(
                condition=Q(state=AppealState.OPEN, answered_by__isnull=True)
                | (
                    ~Q(state=AppealState.OPEN)
                    & Q(answered_by__isnull=False, answered_at__isnull=False)
                    & ~Q(answer="")
                ),
                name="appeal_answered_by_a_person_with_reasons",
            ),
        ]

    def __str__(self) -> str:
        return self.code
