"""The machine's opinion."""

from django.apps import AppConfig
from django.conf import settings

from triage import encoders


class TriageConfig(AppConfig):
    """Probes, encoders, scoring and the tasks that run them. Owns no table."""

    name = "triage"

    def ready(self) -> None:
        """Let encoders use as many cores as the operator allows, and batches as large."""
        encoders.use_threads(settings.ENCODER_THREADS)
        encoders.use_batches(settings.ENCODER_BATCH, compiled=settings.ENCODER_COMPILE)
