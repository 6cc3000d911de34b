"""A stored policy as the file it came from, and the difference between two of them in words.

Reads ``Policy`` and its parts; writes nothing. ``content`` everywhere is what
``PolicyFile.model_dump`` gives, and has the digest of the stored version.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from moderation.models import Policy, Rule
from moderation.policy_file import DEFAULT_DEADLINE_HOURS, LEAST_APPEAL_DAYS
from moderation.policy_vectors import Vectors, from_bytes, vectors_write

# Beyond this many numbers a vector is no longer something to read in a text.
INLINE_NUMBERS = 64


def policy_content(policy: Policy) -> dict[str, Any]:
    """Return everything a stored version says, in the shape of a policy file."""
    content: dict[str, Any] = {
        "name": policy.name,
        "version": policy.version,
        "title": policy.title,
        "introduction": policy.introduction,
        "demo": policy.is_demo,
        "neutral": policy.neutral_prompts,
        "templates": policy.templates,
        "rules": [
            _rule(rule) for rule in policy.rules.prefetch_related("prompts", "terms", "vectors")
        ],
    }
    if policy.deadlines:
        content["deadlines"] = policy.deadlines
    return content


def _rule(rule: Rule) -> dict[str, Any]:
    content: dict[str, Any] = {
        "slug": rule.slug,
        "title": rule.title,
        "text": rule.text,
        "advice": rule.advice,
        "permitted": rule.permitted_examples,
        "prohibited": rule.prohibited_examples,
        "signals": rule.signals,
        "combine": rule.combine,
        "review": rule.review,
        "hold": rule.hold,
        "harm": rule.harm,
        "deadline_hours": rule.deadline_hours,
        "actions": rule.actions,
        "category": rule.category,
        "keyword": rule.keyword,
        "concepts": _concepts(rule),
        "terms": [term.text for term in sorted(rule.terms.all(), key=lambda term: term.pk)],
        "conditions": rule.conditions,
    }
    # What a file may leave out is left out, as in the dump that the digest is made of.
    later = {
        "alpha": rule.alpha,
        "severe": rule.is_severe,
        "child_safety": rule.is_child_safety,
        "deadline": rule.deadline_class,
        "strikes": rule.strike_points,
    }
    content |= {name: value for name, value in later.items() if value}
    if rule.appeal_days != LEAST_APPEAL_DAYS:
        content["appeal_days"] = rule.appeal_days
    return content


def _concepts(rule: Rule) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    first: dict[str, int] = {}
    for prompt in rule.prompts.all():
        concept = found.setdefault(
            prompt.concept, {"slug": prompt.concept, "prohibited": [], "contrast": []}
        )
        first.setdefault(prompt.concept, prompt.position)
        concept[str(prompt.kind)].append(prompt.text)
    for row in rule.vectors.all():
        concept = found.setdefault(
            row.concept, {"slug": row.concept, "prohibited": [], "contrast": []}
        )
        first.setdefault(row.concept, row.position)
        values = from_bytes(bytes(row.values))
        vectors = concept.setdefault(
            "vectors",
            {"encoder": row.encoder, "revision": row.revision, "dim": len(values)}
            | {"names": [], "values": [], "thresholds": [], "weights": []},
        )
        vectors["names"].append(row.name)
        vectors["values"].append(values)
        vectors["thresholds"].append(row.threshold)
        vectors["weights"].append(row.weight)
    return sorted(found.values(), key=lambda concept: first[concept["slug"]])


def policy_text(content: Mapping[str, Any], *, beside: Path | None = None) -> str:
    """Return a policy as YAML that imports to the same digest.

    With ``beside``, the path the text will be written to, long vectors go into ``.npz`` files in
    the same folder.
    """
    rules = [_written(rule, beside) for rule in content["rules"]]
    whole = {**content, "rules": rules}
    if not whole.get("demo"):
        whole.pop("demo", None)
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100)


def _written(rule: Mapping[str, Any], beside: Path | None) -> dict[str, Any]:
    written = dict(rule)
    if written.get("deadline") or written["deadline_hours"] == DEFAULT_DEADLINE_HOURS:
        del written["deadline_hours"]
    for name in ("concepts", "terms", "conditions"):
        if not written[name]:
            del written[name]
    written["concepts"] = [_concept(each, rule["slug"], beside) for each in rule["concepts"]]
    if not written["concepts"]:
        del written["concepts"]
    return written


def _concept(concept: Mapping[str, Any], rule: str, beside: Path | None) -> dict[str, Any]:
    vectors = concept.get("vectors")
    if not vectors:
        return dict(concept)
    if beside is not None and vectors["dim"] * len(vectors["names"]) > INLINE_NUMBERS:
        path = beside.with_name(f"{beside.stem}.{rule}.{concept['slug']}.npz")
        arrays = Vectors(vectors["values"], vectors["thresholds"], vectors["weights"])
        vectors_write(path, arrays)
        kept = ("encoder", "revision", "dim", "names")
        vectors = {name: vectors[name] for name in kept} | {"file": path.name}
    return {"slug": concept["slug"], "vectors": vectors}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``rule`` and ``concept`` are slugs or empty; ``field`` as in the file."""

    kind: str  # "added", "removed" or "changed"
    rule: str
    concept: str
    field: str
    before: Any = None
    after: Any = None

    def as_data(self) -> dict[str, Any]:
        """Return the change as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the change as a sentence."""
        where = f"Rule “{self.rule}”" if self.rule else "The policy"
        if self.concept:
            where += f", concept “{self.concept}”"
        if not self.field:
            what = "concept" if self.concept else "rule"
            return f"{where}: this {what} was {self.kind}."
        if self.kind == "changed":
            return (
                f"{where}: {self.field} changed from {_short(self.before)} to {_short(self.after)}."
            )
        value = self.after if self.kind == "added" else self.before
        return f"{where}: {self.field} {self.kind}: {_short(value)}."


