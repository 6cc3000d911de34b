"""The statement of reasons, derived from recorded facts and never from a form field.

Reads a ``Decision`` with its findings and reports. Writes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moderation.models import Decision
from moderation.states import Action

RESTRICTION_WORDS: Mapping[str, str] = {
    Action.APPROVE: "It can be seen and downloaded by everybody.",
    Action.AGE_RESTRICT: "It is shown only to people who say that they are adults.",
    Action.LIMIT: "It can be opened by its address, but it is not listed or recommended.",
    Action.REMOVE: "Nobody but you and the moderation team can see or download it.",
}


@dataclass(frozen=True)
class StatementOfReasons:
    """What the creator is told about a restriction (Regulation (EU) 2022/2065, Art. 17(3))."""

    what: str
    effect: str
    facts: str
    clauses: tuple[Mapping[str, Any], ...]
    policy: str
    detection: str
    decided: str
    appeal_until: datetime | None
    change: tuple[str, ...]


def statement_of(decision: Decision) -> StatementOfReasons:
    """Build the statement of reasons of a decision."""
    return StatementOfReasons(
        what=str(decision.version),
        effect=RESTRICTION_WORDS[decision.action],
        facts=decision.facts,
        clauses=tuple(decision.clauses),
        policy=str(decision.policy),
        detection=(
            "An automated check pointed to it; a person looked at it and decided."
            if decision.automated_detection
            else "It was not found by an automated check; a person looked at it and decided."
        ),
        decided=decision.decided_by.pseudonym,
        appeal_until=decision.appeal_until,
        change=tuple(clause["advice"] for clause in decision.clauses),
    )
