"""Heat-maps: a moderator asks for one, a worker draws it. Writes ``HeatMap``."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from moderation.dispatch import wake_heat_map
from moderation.errors import Invalid
from moderation.models import Finding, HeatMap

# The message is sent again where somebody still waits and nothing has come.
_WAKE_AGAIN = timedelta(seconds=30)


@transaction.atomic
def heat_map_ask(*, finding: Finding) -> HeatMap:
    """Have a worker draw where in a preview a finding's concept is; once is enough.

    Who may ask is for the selector that found the finding to say. Raises Invalid for a finding
    that is not about a preview and a rule.
    """
    if finding.preview_id is None or finding.rule_id is None or finding.score is None:
        raise Invalid("Only what was scored on a preview can be shown in it.", code="no_place")
    now = timezone.now()
    asked, is_new = HeatMap.objects.get_or_create(finding=finding, defaults={"woken_at": now})
    late = HeatMap.objects.filter(
        pk=asked.pk, ended_at__isnull=True, woken_at__lt=now - _WAKE_AGAIN
    )
    if is_new or late.update(woken_at=now):
        wake_heat_map(heat_map_id=asked.pk)
    return asked


def heat_map_keep(*, heat_map_id: int, png: bytes = b"", error: str = "") -> None:
    """Store what a worker drew, or why it could not; the first answer stays."""
    HeatMap.objects.filter(pk=heat_map_id, ended_at__isnull=True).update(
        png=png or None,
        error="" if png else (error or "The worker gave no reason.")[:2000],
        ended_at=timezone.now(),
    )