def policy_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return what changed from one content to another, in the order of the newer one."""
    changes = list(_fields(before, after, "", "", skip=("rules",)))
    old = {rule["slug"]: rule for rule in before["rules"]}
    new = {rule["slug"]: rule for rule in after["rules"]}
    changes += [Change("removed", slug, "", "") for slug in old if slug not in new]
    for slug, rule in new.items():
        if slug not in old:
            changes.append(Change("added", slug, "", ""))
            continue
        changes += _fields(old[slug], rule, slug, "", skip=("slug", "concepts"))
        concepts = {each["slug"]: each for each in old[slug]["concepts"]}
        own = {each["slug"]: each for each in rule["concepts"]}
        changes += [Change("removed", slug, name, "") for name in concepts if name not in own]
        for name, concept in own.items():
            if name not in concepts:
                changes.append(Change("added", slug, name, ""))
            else:
                changes += _fields(concepts[name], concept, slug, name, skip=("slug",))
    return changes


def _fields(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    rule: str,
    concept: str,
    *,
    skip: tuple[str, ...],
) -> Iterator[Change]:
    for field in dict.fromkeys((*before, *after)):
        old, new = before.get(field), after.get(field)
        if field in skip or old == new:
            continue
        if isinstance(old, list) and isinstance(new, list) and _texts(old) and _texts(new):
            yield from (
                Change("removed", rule, concept, field, before=text)
                for text in old
                if text not in new
            )
            yield from (
                Change("added", rule, concept, field, after=text) for text in new if text not in old
            )
            if sorted(old) == sorted(new):
                yield Change("changed", rule, concept, field, old, new)
        else:
            yield Change("changed", rule, concept, field, old, new)


def _texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = f"“{value}”" if isinstance(value, str) else str(value)
    return text if len(text) <= 160 else f"{text[:159]}…"
