"""Counters that only grow, for what leaves no row of its own. Writes ``Counter``."""

from django.db.models import F

from moderation.models import Counter


def counter_add(*, name: str, number: int = 1) -> None:
    """Add to a counter, which begins at nought; nothing is written for nought."""
    if number <= 0:
        return
    Counter.objects.get_or_create(name=name)
    Counter.objects.filter(name=name).update(value=F("value") + number)
