"""The policy: reads a policy file, checks it, stores it as an immutable version.

Writes ``Policy``, ``Rule``, ``Prompt``, ``ConceptVector`` and ``Term``. Never edits a stored
version.
"""

import hashlib
import json
from importlib import import_module
from pathlib import Path as FilePath
from typing import Any, Protocol, cast

from django.conf import settings
from django.db import transaction
from pydantic import ValidationError

from moderation.audit import event_record
from moderation.errors import Invalid
from moderation.models import Account, ConceptVector, Policy, Prompt, Rule, Term
from moderation.policy_file import ConceptFile, PolicyFile, RuleFile
from moderation.policy_mistakes import in_words, placed
from moderation.policy_vectors import to_bytes
from moderation.policy_yaml import Path, YamlError, yaml_read

POLICY_DIR = FilePath(__file__).parent / "policies"


class PolicyInspector(Protocol):
    """What the setting ``POLICY_INSPECTOR`` names: knows what the probes can make use of."""

    def policy_faults(self, content: dict[str, Any]) -> list[tuple[Path, str]]:
        """Return the places of a sound policy file that no probe understands, and why."""


def policy_read(path: FilePath) -> PolicyFile:
    """Read and check a policy file.

    Raises Invalid with one line per mistake: file, line, where in the document, what is wrong and
    what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}", code="policy_unreadable") from error
    try:
        content, lines = yaml_read(text)
    except YamlError as mistake:
        raise Invalid(f"{path.name}:{mistake.line}: {mistake}", code="policy_not_yaml") from mistake
    try:
        checked = PolicyFile.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        found = in_words(error, content, lines, path.name)
        raise Invalid("\n".join(found), code="policy_invalid") from error
    inspector = cast(PolicyInspector, import_module(settings.POLICY_INSPECTOR))
    faults = inspector.policy_faults(content)
    if faults:
        raise Invalid("\n".join(placed(faults, content, lines, path.name)), code="policy_invalid")
    return checked


def policy_digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a policy's content, in which the order of keys does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@transaction.atomic
def policy_import(*, content: PolicyFile, activate: bool, actor: Account | None) -> Policy:
    """Store a policy version and, if asked, make it the one in force.

    The same content again changes nothing. Raises Invalid if another content is already stored
    under this name and version.
    """
    digest = policy_digest(content.model_dump(mode="json"))
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
        deadlines=content.deadlines,
        digest=digest,
    )
    for position, written in enumerate(content.rules):
        _store_rule(policy, written, position)
    return policy


def _store_rule(policy: Policy, written: RuleFile, position: int) -> None:
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
        alpha=written.alpha,
        harm=written.harm,
        is_severe=written.severe,
        is_child_safety=written.child_safety,
        deadline_class=written.deadline,
        deadline_hours=written.deadline_hours,
        appeal_days=written.appeal_days,
        actions=[str(action) for action in written.actions],
        strike_points=written.strikes,
        category=written.category,
        keyword=written.keyword,
        position=position,
    )
    place = 0
    for concept in written.concepts:
        place = _store_concept(rule, concept, place)
    Term.objects.bulk_create(Term(rule=rule, text=text) for text in written.terms)


def _store_concept(rule: Rule, concept: ConceptFile, place: int) -> int:
    """Store one concept from a position on and return the next position."""
    prompts = [
        *((Prompt.Kind.PROHIBITED, text) for text in concept.prohibited),
        *((Prompt.Kind.CONTRAST, text) for text in concept.contrast),
    ]
    Prompt.objects.bulk_create(
        Prompt(rule=rule, concept=concept.slug, kind=kind, text=text, position=order)
        for order, (kind, text) in enumerate(prompts, start=place)
    )
    place += len(prompts)
    vectors = concept.vectors
    if vectors is None:
        return place
    rows = zip(vectors.names, vectors.values, vectors.thresholds, vectors.weights, strict=True)
    ConceptVector.objects.bulk_create(
        ConceptVector(
            rule=rule,
            concept=concept.slug,
            name=name,
            encoder=vectors.encoder,
            revision=vectors.revision,
            values=to_bytes(values),
            threshold=threshold,
            weight=weight,
            position=order,
        )
        for order, (name, values, threshold, weight) in enumerate(rows, start=place)
    )
    return place + len(vectors.names)
