"""The domain app."""

from django.apps import AppConfig


class ModerationConfig(AppConfig):
    """Every table, every rule, every page."""

    name = "moderation"
