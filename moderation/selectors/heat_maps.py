"""What is read to draw a heat-map and to show it."""

from typing import Any

from django.http import Http404

from moderation.models import Account, Finding, HeatMap
from moderation.selectors.cases import case_for
from moderation.selectors.workers import policy_data
from moderation.stored import local_path


def finding_for(account: Account, case: str, finding: int) -> Finding:
    """Return a finding of a case that this member of the team may open.

    Raises NotAllowed or Http404 otherwise.
    """
    found = (
        case_for(account, case)
        .version.findings.filter(pk=finding, preview__isnull=False, rule__isnull=False)
        .select_related("heat_map", "preview", "rule")
        .first()
    )
    if found is None:
        raise Http404
    return found


def drawing_for(account: Account, case: str, finding: int) -> bytes:
    """Return a heat-map that has been drawn, as a PNG. Raises NotAllowed or Http404 otherwise."""
    drawn = HeatMap.objects.filter(
        finding=finding_for(account, case, finding), png__isnull=False
    ).first()
    if drawn is None or drawn.png is None:
        raise Http404
    return bytes(drawn.png)


def heat_map_sample(*, heat_map_id: int) -> dict[str, Any] | None:
    """Return the plain data a worker draws from; None where it has been drawn.

    Raises FileNotFoundError if the stored picture is gone.
    """
    row = (
        HeatMap.objects.filter(pk=heat_map_id, ended_at__isnull=True)
        .select_related("finding__preview", "finding__rule", "finding__job__policy")
        .first()
    )
    if row is None or row.finding.preview is None or row.finding.rule is None:
        return None
    deciding = row.finding.evidence.get("deciding") or {}
    return {
        "path": str(local_path(row.finding.preview.weighed)),
        "rule": row.finding.rule.slug,
        "concept": deciding.get("concept", ""),
        "policy": policy_data(row.finding.job.policy),
    }
