"""The previews most like another that people have decided about, by a decision that stands."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import Exists, OuterRef, Q, Subquery
from numpy.typing import NDArray

from moderation.models import (
    Account,
    CaseFacet,
    Decision,
    Embedding,
    ModelVersion,
    PreviewImage,
)
from moderation.selectors.beside import severe_of
from moderation.states import ANSWERS, CAME_INTO_FORCE, Action
from moderation.wellbeing import preference_of

MOST = 5
# The newest decisions only: 3,000 vectors of 512 numbers are 3 MB, read and compared in 30 ms.
DECIDED = 3_000
# Below it pictures merely have the encoder's common direction in common.
LEAST_COSINE = 0.5


@dataclass(frozen=True, slots=True)
class LookAlike:
    """A decided preview, the cosine to the nearest preview of the version, and the decision."""

    preview: PreviewImage
    decision: Decision
    cosine: float
    like: int  # the place of the version's own preview, from 1
    case_code: str  # of the case that was decided
    why_closed: str  # why this person is not shown the picture, if so


def look_alikes(
    version: ModelVersion,
    account: Account,
    *,
    opened: Collection[str] = (),
    is_severe: bool = False,
) -> list[LookAlike]:
    """Return the decided previews of other versions nearest to any of this version's, best first.

    By remembered embeddings alone, all of the newest encoder that has seen this version; who may
    read them is for the page of the case to say. Beside a case that is not itself severe, the
    pictures of severe ones stay closed unless their cases, by code, were ``opened``.
    """
    own = list(version.previews.all())
    newest = (
        Embedding.objects.filter(
            kind=Embedding.Kind.PICTURE, sha256__in=[preview.sha256 for preview in own]
        )
        .order_by("-pk")
        .values_list("encoder", "revision")
        .first()
    )
    if newest is None:
        return []
    theirs = list(_decided(version))
    vectors = _vectors({row.sha256 for row in (*own, *theirs)}, *newest)
    own = [row for row in own if row.sha256 in vectors]
    theirs = [row for row in theirs if row.sha256 in vectors]
    if not theirs:
        return []
    cosines = _rows([vectors[row.sha256] for row in theirs]) @ (
        _rows([vectors[row.sha256] for row in own]).T
    )
    nearest = cosines.argmax(axis=1)
    best = cosines.max(axis=1)
    order = [int(place) for place in np.argsort(-best)[:MOST] if best[place] >= LEAST_COSINE]
    unwanted = CaseFacet.objects.filter(
        case=OuterRef("case"),
        kind=CaseFacet.Kind.RULE,
        value__in=preference_of(account).opted_out,
    )
    decisions: dict[int, Any] = (
        Decision.objects.select_related("case")
        .annotate(
            is_unwanted=Exists(unwanted), is_severe=severe_of(OuterRef("version"), OuterRef("case"))
        )
        .in_bulk([theirs[place].last_decision for place in order])  # type: ignore[attr-defined]
    )
    found = []
    for place in order:
        decision = decisions[theirs[place].last_decision]  # type: ignore[attr-defined]
        why_closed = ""
        if decision.is_severe and not is_severe and decision.case.code not in opened:
            why_closed = "what it is about is severe, and you have not opened its case"
        if decision.is_unwanted:
            why_closed = "you opted out of what it is about"
        found.append(
            LookAlike(
                preview=theirs[place],
                decision=decision,
                cosine=float(best[place]),
                like=own[int(nearest[place])].position + 1,
                case_code=decision.case.code,
                why_closed=why_closed,
            )
        )
    return found


def _decided(version: ModelVersion) -> list[PreviewImage]:
    """Return the previews of other versions by the last decision that stands, newest first."""
    by_now = Q(effect__state__in=sorted(CAME_INTO_FORCE))
    taking_back = Q(action=Action.REVERSE) | Q(appeal__isnull=False)
    taken_back = Decision.objects.filter(by_now & taking_back, overrides=OuterRef("pk"))
    last = (
        Decision.objects.filter(by_now, version=OuterRef("version"), action__in=sorted(ANSWERS))
        .exclude(Exists(taken_back))
        .order_by("-pk")
        .values("pk")[:1]
    )
    return list(
        PreviewImage.objects.exclude(version=version)
        .filter(version__decisions__isnull=False, version__isolated_at__isnull=True)
        .annotate(last_decision=Subquery(last))
        .filter(last_decision__isnull=False)
        .select_related("version__uploaded_model")
        .distinct()
        .order_by("-last_decision", "pk")[:DECIDED]
    )


def _vectors(digests: set[str], encoder: str, revision: str) -> dict[str, bytes]:
    rows = Embedding.objects.filter(
        kind=Embedding.Kind.PICTURE,
        encoder=encoder,
        revision=revision,
        sha256__in=digests,
    )
    return {sha256: bytes(vector) for sha256, vector in rows.values_list("sha256", "vector")}


def _rows(vectors: list[bytes]) -> NDArray[np.float32]:
    rows = np.frombuffer(b"".join(vectors), "<f2").astype(np.float32)
    rows = rows.reshape(len(vectors), -1)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
