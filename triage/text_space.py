"""Where learned words and changed layers lie in the language of a text encoder.

Two texts are always closer than a text and a picture, so nothing here is held against zero:
the measure is how ordinary words of the same tower score. No torch; the tower is handed in.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triage.encoders.base import Array, EncoderError
from triage.folding import shown
from triage.sample import Policy
from triage.scoring import SIGNAL as BANK_SIGNAL
from triage.scoring import ConceptBank, ConceptScore, RuleScore
from triage.weights.adapter import Layer

if TYPE_CHECKING:  # the module loads torch, which a deployment may not have
    from triage.encoders.text_tower import TextTower

SIGNAL = "text_space"

# Ordinary words to compare with. Their spread is then known to a tenth of itself (1/√(2·50)).
NULL_WORDS = 50
# In log odds. Where ordinary words hardly differ, rounding would otherwise look like meaning.
LEAST_SPREAD = 0.5
# Each template costs a pass through the tower for each ordinary word; two tell them apart.
TEMPLATES = 2
NEAREST = 5
MAX_SHOWN_VECTORS = 16

_ORDINARY = re.compile(r"[a-z]{3,12} ")
_LAYER = re.compile(r"text_encoder(?:_[23])?_(?=encoder_layers_)")


class MisfitError(Exception):
    """What the file adds was made for another encoder; the message says which."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How something in a file stands to one rule: ``z`` is in ordinary words' deviations."""

    what: str
    z: float
    concept: ConceptScore
    move: float | None = None


class _TextSide:
    """A tower as the encoder that a concept bank asks for; it has no eyes."""

    demo = False

    def __init__(self, tower: "TextTower") -> None:
        self.name = tower.name
        self.revision = tower.revision
        self.dim = tower.dim
        self.logit_scale = tower.logit_scale
        self.embed_texts = tower.embed_texts

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        """Refuse."""
        raise EncoderError("A text tower cannot look at pictures.")


class Bench:
    """One policy's concepts in one tower's space, and how ordinary words stand to them."""

    def __init__(self, key: tuple[str, str], policy: Policy, tower: "TextTower") -> None:
        self.key = key
        self.tower = tower
        self.templates = policy.templates[:TEMPLATES]
        rules = tuple(
            replace(rule, signals=(BANK_SIGNAL,))
            for rule in policy.rules_for(SIGNAL)
            # Vectors belong to one encoder of pictures, and mean nothing in this tower.
            if rule.concepts and not any(concept.vectors for concept in rule.concepts)
        )
        self._bank = ConceptBank(replace(policy, rules=rules), _TextSide(tower))
        self.names, self.table = tower.token_table()
        self.norms = np.linalg.norm(self.table, axis=1)
        self._ordinary = self._ordinary_words(policy)
        self._null_of_length: dict[int, Mapping[str, NDArray[np.float64]]] = {}

    def _ordinary_words(self, policy: Policy) -> list[int]:
        """Return tokens that are words of no prompt, the same ones every time."""
        prompts = " ".join(
            prompt
            for rule in policy.rules
            for concept in rule.concepts
            for prompt in (*concept.prohibited, *concept.contrast)
        )
        taken = set(prompts.lower().split())
        words = [
            number
            for number, name in enumerate(self.names)
            if _ORDINARY.fullmatch(name) and name.strip() not in taken
        ]
        if len(words) < 2:
            raise EncoderError("The tower's vocabulary holds no ordinary words to compare with.")
        random = np.random.default_rng(0)
        return [int(n) for n in random.permutation(words)[:NULL_WORDS]]

    def embed_vectors(self, vectors: Array) -> Array:
        """Return vectors as a word: one unit row of shape ``(1, dim)``, mean of the templates."""
        return _unit_mean(self.tower.embed_with_vectors(self.templates, vectors), 1)

    def embed_words(self, tower: "TextTower", words: Sequence[str]) -> Array:
        """Return one unit row per word, mean of the templates."""
        texts = [template.replace("{}", word) for word in words for template in self.templates]
        return _unit_mean(tower.embed_texts(texts), len(words))

    def score(self, rows: Array) -> list[tuple[RuleScore, ...]]:
        """Score rows against the concepts, one tuple of rules a row."""
        return self._bank.score(rows)

    def null(self, length: int) -> Mapping[str, NDArray[np.float64]]:
        """Return how words of so many ordinary tokens score, by rule."""
        if length not in self._null_of_length:
            random = np.random.default_rng(length)
            rows = [
                self.embed_vectors(self.table[[first, *random.choice(self._ordinary, length - 1)]])
                for first in self._ordinary
            ]
            self._null_of_length[length] = _by_rule(self.score(np.concatenate(rows)))
        return self._null_of_length[length]

    @property
    def ordinary_words(self) -> list[str]:
        """The ordinary words themselves."""
        return [self.names[number].strip() for number in self._ordinary]


