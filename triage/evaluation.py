"""Measures a policy's concepts on pictures that people have labelled.

A collection is a folder, ``CONCEPT/positive/…`` and ``CONCEPT/negative/…``, or a CSV file with the
columns ``path``, ``concept``, ``label``. A concept is named by its slug; where several rules have
one of that slug by RULE/CONCEPT, which a CSV file may always write. Nothing is left out in silence:
every file that cannot be used is listed with the reason.
"""

import csv
import difflib
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.encoders.base import Array, Encoder
from triage.learning.calibration import sigmoid
from triage.learning.measures import (
    LOADS,
    CurvePoint,
    area_under_roc,
    average_precision,
    calibration_error,
    recall_at_load,
    reliability_curve,
)
from triage.pictures import PictureError, read_picture
from triage.sample import Concept, Policy, Rule
from triage.scoring import SIGNAL, ConceptBank, ConceptScore, ScoringError, review_of

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]

_BATCH = 32  # pictures decoded and embedded together
_LABELS = {"positive": True, "1": True, "negative": False, "0": False}
_COLUMNS = ("path", "concept", "label")


class EvaluationError(Exception):
    """Nothing can be measured: ``code`` for machines, ``str()`` for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Labelled:
    """One picture and whether it shows one concept."""

    path: Path
    concept: str
    positive: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that could not be used, and why."""

    path: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Labelled pictures, and what was there but cannot be used."""

    items: tuple[Labelled, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many pictures lie on which side of a threshold. At the threshold counts as above."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


@dataclass(frozen=True, slots=True)
class ConceptFigures:
    """How one concept does. Figures that need both kinds of pictures are None without them."""

    concept: str
    rule: str
    scored_by: str  # "zero-shot", or the code of a head
    positives: int
    negatives: int
    area_under_roc: float | None
    average_precision: float | None
    recall_at_load: Mapping[str, float | None]  # by share of pictures reviewed
    calibration_error: float
    curve: tuple[CurvePoint, ...]
    review: Confusion
    hold: Confusion


@dataclass(frozen=True, slots=True)
class Scores:
    """The probabilities and the truth of one concept's pictures, for a plot."""

    probabilities: Floats
    truth: Truth


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured."""

    policy: str
    encoder: str
    demo_encoder: bool
    pictures: int
    concepts: tuple[ConceptFigures, ...]
    problems: tuple[Problem, ...]
    scores: Mapping[str, Scores]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the single scores."""
        return {
            "policy": self.policy,
            "encoder": self.encoder,
            "demo_encoder": self.demo_encoder,
            "pictures": self.pictures,
            "concepts": [asdict(figures) for figures in self.concepts],
            "problems": [asdict(problem) for problem in self.problems],
        }


def read_collection(data: Path, policy: Policy) -> Collection:
    """Return the labelled pictures of a folder or a CSV file; none is opened yet.

    Raises ``EvaluationError`` with one of the codes ``evaluation.missing``, ``.concept`` (one that
    the policy does not know), ``.label``, ``.columns``, ``.unreadable`` and ``.empty``.
    """
    if data.is_dir():
        collection = _read_folder(data, policy)
    elif data.is_file():
        collection = _read_csv(data, policy)
    else:
        raise EvaluationError("evaluation.missing", f"There is no folder or file {data}.")
    if not collection.items:
        raise EvaluationError(
            "evaluation.empty",
            f"{data} holds no labelled pictures. A folder has CONCEPT/positive/ and "
            "CONCEPT/negative/ in it; a CSV file has the columns path, concept, label.",
        )
    return collection


