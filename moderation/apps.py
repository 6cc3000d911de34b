"""The domain app."""

from django.apps import AppConfig


class ModerationConfig(AppConfig):
    """Every table, every rule, every page."""

    name = "moderation"

    def ready(self) -> None:
        """Register the system checks, and listen to what happens to accounts."""
        import moderation.authentication.records  # noqa: F401
        from moderation.checks import checks_register

        checks_register()
