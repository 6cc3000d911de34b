"""Where in a picture a concept is, drawn when a moderator asks."""

from django.db import models
from django.db.models import Q

from moderation.models.cases import Finding


class HeatMap(models.Model):
    """The drawing for one finding on a preview: asked for, then drawn or given up with a reason.

    ``png`` is the preview, at most 512 pixels a side, with the heat-map laid over it.
    """

    finding = models.OneToOneField(Finding, on_delete=models.PROTECT, related_name="heat_map")
    png = models.BinaryField(null=True)
    error = models.TextField(blank=True)
    asked_at = models.DateTimeField(auto_now_add=True)
    woken_at = models.DateTimeField(help_text="When a worker was last told about it.")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, png__isnull=True, error="")
                | Q(ended_at__isnull=False, png__isnull=False, error="")
                | (Q(ended_at__isnull=False, png__isnull=True) & ~Q(error="")),
                name="heat_map_waits_or_is_drawn_or_failed",
            ),
        ]

    def __str__(self) -> str:
        return f"heat-map of finding {self.finding_id}"
