"""The machine's opinion."""

from django.apps import AppConfig


class TriageConfig(AppConfig):
    """Probes, encoders, scoring and the tasks that run them. Owns no table."""

    name = "triage"
