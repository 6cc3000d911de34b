"""What is read beside a case: relatives, the record, what was written to and fro.

Each is a page of its own, and a fragment that the page of the case fetches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce

from moderation.models import (
    Appeal,
    Case,
    Decision,
    Event,
    Finding,
    Hold,
    Inquiry,
    LineageEdge,
    ModelFile,
    ModelVersion,
    PreviewImage,
    Report,
    WeightSketch,
)
from moderation.selectors.gathering import Gathered
from moderation.states import LOOSENING, OPEN_CASES, Concern, EffectState, Visibility

# Beyond it nobody reads on; the nearest come first.
MOST_RELATIVES = 20
MOST_SAME = 100
MOST_EVENTS = 200
MOST_VERSIONS = 20


def is_severe(case: Case) -> bool:
    """Return whether a finding or a report on a case names a rule of which people are warned."""
    return Case.objects.filter(severe_of(case.version_id, case.pk), pk=case.pk).exists()


def severe_of(version: Any, case: Any) -> Q:
    """Return the condition that a finding on a version or a report on a case names such a rule.

    Both are given by their keys, or by references to those of an outer query.
    """
    severe = Q(rule__is_severe=True)
    found = Finding.objects.filter(severe, version=version).exclude(concern=Concern.NONE)
    return Exists(found) | Exists(Report.objects.filter(severe, case=case))


# --- Relatives --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Same:
    """A version that shares bytes with another: what, and its open case."""

    version: ModelVersion
    how: str
    case: str


@dataclass(frozen=True)
class Line:
    """One property of two models side by side; ``is_same`` is None where none can be compared."""

    label: str
    this: str
    other: str
    is_same: bool | None


@dataclass(frozen=True)
class Pair:
    """Two related models side by side: what the other is to this one, and what each is like."""

    other: ModelVersion
    what: str  # "same", "parent" or "child"
    case: str
    cosine: float
    comparison: Mapping[str, Any]
    share: float | None
    is_exact: bool
    lines: list[Line]


@dataclass(frozen=True)
class Related:
    """Everything known to be related to the version of a case."""

    pairs: list[Pair]
    same: list[Same]

    @property
    def same_open(self) -> bool:
        """Whether anything of it waits for a decision, too."""
        return any(pair.case for pair in self.pairs) or any(each.case for each in self.same)


def related(case: Case) -> Related:
    """Return what shares weights or bytes with a case's version, in four queries.

    Nothing that is held apart for child safety is named.
    """
    pairs = _pairs(case.version)
    named = {pair.other.pk for pair in pairs}
    return Related(pairs, [each for each in _same(case.version) if each.version.pk not in named])


_SAME_FILE = "the same file"
_SAME_WEIGHTS = "the same weights under another header"
_SAME_PREVIEW = "the same preview"


def same_bytes(version: ModelVersion) -> dict[int, str]:
    """Return versions that share a file, the tensors of a file, or a preview, byte for byte."""
    files = ModelFile.objects.filter(version=version)
    sketches = WeightSketch.objects.filter(file__version=version).exclude(data_sha256="")
    pictures = PreviewImage.objects.filter(version=version)
    rows = (
        ModelFile.objects.filter(sha256__in=files.values("sha256"))
        .order_by()
        .values_list("version_id", Value(1))
        .union(
            WeightSketch.objects.filter(data_sha256__in=sketches.values("data_sha256"))
            .order_by()
            .values_list("file__version_id", Value(2)),
            PreviewImage.objects.filter(sha256__in=pictures.values("sha256"))
            .order_by()
            .values_list("version_id", Value(3)),
        )
    )
    said = {1: _SAME_FILE, 2: _SAME_WEIGHTS, 3: _SAME_PREVIEW}
    how: dict[int, str] = {}
    for pk, kind in sorted(rows, key=lambda row: row[1]):
        if pk != version.pk:
            how.setdefault(pk, said[kind])
    return how


def _same(version: ModelVersion) -> list[Same]:
    how = same_bytes(version)
    found = (
        ModelVersion.objects.filter(pk__in=list(how), isolated_at__isnull=True)
        .exclude(visibility=Visibility.DRAFT)
        .annotate(open_case=_open_case(OuterRef("pk")))
        .select_related("uploaded_model__creator")
        .order_by("-pk")[:MOST_SAME]
    )
    return [Same(row, how[row.pk], row.open_case) for row in found]


def _open_case(version: OuterRef) -> Coalesce:
    cases = Case.objects.filter(version=version, state__in=sorted(OPEN_CASES))
    return Coalesce(Subquery(cases.values("code")[:1]), Value(""))


def _pairs(version: ModelVersion) -> list[Pair]:
    """Return the relatives on both sides, the nearest first, with all that is compared."""
    edges = (
        LineageEdge.objects.filter(
            Q(child=version, parent__isolated_at__isnull=True)
            | Q(parent=version, child__isolated_at__isnull=True)
        )
        .select_related("finding", "child__uploaded_model", "parent__uploaded_model")
        .select_related("child__uploaded_model__creator", "parent__uploaded_model__creator")
        .annotate(
            child_case=_open_case(OuterRef("child")),
            parent_case=_open_case(OuterRef("parent")),
            child_files=_files(OuterRef("child")),
            parent_files=_files(OuterRef("parent")),
            child_decided=_decided(OuterRef("child")),
            parent_decided=_decided(OuterRef("parent")),
        )
        .order_by("-cosine", "pk")[:MOST_RELATIVES]
    )
    return [_pair(edge, is_child=edge.child_id == version.pk) for edge in edges]


def _files(version: OuterRef) -> Gathered:
    rows = ModelFile.objects.filter(version=version).order_by("pk")
    return Gathered(rows, "name", "size", "sha256")


def _decided(version: OuterRef) -> Gathered:
    """Return the last decision in force on a version: its action and its rules."""
    last = Decision.objects.filter(version=version, effect__state=EffectState.IN_FORCE)
    return Gathered(last.order_by("-decided_at", "-pk")[:1], "action", "clauses")


def _pair(edge: Any, *, is_child: bool) -> Pair:
    this, other = (edge.child, edge.parent) if is_child else (edge.parent, edge.child)
    sides = ("child", "parent") if is_child else ("parent", "child")
    said: Mapping[str, Any] = next(
        (
            relative
            for relative in edge.finding.evidence.get("relatives", [])
            if relative["version"] == edge.parent.code
        ),
        {},
    )
    role = "parent" if is_child else "child"
    comparison = said.get("comparison") or {}
    values = [
        _properties(
            version,
            files=getattr(edge, f"{side}_files"),
            decided=getattr(edge, f"{side}_decided"),
            # The probe compared the upload (first) with what was known (second).
            compared=_compared(comparison, 0 if side == "child" else 1),
        )
        for version, side in zip((this, other), sides, strict=True)
    ]
    return Pair(
        other=other,
        what="same" if edge.relation == "same" else role,
        case=getattr(edge, f"{sides[1]}_case"),
        cosine=edge.cosine,
        comparison=comparison,
        share=said.get("share"),
        is_exact=bool(said.get("compared_exactly")),
        lines=[
            Line(label, mine, theirs, mine == theirs if mine and theirs else None)
            for (label, mine), theirs in zip(values[0].items(), values[1].values(), strict=True)
            if mine or theirs
        ],
    )


def _compared(comparison: Mapping[str, Any], place: int) -> dict[str, str]:
    layers, families = comparison.get("layers") or (), comparison.get("families") or ()
    return {
        "family": str(families[place]) if len(families) > place else "",
        "layers": str(layers[place]) if len(layers) > place else "",
    }


def _properties(
    version: ModelVersion,
    *,
    files: list[dict[str, Any]],
    decided: list[dict[str, Any]],
    compared: Mapping[str, str],
) -> dict[str, str]:
    model = version.uploaded_model
    rules = ", ".join(clause["title"] for each in decided for clause in each["clauses"])
    submitted = version.submitted_at
    return {
        "Creator": model.creator.username,
        "Stands": version.get_visibility_display(),
        "Decided": "".join(
            f"{Decision(action=each['action']).get_action_display()}{': ' if rules else ''}{rules}"
            for each in decided
        ),
        "Submitted": f"{submitted.day} {submitted:%B %Y}" if submitted else "",
        "For": model.base_model,
        "Trigger words": ", ".join(version.trigger_words),
        "Tags": ", ".join(model.tags),
        "Licence": model.licence,
        "Files": ", ".join(f"{row['name']} ({row['size']:,} bytes)" for row in files),
        "SHA-256": ", ".join(row["sha256"] for row in files),
        "Family": compared["family"],
        "Layers": compared["layers"],
    }


# --- The record -------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """What happened to a version, and what its creator has made and been told before."""

    events: list[Event]
    is_cut: bool
    versions: list[Any]
    decisions: list[Decision]
    reports: int


def history(case: Case) -> History:
    """Return the timeline of a case's version and its creator's history, in four queries."""
    creator = case.version.uploaded_model.creator
    # That somebody answered a decision again, blind, changes nothing about it.
    newest = case.version.events.exclude(action="review.answered").order_by("-sequence")
    events = list(newest.select_related("actor")[: MOST_EVENTS + 1])
    last_case = Case.objects.filter(version=OuterRef("pk")).order_by("-pk")
    versions = (
        ModelVersion.objects.filter(uploaded_model__creator=creator, isolated_at__isnull=True)
        .exclude(visibility=Visibility.DRAFT)
        .exclude(pk=case.version_id)
        .annotate(last_case=Subquery(last_case.values("code")[:1]))
        .select_related("uploaded_model")
        .order_by("-pk")[:MOST_VERSIONS]
    )
    decisions = (
        Decision.objects.filter(
            creator=creator, effect__state=EffectState.IN_FORCE, version__isolated_at__isnull=True
        )
        .exclude(action__in=sorted(LOOSENING))
        .select_related("version__uploaded_model", "case")
        .order_by("-decided_at")[:MOST_VERSIONS]
    )
    return History(
        events=events[:MOST_EVENTS][::-1],
        is_cut=len(events) > MOST_EVENTS,
        versions=list(versions),
        decisions=list(decisions),
        reports=Report.objects.filter(version__uploaded_model__creator=creator).count(),
    )


# --- What was written -------------------------------------------------------------------------


@dataclass(frozen=True)
class Conversation:
    """What the team and the people concerned wrote to each other about a case."""

    inquiries: list[Inquiry]
    objections: list[Hold]
    appeals: list[Appeal]


def conversation(case: Case) -> Conversation:
    """Return the questions to the creator, and the threads and files of appeals."""
    return Conversation(
        inquiries=list(case.inquiries.select_related("asked_by").order_by("asked_at")),
        objections=list(case.clock_holds.exclude(objection="").order_by("objected_at")),
        appeals=list(
            case.appeals.select_related("appellant")
            .prefetch_related("files", "messages__author")
            .order_by(F("filed_at").desc())
        ),
    )
