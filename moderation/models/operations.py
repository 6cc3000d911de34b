"""What the house notes about itself: which processes are alive."""

from django.db import models


class Heartbeat(models.Model):
    """One process that said it was alive, and when it last did."""

    name = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=20)
    queues = models.JSONField(default=list)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.name


class Counter(models.Model):
    """How often something happened that leaves no row of its own."""

    name = models.CharField(max_length=80, unique=True)
    value = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"
