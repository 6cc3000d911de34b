"""Moderators' verdicts on one concept, brought into a shape that a head can learn from."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FEWEST_LABELS = 8
# Two, so that one of a kind can be held out while the other is learnt from.
FEWEST_OF_A_KIND = 2


class LabelError(ValueError):
    """Labels that cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Labels:
    """One verdict per picture. Make one with ``settle``.

    ``embeddings`` are unit rows of shape (n, dim), ``zero_shot`` the concept's scores s of
    ``triage.scoring``, shape (n,), ``verdicts`` booleans of shape (n,), ordered by digest.
    ``overruled`` verdicts lost against a majority; ``tied`` pictures were left out.
    """

    digests: tuple[str, ...]
    embeddings: Floats
    zero_shot: Floats
    verdicts: NDArray[np.bool_]
    overruled: int = 0
    tied: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def positives(self) -> int:
        return int(self.verdicts.sum())

    @property
    def digest(self) -> str:
        """A SHA-256 over the pictures and their verdicts: the same labels give the same."""
        lines = "".join(
            f"{digest} {int(verdict)}\n"
            for digest, verdict in zip(self.digests, self.verdicts, strict=True)
        )
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def missing(self) -> str:
        """What is missing before a head can be fitted, as a sentence; empty if nothing is."""
        negatives = len(self) - self.positives
        if len(self) < FEWEST_LABELS:
            return (
                f"There are {len(self)} usable labels; a head needs at least {FEWEST_LABELS}. "
                "Until then the prompts alone decide."
            )
        if min(self.positives, negatives) < FEWEST_OF_A_KIND:
            return (
                f"Of {len(self)} labels {self.positives} say yes and {negatives} no; a head needs "
                f"at least {FEWEST_OF_A_KIND} of each. Judge a few pictures of the other kind."
            )
        return ""


def settle(
    digests: Sequence[str], embeddings: ArrayLike, zero_shot: ArrayLike, verdicts: ArrayLike
) -> Labels:
    """Return one verdict for each content digest.

    Of several verdicts on the same picture the majority counts; a picture on which they are tied
    is left out, since nobody knows. ``embeddings`` is (n, dim), the others are (n,), ``verdicts``
    holds 0 and 1. Raises ``LabelError`` for shapes that do not fit, for verdicts other than 0
    and 1, and for numbers that are not finite.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    scores = np.asarray(zero_shot, dtype=np.float64)
    given = np.asarray(verdicts)
    _check(len(digests), rows, scores, given)
    places: dict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        places[digest].append(place)
    kept: list[str] = []
    settled: list[bool] = []
    tied: list[str] = []
    overruled = 0
    for digest in sorted(places):
        said = given[places[digest]]
        yes = int(said.sum())
        no = len(said) - yes
        if yes == no:
            tied.append(digest)
            continue
        kept.append(digest)
        settled.append(yes > no)
        overruled += min(yes, no)
    first = [places[digest][0] for digest in kept]
    return Labels(
        digests=tuple(kept),
        embeddings=rows[first],
        zero_shot=scores[first],
        verdicts=np.array(settled, dtype=np.bool_),
        overruled=overruled,
        tied=tuple(tied),
    )


def _check(count: int, rows: Floats, scores: Floats, given: NDArray[np.generic]) -> None:
    if rows.ndim != 2 or scores.ndim != 1 or given.ndim != 1:
        raise LabelError("Embeddings have two dimensions, scores and verdicts one.")
    if not count == len(rows) == len(scores) == len(given):
        raise LabelError(
            f"There are {count} digests, {len(rows)} embeddings, {len(scores)} zero-shot scores "
            f"and {len(given)} verdicts; each picture needs one of each."
        )
    if not np.isin(given, (0, 1)).all():
        raise LabelError("A verdict is 1 (shows the concept) or 0 (does not).")
    if not (np.isfinite(rows).all() and np.isfinite(scores).all()):
        raise LabelError(
            "An embedding or a zero-shot score is not a finite number. Embed these pictures again."
        )
