"""The domain app."""

from django.apps import AppConfig


class ModerationConfig(AppConfig):
    """Every table, every rule, every page."""

    name = "moderation"

    def ready(self) -> None:
        """Register the system checks."""
        from moderation.checks import checks_register

        checks_register()
