"""Heads: small linear models that say of an embedding whether it shows a concept.

logit = weights . embedding + zero_shot_weight * s + offset, then calibrated, where s is the
zero-shot score of ``triage.scoring``. From 8 labels the head is anchored: the zero-shot score
stays as it is, and whatever is learnt beside it is penalised in proportion to how well zero-shot
does on the labels (after CLAP: Silva-Rodriguez et al. 2024, "A Closer Look at the Few-Shot
Adaptation of Large Vision-Language Models"). From 60 it is a logistic regression that has the
zero-shot score as one feature among others (after LP++: Huang et al. 2024).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from triage.learning.calibration import (
    ISOTONIC_FROM,
    Calibration,
    Platt,
    calibration_from,
    fit_calibration,
    sigmoid,
)
from triage.learning.labels import Labels
from triage.learning.measures import (
    LOADS,
    CurvePoint,
    area_under_roc,
    average_precision,
    calibration_error,
    log_loss,
    recall_at_load,
    reliability_curve,
)
from triage.learning.space import Space, space_of

Floats = NDArray[np.float64]
Kind = Literal["zero-shot", "anchored", "logistic"]

LOGISTIC_FROM = 60
# The penalty on leaving zero-shot is this times the zero-shot confidence, for coordinates of unit
# mean squared length. Found on the demo domain, where 0.03 to 0.3 did about equally well.
_ANCHOR = 0.2
_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
_FOLDS = 5
_MOST_FOLDS = 10  # for a handful of labels, where every one that is held out is missed


class HeadError(ValueError):
    """A head that cannot be applied here; the message says why."""


@dataclass(frozen=True, slots=True)
class Performance:
    """How a head did on labels that it had not seen, each in the fold that left it out."""

    log_loss: float
    calibration_error: float
    average_precision: float | None
    area_under_roc: float | None
    recall_at_load: Mapping[str, float | None]
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head, as plain data.

    ``held_out`` gives for each picture it learnt from (by content digest) the logit that a head
    fitted without that picture gave it; comparisons and guarantees are made from these alone.
    """

    concept: str
    kind: Kind
    encoder_revision: str
    weights: tuple[float, ...]  # one per dimension; none for the zero-shot head
    zero_shot_weight: float
    offset: float
    calibration: Calibration
    labels: int = 0
    positives: int = 0
    overruled: int = 0
    tied: int = 0
    labels_digest: str = ""
    penalty: float = 0.0
    performance: Performance | None = None
    held_out: Mapping[str, float] = field(default_factory=dict)

    def logits(self, embeddings: ArrayLike, zero_shot: ArrayLike) -> Floats:
        """Return uncalibrated log odds, shape (n,), of (n, dim) embeddings and their (n,) s.

        Raises ``HeadError`` where the dimensions do not fit.
        """
        rows = np.asarray(embeddings, dtype=np.float64)
        scores = np.asarray(zero_shot, dtype=np.float64)
        if not self.weights:
            return self.zero_shot_weight * scores + self.offset
        if rows.shape[-1] != len(self.weights):
            raise HeadError(
                f"The head of “{self.concept}” was learnt on embeddings of {len(self.weights)} "
                f"numbers (encoder revision {self.encoder_revision}); these have "
                f"{rows.shape[-1]}. Learn it again with the encoder that is in use."
            )
        found: Floats = rows @ np.array(self.weights) + self.zero_shot_weight * scores + self.offset
        return found

    def probabilities(self, embeddings: ArrayLike, zero_shot: ArrayLike) -> Floats:
        """Return calibrated probabilities, shape (n,); see ``logits``."""
        return self.calibration(self.logits(embeddings, zero_shot))

    def probability(self, embedding: ArrayLike, zero_shot_score: float) -> float:
        """Return the calibrated probability of one picture, its embedding of shape (dim,)."""
        row = np.asarray(embedding, dtype=np.float64).reshape(1, -1)
        return float(self.probabilities(row, [zero_shot_score])[0])

    def held_out_probabilities(self, labels: Labels) -> Floats:
        """Return a probability for every label, from a head that had not seen it, shape (n,)."""
        logits = self.logits(labels.embeddings, labels.zero_shot)
        for place, digest in enumerate(labels.digests):
            logits[place] = self.held_out.get(digest, logits[place])
        return self.calibration(logits)

    def as_dict(self) -> dict[str, Any]:
        """Return the head as JSON values; ``head_from`` reads them back."""
        return {
            **asdict(self),
            "weights": list(self.weights),
            "calibration": self.calibration.as_dict(),
            "held_out": dict(self.held_out),
        }


