"""The statement of reasons, derived from recorded facts and never from a form field.

Reads a ``Decision`` with its findings and reports, or a ``Hold`` with the request whose clock it
is. ``statement_issue`` and ``hold_statement_issue`` store it as it was sent.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from moderation.models import Decision, Hold, Report, Rule, StatementOfReasons
from moderation.statement_words import WORDS, StatementWords
from moderation.states import ABOUT_ACCOUNTS, Action, Ground, Language, Source

# The law that gives 48 hours; the ground of a hold where the policy has no rule of its own.
CLOCK_LAW = "TAKE IT DOWN Act, section 3"


@dataclass(frozen=True)
class Statement:
    """What the person concerned is told about a restriction (DSA Art. 17(3)).

    In ``language``; what a policy or a moderator wrote is quoted as it is.
    """

    language: str
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


def own_words(text: str, rules: Iterable[Rule]) -> str:
    """Return what a moderator wrote of what would change the outcome; "" for what rules say."""
    text = text.replace("\r\n", "\n").strip()
    left = text
    for rule in rules:
        left = left.replace(rule.advice.strip(), "")
    return text if left.strip() else ""


def statement_of(decision: Decision) -> Statement:
    """Build the statement of reasons of a decision from what is on record about it.

    In the language of the person concerned.
    """
    language = decision.creator.language
    words = words_in(language)
    confirmed = decision.source == Source.CONFIRMED
    return Statement(
        language=language,
        what=_what(decision, words),
        effect=_effect(decision, words),
        territory=", ".join(decision.territories) or words.everywhere,
        until=decision.until,
        facts=decision.facts,
        message=words_added(decision),
        clauses=tuple(decision.clauses),
        policy=str(decision.policy),
        ground=decision.ground,
        legal_ground=decision.legal_ground,
        detection=_detection(decision, words),
        automated_detection=decision.automated_detection,
        automated_decision="partially" if confirmed else "not_automated",
        notice=words.reported if reports_behind(decision).exists() else "",
        decided=decision.decided_by.pseudonym,
        appeal_until=decision.appeal_ends_at,
        elsewhere=words.elsewhere,
        change=tuple(clause["advice"] for clause in decision.clauses),
    )


def statement_told(decision: Decision) -> Statement:
    """Return the statement of reasons of a decision as it was sent to the person concerned.

    Built from what is on record where none was sent, as for an approval, or where they have chosen
    another language since.
    """
    built = statement_of(decision)
    sent = StatementOfReasons.objects.filter(decision=decision).first()
    if sent is None or sent.content["language"] != built.language:
        return built
    said = {name: value for name, value in sent.content.items() if hasattr(built, name)}
    for moment in ("until", "appeal_until"):
        said[moment] = parse_datetime(said.get(moment) or "")
    return replace(built, **said)


def reports_behind(decision: Decision) -> QuerySet[Report]:
    """Return the reports that led to a decision.

    Those of its case and, where it answers an appeal, of the case that was appealed: what is sent
    back is decided anew on a case of its own, which nobody has reported. What came in after it was
    decided led to nothing.
    """
    cases, decided_at = {decision.case_id}, decision.decided_at
    while decision.appeal is not None:
        decision = decision.appeal.decision
        cases.add(decision.case_id)
    return Report.objects.filter(case__in=cases, created_at__lte=decided_at)


def statement_of_hold(hold: Hold) -> Statement:
    """Build the statement of reasons of a hold from the request whose clock it is.

    In the language of the creator. Who asked, and in what words, is not read.
    """
    creator = hold.version.uploaded_model.creator
    words = words_in(creator.language)
    rule = hold.rule
    found = words.copy_of_named if hold.is_found_by_machine else words.named_in_request
    return Statement(
        language=creator.language,
        what=str(hold.version),
        effect=words.held,
        territory=words.everywhere,
        until=None,
        facts=words.asked_for,
        message="",
        clauses=({"slug": rule.slug, "title": rule.title, "text": rule.text},) if rule else (),
        policy=str(rule.policy) if rule else "",
        ground=Ground.POLICY if rule else Ground.LAW,
        legal_ground="" if rule else CLOCK_LAW,
        detection=f"{found} {words.by_clock}",
        automated_detection=hold.is_found_by_machine,
        automated_decision="fully",
        notice="",
        decided=words.clock,
        appeal_until=None,
        elsewhere=words.elsewhere,
        change=(words.objection,),
    )


def words_in(language: str) -> StatementWords:
    """Return what a statement is said with in a language; English where there is no other."""
    return WORDS.get(language, WORDS[Language.ENGLISH])


def words_added(decision: Decision) -> str:
    """Return what the moderator wrote beyond what facts and rules say by themselves."""
    composed = "\n\n".join(
        [decision.facts, *(clause["advice"] for clause in decision.clauses if clause["advice"])]
    )
    return "" if decision.message in {composed, decision.facts} else decision.message


def _what(decision: Decision, words: StatementWords) -> str:
    if decision.action in ABOUT_ACCOUNTS:
        return words.account.format(decision.creator.username)
    if decision.action == Action.REMOVE_MODEL:
        return str(decision.version.uploaded_model)
    if decision.preview:
        return words.preview.format(decision.preview.position + 1, decision.version)
    return str(decision.version)


def _effect(decision: Decision, words: StatementWords) -> str:
    said = words.of_actions.get(decision.action)
    if said is None:
        return words.effects[decision.new_visibility]
    return said.format(decision.label or ", ".join(decision.territories))


def _detection(decision: Decision, words: StatementWords) -> str:
    if decision.source == Source.ORDER:
        return words.ordered
    found = words.found_by_machine if decision.automated_detection else words.found_otherwise
    confirmed = decision.source == Source.CONFIRMED
    return f"{found} {words.held_and_confirmed if confirmed else words.decided}"


def statement_issue(*, decision: Decision) -> StatementOfReasons:
    """Store the statement of a restriction that comes into force. There is one for each."""
    return StatementOfReasons.objects.create(
        decision=decision,
        recipient=decision.creator,
        content=_plain(statement_of(decision)),
        issued_at=timezone.now(),
    )


def hold_statement_issue(*, hold: Hold) -> StatementOfReasons:
    """Store the statement of a hold that a clock has placed. There is one for each."""
    return StatementOfReasons.objects.create(
        hold=hold,
        recipient=hold.version.uploaded_model.creator,
        content=_plain(statement_of_hold(hold)),
        issued_at=timezone.now(),
    )


def _plain(statement: Statement) -> Any:
    return json.loads(json.dumps(asdict(statement), cls=DjangoJSONEncoder))