def evaluate(
    collection: Collection,
    policy: Policy,
    encoder: Encoder,
    *,
    advance: Callable[[int], object] = lambda pictures: None,
) -> Evaluation:
    """Return the figures of every concept in a collection.

    Each picture is embedded once, however many concepts it is labelled for. A concept with a head
    for this encoder is scored by it and held against its threshold, as an upload would be.
    ``advance`` is called with the number of pictures done. Raises ``EncoderError`` and
    ``ScoringError``.
    """
    bank = ConceptBank(policy, encoder)
    for sentence in bank.unfit.values():
        raise ScoringError("scoring.other_encoder", sentence)
    paths = list(dict.fromkeys(item.path for item in collection.items))
    places, embeddings, problems = _embed(paths, encoder, advance)
    scored = _scored(bank, embeddings)
    figures: list[ConceptFigures] = []
    scores: dict[str, Scores] = {}
    for name, (rule, concept) in _concepts(policy).items():
        items = [i for i in collection.items if i.concept == name and i.path in places]
        if not items:
            continue
        rows = [places[item.path] for item in items]
        truth = np.array([item.positive for item in items], dtype=np.bool_)
        found = [scored[rule.slug, concept.slug][row] for row in rows]
        scores[name] = Scores(sigmoid(np.array([one.score for one in found])), truth)
        figures.append(_figures(name, rule, found[0], scores[name]))
    return Evaluation(
        policy=f"{policy.name} v{policy.version}",
        encoder=f"{encoder.name} {encoder.revision}",
        demo_encoder=encoder.demo,
        pictures=len(places),
        concepts=tuple(figures),
        problems=(*collection.problems, *problems),
        scores=scores,
    )


def table(evaluation: Evaluation) -> str:
    """Return the figures as a table for a terminal."""
    loads = [f"{load:g}" for load in LOADS]
    head = ["concept", "scored by", "pictures", "positive", "AUC", "AP"]
    head += [f"recall@{float(load):.0%}" for load in loads] + ["ECE"]
    for name in ("review", "hold"):
        head += [f"{name} at", "found", "missed", "false"]
    rows = [head]
    for each in evaluation.concepts:
        row = [each.concept, each.scored_by]
        row += [str(each.positives + each.negatives), str(each.positives)]
        row += [_number(each.area_under_roc), _number(each.average_precision)]
        row += [_number(each.recall_at_load[load]) for load in loads]
        row.append(_number(each.calibration_error))
        for confusion in (each.review, each.hold):
            row += [
                f"{confusion.threshold:.2f}",
                str(confusion.true_positives),
                str(confusion.false_negatives),
                str(confusion.false_positives),
            ]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _read_folder(data: Path, policy: Policy) -> Collection:
    items: list[Labelled] = []
    problems: list[Problem] = []
    known = _concepts(policy)
    for folder in sorted(data.iterdir()):
        if not folder.is_dir():
            problems.append(_unlabelled(folder, data))
            continue
        name = _name_of(folder.name, known, str(folder))
        for part in sorted(folder.iterdir()):
            if not part.is_dir():
                problems.append(_unlabelled(part, data))
                continue
            if part.name not in ("positive", "negative"):
                raise EvaluationError(
                    "evaluation.label",
                    f"{part} is neither “positive” nor “negative”; what do its pictures show?",
                )
            items += [
                Labelled(path, name, part.name == "positive")
                for path in sorted(part.rglob("*"))
                if not path.is_dir()
            ]
    said: dict[tuple[str, str], Labelled] = {}
    for item in items:
        try:
            with item.path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            # It is listed among what could not be used.
            continue
        first = said.setdefault((item.concept, content), item)
        if first.positive != item.positive:
            raise _contradiction(f"{first.path} and {item.path} are the same picture", item.concept)
    return Collection(tuple(items), tuple(problems))


def _contradiction(what: str, concept: str) -> EvaluationError:
    return EvaluationError(
        "evaluation.contradiction",
        f"{what}, once said to show “{concept}” and once not to. Take one of the two out: no "
        "figure could be right about both.",
    )


def _unlabelled(path: Path, data: Path) -> Problem:
    return Problem(
        str(path.relative_to(data)),
        "evaluation.unlabelled",
        "It lies in no “positive” or “negative” folder of a concept.",
    )


def _read_csv(data: Path, policy: Policy) -> Collection:
    try:
        with data.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise EvaluationError(
                    "evaluation.columns",
                    f"{data} has no column “{missing[0]}”. Its first line must name the columns "
                    "path, concept and label.",
                )
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(
            "evaluation.unreadable", f"{data} cannot be read as CSV: {error}."
        ) from error
    known = _concepts(policy)
    items: dict[tuple[Path, str], Labelled] = {}
    first: dict[tuple[Path, str], int] = {}
    for line, row in rows:
        path, written, label = ((row[name] or "").strip() for name in _COLUMNS)
        concept = _name_of(written, known, f"line {line} of {data}")
        if label.lower() not in _LABELS:
            raise EvaluationError(
                "evaluation.label",
                f"The label “{label}” in line {line} of {data} is none of positive, negative, "
                "1 and 0.",
            )
        # Paths are relative to the file, so that a collection can be moved as a whole.
        item = Labelled(data.parent / path, concept, _LABELS[label.lower()])
        place = (item.path, concept)
        if items.setdefault(place, item) != item:
            raise _contradiction(
                f"Lines {first[place]} and {line} of {data} name the same picture, “{path}”",
                concept,
            )
        first.setdefault(place, line)
    return Collection(tuple(items.values()))


