"""Which models grew from which, as far as their weights tell."""

from django.db import models
from django.db.models import F, Q

from moderation.models.cases import Finding
from moderation.models.catalog import ModelVersion


class LineageEdge(models.Model):
    """That the weights of a version are related to those of one that was known before it.

    ``finding`` is the one that said so last, with the comparison in its evidence.
    """

    child = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="parents")
    parent = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="children")
    finding = models.ForeignKey(Finding, on_delete=models.PROTECT, related_name="+")
    relation = models.CharField(max_length=10, help_text="“same” or “derived”.")
    cosine = models.FloatField(help_text="Of the updates; of the values, for full models.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["child", "parent"], name="lineage_edge_once"),
            models.CheckConstraint(
                condition=~Q(child=F("parent")), name="lineage_edge_between_two_versions"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.child_id} {self.relation} {self.parent_id}"
