"""The statement of reasons, derived from recorded facts and never from a form field.

Reads a ``Decision`` with its findings and reports. ``statement_issue`` stores it as it was sent.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from moderation.models import Decision, Rule, StatementOfReasons
from moderation.states import ABOUT_ACCOUNTS, Action, Source, Visibility

EFFECTS: Mapping[str, str] = {
    Visibility.DRAFT: "Nobody but you can see it.",
    Visibility.QUARANTINED: "Nobody but you and the moderation team can see or download it.",
    Visibility.PUBLISHED: "It can be seen and downloaded by everybody.",
    Visibility.AGE_RESTRICTED: "It is shown only to people who say that they are adults.",
    Visibility.LIMITED: "It can be opened by its address, but it is not listed or recommended.",
    Visibility.REMOVED: "Nobody but you and the moderation team can see or download it.",
    Visibility.WITHDRAWN: "You have taken it down yourself.",
}
_EFFECTS_OF_ACTIONS: Mapping[str, str] = {
    Action.LABEL: "A label stands on its page.",
    Action.GEO_RESTRICT: "It is not shown in some countries.",
    Action.DISABLE_PREVIEW: "One of its previews is no longer shown.",
    Action.REMOVE_MODEL: (
        "Nobody but you and the moderation team can see or download any of its versions, and no "
        "new version of it can be submitted."
    ),
    Action.STRIKE: "Your account has a strike. The page of your standing says what that means.",
    Action.MUTE: "You cannot submit models or report until then. What is published stays.",
    Action.SUSPEND: (
        "You cannot upload, submit or report. What is published stays, and you can read and appeal."
    ),
}
ELSEWHERE = (
    "You may also turn to a certified out-of-court dispute settlement body (Article 21 of "
    "Regulation (EU) 2022/2065) or to a court."
)


@dataclass(frozen=True)
class Statement:
    """What the person concerned is told about a restriction (DSA Art. 17(3))."""

    what: str
    effect: str
    territory: str
    until: datetime | None
    facts: str
    message: str
    clauses: tuple[Mapping[str, Any], ...]
    policy: str
    ground: str
    legal_ground: str
    detection: str
    automated_detection: bool
    automated_decision: str
    notice: str
    decided: str
    appeal_until: datetime | None
    elsewhere: str
    change: tuple[str, ...]


def message_compose(*, rules: Sequence[Rule], facts: str) -> str:
    """Return the message to the creator: what was seen, and what would change the outcome."""
    return "\n\n".join([facts, *(rule.advice for rule in rules if rule.advice)])


def statement_of(decision: Decision) -> Statement:
    """Build the statement of reasons of a decision from what is on record about it."""
    confirmed = decision.source == Source.CONFIRMED
    return Statement(
        what=_what(decision),
        effect=_effect(decision),
        territory=", ".join(decision.territories) or "every country",
        until=decision.until,
        facts=decision.facts,
        message=_added(decision),
        clauses=tuple(decision.clauses),
        policy=str(decision.policy),
        ground=decision.ground,
        legal_ground=decision.legal_ground,
        detection=_detection(decision),
        automated_detection=decision.automated_detection,
        automated_decision="partially" if confirmed else "not_automated",
        notice=(
            "Somebody reported it. You are not told who did."
            if decision.case.reports.exists()
            else ""
        ),
        decided=decision.decided_by.pseudonym,
        appeal_until=decision.appeal_until,
        elsewhere=ELSEWHERE,
        change=tuple(clause["advice"] for clause in decision.clauses),
    )


def _added(decision: Decision) -> str:
    """Return what the moderator wrote beyond what facts and rules say by themselves."""
    composed = "\n\n".join(
        [decision.facts, *(clause["advice"] for clause in decision.clauses if clause["advice"])]
    )
    return "" if decision.message in {composed, decision.facts} else decision.message


def _what(decision: Decision) -> str:
    if decision.action in ABOUT_ACCOUNTS:
        return f"Your account “{decision.creator.username}”"
    if decision.action == Action.REMOVE_MODEL:
        return str(decision.version.uploaded_model)
    if decision.preview:
        return f"Preview {decision.preview.position + 1} of {decision.version}"
    return str(decision.version)


def _effect(decision: Decision) -> str:
    effect = _EFFECTS_OF_ACTIONS.get(decision.action) or EFFECTS[decision.new_visibility]
    if decision.action == Action.LABEL:
        return f"A label stands on its page: “{decision.label}”."
    if decision.action == Action.GEO_RESTRICT:
        return f"It is not shown in: {', '.join(decision.territories)}."
    return effect


def _detection(decision: Decision) -> str:
    if decision.source == Source.ORDER:
        return "A legal order named it; a person carried it out."
    found = (
        "An automated check pointed to it; "
        if decision.automated_detection
        else "It was not found by an automated check; "
    )
    if decision.source == Source.CONFIRMED:
        return f"{found}a machine proposed the decision, and a person looked at it and confirmed."
    return f"{found}a person looked at it and decided."


def statement_issue(*, decision: Decision) -> StatementOfReasons:
    """Store the statement of a restriction that comes into force. There is one for each."""
    content = json.loads(json.dumps(asdict(statement_of(decision)), cls=DjangoJSONEncoder))
    return StatementOfReasons.objects.create(
        decision=decision,
        recipient=decision.creator,
        content=content,
        issued_at=timezone.now(),
    )
