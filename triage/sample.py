"""What goes into a probe and what comes out: plain data, no Django, no Celery.

A ``Sample`` is one model version as a probe sees it. A ``Finding`` is what one probe says
about one subject under one rule. A probe scores, abstains or fails; it never decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from triage.pictures import OpenedPictures

Evidence = Mapping[str, object]


class Outcome(StrEnum):
    """How a probe ended on one subject."""

    SCORED = "scored"
    ABSTAINED = "abstained"  # the probe does not apply here, and says why
    FAILED = "failed"  # the probe could not look; never a pass


class Stage(StrEnum):
    """Which triage job runs a probe: those that read weights, or those that read pictures."""

    FILES = "files"
    PREVIEWS = "previews"


@dataclass(frozen=True, slots=True)
class Subject:
    """The thing a finding speaks about, by kind and by the key the caller gave it."""

    kind: Literal["version", "file", "preview"]
    key: str


@dataclass(frozen=True, slots=True)
class ConceptVector:
    """A direction that stands for an idea; a picture shows it from a cosine of ``threshold`` on."""

    name: str
    values: tuple[float, ...]
    threshold: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ConceptVectors:
    """Directions in the space of the one encoder, by name and revision, they were made for."""

    encoder: str
    revision: str
    vectors: tuple[ConceptVector, ...]


@dataclass(frozen=True, slots=True)
class LearnedHead:
    """A head in place for a concept, in the space of one encoder.

    ``parameters`` are what ``triage.learning.heads.head_from`` reads; ``review`` is the threshold
    that holds a wanted miss rate, or None while there is no such guarantee.
    """

    code: str
    encoder: str
    revision: str
    parameters: Mapping[str, Any]
    labels: int
    review: float | None = None


@dataclass(frozen=True, slots=True)
class PromptsAlone:
    """What was learnt of a concept that no head stands in for, in the space of one encoder.

    ``review`` is as in ``LearnedHead``. ``left_out`` is the code of the head that would stand in,
    had the prompts not changed since it was learnt.
    """

    encoder: str
    revision: str
    review: float | None = None
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Concept:
    """One idea that pictures are scored against, in prompts or in vectors.

    ``heads`` and ``alone`` are what was learnt of it; the one of the encoder in use is applied.
    """

    slug: str
    prohibited: tuple[str, ...] = ()
    contrast: tuple[str, ...] = ()
    vectors: ConceptVectors | None = None
    heads: tuple[LearnedHead, ...] = ()
    alone: tuple[PromptsAlone, ...] = ()


@dataclass(frozen=True, slots=True)
class TermGroup:
    """Words and phrases that stand for one idea, such as "a child" or "a person class"."""

    name: str
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TermCondition:
    """Every group must occur.

    With ``within`` set, in one text and with at most that many words between the first match and
    the last; without it, anywhere among the texts about one subject.
    """

    groups: tuple[TermGroup, ...]
    within: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A clause of the policy, as far as probes need it.

    ``signals`` names the kinds of evidence that fall under the rule, such as
    ``"previews"`` or ``"container.code"``. ``review`` and ``hold`` are scores in 0..1. How
    ``terms`` are written and matched is in ``triage/terms.py``; one of them is enough, while
    ``conditions`` ask for several together.
    """

    slug: str
    title: str
    review: float
    hold: float
    signals: tuple[str, ...] = ()
    concepts: tuple[Concept, ...] = ()
    combine: Literal["any", "all"] = "any"
    terms: tuple[str, ...] = ()
    conditions: tuple[TermCondition, ...] = ()


@dataclass(frozen=True, slots=True)
class Consent:
    """A person's permission to one creator. It can be withdrawn at any time.

    ``rules`` are the slugs of the rules it lifts. ``until`` is the last day it holds, in UTC.
    """

    creator: str
    rules: tuple[str, ...]
    until: date | None = None
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """A real person whose likeness the operator's list protects.

    ``consents`` holds only what this person gave to the creator of the sample at hand.
    """

    name: str
    aliases: tuple[str, ...] = ()
    consents: tuple[Consent, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of the policy. ``templates`` hold one ``{}`` each and wrap every prompt."""

    name: str
    version: int
    rules: tuple[Rule, ...]
    neutral: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)

    def rules_for(self, signal: str) -> tuple[Rule, ...]:
        """Return the rules under which this kind of evidence falls."""
        return tuple(rule for rule in self.rules if signal in rule.signals)


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of weights. ``name`` is the uploader's and is data, never a path."""

    key: str
    name: str
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture the uploader shows. ``prompt`` is what they say it was made with.

    ``path`` may be a copy; ``uploaded`` then holds format, width, height and animated of what came
    in, as far as that is known.
    """

    key: str
    name: str
    path: Path
    sha256: str
    prompt: str = ""
    uploaded: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embedding:
    """What an encoder of this revision made of a picture, by the SHA-256 of the picture's bytes.

    ``vector`` is written as ``triage.embeddings.pack`` does. Perceptual hashes are remembered in
    the same way, see ``triage.probes.banks``.
    """

    sha256: str
    encoder: str
    revision: str
    vector: bytes
    kind: Literal["picture", "pdq"] = "picture"


@dataclass(frozen=True, slots=True)
class Sample:
    """One model version with everything a probe may look at.

    ``embeddings`` is what is remembered of its previews: none of them need be embedded again.
    ``pictures`` opens them, once for all probes.
    """

    key: str
    policy: Policy
    creator: str = ""
    title: str = ""
    description: str = ""
    base_model: str = ""
    tags: tuple[str, ...] = ()
    trigger_words: tuple[str, ...] = ()
    files: tuple[WeightFile, ...] = ()
    previews: tuple[Preview, ...] = ()
    people: tuple[Person, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    pictures: OpenedPictures = field(default_factory=OpenedPictures, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe says about one subject.

    ``rule`` is a slug, or empty where no rule is concerned. ``score`` lies in 0..1 and is set
    exactly when the outcome is ``SCORED``. ``reason`` is a sentence for people and ``code`` the
    same for machines. ``evidence`` is JSON-serialisable and holds all that is needed to explain
    the score later. ``versions`` names what made it: probe, encoder, policy.
    """

    probe: str
    subject: Subject
    outcome: Outcome
    reason: str
    code: str
    rule: str = ""
    score: float | None = None
    review: float | None = None
    hold: float | None = None
    evidence: Evidence = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a finding that could be mistaken for a pass."""
        if (self.score is not None) != (self.outcome is Outcome.SCORED):
            raise ValueError("A finding has a score exactly when its outcome is 'scored'.")
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise ValueError(f"A score lies in 0..1, not {self.score}.")


class Probe(Protocol):
    """Looks at one thing and says what it found."""

    name: str
    version: str
    stage: Stage

    def examine(self, sample: Sample) -> Iterable[Finding | Embedding]:
        """Yield findings, at least one for each subject the probe is there for.

        What was embedded on the way is yielded too, so that it can be remembered.
        """
        ...
