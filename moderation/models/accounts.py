"""Who acts: accounts and their roles."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone

from moderation.states import (
    CHILD_SAFETY_TEAM,
    MODERATING,
    POLICY_LEADING,
    SENIOR,
    STAFF,
    Language,
    Role,
)


class Account(AbstractUser):
    """A person. Everybody may create; the other roles are given by an admin."""

    email = models.EmailField("e-mail", unique=True)
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.CREATOR)
    language = models.CharField(
        max_length=5,
        choices=Language.choices,
        default=Language.ENGLISH,
        help_text="In which language the person is told things.",
    )

    # Kept by ``effects`` from the decisions that stand.
    muted_until = models.DateTimeField(null=True, blank=True)
    suspended_at = models.DateTimeField(null=True, blank=True)
    suspended_until = models.DateTimeField(
        null=True, blank=True, help_text="Empty: without an end."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="account_role"),
        ]

    @property
    def is_moderator(self) -> bool:
        """Whether the account may claim and decide cases."""
        return self.is_active and self.role in MODERATING

    @property
    def is_senior(self) -> bool:
        """Whether the account may decide what was escalated."""
        return self.is_active and self.role in SENIOR

    @property
    def is_team(self) -> bool:
        """Whether the account may look into the console."""
        return self.is_active and self.role in STAFF

    @property
    def is_policy_lead(self) -> bool:
        """Whether the account may change policies and give known answers."""
        return self.is_active and self.role in POLICY_LEADING

    @property
    def is_suspended(self) -> bool:
        """Whether a decision keeps the account from uploading, publishing and reporting."""
        if self.suspended_at is None:
            return False
        return self.suspended_until is None or timezone.now() < self.suspended_until

    @property
    def is_muted(self) -> bool:
        """Whether a decision keeps the account from submitting and reporting."""
        return self.muted_until is not None and timezone.now() < self.muted_until

    @property
    def is_child_safety(self) -> bool:
        """Whether the account may enter the place apart."""
        return self.is_active and self.role in CHILD_SAFETY_TEAM

    @property
    def pseudonym(self) -> str:
        """How a moderator is named to people outside the team."""
        return f"Moderator {self.pk}"
