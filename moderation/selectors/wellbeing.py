"""What a person was shown: theirs alone to read."""

from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from moderation.models import Account, Exposure, Rule

MONTH = timedelta(days=30)


def exposures_of(account: Account) -> list[dict[str, Any]]:
    """Return, for each rule, how many cases and questions this person was shown lately."""
    now = timezone.now()
    titles = dict(Rule.objects.order_by("policy__version").values_list("slug", "title"))
    rows = (
        Exposure.objects.filter(account=account, seen_at__gt=now - MONTH)
        .values("rule")
        .annotate(
            month=Count("pk"),
            today=Count("pk", filter=Q(seen_at__gt=now - timedelta(days=1))),
            severe=Count("pk", filter=Q(is_severe=True)),
        )
        .order_by("-month")
    )
    return [{**row, "title": titles.get(row["rule"], row["rule"])} for row in rows]
