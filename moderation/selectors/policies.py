"""What a stored policy says, as plain data."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from moderation.models import Policy, Prompt, Rule
from moderation.policy_vectors import from_bytes


@dataclass(frozen=True)
class StoredRules:
    """The rules of a stored policy as plain data, and what learning holds them to.

    ``prompts`` are digests of all that the score of a concept depends on, by rule and concept;
    ``alphas`` the wanted miss rates of the rules that state one.
    """

    rules: tuple[dict[str, Any], ...]
    prompts: dict[tuple[str, str], str]
    alphas: dict[str, float]


def stored_rules(policy: Policy) -> StoredRules:
    """Return what a policy says; read once by each process, for a stored one is never edited."""
    return _read(policy.digest, policy.pk)


# The version in force, the one before it that some jobs still have, and a few for comparisons.
@lru_cache(maxsize=8)
def _read(digest: str, policy_id: int) -> StoredRules:
    """Read the policy that has this digest."""
    policy = Policy.objects.get(pk=policy_id)
    rows = list(policy.rules.prefetch_related("prompts", "terms", "vectors"))
    rules = _rules(rows)
    return StoredRules(
        rules,
        {
            (rule["slug"], concept["slug"]): _prompts_digest(policy, concept)
            for rule in rules
            for concept in rule["concepts"]
        },
        {row.slug: row.alpha for row in rows if row.alpha is not None},
    )


def _prompts_digest(policy: Policy, concept: dict[str, Any]) -> str:
    """Return a SHA-256 of the prompts or vectors of a concept and what they are held against.

    The order of prompts does not count, since it does not change a score.
    """
    if "vectors" in concept:
        said: list[Any] = [concept["vectors"]]
    else:
        said = [
            sorted(concept["prohibited"]),
            sorted([*concept["contrast"], *policy.neutral_prompts]),
            sorted(policy.templates),
        ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _rules(rules: list[Rule]) -> tuple[dict[str, Any], ...]:
    """Return rules as the workers read them, each with its concepts."""
    return tuple(
        {
            "slug": rule.slug,
            "title": rule.title,
            "review": rule.review,
            "hold": rule.hold,
            "signals": rule.signals,
            "combine": rule.combine,
            "terms": [term.text for term in rule.terms.all()],
            "conditions": rule.conditions,
            "concepts": _concepts(rule),
        }
        for rule in rules
    )


def _concepts(rule: Rule) -> list[dict[str, Any]]:
    concepts: dict[str, dict[str, Any]] = {}
    for prompt in rule.prompts.all():
        concept = concepts.setdefault(
            prompt.concept, {"slug": prompt.concept, "prohibited": (), "contrast": ()}
        )
        kind = "prohibited" if prompt.kind == Prompt.Kind.PROHIBITED else "contrast"
        concept[kind] += (prompt.text,)
    for row in rule.vectors.all():
        concept = concepts.setdefault(
            row.concept,
            {
                "slug": row.concept,
                "vectors": {"encoder": row.encoder, "revision": row.revision, "vectors": ()},
            },
        )
        vector = {
            "name": row.name,
            "values": tuple(from_bytes(bytes(row.values))),
            "threshold": row.threshold,
            "weight": row.weight,
        }
        concept["vectors"]["vectors"] += (vector,)
    return list(concepts.values())
