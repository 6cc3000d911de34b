"""Decides whether a new head may take the place of the one in use."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.learning.heads import Head, HeadError, cross_validated_probabilities
from triage.learning.labels import Labels
from triage.learning.measures import log_loss, pictures_at_load, recall_at_load

Floats = NDArray[np.float64]

_EXAMPLES = 10
_NOTICEABLE = 0.1  # of probability; less is not worth a line in a report


@dataclass(frozen=True, slots=True)
class Change:
    """A labelled picture that the two heads see differently. Probabilities in 0..1."""

    digest: str
    verdict: bool
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a new head goes live, and on which figures.

    Both heads are measured on the same labels, each label by a head that had not seen it.
    ``load`` is the share of these pictures that the head in place sends to people; recall is
    what each head finds if people look at that many.
    """

    goes_live: bool
    sentence: str
    labels: int
    new_labels: int  # which the head in place did not know
    load: float
    log_loss: float
    log_loss_in_place: float
    recall: float
    recall_in_place: float
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)


def compare_heads(
    candidate: Head, in_place: Head, labels: Labels, *, review: float = 0.5
) -> Verdict:
    """Return whether ``candidate`` beats ``in_place``, by log-loss and by recall.

    ``labels`` are those the candidate was fitted on. ``review`` is the probability from which
    pictures are sent to people now. The candidate must have a lower cross-validated log-loss, and
    find more at equal review load; finding as many is enough where no head could find more.

    Raises ``HeadError`` if the heads are of different concepts or encoders, or the labels are
    not the candidate's.
    """
    _check(candidate, in_place, labels)
    truth = labels.verdicts
    after = cross_validated_probabilities(candidate, labels)
    before = in_place.held_out_probabilities(labels)
    load = _load(before, labels, review)
    losses = log_loss(after, truth), log_loss(before, truth)
    found = recall_at_load(after, truth, load), recall_at_load(before, truth, load)
    recall, recall_in_place = found[0] or 0.0, found[1] or 0.0
    most = min(1.0, pictures_at_load(len(labels), load) / labels.positives)
    finds_more = recall > recall_in_place or min(recall, recall_in_place) >= most - 1e-9
    goes_live = losses[0] < losses[1] and finds_more
    return Verdict(
        goes_live=goes_live,
        sentence=_sentence(goes_live, losses, (recall, recall_in_place), load, len(labels)),
        labels=len(labels),
        new_labels=sum(digest not in in_place.held_out for digest in labels.digests),
        load=load,
        log_loss=losses[0],
        log_loss_in_place=losses[1],
        recall=recall,
        recall_in_place=recall_in_place,
        changes=_changes(labels, before, after),
    )


def _check(candidate: Head, in_place: Head, labels: Labels) -> None:
    if candidate.concept != in_place.concept:
        raise HeadError(
            f"A head of “{candidate.concept}” cannot replace one of “{in_place.concept}”."
        )
    if candidate.encoder_revision != in_place.encoder_revision:
        raise HeadError(
            f"The head in place belongs to encoder revision {in_place.encoder_revision}, the new "
            f"one to {candidate.encoder_revision}. Compare it with the zero-shot head instead."
        )
    if candidate.labels_digest != labels.digest:
        raise HeadError("These are not the labels that the new head was fitted on.")


def _load(before: Floats, labels: Labels, review: float) -> float:
    """Return the share that is reviewed now, or the share of positives where that says nothing."""
    share = float((before >= review).mean())
    return share if 0.0 < share < 1.0 else labels.positives / len(labels)


def _changes(labels: Labels, before: Floats, after: Floats) -> tuple[Change, ...]:
    largest = np.argsort(-np.abs(after - before), kind="stable")[:_EXAMPLES]
    return tuple(
        Change(
            labels.digests[place],
            bool(labels.verdicts[place]),
            float(before[place]),
            float(after[place]),
        )
        for place in largest
        if abs(after[place] - before[place]) >= _NOTICEABLE
    )


def _sentence(
    goes_live: bool,
    losses: tuple[float, float],
    recalls: tuple[float, float],
    load: float,
    labels: int,
) -> str:
    verdict = "The new head is better" if goes_live else "The head in place stays"
    return (
        f"{verdict}: on {labels} labels its log-loss is {losses[0]:.3f} against {losses[1]:.3f}, "
        f"and when people look at {load:.0%} of the pictures it finds {recalls[0]:.1%} of what it "
        f"should, against {recalls[1]:.1%}."
    )
