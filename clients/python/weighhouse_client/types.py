"""What the API answers, as plain immutable data; what is new to this client is left out."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def read(kind: type[Answer], data: dict[str, Any]) -> Answer:
    """Make an answer of what came, and ignore what this client does not know yet."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True)
class Version:
    """A version and where it stands."""

    code: str
    model: str
    number: int
    title: str
    visibility: str
    on_behalf_of: str
    submitted_at: str | None
    triaged_at: str | None
    published_at: str | None
    files: list[dict[str, Any]]
    previews: list[dict[str, Any]]
    references: list[dict[str, Any]]
    held: dict[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """What one probe said."""

    probe: str
    rule: str | None
    outcome: str
    concern: str
    code: str
    reason: str
    score: float | None


@dataclass(frozen=True)
class Decision:
    """A decision with its reasons; ``statement`` is what the creator of a restriction was sent."""

    code: str
    version: str
    action: str
    facts: str
    clauses: list[dict[str, Any]]
    automated_detection: bool
    decided_at: str
    appeal_until: str | None
    statement: dict[str, Any] | None = None


@dataclass(frozen=True)
class Report:
    """A report and what became of it."""

    code: str
    version: str
    state: str
    answered_at: str | None


@dataclass(frozen=True)
class Appeal:
    """An appeal and its answer."""

    code: str
    decision: str
    state: str
    answer: str


@dataclass(frozen=True)
class Event:
    """Something that happened to one of your models."""

    id: int
    type: str
    timestamp: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Policy:
    """The policy in force; each of its rules has ``slug``, ``title`` and ``text``."""

    name: str
    version: int
    rules: list[dict[str, Any]]


@dataclass(frozen=True)
class Webhook:
    """A webhook. Its secret was shown when it was made."""

    code: str
    url: str
    is_active: bool
    failing_since: str | None
