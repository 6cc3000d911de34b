"""A policy file as probes see it, without a database."""

from pathlib import Path

from moderation.policy import policy_read
from moderation.policy_file import VectorsFile
from triage.sample import (
    Concept,
    ConceptVector,
    ConceptVectors,
    Policy,
    Rule,
    TermCondition,
    TermGroup,
)


def read_policy(path: Path) -> Policy:
    """Read and check a policy file. Raises ``moderation.errors.Invalid`` with what is wrong."""
    content = policy_read(path)
    return Policy(
        name=content.name,
        version=content.version,
        neutral=tuple(content.neutral),
        templates=tuple(content.templates),
        rules=tuple(
            Rule(
                slug=rule.slug,
                title=rule.title,
                review=rule.review,
                hold=rule.hold,
                signals=tuple(rule.signals),
                concepts=tuple(
                    Concept(
                        concept.slug,
                        tuple(concept.prohibited),
                        tuple(concept.contrast),
                        _vectors(concept.vectors),
                    )
                    for concept in rule.concepts
                ),
                combine=rule.combine,
                terms=tuple(rule.terms),
                conditions=tuple(
                    TermCondition(
                        tuple(TermGroup(group.name, tuple(group.terms)) for group in one.groups),
                        one.within,
                    )
                    for one in rule.conditions
                ),
            )
            for rule in content.rules
        ),
    )


def _vectors(written: VectorsFile | None) -> ConceptVectors | None:
    if written is None:
        return None
    rows = zip(written.names, written.values, written.thresholds, written.weights, strict=True)
    return ConceptVectors(
        written.encoder,
        written.revision,
        tuple(
            ConceptVector(name, tuple(values), threshold, weight)
            for name, values, threshold, weight in rows
        ),
    )
