"""Keeps which versions the lineage probe found to be related. Writes ``LineageEdge``."""

from collections.abc import Iterable

from moderation.models import Finding, LineageEdge, ModelVersion


def lineage_record(*, version: ModelVersion, findings: Iterable[Finding]) -> None:
    """Store an edge for each relative that a version's findings name, once for each.

    A later finding about the same pair takes the place of an earlier one.
    """
    named = {
        relative["version"]: (finding, relative)
        for finding in findings
        if finding.probe == "lineage"
        for relative in finding.evidence.get("relatives", [])
    }
    if not named:
        return
    # Locked in one order: two uploads related to the same models never wait in a circle.
    parents = ModelVersion.objects.filter(code__in=list(named)).exclude(pk=version.pk)
    LineageEdge.objects.bulk_create(
        (
            LineageEdge(
                child=version,
                parent=parent,
                finding=named[parent.code][0],
                relation=named[parent.code][1]["relation"],
                cosine=named[parent.code][1]["cosine"],
            )
            for parent in parents.only("code").order_by("pk")
        ),
        update_conflicts=True,
        unique_fields=["child", "parent"],
        update_fields=["finding", "relation", "cosine"],
    )
