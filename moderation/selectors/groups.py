"""What belongs together: the same bytes, pictures that look alike, weights that are related."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import (
    BooleanField,
    Exists,
    ExpressionWrapper,
    OuterRef,
    Q,
)

from moderation.authz import OWN, REPORTED_IT
from moderation.models import (
    Account,
    Case,
    CaseFacet,
    Embedding,
    Finding,
    LineageEdge,
    ModelVersion,
    PreviewImage,
    Report,
)
from moderation.selectors.beside import same_bytes, severe_of
from moderation.selectors.gathering import Gathered
from moderation.selectors.queue import concerns_of, why_in_words
from moderation.selectors.reporters import Said, reports_gathered, said_of
from moderation.states import OPEN_CASES, CaseState
from moderation.wellbeing import preference_of, shown_now

# Of 256 bits; the distance at which PDQ's authors call two pictures the same ("The TMK+PDQF
# Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", Facebook 2019).
PDQ_DISTANCE = 31
# Of two embeddings: near enough that one look answers for both, which the moderator still checks.
COSINE = 0.97
# Open cases that are compared by look, the newest first. A queue is seldom longer, and a page that
# leaves some out says so.
COMPARED = 2000
MEMBERS = 100


@dataclass(frozen=True)
class Member:
    """An open case that could be decided together with another."""

    case: Case
    how: str
    concerns: tuple[tuple[str, str], ...]  # what it is about, each with its concern
    why: str
    reports: list[Said]
    refused: str
    previews: list[str]  # codes; none where they are withheld
    is_unwanted: bool
    is_closed: bool  # of a severe category, and not opened by this person
    rules: tuple[str, ...]  # slugs of what it is about
    is_shown: bool  # to this person already, here or on its own page

    @property
    def is_withheld(self) -> bool:
        """Whether its pictures are not shown, so that nobody decides it without a thought."""
        return self.is_unwanted or self.is_closed


@dataclass(frozen=True)
class Group:
    """What belongs together, as far as a page holds it."""

    members: list[Member]
    is_cut: bool
    compared: int | None  # by look with so many of the newest open cases, where there are more


def group_of(case: Case, account: Account, *, opened: Collection[str] = ()) -> Group:
    """Return the open cases that belong with this one, itself first, in six queries.

    By bytes, by lineage, by PDQ and by the neighbourhood of their embeddings. Those that this
    person may not decide, or that somebody else holds, are there with the reason. Of a severe
    category, only the cases that this person has ``opened``, by their codes, have pictures.
    """
    how = same_bytes(case.version)
    open_versions = list(
        Case.objects.filter(state__in=sorted(OPEN_CASES), version__isolated_at__isnull=True)
        .exclude(pk=case.pk)
        .order_by("-opened_at")
        .values_list("version_id", flat=True)[: COMPARED + 1]
    )
    compared = COMPARED if len(open_versions) > COMPARED else None
    del open_versions[COMPARED:]
    alike = dict.fromkeys(_neighbours(case.version, open_versions), "a preview that is much alike")
    for pk in _look_alikes(case.version, open_versions):
        alike[pk] = "a preview that looks the same"
    alike.pop(case.version_id, None)
    edges = LineageEdge.objects
    related = Q(version__in=edges.filter(child=case.version).values("parent")) | Q(
        version__in=edges.filter(parent=case.version).values("child")
    )
    to_this = Q(child=case.version, parent=OuterRef("version")) | Q(
        parent=case.version, child=OuterRef("version")
    )
    reported = Report.objects.filter(
        reporter=account, version__uploaded_model=OuterRef("version__uploaded_model")
    )
    previews = PreviewImage.objects.filter(version=OuterRef("version"))
    about = CaseFacet.objects.filter(case=OuterRef("pk"), kind=CaseFacet.Kind.RULE)
    unwanted = about.filter(value__in=preference_of(account).opted_out)
    found = list(
        Case.objects.filter(
            Q(related | Q(version__in=[*how, *alike]), state__in=sorted(OPEN_CASES)) | Q(pk=case.pk)
        )
        .filter(version__isolated_at__isnull=True)
        .select_related("version__uploaded_model__creator", "claimed_by")
        .annotate(
            said=reports_gathered(OuterRef("pk")),
            is_reported=Exists(reported),
            is_unwanted=Exists(unwanted),
            about=Gathered(about.order_by("value"), "value"),
            is_shown=Exists(shown_now(account, OuterRef("pk"))),
            is_severe=severe_of(OuterRef("version"), OuterRef("pk")),
            edges=Gathered(edges.filter(to_this).order_by("-cosine")[:1], "relation", "cosine"),
            pictures=Gathered(previews.order_by("position", "pk"), "code"),
        )
        .order_by(ExpressionWrapper(Q(pk=case.pk), BooleanField()).desc(), "pk")[: MEMBERS + 1]
    )
    members = []
    for row in found[:MEMBERS]:
        is_closed = row.is_severe and row.code not in opened
        is_withheld = row.is_unwanted or is_closed
        members.append(
            Member(
                case=row,
                how=how.get(row.version_id)
                or _relation(row.edges)
                or alike.get(row.version_id, "the case you have open"),
                concerns=concerns_of(row),
                why=why_in_words(row),
                reports=said_of(row.said),
                refused=_refusal(row, account),
                previews=[] if is_withheld else [each["code"] for each in row.pictures],
                is_unwanted=row.is_unwanted,
                is_closed=is_closed and not row.is_unwanted,
                rules=tuple(facet["value"] for facet in row.about),
                is_shown=row.is_shown,
            )
        )
    return Group(members, len(found) > MEMBERS, compared)


def _refusal(case: Any, account: Account) -> str:
    """Return why this person cannot decide this case now, or an empty string."""
    if case.version.uploaded_model.creator_id == account.pk:
        return OWN
    if case.is_reported:
        return REPORTED_IT
    if case.claimed_by is not None and case.claimed_by_id != account.pk:
        return f"{case.claimed_by.username} has it."
    if case.state not in {CaseState.QUEUED, CaseState.CLAIMED}:
        return f"{case.get_state_display()}."
    return ""


def _relation(edges: Iterable[Mapping[str, Any]]) -> str:
    """Say how the weights are related, or nothing where they are not."""
    return "".join(f"weights {edge['relation']}, cosine {edge['cosine']:.3f}" for edge in edges)


def _look_alikes(version: ModelVersion, among: Iterable[int]) -> set[int]:
    """Return versions with a preview within PDQ's distance of one of this version's."""
    hashes = _hashes([version.pk, *among])
    mine = [digest for pk, digest in hashes if pk == version.pk]
    others = [(pk, digest) for pk, digest in hashes if pk != version.pk]
    if not mine or not others:
        return set()
    rows = np.array([list(digest) for _, digest in others], dtype=np.uint8)
    alike: set[int] = set()
    for digest in mine:
        differing = np.bitwise_xor(rows, np.array(list(digest), dtype=np.uint8))
        distances = np.unpackbits(differing, axis=1).sum(axis=1)
        alike |= {others[at][0] for at in np.flatnonzero(distances <= PDQ_DISTANCE)}
    return alike


def _hashes(versions: list[int]) -> list[tuple[int, bytes]]:
    rows = Finding.objects.filter(
        version__in=versions, probe="banks", preview__isnull=False
    ).values_list("version_id", "evidence")
    return [
        (pk, bytes.fromhex(evidence["pdq"]))
        for pk, evidence in rows
        if evidence.get("pdq_matched") and len(evidence.get("pdq", "")) == 64
    ]


def _neighbours(version: ModelVersion, among: Iterable[int]) -> set[int]:
    """Return versions with a preview whose embedding is near to one of this version's."""
    near: set[int] = set()
    for versions, rows in _embeddings([version.pk, *among]).values():
        owners = np.array(versions)
        mine = rows[owners == version.pk]
        if len(mine):
            cosines = (rows @ mine.T).max(axis=1)
            near |= {int(pk) for pk in owners[cosines >= COSINE]}
    return near


def _embeddings(
    versions: Iterable[int],
) -> dict[tuple[str, str], tuple[list[int], "np.ndarray[tuple[int, int], np.dtype[np.float32]]"]]:
    """Return, for each encoder and revision, versions and their previews' unit vectors."""
    owners: dict[str, list[int]] = {}
    pictures = PreviewImage.objects.filter(version__in=list(versions))
    for pk, sha256 in pictures.values_list("version_id", "sha256"):
        owners.setdefault(sha256, []).append(pk)
    gathered: dict[tuple[str, str], tuple[list[int], list[np.ndarray]]] = {}
    known = Embedding.objects.filter(kind=Embedding.Kind.PICTURE, sha256__in=list(owners))
    for row in known.iterator(1000):
        pks, vectors = gathered.setdefault((row.encoder, row.revision), ([], []))
        for pk in owners[row.sha256]:
            pks.append(pk)
            vectors.append(np.frombuffer(row.vector, "<f2").astype(np.float32))
    return {space: (pks, np.stack(vectors)) for space, (pks, vectors) in gathered.items()}
