"""What belongs together: the same bytes, pictures that look alike, weights that are related."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from django.db.models import Count, Q

from moderation.authz import conflict_of_interest
from moderation.models import (
    Account,
    Case,
    Embedding,
    Finding,
    ModelFile,
    ModelVersion,
    PreviewImage,
    WeightSketch,
)
from moderation.states import OPEN_CASES, CaseState, Visibility

# Of 256 bits; the distance at which PDQ's authors call two pictures the same ("The TMK+PDQF
# Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", Facebook 2019).
PDQ_DISTANCE = 31
# Of two embeddings: near enough that one look answers for both, which the moderator still checks.
COSINE = 0.97
# Open cases that are compared by look. A queue is seldom longer; beyond it the nearest by age.
COMPARED = 2000
MEMBERS = 100


@dataclass(frozen=True)
class Relative:
    """A version that shares something with another, how, and its open case."""

    version: ModelVersion
    how: str
    case: str


@dataclass(frozen=True)
class Member:
    """An open case that could be decided together with another."""

    case: Case
    how: str
    reports: int
    refused: str


def relatives_of(version: ModelVersion, findings: Iterable[Finding]) -> list[Relative]:
    """Return versions with the same bytes, or whose weights are related, the newest first."""
    how = _same_bytes(version)
    for pk, said in _related(findings).items():
        how.setdefault(pk, said)
    how.pop(version.pk, None)
    found = (
        ModelVersion.objects.filter(pk__in=list(how))
        .exclude(visibility=Visibility.DRAFT)
        .select_related("uploaded_model__creator")
        .order_by("-pk")[:MEMBERS]
    )
    open_cases = dict(
        Case.objects.filter(version__in=list(how), state__in=sorted(OPEN_CASES)).values_list(
            "version_id", "code"
        )
    )
    return [Relative(row, how[row.pk], open_cases.get(row.pk, "")) for row in found]


def members_of(case: Case, account: Account) -> list[Member]:
    """Return the open cases that belong with this one, itself first.

    By bytes, by lineage, by PDQ and by the neighbourhood of their embeddings. Those that this
    person may not decide, or that somebody else holds, are there with the reason.
    """
    by_lineage = Finding.objects.filter(version=case.version, probe="lineage")
    how = _related(by_lineage) | _same_bytes(case.version)
    open_versions = list(
        Case.objects.filter(state__in=sorted(OPEN_CASES))
        .exclude(pk=case.pk)
        .order_by("-opened_at")
        .values_list("version_id", flat=True)[:COMPARED]
    )
    for pk in _look_alikes(case.version, open_versions):
        how.setdefault(pk, "a preview that looks the same")
    for pk in _neighbours(case.version, open_versions):
        how.setdefault(pk, "a preview that is much alike")
    how.pop(case.version_id, None)
    found = (
        Case.objects.filter(Q(version__in=list(how), state__in=sorted(OPEN_CASES)) | Q(pk=case.pk))
        .select_related("version__uploaded_model__creator", "claimed_by")
        .prefetch_related("version__previews")
        .annotate(reports_count=Count("reports", distinct=True))
        .order_by("pk")[:MEMBERS]
    )
    members = [
        Member(
            row,
            how.get(row.version_id, "the case you have open"),
            row.reports_count,
            _refusal(row, account),
        )
        for row in found
    ]
    return sorted(members, key=lambda member: member.case.pk != case.pk)


def _refusal(case: Case, account: Account) -> str:
    """Return why this person cannot decide this case now, or an empty string."""
    conflict = conflict_of_interest(account, case.version)
    if conflict:
        return conflict
    if case.claimed_by is not None and case.claimed_by_id != account.pk:
        return f"{case.claimed_by.username} has it."
    if case.state not in {CaseState.QUEUED, CaseState.CLAIMED}:
        return f"{case.get_state_display()}."
    return ""


def _same_bytes(version: ModelVersion) -> dict[int, str]:
    """Return versions that share a file, the tensors of a file, or a preview, byte for byte."""
    how: dict[int, str] = {}
    files = [file.sha256 for file in version.files.all()]
    for pk in ModelFile.objects.filter(sha256__in=files).values_list("version_id", flat=True):
        how[pk] = "the same file"
    data = WeightSketch.objects.filter(file__version=version).exclude(data_sha256="")
    same = WeightSketch.objects.filter(data_sha256__in=data.values("data_sha256"))
    for pk in same.values_list("file__version_id", flat=True):
        how.setdefault(pk, "the same weights under another header")
    pictures = [preview.sha256 for preview in version.previews.all()]
    for pk in PreviewImage.objects.filter(sha256__in=pictures).values_list("version_id", flat=True):
        how.setdefault(pk, "the same preview")
    return how


def _related(findings: Iterable[Finding]) -> dict[int, str]:
    """Return versions that the lineage probe named as relatives."""
    codes: dict[str, str] = {}
    for finding in findings:
        if finding.probe != "lineage":
            continue
        for relative in finding.evidence.get("relatives", []):
            codes[relative["version"]] = (
                f"weights {relative['relation']}, cosine {relative['cosine']:.3f}"
            )
    if not codes:
        return {}
    found = ModelVersion.objects.filter(code__in=list(codes)).values_list("pk", "code")
    return {pk: codes[code] for pk, code in found}


def _look_alikes(version: ModelVersion, among: Iterable[int]) -> set[int]:
    """Return versions with a preview within PDQ's distance of one of this version's."""
    mine = _hashes([version.pk])
    others = _hashes(among)
    if not mine or not others:
        return set()
    rows = np.array([list(digest) for _, digest in others], dtype=np.uint8)
    alike: set[int] = set()
    for _, digest in mine:
        differing = np.bitwise_xor(rows, np.array(list(digest), dtype=np.uint8))
        distances = np.unpackbits(differing, axis=1).sum(axis=1)
        alike |= {others[at][0] for at in np.flatnonzero(distances <= PDQ_DISTANCE)}
    return alike


def _hashes(versions: Iterable[int]) -> list[tuple[int, bytes]]:
    rows = Finding.objects.filter(
        version__in=list(versions), probe="banks", preview__isnull=False
    ).values_list("version_id", "evidence")
    return [
        (pk, bytes.fromhex(evidence["pdq"]))
        for pk, evidence in rows
        if evidence.get("pdq_matched") and len(evidence.get("pdq", "")) == 64
    ]


def _neighbours(version: ModelVersion, among: Iterable[int]) -> set[int]:
    """Return versions with a preview whose embedding is near to one of this version's."""
    mine = _embeddings([version.pk])
    if not mine:
        return set()
    others = _embeddings(among)
    near: set[int] = set()
    for space, (_, rows) in mine.items():
        if space not in others:
            continue
        versions, known = others[space]
        cosines = known @ rows.T
        near |= {versions[at] for at in np.flatnonzero(cosines.max(axis=1) >= COSINE)}
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
