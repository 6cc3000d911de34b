"""What a decision rests on: rules, facts and terms, checked before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from moderation.errors import Invalid
from moderation.models import Rule
from moderation.statements import message_compose, own_words
from moderation.states import (
    ALLOWED_BY,
    ENDS_SOMETIME,
    RESTRICTIONS,
    Action,
    Ground,
)

FACTS_LENGTH = 5000
MESSAGE_LENGTH = 5000
LABEL_LENGTH = 200
LEGAL_GROUND_LENGTH = 500
PRIVATE_NOTE_LENGTH = 5000
WITHDRAWAL_LENGTH = 500


@dataclass(frozen=True)
class Terms:
    """What an action is qualified by, beside its rules and facts."""

    label: str = ""
    countries: Sequence[str] = ()
    preview: str = ""
    until: datetime | None = None
    is_order: bool = False
    ground: Ground = Ground.POLICY
    legal_ground: str = ""
    bulk: str = ""


@dataclass(frozen=True)
class Reasons:
    """What a decision rests on, checked."""

    rules: list[Rule]
    facts: str
    message: str
    private_note: str = ""
    terms: Terms = field(default_factory=Terms)


def facts_checked(facts: str) -> str:
    """Return facts without space around them. Raises Invalid where they are missing or too long."""
    facts = facts.strip()
    if not facts:
        raise Invalid("Say in words what you saw: the creator reads it.", field="facts")
    if len(facts) > FACTS_LENGTH:
        raise Invalid(
            f"The facts are {len(facts):,} characters long; {FACTS_LENGTH:,} are the most.",
            field="facts",
        )
    return facts


def reasons_checked(
    action: Action,
    slugs: Sequence[str],
    facts: str,
    message: str,
    private_note: str,
    terms: Terms,
) -> Reasons:
    """Return what a decision rests on, checked against the policy in force.

    ``slugs`` are of its rules. Raises Invalid where rule or facts are missing, where a rule does
    not allow the action, or where its terms do not fit.
    """
    facts = facts_checked(facts)
    if action == Action.REVERSE:
        raise Invalid("A decision is taken back on its own page.", field="action")
    rules = list(
        Rule.objects.filter(policy__is_active=True, slug__in=slugs).select_related("policy")
    )
    unknown = sorted(set(slugs) - {rule.slug for rule in rules})
    if unknown:
        raise Invalid(f"The policy in force has no rule “{unknown[0]}”.", field="rules")
    if action in RESTRICTIONS and not rules:
        raise Invalid("Name at least one rule: nothing is restricted without one.", field="rules")
    for rule in rules:
        if action in RESTRICTIONS and not ({action} | ALLOWED_BY.get(action, frozenset())) & set(
            rule.actions
        ):
            raise Invalid(
                f"The rule “{rule.title}” does not allow “{action.label}”.", field="action"
            )
    _check_terms(action, terms)
    length_checked(message, MESSAGE_LENGTH, field="message")
    length_checked(private_note, PRIVATE_NOTE_LENGTH, field="private_note")
    message = own_words(message, rules) or message_compose(rules=rules, facts=facts)
    return Reasons(rules, facts, message, private_note.strip(), terms)


def length_checked(text: str, most: int, *, field: str) -> str:
    """Return a text of at most so many characters. Raises Invalid where it is longer."""
    if len(text) > most:
        raise Invalid(
            f"Your words are {len(text):,} characters long; {most:,} are the most.", field=field
        )
    return text


def _check_terms(action: Action, terms: Terms) -> None:
    if action == Action.LABEL and not terms.label.strip():
        raise Invalid("Write the words of the label.", field="label")
    if len(terms.label) > LABEL_LENGTH:
        raise Invalid(f"A label has at most {LABEL_LENGTH} characters.", field="label")
    if action == Action.GEO_RESTRICT:
        if not settings.COUNTRY_HEADER:
            raise Invalid(
                "This house cannot tell from which country somebody comes. An operator sets "
                "COUNTRY_HEADER to the header in which the proxy says so.",
                code="no_countries",
                field="action",
            )
        if not terms.countries:
            raise Invalid("Name the countries, by two letters each.", field="countries")
        for country in terms.countries:
            if len(country) != 2 or not (country.isascii() and country.isalpha()):
                raise Invalid(
                    f"“{country[:20]}” is not a country's two letters.", field="countries"
                )
    if action == Action.DISABLE_PREVIEW and not terms.preview:
        raise Invalid("Choose the preview.", field="preview")
    if action == Action.MUTE and terms.until is None:
        raise Invalid("Say until when the account is muted.", field="until")
    if terms.until is not None:
        if action not in ENDS_SOMETIME:
            raise Invalid(f"“{action.label}” has no end; leave the date out.", field="until")
        if terms.until <= timezone.now():
            raise Invalid("The end lies in the past.", field="until")
    if (terms.is_order or terms.ground == Ground.LAW) and not terms.legal_ground.strip():
        raise Invalid("Name the law or the order.", field="legal_ground")
    if len(terms.legal_ground) > LEGAL_GROUND_LENGTH:
        raise Invalid(
            f"A law or an order is named in at most {LEGAL_GROUND_LENGTH} characters.",
            field="legal_ground",
        )


def suspension_end(days: int | None) -> datetime | None:
    """Return when a mute or suspension of so many days ends; None for one without an end."""
    return timezone.now() + timedelta(days=days) if days else None
