"""What was decided, how far it has come, and what was said about it. Decisions are immutable."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from moderation.models.cases import Case
from moderation.models.catalog import ModelVersion, PreviewImage
from moderation.models.codes import new_code
from moderation.models.policy import Policy, Rule
from moderation.states import (
    ABOUT_ACCOUNTS,
    CAME_INTO_FORCE,
    RESTRICTIONS,
    Action,
    EffectState,
    Ground,
    Source,
    Visibility,
)


class Decision(models.Model):
    """What a person decided on a case. Triggers refuse UPDATE and DELETE.

    How far it has come stands in its ``Effect``: held, due, in force, undone or cancelled.
    """

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="decisions")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="decisions")
    preview = models.ForeignKey(
        PreviewImage, null=True, blank=True, on_delete=models.PROTECT, related_name="decisions"
    )
    action = models.CharField(max_length=20, choices=Action.choices)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.PERSON)
    ground = models.CharField(max_length=10, choices=Ground.choices, default=Ground.POLICY)
    legal_ground = models.CharField(
        max_length=500, blank=True, help_text="The law, or the order and who gave it."
    )
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="+")
    rules = models.ManyToManyField(Rule, related_name="decisions")
    # The rules as they read on the day, so that a later policy cannot change the reason.
    clauses = models.JSONField(default=list)
    facts = models.TextField()
    # What the creator reads: composed from rules, facts and what would change the outcome.
    message = models.TextField(default="")
    private_note = models.TextField(blank=True)
    label = models.CharField(max_length=200, blank=True, help_text="The words shown on the page.")
    territories = models.JSONField(
        default=list, blank=True, help_text="Countries (ISO 3166-1 alpha-2); empty: everywhere."
    )
    until = models.DateTimeField(null=True, blank=True, help_text="Empty: without an end.")
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="decisions"
    )
    # Whom it is about: the creator of the model, or the account that is muted or suspended.
    creator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="decisions_received"
    )
    # Derived from the findings the case stood on (DSA Art. 17(3)(c)).
    automated_detection = models.BooleanField()
    previous_visibility = models.CharField(max_length=20, choices=Visibility.choices)
    new_visibility = models.CharField(max_length=20, choices=Visibility.choices)
    # Everything else that it changes, as it was: {"versions": {code: visibility}, …}.
    previous_state = models.JSONField(default=dict)
    # The decision that this one takes back, replaces or comes on top of.
    overrides = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="overridden_by"
    )
    # The appeal that this decision grants.
    appeal = models.ForeignKey(
        "moderation.Appeal",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="outcomes",
    )
    # The code of the first decision of the chain; its own where it is the first.
    chain = models.CharField(max_length=10, blank=True, db_index=True)
    # Decisions made at one stroke share it.
    bulk = models.CharField(max_length=10, blank=True, db_index=True)
    needs_second_person = models.BooleanField(default=False)
    # As if it came into force at once; until when it really is, says ``appeal_ends_at``.
    appeal_until = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(decided_by=F("creator")), name="decision_not_on_own_model"
            ),
            models.CheckConstraint(condition=~Q(facts=""), name="decision_has_facts"),
            models.CheckConstraint(condition=~Q(message=""), name="decision_has_message"),
            models.CheckConstraint(
                condition=~Q(action__in=RESTRICTIONS)
                | (~Q(clauses=[]) & Q(appeal_until__isnull=False)),
                name="decision_restriction_has_rule_and_way_back",
            ),
            models.CheckConstraint(
                condition=Q(ground=Ground.POLICY, source__in=[Source.PERSON, Source.CONFIRMED])
                | ~Q(legal_ground=""),
                name="decision_by_law_names_it",
            ),
            models.CheckConstraint(
                condition=~Q(action=Action.REVERSE) | Q(overrides__isnull=False),
                name="decision_reversal_names_what_it_reverses",
            ),
            models.CheckConstraint(
                condition=~Q(action=Action.LABEL) | ~Q(label=""), name="decision_label_has_words"
            ),
            models.CheckConstraint(
                condition=~Q(action=Action.GEO_RESTRICT) | ~Q(territories=[]),
                name="decision_by_country_names_countries",
            ),
            models.CheckConstraint(
                condition=~Q(action=Action.DISABLE_PREVIEW) | Q(preview__isnull=False),
                name="decision_on_preview_names_it",
            ),
        ]
        indexes = [
            models.Index(fields=["version", "-decided_at"]),
            # Whose account is muted or suspended.
            models.Index(
                fields=["creator", "-decided_at"],
                condition=Q(action__in=sorted(ABOUT_ACCOUNTS)),
                name="decision_about_account",
            ),
            models.Index(fields=["-decided_at"], name="decision_decided"),
            models.Index(fields=["until"], condition=Q(until__isnull=False), name="decision_until"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.code}"

    @property
    def appeal_ends_at(self) -> datetime | None:
        """Until when its creator can appeal; None where nothing is to be appealed.

        The time begins when the decision comes into force, which is when they are told.
        """
        if self.appeal_until is None or self.effect.state not in CAME_INTO_FORCE:
            return self.appeal_until
        begins = self.effect.ended_at or self.decided_at
        return self.appeal_until + (begins - self.decided_at)


class Effect(models.Model):
    """How far a decision has come. One for each; the only part of it that moves."""

    decision = models.OneToOneField(Decision, on_delete=models.PROTECT, related_name="effect")
    state = models.CharField(max_length=10, choices=EffectState.choices)
    due_at = models.DateTimeField(
        null=True, blank=True, help_text="Until then it can be undone and nobody is told."
    )
    # A copy of the decision's, so that the constraint below can see it; a trigger keeps it true.
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    second_person = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="confirmed_effects",
    )
    confirmed_at = models.DateTimeField(null=True, blank=True)
    # Who undid or cancelled it.
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    ended_at = models.DateTimeField(
        null=True, blank=True, help_text="When it came into force, was undone or was cancelled."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(second_person__isnull=True) | ~Q(second_person=F("decided_by")),
                name="effect_confirmed_by_another_person",
            ),
            models.CheckConstraint(
                condition=Q(second_person__isnull=True, confirmed_at__isnull=True)
                | Q(second_person__isnull=False, confirmed_at__isnull=False),
                name="effect_confirmed_by_whom_and_when",
            ),
            models.CheckConstraint(
                condition=~Q(state=EffectState.DUE) | Q(due_at__isnull=False),
                name="effect_due_has_moment",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state=EffectState.DUE), name="effect_due"),
            models.Index(fields=["id"], condition=Q(state=EffectState.HELD), name="effect_held"),
        ]

    def __str__(self) -> str:
        return f"{self.decision_id} {self.state}"


class StatementOfReasons(models.Model):
    """What the person concerned was told about a restriction, as sent. Immutable by triggers.

    About a decision of people, or about a hold that a clock placed until they decide.
    """

    decision = models.OneToOneField(
        Decision, null=True, blank=True, on_delete=models.PROTECT, related_name="statement"
    )
    hold = models.OneToOneField(
        "moderation.Hold", null=True, blank=True, on_delete=models.PROTECT, related_name="statement"
    )
    recipient = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="statements"
    )
    # The fields of ``statements.Statement``, in plain data.
    content = models.JSONField()
    issued_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "statements of reasons"
        constraints = [
            models.CheckConstraint(
                condition=Q(decision__isnull=False, hold__isnull=True)
                | Q(decision__isnull=True, hold__isnull=False),
                name="statement_of_a_decision_or_a_hold",
            ),
        ]

    def __str__(self) -> str:
        return f"statement of {self.decision or self.hold}"