def head_from(data: Mapping[str, Any]) -> Head:
    """Return the head that ``as_dict`` wrote."""
    performance = data["performance"]
    if performance is not None:
        curve = tuple(CurvePoint(**point) for point in performance["curve"])
        performance = Performance(**{**performance, "curve": curve})
    return Head(
        **{
            **data,
            "weights": tuple(data["weights"]),
            "calibration": calibration_from(data["calibration"]),
            "performance": performance,
        }
    )


def zero_shot_head(concept: str, *, encoder_revision: str) -> Head:
    """Return what is in place before anything was learnt: sigmoid(s), uncalibrated."""
    return Head(concept, "zero-shot", encoder_revision, (), 1.0, 0.0, Platt())


def fit_head(
    concept: str,
    labels: Labels,
    *,
    encoder_revision: str,
    ordinary: Space | None = None,
) -> Head | None:
    """Return a calibrated head, or None while ``labels.missing`` says what is missing.

    ``ordinary`` is the ``space_of`` many pictures of this marketplace, labelled or not (their
    cached embeddings); without it the labelled ones stand for all.
    """
    if labels.missing:
        return None
    space = ordinary or space_of(labels.embeddings)
    if len(labels) >= LOGISTIC_FROM:
        kind: Kind = "logistic"
        penalty = _best_penalty(labels, space)
    else:
        kind, penalty = "anchored", _ANCHOR
    folds = _folds(labels, seed=0)
    logits = _held_out_logits(labels, space, kind, penalty, folds)
    weights, zero_shot_weight, offset = _fit(labels, space, kind, penalty)
    return Head(
        concept=concept,
        kind=kind,
        encoder_revision=encoder_revision,
        weights=tuple(float(weight) for weight in weights),
        zero_shot_weight=zero_shot_weight,
        offset=offset,
        calibration=fit_calibration(logits, labels.verdicts, isotonic=len(labels) >= ISOTONIC_FROM),
        labels=len(labels),
        positives=labels.positives,
        overruled=labels.overruled,
        tied=len(labels.tied),
        labels_digest=labels.digest,
        penalty=penalty,
        performance=_performance(_cross_calibrated(logits, labels, folds), labels),
        held_out={
            digest: float(logit) for digest, logit in zip(labels.digests, logits, strict=True)
        },
    )


def cross_validated_probabilities(head: Head, labels: Labels) -> Floats:
    """Return a probability for every label that neither head nor calibration had seen, (n,).

    ``labels`` must be those that the head was fitted on.
    """
    logits = np.array([head.held_out[digest] for digest in labels.digests])
    return _cross_calibrated(logits, labels, _folds(labels, seed=0))


def _performance(probabilities: Floats, labels: Labels) -> Performance:
    curve = reliability_curve(probabilities, labels.verdicts)
    return Performance(
        log_loss=log_loss(probabilities, labels.verdicts),
        calibration_error=calibration_error(curve),
        average_precision=average_precision(probabilities, labels.verdicts),
        area_under_roc=area_under_roc(probabilities, labels.verdicts),
        recall_at_load={
            f"{load:g}": recall_at_load(probabilities, labels.verdicts, load) for load in LOADS
        },
        curve=curve,
    )


def _folds(labels: Labels, *, seed: int) -> list[NDArray[np.bool_]]:
    """Return for each fold which labels it holds out; both verdicts occur in every fold."""
    from sklearn.model_selection import StratifiedKFold

    most = _FOLDS if len(labels) >= LOGISTIC_FROM else _MOST_FOLDS
    count = min(most, labels.positives, len(labels) - labels.positives)
    split = StratifiedKFold(count, shuffle=True, random_state=seed)
    masks = []
    for _, held_out in split.split(labels.embeddings, labels.verdicts):
        mask = np.zeros(len(labels), dtype=np.bool_)
        mask[held_out] = True
        masks.append(mask)
    return masks