def read_word(bench: Bench, name: str, vectors: Array) -> Iterator[tuple[str, Reading]]:
    """Yield for each rule how a learned word, shape ``(n, width)``, stands to it."""
    null = bench.null(len(vectors))
    (scores,) = bench.score(bench.embed_vectors(vectors))
    for score in scores:
        z = _deviations(score.deciding.score, null[score.rule])
        yield score.rule, Reading(f"The learned word “{shown(name)}”", z, score.deciding)


def read_layers(
    bench: Bench, changed: "TextTower", triggers: Sequence[str]
) -> Iterator[tuple[str, Reading]]:
    """Yield how trigger words moved in a changed tower, and how all words moved together."""
    ordinary = bench.ordinary_words
    words = [*ordinary, *triggers]
    before = bench.score(bench.embed_words(bench.tower, words))
    after = bench.score(bench.embed_words(changed, words))
    start, end = _by_rule(before), _by_rule(after)
    count = len(ordinary)
    for slug in start:
        moves = end[slug] - start[slug]
        places = {score.rule: place for place, score in enumerate(before[0])}
        for number, trigger in enumerate(triggers, count):
            concept = after[number][places[slug]].deciding
            z = _deviations(float(moves[number]), moves[:count])
            what = f"The trigger word “{shown(trigger)}”"
            yield slug, Reading(what, z, concept, float(moves[number]))
        # A file that drags every word along moves no trigger more than the others.
        mean = float(moves[:count].mean())
        spread = max(float(start[slug][:count].std()), LEAST_SPREAD)
        nearest = max(
            (scores[places[slug]].deciding for scores in after[:count]),
            key=lambda concept: concept.score,
        )
        yield slug, Reading("Every word together", mean / spread, nearest, mean)


def own_layers(tower: "TextTower", layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the layers of the encoder with this tower's width, called as the tower calls them.

    Raises ``MisfitError`` where there are none.
    """
    by_encoder: dict[str, dict[str, Layer]] = {}
    for name, layer in layers.items():
        found = _LAYER.match(name)
        if found:
            by_encoder.setdefault(found[0], {})[name[found.end() :]] = layer
    for own in by_encoder.values():
        # The first and the last layer of each block's second half are wide on one side only.
        widths = {min(layer.down.shape[1], layer.up.shape[0]) for layer in own.values()}
        if widths == {tower.width}:
            return own
    found_widths = {min(layer.down.shape[1], layer.up.shape[0]) for layer in layers.values()}
    raise MisfitError(
        f"They are {', '.join(map(str, sorted(found_widths)))} wide and the text tower "
        f"“{tower.name}” is {tower.width} wide: the file was made for another encoder."
    )


def nearest_tokens(bench: Bench, name: str, vectors: Array) -> Mapping[str, object]:
    """Return the tokens whose vectors are nearest by cosine, and how long the vectors are."""
    norms = np.linalg.norm(vectors, axis=1)
    first = vectors[:MAX_SHOWN_VECTORS]
    lengths = np.outer(np.maximum(norms[:MAX_SHOWN_VECTORS], 1e-12), bench.norms + 1e-12)
    cosines = first @ bench.table.T / lengths
    tokens = np.argsort(-cosines, axis=1)[:, :NEAREST]
    return {
        "word": shown(name),
        "vectors": len(vectors),
        "norms": [round(float(norm), 4) for norm in norms[:MAX_SHOWN_VECTORS]],
        "ordinary_norms": [
            round(float(norm), 4) for norm in np.percentile(bench.norms, (1, 50, 99))
        ],
        "nearest_tokens": [
            [
                {"token": shown(bench.names[token]), "cosine": round(float(row[token]), 4)}
                for token in best
            ]
            for row, best in zip(cosines, tokens, strict=True)
        ],
    }


def _unit_mean(rows: Array, words: int) -> Array:
    means = rows.reshape(words, -1, rows.shape[1]).mean(axis=1)
    unit: Array = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _by_rule(scores: Iterable[tuple[RuleScore, ...]]) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[float]] = {}
    for row in scores:
        for score in row:
            found.setdefault(score.rule, []).append(score.deciding.score)
    return {rule: np.array(values) for rule, values in found.items()}


def _deviations(value: float, null: NDArray[np.float64]) -> float:
    return float((value - null.mean()) / max(null.std(ddof=1), LEAST_SPREAD))
