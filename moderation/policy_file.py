"""What a policy file may hold: its shape, its bounds and the sentences about what is wrong.

Fields that came later are left out of the dump where they are absent, so that the digest of a
file that does not use them stays what it was.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from moderation.policy_vectors import VectorsError, as_single, vectors_read
from moderation.states import APPEAL_WINDOW, RESTRICTIONS, Action
from moderation.taxonomy import category_fault, keyword_fault

# CLIP reads 77 tokens, the template included, and cuts off the rest unread; English words are
# 1.3 tokens on average.
PROMPT_WORDS = 50
LEAST_EXAMPLES = 2
LEAST_APPEAL_DAYS = APPEAL_WINDOW.days
DEFAULT_DEADLINE_HOURS = 72


def fault(sentence: str, *at: str | int) -> PydanticCustomError:
    """Return a mistake in a sentence, at a place below the one that is being checked."""
    # Not by pydantic's own format: somebody's text may hold braces.
    return PydanticCustomError("policy", "{sentence}", {"sentence": sentence, "at": at})


def _short_enough(text: str, *at: str | int) -> None:
    words = len(text.split())
    if words > PROMPT_WORDS:
        raise fault(
            f"This prompt has {words} words; an encoder reads about {PROMPT_WORDS} and never sees "
            "the rest. Split it into several prompts.",
            *at,
        )


def _once(what: str, values: list[str], *inside: str, before: tuple[str | int, ...] = ()) -> None:
    for place, value in enumerate(values):
        if value in values[:place]:
            sentence = f"The {what} “{value}” stands there twice. Take one away."
            raise fault(sentence, *before, place, *inside)


Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Text = Annotated[str, Field(min_length=1)]
Sentence = Annotated[str, Field(min_length=1, max_length=500)]
Word = Annotated[str, Field(min_length=1, max_length=200)]
LooseAction = Annotated[Action, Field(strict=False)]


def _absent(value: Any) -> bool:
    return not value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, strict=True)


class VectorsFile(_Strict):
    """Vectors that stand for a concept in one encoder's space.

    Each has its own threshold on the cosine, as in the safety checker of Stable Diffusion. They
    are written out (``values``) or lie in a file beside the policy (``file``).
    """

    encoder: Word
    revision: Word
    dim: Annotated[int, Field(ge=2, le=8192)]
    names: list[Word] = Field(min_length=1, max_length=1000)
    file: str = Field("", exclude=True)
    values: list[list[float]] = []
    thresholds: list[Annotated[float, Field(ge=-1, le=1)]] = []
    weights: list[Annotated[float, Field(gt=0, le=100)]] = []

    @model_validator(mode="after")
    def _filled(self, info: ValidationInfo) -> "VectorsFile":
        _once("vector", self.names)
        if self.file:
            if self.values:
                raise fault("Give either 'file' or 'values', not both.", "file")
            folder = (info.context or {}).get("folder")
            if folder is None:
                raise fault("A file of vectors needs a policy file to lie beside.", "file")
            try:
                arrays = vectors_read(Path(folder), self.file)
            except VectorsError as error:
                raise fault(str(error), "file") from error
            self.values = arrays.values
            self.thresholds = self.thresholds or arrays.thresholds
            self.weights = self.weights or arrays.weights
        # What is stored and compared is fp32: 0.1 would come back as another number.
        self.values = [as_single(row) for row in self.values]
        self.weights = self.weights or [1.0] * len(self.names)
        for name, given in (
            ("values", self.values),
            ("thresholds", self.thresholds),
            ("weights", self.weights),
        ):
            if len(given) != len(self.names):
                raise fault(
                    f"There are {len(self.names)} names and {len(given)} {name}; give one of "
                    "each to every vector.",
                    "names" if self.file else name,
                )
        for place, row in enumerate(self.values):
            if len(row) != self.dim:
                raise fault(
                    f"The vector “{self.names[place]}” has {len(row)} numbers; 'dim' says "
                    f"{self.dim}.",
                    *(("file",) if self.file else ("values", place)),
                )
            if not any(row):
                raise fault(f"The vector “{self.names[place]}” is all zeros.")
        return self


class ConceptFile(_Strict):
    """One idea that pictures are compared with, in sentences or in vectors."""

    slug: Slug
    prohibited: list[Sentence] = []
    contrast: list[Sentence] = []
    vectors: VectorsFile | None = Field(None, exclude_if=_absent)

    @model_validator(mode="after")
    def _whole(self) -> "ConceptFile":
        for name, prompts in (("prohibited", self.prohibited), ("contrast", self.contrast)):
            for place, prompt in enumerate(prompts):
                _short_enough(prompt, name, place)
            _once("prompt", prompts, before=(name,))
        if self.vectors:
            if self.prohibited or self.contrast:
                raise fault("A concept has prompts or vectors, not both. Make two concepts of it.")
        elif not self.prohibited:
            raise fault(
                "This concept has no prohibited prompts. Write at least one sentence that "
                "describes what is not allowed."
            )
        elif not self.contrast:
            raise fault(
                "This concept has no contrast prompts. Write at least one sentence about "
                "something harmless that looks similar; a score only says which of the two a "
                "picture is nearer to."
            )
        return self


class TermGroupFile(_Strict):
    """Words that stand for one idea."""

    name: Text
    terms: list[Word] = Field(min_length=1)


class ConditionFile(_Strict):
    """Ideas that have to occur together, if need be within so many words of each other."""

    groups: list[TermGroupFile] = Field(min_length=1)
    within: Annotated[int, Field(ge=1)] | None = None


class RuleFile(_Strict):
    """One clause as written in a policy file."""

    slug: Slug
    title: Annotated[str, Field(min_length=1, max_length=120)]
    text: Annotated[str, Field(min_length=40)]
    advice: Text
    permitted: list[Text] = Field(min_length=LEAST_EXAMPLES)
    prohibited: list[Text] = Field(min_length=LEAST_EXAMPLES)
    signals: list[Text] = Field(min_length=1)
    combine: Literal["any", "all"] = "any"
    review: Annotated[float, Field(gt=0, le=1)]
    hold: Annotated[float, Field(gt=0, le=1)]
    # The share of what breaks the rule that people are content to miss, for the guarantee.
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, exclude_if=_absent)
    harm: Annotated[int, Field(ge=1, le=5)] = 1
    severe: bool = Field(False, exclude_if=_absent)
    child_safety: bool = Field(False, exclude_if=_absent)
    deadline: str = Field("", exclude_if=_absent)
    deadline_hours: Annotated[int, Field(ge=1)] = DEFAULT_DEADLINE_HOURS
    appeal_days: Annotated[int, Field(le=3650)] = Field(
        LEAST_APPEAL_DAYS, exclude_if=lambda days: days == LEAST_APPEAL_DAYS
    )
    actions: list[LooseAction] = Field(min_length=1)
    strikes: dict[str, Annotated[float, Field(gt=0, le=100)]] = Field(
        default_factory=dict, exclude_if=_absent
    )
    category: str
    keyword: str
    concepts: list[ConceptFile] = []
    terms: list[Word] = []
    conditions: list[ConditionFile] = []

    @field_validator("hold")
    @classmethod
    def _after_review(cls, hold: float, info: ValidationInfo) -> float:
        review = info.data.get("review")
        if review is not None and hold < review:
            raise fault(
                f"The 'hold' threshold {hold} lies below the 'review' threshold {review}. What "
                "is held is always looked at: write a number that is as high or higher."
            )
        return hold

    @field_validator("appeal_days")
    @classmethod
    def _six_months(cls, days: int) -> int:
        if days < LEAST_APPEAL_DAYS:
            raise fault(
                f"{days} days are too few: {LEAST_APPEAL_DAYS} days, six months at their longest, "
                "are the least (DSA Art. 20(1))."
            )
        return days

    @field_validator("actions")
    @classmethod
    def _ladder(cls, actions: list[Action]) -> list[Action]:
        _once("action", [str(action) for action in actions])
        for place, action in enumerate(actions):
            if action not in RESTRICTIONS:
                raise fault(f"“{action}” restricts nothing; a ladder holds restrictions.", place)
        order = [RESTRICTIONS.index(action) for action in actions]
        if order != sorted(order):
            mildest = ", ".join(sorted(actions, key=RESTRICTIONS.index))
            raise fault(f"A ladder leads from the mildest action up: {mildest}.")
        return actions

    @field_validator("strikes")
    @classmethod
    def _points(cls, strikes: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        for action in strikes:
            if action not in RESTRICTIONS:
                known = ", ".join(RESTRICTIONS)
                raise fault(f"“{action}” is no restriction. These are: {known}.", action)
        return strikes

    @field_validator("category")
    @classmethod
    def _known_category(cls, category: str) -> str:
        if sentence := category_fault(category):
            raise fault(sentence)
        return category

    @field_validator("keyword")
    @classmethod
    def _known_keyword(cls, keyword: str, info: ValidationInfo) -> str:
        category = info.data.get("category")
        if category is not None and (sentence := keyword_fault(keyword, category)):
            raise fault(sentence)
        return keyword

    @field_validator("concepts")
    @classmethod
    def _concepts_once(cls, concepts: list[ConceptFile]) -> list[ConceptFile]:
        _once("concept", [concept.slug for concept in concepts], "slug")
        return concepts

    @field_validator("terms", "signals")
    @classmethod
    def _words_once(cls, words: list[str]) -> list[str]:
        _once("word", words)
        return words

    @model_validator(mode="after")
    def _consistent(self) -> "RuleFile":
        if "previews" in self.signals and not self.concepts:
            raise fault(
                "A rule about previews needs at least one concept. Write one, or take the signal "
                "“previews” away.",
                "signals",
            )
        if "text_space" in self.signals and any(concept.vectors for concept in self.concepts):
            raise fault(
                "Vectors stand for what pictures show and say nothing about a text encoder. Take "
                "the signal “text_space” away, or write prompts.",
                "signals",
            )
        if self.child_safety and not self.severe:
            raise fault(
                "A rule about the safety of children is always severe: write 'severe: true'.",
                "child_safety",
            )
        return self


class PolicyFile(_Strict):
    """A policy file."""

    name: Slug
    version: Annotated[int, Field(ge=1)]
    title: Annotated[str, Field(min_length=1, max_length=120)]
    introduction: Text
    demo: bool = False
    # How fast people look, by name: {"within-a-day": 24}.
    deadlines: dict[Slug, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, exclude_if=_absent
    )
    neutral: list[Sentence] = Field(min_length=1)
    templates: list[Annotated[str, Field(pattern=r"\{\}")]] = ["{}"]
    rules: list[RuleFile] = Field(min_length=1)

    @field_validator("neutral")
    @classmethod
    def _neutral(cls, prompts: list[str]) -> list[str]:
        _once("prompt", prompts)
        for place, prompt in enumerate(prompts):
            _short_enough(prompt, place)
        return prompts

    @field_validator("rules")
    @classmethod
    def _rules_once(cls, rules: list[RuleFile]) -> list[RuleFile]:
        _once("rule", [rule.slug for rule in rules], "slug")
        return rules

    @model_validator(mode="after")
    def _deadlines_known(self) -> "PolicyFile":
        for place, rule in enumerate(self.rules):
            if not rule.deadline:
                continue
            if rule.deadline not in self.deadlines:
                known = ", ".join(self.deadlines) or "none"
                raise fault(
                    f"There is no deadline “{rule.deadline}”; under 'deadlines' stand: {known}.",
                    "rules", place, "deadline",
                )  # fmt: skip
            hours = self.deadlines[rule.deadline]
            if "deadline_hours" in rule.model_fields_set and rule.deadline_hours != hours:
                raise fault(
                    f"The deadline “{rule.deadline}” is {hours} hours. Give either 'deadline' or "
                    "'deadline_hours'.",
                    "rules", place, "deadline_hours",
                )  # fmt: skip
            rule.deadline_hours = hours
        return self
