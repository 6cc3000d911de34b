"""What a file does to the language of its text encoder.

A textual inversion is a new word: its vectors are put in the place of a word, and the text is
scored against the concepts as a picture would be. A LoRA with text-encoder layers changes what
words mean: its trigger words are embedded before and after, and how far they moved is scored.

Needs the very tower that the file was made for, and abstains where it has none or another one.
The measures are in ``triage/text_space.py``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triage.containers.errors import ContainerError
from triage.encoders.base import Array, EncoderError
from triage.folding import shown
from triage.sample import Finding, Outcome, Policy, Rule, Sample, Stage, Subject, WeightFile
from triage.sandbox import SandboxError
from triage.scoring import ScoringError, policy_digest
from triage.text_parts import TextParts, read_text_parts
from triage.text_space import (
    SIGNAL,
    Bench,
    MisfitError,
    Reading,
    nearest_tokens,
    own_layers,
    read_layers,
    read_word,
)
from triage.weights.errors import WeightsError

if TYPE_CHECKING:  # the module loads torch, which a deployment may not have
    from triage.encoders.text_tower import TextTower

# The score is one half where a word lies three standard deviations beyond ordinary words: of
# normally distributed scores one in 740 does. It is an order, not a probability.
EVEN_AT = 3.0

# More trigger words than anybody remembers; each costs two passes for each template.
MAX_TRIGGERS = 16


class TextSpaceProbe:
    """One finding for each rule and each file that holds learned words or text-encoder layers."""

    name = "text_space"
    version = "1"
    stage = Stage.FILES

    def __init__(
        self,
        tower: "Callable[[], TextTower | None]",
        read: Callable[[Path], TextParts] = read_text_parts,
    ) -> None:
        self._tower = tower
        self._read = read
        self._bench: Bench | None = None

    def examine(self, sample: Sample) -> Iterator[Finding]:
        """Yield findings for each file; one abstention where there is nothing to look at."""
        version = Subject("version", sample.key)
        rules = {r.slug: r for r in sample.policy.rules_for(SIGNAL) if r.concepts}
        if not rules:
            reason = "No rule of the policy listens to what files do to their text encoder."
            yield self._finding(version, Outcome.ABSTAINED, reason, "text_space.no_rules")
            return
        if not sample.files:
            reason = "There are no files to look at."
            yield self._finding(version, Outcome.ABSTAINED, reason, "text_space.no_files")
            return
        for file in sample.files:
            yield from self._examine_file(sample, file, rules)

    def _examine_file(
        self, sample: Sample, file: WeightFile, rules: Mapping[str, Rule]
    ) -> Iterator[Finding]:
        subject = Subject("file", file.key)
        try:
            parts = self._read(file.path)
        except (ContainerError, WeightsError, SandboxError) as error:
            reason = f"The text side of the file could not be read: {error}"
            yield self._finding(subject, Outcome.FAILED, reason, error.code)
            return
        if not parts.words and not parts.layers:
            reason = "The file holds neither learned words nor layers of a text encoder."
            yield self._finding(subject, Outcome.ABSTAINED, reason, "text_space.nothing")
            return
        try:
            tower = self._tower()
            if tower is None:
                reason = (
                    "This deployment has no text tower to try the file with. Install the “torch” "
                    "extra and name the model that the files are made for."
                )
                yield self._finding(subject, Outcome.ABSTAINED, reason, "text_space.no_tower")
                return
            fit = _fit(tower, parts)
            if not fit.words and fit.changed is None:
                reason = " ".join(fit.notes)
                yield self._finding(subject, Outcome.ABSTAINED, reason, "text_space.misfit")
                return
            bench = self._bench_for(sample.policy, tower)
            readings = _read(bench, fit, sample)
            words = [nearest_tokens(bench, name, vectors) for name, vectors in fit.words.items()]
        except EncoderError as error:
            yield self._finding(subject, Outcome.FAILED, str(error), "text_space.tower")
            return
        except ScoringError as error:
            yield self._finding(subject, Outcome.FAILED, str(error), error.code)
            return
        made_by = {"encoder": f"{tower.name} {tower.revision}"}
        for slug, of_rule in readings.items():
            rule = rules[slug]
            by_strength = sorted(of_rule, key=lambda reading: reading.z, reverse=True)
            strongest = by_strength[0]
            yield Finding(
                self.name,
                subject,
                Outcome.SCORED,
                _sentence(strongest),
                "text_space.scored",
                rule=slug,
                score=_score(strongest.z),
                review=rule.review,
                hold=rule.hold,
                evidence={
                    "calibrated": False,
                    "notes": fit.notes,
                    "words": words,
                    "text_encoder_layers": len(parts.layers),
                    "readings": [_plain(reading) for reading in by_strength],
                },
                versions={"probe": self.version, **made_by},
            )

    def _bench_for(self, policy: Policy, tower: "TextTower") -> "Bench":
        """Return the bench for a policy, which is dear to set up, so the last one is kept."""
        key = (policy_digest(policy), tower.revision)
        bench = self._bench
        if bench is None or bench.key != key:
            bench = self._bench = Bench(key, policy, tower)
        return bench

    def _finding(self, subject: Subject, outcome: Outcome, reason: str, code: str) -> Finding:
        return Finding(self.name, subject, outcome, reason, code, versions={"probe": self.version})


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """What of a file can be tried with a tower, and sentences on what cannot."""

    words: Mapping[str, Array]
    changed: "TextTower | None"
    notes: list[str]


def _fit(tower: "TextTower", parts: TextParts) -> _Fit:
    words, notes = {}, []
    for name, vectors in parts.words.items():
        rows, width = vectors.shape
        if width == tower.width and rows <= tower.room:
            words[name] = vectors
        else:
            notes.append(
                f"The learned word “{shown(name)}” has {rows} vectors of width {width}; the text "
                f"tower “{tower.name}” takes up to {tower.room} of width {tower.width}."
            )
    changed = None
    if parts.layers:
        try:
            changed = tower.with_delta(own_layers(tower, parts.layers))
        except (MisfitError, EncoderError) as error:
            notes.append(f"The text-encoder layers were not tried. {error}")
    return _Fit(words, changed, notes)


def _read(bench: Bench, fit: _Fit, sample: Sample) -> dict[str, list[Reading]]:
    """Return the readings by rule."""
    readings: dict[str, list[Reading]] = {}
    for name, vectors in fit.words.items():
        for slug, reading in read_word(bench, name, vectors):
            readings.setdefault(slug, []).append(reading)
    if fit.changed is not None:
        triggers = sample.trigger_words[:MAX_TRIGGERS] or (sample.title or sample.key,)
        for slug, reading in read_layers(bench, fit.changed, triggers):
            readings.setdefault(slug, []).append(reading)
    return readings


def _score(z: float) -> float:
    # The logistic curve by tanh, which overflows nowhere.
    return float(0.5 * (1.0 + np.tanh(0.5 * (z - EVEN_AT))))


def _sentence(reading: Reading) -> str:
    prompt = reading.concept.winner.prompt
    if reading.move is None:
        return (
            f"{reading.what} lies {reading.z:.1f} standard deviations further towards “{prompt}” "
            "than ordinary words do."
        )
    way = "towards" if reading.move > 0 else "away from"
    return (
        f"{reading.what} moves {way} “{prompt}” when the file is applied, by {reading.z:.1f} "
        "standard deviations of ordinary words."
    )


def _plain(reading: Reading) -> Mapping[str, object]:
    concept = reading.concept
    return {
        "what": reading.what,
        "z": reading.z,
        "move": reading.move,
        "concept": concept.concept,
        "score": concept.score,
        "prompt": concept.winner.prompt,
        "prompt_cosine": concept.winner.cosine,
        "contrast": concept.runner_up.prompt,
        "contrast_cosine": concept.runner_up.cosine,
    }
