"""What cases are found by: writes the texts that are searched and the facets of filters.

Derived data only: ``cases.case_weigh`` writes it anew whenever something about a case changes.
"""

import unicodedata
from collections.abc import Iterable

from moderation.models import Case, CaseFacet, CaseText, Report


def folded(text: str) -> str:
    """Return text as it is compared: without case and width, with single spaces.

    Both databases compare folded text byte by byte, so they find the same.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def case_text_store(*, case: Case) -> None:
    """Store what a case is searched by: title, creator, hashes and prompts; and each report."""
    version = case.version
    page = version.uploaded_model
    files = version.files.values_list("sha256", flat=True)
    previews = list(version.previews.values_list("sha256", "prompt"))
    parts = [case.code, page.title, page.creator.username, *files]
    parts += [sha256 for sha256, _ in previews] + [prompt for _, prompt in previews]
    text = folded("\n".join(parts))
    stored, new = CaseText.objects.get_or_create(case=case, report=None, defaults={"text": text})
    if not new and stored.text != text:
        stored.text = text
        stored.save(update_fields=["text"])
    # Editing a report deletes its text, so one that is there is right.
    missing = Report.objects.filter(case=case).exclude(
        pk__in=CaseText.objects.filter(case=case, report__isnull=False).values("report")
    )
    CaseText.objects.bulk_create(
        [CaseText(case=case, report=report, text=folded(report.text)) for report in missing],
        ignore_conflicts=True,
    )


def case_facets_store(
    *,
    case: Case,
    facets: Iterable[tuple[CaseFacet.Kind, str]],
    keep: CaseFacet.Kind | None = None,
) -> None:
    """Make the facets of a case exactly these; those of the kind ``keep`` stay as they are."""
    wanted = {(kind.value, value[:60]) for kind, value in facets if value}
    others = CaseFacet.objects.filter(case=case).exclude(kind=keep or "")
    stored = {(facet.kind, facet.value): facet.pk for facet in others}
    gone = [key for facet, key in stored.items() if facet not in wanted]
    if gone:
        CaseFacet.objects.filter(pk__in=gone).delete()
    CaseFacet.objects.bulk_create(
        [
            CaseFacet(case=case, kind=kind, value=value)
            for kind, value in sorted(wanted - set(stored))
        ],
        ignore_conflicts=True,
    )
