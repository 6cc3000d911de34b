"""The experiment behind the promises: learning from noisy labels on the demo domain.

A rule against one coloured shape has a bad prompt: it names the shape and forgets the colour.
Moderators judge pictures, and 1 in 20 of their verdicts is wrong. How far does the average
precision rise, and does the threshold keep its promise on pictures that nobody has seen?
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from triage.demo_encoder.scenes import COLOURS, SHAPES, Scene, compose, draw, facts, random_scene
from triage.encoders.base import Encoder
from triage.learning.guarantee import review_threshold
from triage.learning.heads import Head, fit_head, zero_shot_head
from triage.learning.labels import Labels, settle
from triage.learning.measures import average_precision
from triage.learning.space import Space, space_of
from triage.sample import Concept, Policy, Rule
from triage.scoring import ConceptBank

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]

COLOUR, SHAPE = "red", "star"
# What the author of the rule meant is in the slug; what they wrote is any star at all.
BAD = Concept("red-star", (f"a {SHAPE}", f"{SHAPE}s"), ("some shapes", "an ordinary drawing"))
NOISE = 0.05
LABELS = (8, 16, 30, 60, 120)
ALPHA = 0.05
DRAWS, DRAWN = 20, 500
CALIBRATED_ON = 200  # positives behind each threshold
_POOL, _TEST, _ORDINARY = 600, 1000, 1500
_BATCH = 64
_SIDE = 64  # the demo encoder's own input


@dataclass(frozen=True, slots=True)
class Learnt:
    """Average precision on clean test pictures after so many labels, over several draws."""

    labels: int
    kind: str
    mean: float
    lowest: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """What came out. ``missed`` holds one share for each draw of fresh positives."""

    concept: str
    encoder: str
    noise: float
    zero_shot: float
    well_prompted: float
    learnt: tuple[Learnt, ...]
    alpha: float
    missed: tuple[float, ...]
    missed_clean: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Embeddings (n, dim), zero-shot scores (n,) of the bad prompt, and the truth (n,)."""

    embeddings: Floats
    zero_shot: Floats
    truth: Truth

    def labels(self, chosen: NDArray[np.int_], verdicts: Truth) -> Labels:
        """Return these pictures with the verdicts that somebody gave."""
        names = [f"{number:064x}" for number in chosen]
        return settle(names, self.embeddings[chosen], self.zero_shot[chosen], verdicts)


class Domain:
    """Draws scenes with and without the shape, and embeds them."""

    def __init__(self, encoder: Encoder, seed: int) -> None:
        self._encoder = encoder
        self._random = np.random.default_rng(seed)
        self._bank = _bank(BAD, encoder)

    def pictures(self, count: int, *, share: float = 0.5) -> Pictures:
        """Return fresh pictures, of which about ``share`` show the coloured shape."""
        truth = self._random.random(count) < share
        embeddings = self.embed([self._with() if shown else self._without() for shown in truth])
        return Pictures(embeddings, _scores(self._bank, embeddings), truth)

    def ordinary(self, count: int) -> Space:
        """Return the space of pictures that nobody has judged."""
        return space_of(self.embed([random_scene(self._random) for _ in range(count)]))

    def embed(self, scenes: Sequence[Scene]) -> Floats:
        """Return one unit row per scene."""
        starts = tqdm(range(0, len(scenes), _BATCH), desc="looking", unit="batch", leave=False)
        rows = [
            self._encoder.embed_images([draw(s, _SIDE) for s in scenes[start : start + _BATCH]])
            for start in starts
        ]
        return np.concatenate(rows).astype(np.float64)

    def _with(self) -> Scene:
        others = [self._other() for _ in range(int(self._random.integers(0, 3)))]
        return compose([(COLOUR, SHAPE), *others], self._random)

    def _without(self) -> Scene:
        """Return an ordinary scene that does not happen to hold the coloured shape."""
        while True:
            scene = random_scene(self._random)
            if f"{COLOUR} {SHAPE}" not in facts(scene):
                return scene

    def _other(self) -> tuple[str, str]:
        return (
            str(self._random.choice([name for name in COLOURS if name != COLOUR])),
            str(self._random.choice([name for name in SHAPES if name != SHAPE])),
        )


