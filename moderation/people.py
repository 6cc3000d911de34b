"""The people list: whose likeness is protected, and what they have agreed to.

Writes ``Person`` and ``Consent``.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.errors import Invalid
from moderation.models import Account, Consent, Person

NAME_LENGTH = 200


@dataclass(frozen=True)
class PeopleTally:
    """What an import did, or would do."""

    added: int
    changed: int
    unchanged: int


def people_read(path: Path) -> list[tuple[str, list[str]]]:
    """Read a CSV with the columns ``name`` and ``aliases`` (separated by ``;``).

    Raises Invalid with the number of the line that is wrong.
    """
    people: dict[str, list[str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if "name" not in (reader.fieldnames or ()):
                raise Invalid(
                    f"{path.name} has no column “name” in its first line. "
                    "It needs “name”, and may have “aliases”."
                )
            for row in reader:
                name = (row["name"] or "").strip()
                if not name or len(name) > NAME_LENGTH:
                    raise Invalid(
                        f"{path.name}, line {reader.line_num}: a name has 1 to {NAME_LENGTH} "
                        "characters."
                    )
                aliases = [part.strip() for part in (row.get("aliases") or "").split(";")]
                people.setdefault(name, []).extend(alias for alias in aliases if alias)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    return [(name, sorted(set(aliases))) for name, aliases in people.items()]


@transaction.atomic
def people_import(
    *, people: Iterable[tuple[str, Sequence[str]]], dry_run: bool, actor: Account | None
) -> PeopleTally:
    """Add people and replace the aliases of those on the list; nobody is taken off it."""
    added = changed = unchanged = 0
    for name, aliases in people:
        person = Person.objects.filter(name=name).first()
        if person is None:
            added += 1
            person = Person(name=name)
        elif person.aliases == list(aliases):
            unchanged += 1
            continue
        else:
            changed += 1
        if not dry_run:
            person.aliases = list(aliases)
            person.save()
    if not dry_run and added + changed:
        # The record counts them; it is no second place where the names are kept.
        event_record(
            action="people.imported", actor=actor, data={"added": added, "changed": changed}
        )
    return PeopleTally(added, changed, unchanged)


@transaction.atomic
def consent_grant(
    *,
    person: Person,
    creator: Account,
    rules: Sequence[str],
    until: date | None,
    actor: Account | None,
) -> Consent:
    """Record what a person has agreed to. Raises Invalid without a rule it lifts."""
    if not rules:
        raise Invalid("Name the rules that the consent lifts.", field="rules")
    consent = Consent.objects.create(person=person, creator=creator, rules=list(rules), until=until)
    event_record(action="consent.granted", actor=actor, data={"consent": consent.pk})
    return consent


@transaction.atomic
def consent_withdraw(*, consent: Consent, actor: Account | None) -> None:
    """End a consent from now on; a second time changes nothing."""
    withdrawn = Consent.objects.filter(pk=consent.pk, withdrawn_at__isnull=True).update(
        withdrawn_at=timezone.now()
    )
    if withdrawn:
        event_record(action="consent.withdrawn", actor=actor, data={"consent": consent.pk})
