"""The policy: reads a policy file, checks it, stores it as an immutable version.

Reads YAML; writes ``Policy``, ``Rule``, ``Prompt`` and ``Term``. Never edits a stored version.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from django.db import transaction
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moderation.audit import event_record
from moderation.errors import Invalid
from moderation.models import Account, Policy, Prompt, Rule, Term
from moderation.states import Action

POLICY_DIR = Path(__file__).parent / "policies"

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Sentence = Annotated[str, Field(min_length=1, max_length=500)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


def _refuse_repeats(what: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"these {what} stand there twice: {', '.join(twice)}")


class ConceptFile(_Strict):
    """One idea that pictures are compared with."""

    slug: Slug
    prohibited: list[Sentence] = Field(min_length=1)
    contrast: list[Sentence] = []

    @model_validator(mode="after")
    def _unique(self) -> "ConceptFile":
        _refuse_repeats("sentences", self.prohibited)
        _refuse_repeats("sentences", self.contrast)
        return self


class TermGroupFile(_Strict):
    """Words that stand for one idea."""

    name: str
    terms: list[str] = Field(min_length=1)


class ConditionFile(_Strict):
    """Ideas that have to occur together, if need be within so many words of each other."""

    groups: list[TermGroupFile] = Field(min_length=1)
    within: Annotated[int, Field(ge=1)] | None = None


class RuleFile(_Strict):
    """One clause as written in a policy file."""

    slug: Slug
    title: Annotated[str, Field(max_length=120)]
    text: str
    advice: str
    permitted: list[str] = []
    prohibited: list[str] = []
    signals: list[str] = Field(min_length=1)
    combine: Literal["any", "all"] = "any"
    review: Annotated[float, Field(gt=0, le=1)]
    hold: Annotated[float, Field(gt=0, le=1)]
    harm: Annotated[int, Field(ge=1, le=5)] = 1
    deadline_hours: Annotated[int, Field(ge=1)] = 72
    actions: list[Action] = Field(min_length=1)
    category: str = ""
    keyword: str = ""
    concepts: list[ConceptFile] = []
    terms: list[Annotated[str, Field(max_length=200)]] = []
    conditions: list[ConditionFile] = []

    @model_validator(mode="after")
    def _ordered(self) -> "RuleFile":
        if self.hold < self.review:
            raise ValueError("the 'hold' threshold lies below the 'review' threshold")
        if "previews" in self.signals and not self.concepts:
            raise ValueError("a rule about previews needs at least one concept")
        _refuse_repeats("concepts", [concept.slug for concept in self.concepts])
        _refuse_repeats("terms", self.terms)
        return self


class PolicyFile(_Strict):
    """A policy file."""

    name: Slug
    version: Annotated[int, Field(ge=1)]
    title: str
    introduction: str
    demo: bool = False
    neutral: list[Sentence] = Field(min_length=1)
    templates: list[Annotated[str, Field(pattern=r"\{\}")]] = ["{}"]
    rules: list[RuleFile] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> "PolicyFile":
        _refuse_repeats("rules", [rule.slug for rule in self.rules])
        return self


def policy_read(path: Path) -> PolicyFile:
    """Read and check a policy file.

    Raises Invalid with one line per mistake: where it is and what is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}", code="policy_unreadable") from error
    except yaml.YAMLError as error:
        raise Invalid(f"{path} is not YAML: {error}", code="policy_not_yaml") from error
    try:
        return PolicyFile.model_validate(content)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in mistake['loc']) or 'the file'}: {mistake['msg']}"
            for mistake in error.errors()
        ]
        raise Invalid(f"{path.name}:\n" + "\n".join(lines), code="policy_invalid") from error


@transaction.atomic
def policy_import(*, content: PolicyFile, activate: bool, actor: Account | None) -> Policy:
    """Store a policy version and, if asked, make it the one in force.

    The same content again changes nothing. Raises Invalid if another content is already stored
    under this name and version.
    """
    digest = hashlib.sha256(
        json.dumps(content.model_dump(mode="json"), sort_keys=True).encode()
    ).hexdigest()
    policy = Policy.objects.filter(name=content.name, version=content.version).first()
    if policy is not None and policy.digest != digest:
        raise Invalid(
            f"{policy} is already stored with other content. A stored version is never edited: "
            "give the file a higher version number.",
            code="policy_version_taken",
        )
    if policy is None:
        policy = _store(content, digest)
        event_record(action="policy.imported", actor=actor, data={"policy": str(policy)})
    if activate and not policy.is_active:
        Policy.objects.filter(is_active=True).update(is_active=False)
        policy.is_active = True
        policy.save(update_fields=["is_active"])
        event_record(action="policy.activated", actor=actor, data={"policy": str(policy)})
    return policy


def _store(content: PolicyFile, digest: str) -> Policy:
    policy = Policy.objects.create(
        name=content.name,
        version=content.version,
        title=content.title,
        introduction=content.introduction,
        is_demo=content.demo,
        neutral_prompts=content.neutral,
        templates=content.templates,
        digest=digest,
    )
    for position, written in enumerate(content.rules):
        rule = Rule.objects.create(
            policy=policy,
            slug=written.slug,
            title=written.title,
            text=written.text,
            advice=written.advice,
            permitted_examples=written.permitted,
            prohibited_examples=written.prohibited,
            signals=written.signals,
            conditions=[condition.model_dump() for condition in written.conditions],
            combine=written.combine,
            review=written.review,
            hold=written.hold,
            harm=written.harm,
            deadline_hours=written.deadline_hours,
            actions=[str(action) for action in written.actions],
            category=written.category,
            keyword=written.keyword,
            position=position,
        )
        prompts = [
            (concept.slug, kind, text)
            for concept in written.concepts
            for kind, texts in (
                (Prompt.Kind.PROHIBITED, concept.prohibited),
                (Prompt.Kind.CONTRAST, concept.contrast),
            )
            for text in texts
        ]
        Prompt.objects.bulk_create(
            Prompt(rule=rule, concept=concept, kind=kind, text=text, position=order)
            for order, (concept, kind, text) in enumerate(prompts)
        )
        Term.objects.bulk_create(Term(rule=rule, text=text) for text in written.terms)
    return policy