def run_experiment(
    encoder: Encoder,
    *,
    seed: int = 0,
    repeats: int = 10,
    counts: Sequence[int] = LABELS,
    draws: int = DRAWS,
) -> Experiment:
    """Return the figures of the whole experiment; the same seed gives the same."""
    domain = Domain(encoder, seed)
    random = np.random.default_rng([seed, 1])
    ordinary = domain.ordinary(_ORDINARY)
    pool, test = domain.pictures(_POOL), domain.pictures(_TEST)
    good = _scores(_bank(_well_prompted(), encoder), test.embeddings)
    learnt, head = [], zero_shot_head(BAD.slug, encoder_revision=encoder.revision)
    for count in counts:
        heads = [_learn(pool, count, ordinary, encoder, random) for _ in range(repeats)]
        found = [_precision(each, test) for each in heads]
        learnt.append(Learnt(count, heads[0].kind, float(np.mean(found)), min(found)))
        if count == 60:
            head = heads[0]
    noisy, clean = _missed(domain, head, draws)
    return Experiment(
        concept=BAD.slug,
        encoder=f"{encoder.name} {encoder.revision}",
        noise=NOISE,
        zero_shot=average_precision(test.zero_shot, test.truth) or 0.0,
        well_prompted=average_precision(good, test.truth) or 0.0,
        learnt=tuple(learnt),
        alpha=ALPHA,
        missed=noisy,
        missed_clean=clean,
    )


def _learn(
    pool: Pictures, count: int, ordinary: Space, encoder: Encoder, random: np.random.Generator
) -> Head:
    """Return the head of so many random pictures, 5 % of whose verdicts are wrong."""
    while True:
        chosen = random.choice(len(pool.truth), count, replace=False)
        verdicts = pool.truth[chosen].copy()
        wrong = random.choice(count, round(NOISE * count), replace=False)
        verdicts[wrong] = ~verdicts[wrong]
        labels = pool.labels(chosen, verdicts)
        head = fit_head(BAD.slug, labels, encoder_revision=encoder.revision, ordinary=ordinary)
        if head is not None:
            return head


def _missed(domain: Domain, head: Head, draws: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the share of missed positives in each draw: noisy, then clean calibration labels.

    Each draw has a threshold of its own, from positives of its own.
    """
    missed: tuple[list[float], list[float]] = ([], [])
    false = round(NOISE * CALIBRATED_ON)
    for _ in range(draws):
        shown = domain.pictures(CALIBRATED_ON + DRAWN, share=1.0)
        scores = head.probabilities(shown.embeddings, shown.zero_shot)
        mistaken = domain.pictures(false, share=0.0)
        wrong = head.probabilities(mistaken.embeddings, mistaken.zero_shot)
        known, fresh = scores[:CALIBRATED_ON], scores[CALIBRATED_ON:]
        for shares, calibration in (
            (missed[0], np.concatenate([known[false:], wrong])),
            (missed[1], known),
        ):
            threshold = review_threshold(calibration, ALPHA, default=0.5)
            shares.append(float((fresh < threshold.value).mean()))
    return tuple(missed[0]), tuple(missed[1])


def _precision(head: Head, test: Pictures) -> float:
    return average_precision(head.logits(test.embeddings, test.zero_shot), test.truth) or 0.0


def _well_prompted() -> Concept:
    name = f"{COLOUR} {SHAPE}"
    contrast = tuple(f"a {COLOUR} {shape}" for shape in SHAPES if shape != SHAPE) + tuple(
        f"a {colour} {SHAPE}" for colour in COLOURS if colour != COLOUR
    )
    return Concept(BAD.slug, (f"a {name}", f"{name}s"), contrast)


def _bank(concept: Concept, encoder: Encoder) -> ConceptBank:
    rule = Rule(concept.slug, concept.slug, 0.5, 0.85, ("previews",), (concept,))
    return ConceptBank(Policy("experiment", 1, (rule,)), encoder)


def _scores(bank: ConceptBank, embeddings: Floats) -> Floats:
    scored = bank.score(embeddings.astype(np.float32))
    return np.array([row[0].deciding.score for row in scored])
