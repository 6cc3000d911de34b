"""Draws an evaluation: how each concept ranks, what reviewing finds, what forecasts are worth."""

from pathlib import Path
from typing import Any

import numpy as np

from triage.evaluation import ConceptFigures, Evaluation, Scores

_INK, _ACCENT, _PALE = "#222222", "#8c2d19", "#bbbbbb"
_ROW_HEIGHT, _WIDTH = 2.9, 10.5  # inches
_DPI = 110


def plot(evaluation: Evaluation, path: Path) -> None:
    """Write a PNG with a row of three diagrams per concept. Raises ``OSError``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(evaluation.concepts)
    figure = Figure(figsize=(_WIDTH, _ROW_HEIGHT * count), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    demo = " (demo encoder)" if evaluation.demo_encoder else ""
    figure.suptitle(f"{evaluation.policy}, {evaluation.encoder}{demo}", fontsize=10, color=_INK)
    axes = figure.subplots(count, 3, squeeze=False)
    for row, figures in zip(axes, evaluation.concepts, strict=True):
        scores = evaluation.scores[figures.concept]
        _draw_precision(row[0], figures, scores)
        _draw_load(row[1], scores)
        _draw_reliability(row[2], figures)
    figure.savefig(path, format="png")


def _draw_precision(axes: Any, figures: ConceptFigures, scores: Scores) -> None:
    from sklearn.metrics import precision_recall_curve

    if scores.truth.any():
        precision, recall, _ = precision_recall_curve(scores.truth, scores.probabilities)
        axes.step(recall, precision, color=_ACCENT, where="post")
    value = figures.average_precision
    _label(
        axes,
        f"{figures.concept}: AP {'–' if value is None else f'{value:.3f}'}",
        "recall",
        "precision",
    )


def _draw_load(axes: Any, scores: Scores) -> None:
    truth = scores.truth[np.argsort(-scores.probabilities, kind="stable")]
    if truth.any():
        reviewed = np.arange(len(truth) + 1) / len(truth)
        axes.plot(reviewed, np.append(0, truth.cumsum()) / truth.sum(), color=_ACCENT)
        best = truth.mean()
        axes.plot([0, best, 1], [0, 1, 1], color=_PALE, linewidth=0.8)
    _label(axes, "what reviewing finds", "share of pictures reviewed", "share found")


def _draw_reliability(axes: Any, figures: ConceptFigures) -> None:
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=0.8)
    forecast = [point.forecast for point in figures.curve]
    observed = [point.observed for point in figures.curve]
    sizes = [12 + 2 * point.pictures**0.5 for point in figures.curve]
    axes.plot(forecast, observed, color=_ACCENT, linewidth=0.8)
    axes.scatter(forecast, observed, s=sizes, color=_ACCENT)
    for threshold, name in ((figures.review.threshold, "review"), (figures.hold.threshold, "hold")):
        axes.axvline(threshold, color=_INK, linewidth=0.6, linestyle=":")
        axes.text(threshold, 0.02, name, fontsize=7, color=_INK, rotation=90, ha="right")
    _label(axes, f"ECE {figures.calibration_error:.3f}", "forecast", "observed")


def _label(axes: Any, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=9, color=_INK)
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.tick_params(labelsize=7)
