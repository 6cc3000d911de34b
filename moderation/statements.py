"""The statement of reasons, derived from recorded facts and never from a form field.

Reads a ``Decision`` with its findings and reports. Writes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moderation.models import Decision
from moderation.states import Visibility

EFFECTS: Mapping[str, str] = {
    Visibility.PUBLISHED: "It can be seen and downloaded by everybody.",
    Visibility.AGE_RESTRICTED: "It is shown only to people who say that they are adults.",
    Visibility.LIMITED: "It can be opened by its address, but it is not listed or recommended.",
    Visibility.REMOVED: "Nobody but you and the moderation team can see or download it.",
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
    notice: str
    decided: str
    appeal_until: datetime | None
    change: tuple[str, ...]


def statement_of(decision: Decision) -> StatementOfReasons:
    """Build the statement of reasons of a decision."""
    return StatementOfReasons(
        what=str(decision.version),
        effect=EFFECTS[decision.new_visibility],
        facts=decision.facts,
        clauses=tuple(decision.clauses),
        policy=str(decision.policy),
        detection=(
            "An automated check pointed to it; a person looked at it and decided."
            if decision.automated_detection
            else "It was not found by an automated check; a person looked at it and decided."
        ),
        notice=(
            "Somebody reported it. You are not told who did."
            if decision.case.reports.exists()
            else ""
        ),
        decided=decision.decided_by.pseudonym,
        appeal_until=decision.appeal_until,
        change=tuple(clause["advice"] for clause in decision.clauses),
    )