def _concepts(policy: Policy) -> dict[str, tuple[Rule, Concept]]:
    """Return every concept that pictures are scored against and its rule, by the name it has here.

    That is its slug, or RULE/CONCEPT where several rules have one of that slug.
    """
    pairs = [(rule, concept) for rule in policy.rules_for(SIGNAL) for concept in rule.concepts]
    times = Counter(concept.slug for _, concept in pairs)
    return {
        concept.slug if times[concept.slug] == 1 else f"{rule.slug}/{concept.slug}": (rule, concept)
        for rule, concept in pairs
    }


def _name_of(written: str, known: Mapping[str, tuple[Rule, Concept]], where: str) -> str:
    """Return the name of the concept that is written as its slug or as RULE/CONCEPT."""
    if written in known:
        return written
    of = {f"{rule.slug}/{concept.slug}": name for name, (rule, concept) in known.items()}
    if written in of:
        return of[written]
    several = [name for name, (_, concept) in known.items() if concept.slug == written]
    if several:
        raise EvaluationError(
            "evaluation.ambiguous",
            f"Several rules have a concept “{written}” ({where}). Write {' or '.join(several)} "
            "instead, in the column “concept” of a CSV file.",
        )
    near = difflib.get_close_matches(written, sorted(known), n=1)
    meant = f"Did you mean “{near[0]}”? " if near else ""
    raise EvaluationError(
        "evaluation.concept",
        f"The policy has no concept “{written}” ({where}). {meant}It has: "
        f"{', '.join(sorted(known))}.",
    )


def _embed(
    paths: Sequence[Path], encoder: Encoder, advance: Callable[[int], object]
) -> tuple[dict[Path, int], Array, list[Problem]]:
    """Return the row of every picture that could be read, the rows, and the others."""
    places: dict[Path, int] = {}
    batches: list[Array] = []
    problems: list[Problem] = []
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        images = []
        for path in batch:
            try:
                image = read_picture(path)
            except PictureError as error:
                problems.append(Problem(str(path), error.code, str(error)))
                continue
            places[path] = len(places)
            images.append(image)
        if images:
            batches.append(encoder.embed_images(images))
        advance(len(batch))
    rows = np.concatenate(batches) if batches else np.zeros((0, encoder.dim), np.float32)
    return places, rows, problems


def _scored(bank: ConceptBank, embeddings: Array) -> dict[tuple[str, str], list[ConceptScore]]:
    """Return the scores of all pictures, by rule and concept."""
    found: dict[tuple[str, str], list[ConceptScore]] = {}
    for picture in bank.score(embeddings):
        for rule in picture:
            for one in rule.concepts:
                found.setdefault((rule.rule, one.concept), []).append(one)
    return found


def _figures(name: str, rule: Rule, first: ConceptScore, scores: Scores) -> ConceptFigures:
    """Return the figures of one concept; ``first`` is the score of any of its pictures."""
    probabilities, truth = scores.probabilities, scores.truth
    curve = reliability_curve(probabilities, truth)
    both = bool(truth.any() and not truth.all())
    return ConceptFigures(
        concept=name,
        rule=rule.slug,
        scored_by=f"head {first.head.code}" if first.head else "zero-shot",
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        area_under_roc=area_under_roc(probabilities, truth),
        average_precision=average_precision(probabilities, truth) if both else None,
        recall_at_load={
            f"{load:g}": recall_at_load(probabilities, truth, load) if both else None
            for load in LOADS
        },
        calibration_error=calibration_error(curve),
        curve=curve,
        review=_confusion(probabilities, truth, review_of(rule, first.head or first.alone)),
        hold=_confusion(probabilities, truth, rule.hold),
    )


def _confusion(probabilities: Floats, truth: Truth, threshold: float) -> Confusion:
    above = probabilities >= threshold
    return Confusion(
        threshold,
        int((above & truth).sum()),
        int((above & ~truth).sum()),
        int((~above & truth).sum()),
        int((~above & ~truth).sum()),
    )