def _held_out_logits(
    labels: Labels, space: Space, kind: Kind, penalty: float, folds: list[NDArray[np.bool_]]
) -> Floats:
    logits = np.zeros(len(labels))
    for fold in folds:
        weights, zero_shot_weight, offset = _fit(_part(labels, ~fold), space, kind, penalty)
        logits[fold] = (
            labels.embeddings[fold] @ weights + zero_shot_weight * labels.zero_shot[fold] + offset
        )
    return logits


def _cross_calibrated(logits: Floats, labels: Labels, folds: list[NDArray[np.bool_]]) -> Floats:
    """Return probabilities, each from a calibration fitted on the other folds."""
    found = np.zeros(len(labels))
    isotonic = len(labels) >= ISOTONIC_FROM
    for fold in folds:
        calibration = fit_calibration(logits[~fold], labels.verdicts[~fold], isotonic=isotonic)
        found[fold] = calibration(logits[fold])
    return found


def _best_penalty(labels: Labels, space: Space) -> float:
    # Other folds than those the head is judged by, so that the choice does not flatter it.
    folds = _folds(labels, seed=1)
    losses = {
        penalty: log_loss(
            _cross_calibrated(
                _held_out_logits(labels, space, "logistic", penalty, folds), labels, folds
            ),
            labels.verdicts,
        )
        for penalty in _PENALTIES
    }
    return min(losses, key=lambda penalty: losses[penalty])


def _fit(labels: Labels, space: Space, kind: Kind, penalty: float) -> tuple[Floats, float, float]:
    """Return weights on the embedding, the weight of the zero-shot score, and the offset."""
    coordinates = space.coordinates(labels.embeddings)
    if kind == "anchored":
        return _fit_anchored(labels, space, coordinates, penalty)
    return _fit_logistic(labels, space, coordinates, penalty)


def _fit_anchored(
    labels: Labels, space: Space, coordinates: Floats, penalty: float
) -> tuple[Floats, float, float]:
    from scipy.optimize import minimize

    scores, verdicts = labels.zero_shot, labels.verdicts
    strength = penalty * zero_shot_confidence(labels)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        departure, offset = parameters[:-1], parameters[-1]
        logits = scores + coordinates @ departure + offset
        wrong = sigmoid(logits) - verdicts
        value = (np.logaddexp(0, logits) - verdicts * logits).sum()
        return (
            float(value + 0.5 * strength * departure @ departure),
            np.append(coordinates.T @ wrong + strength * departure, wrong.sum()),
        )

    start = np.zeros(coordinates.shape[1] + 1)  # zero-shot itself
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x
    weights, offset = space.direction(found[:-1])
    return weights, 1.0, offset + float(found[-1])


def _fit_logistic(
    labels: Labels, space: Space, coordinates: Floats, penalty: float
) -> tuple[Floats, float, float]:
    from sklearn.linear_model import LogisticRegression

    middle, spread = float(labels.zero_shot.mean()), float(labels.zero_shot.std()) or 1.0
    features = np.column_stack([coordinates, (labels.zero_shot - middle) / spread])
    found = LogisticRegression(C=1 / penalty, max_iter=1000).fit(features, labels.verdicts)
    weights, offset = space.direction(found.coef_[0, :-1])
    zero_shot_weight = float(found.coef_[0, -1]) / spread
    return (
        weights,
        zero_shot_weight,
        offset + float(found.intercept_[0]) - (zero_shot_weight * middle),
    )


def zero_shot_confidence(labels: Labels) -> float:
    """Return the mean probability, 0..1, that zero-shot gives to the truth.

    Both verdicts weigh alike, however many there are of each.
    """
    right = sigmoid(np.where(labels.verdicts, labels.zero_shot, -labels.zero_shot))
    yes, no = right[labels.verdicts], right[~labels.verdicts]
    return float((yes.mean() + no.mean()) / 2)


def _part(labels: Labels, mask: NDArray[np.bool_]) -> Labels:
    return Labels(
        digests=tuple(
            digest for digest, chosen in zip(labels.digests, mask, strict=True) if chosen
        ),
        embeddings=labels.embeddings[mask],
        zero_shot=labels.zero_shot[mask],
        verdicts=labels.verdicts[mask],
    )
