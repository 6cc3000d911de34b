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
    today = Q(looked_until__gt=now - timedelta(days=1))
    rows = (
        Exposure.objects.filter(account=account, looked_until__gt=now - MONTH)
        .values("rule")
        .annotate(
            month=Count("case", distinct=True) + Count("finding", distinct=True),
            today=Count("case", distinct=True, filter=today)
            + Count("finding", distinct=True, filter=today),
            severe=Count("pk", filter=Q(is_severe=True)),
        )
        .order_by("-month")
    )
    return [{**row, "title": titles.get(row["rule"], row["rule"])} for row in rows]
