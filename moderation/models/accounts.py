"""Who acts: accounts and their roles."""

from django.contrib.auth.models import AbstractUser
from django.db import models

from moderation.states import MODERATING, STAFF, Language, Role


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

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="account_role"),
        ]

    @property
    def is_moderator(self) -> bool:
        """Whether the account may claim and decide cases."""
        return self.is_active and self.role in MODERATING

    @property
    def is_team(self) -> bool:
        """Whether the account may look into the console."""
        return self.is_active and self.role in STAFF

    @property
    def pseudonym(self) -> str:
        """How a moderator is named to people outside the team."""
        return f"Moderator {self.pk}"
