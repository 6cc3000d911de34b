"""Banks of known prohibited material: imported from files, or added to by people's decisions.

Writes ``Bank`` and ``BankEntry``. No machine adds to a bank.
"""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction

from moderation.audit import event_record
from moderation.authz import require_impartial
from moderation.effects import restrictions_standing
from moderation.errors import Conflict, Invalid
from moderation.models import Account, Bank, BankEntry, Decision
from moderation.states import Action

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")
# The names that exchanges of hashes use for the column or the key.
_COLUMNS = ("value", "signal", "indicator", "hash", "sha256", "pdq", "pdq_hash")


@dataclass(frozen=True)
class BankTally:
    """What an import did, or would do."""

    added: int
    present: int


def bank_read(path: Path) -> list[str]:
    """Read hashes, 64 hexadecimal digits each, from CSV, JSON, JSON lines or plain lines.

    Raises Invalid with the place of the first that is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}") from error
    values = []
    for place, value in _values(path, text):
        cleaned = value.strip().lower()
        if not _HEXADECIMAL.fullmatch(cleaned):
            raise Invalid(
                f"{path.name}, {place}: “{value[:80]}” is not a hash of 64 hexadecimal digits."
            )
        values.append(cleaned)
    if not values:
        raise Invalid(f"{path.name} holds no hashes.")
    return values


def _values(path: Path, text: str) -> Iterable[tuple[str, str]]:
    stripped = text.lstrip()
    if stripped.startswith("["):
        try:
            yield from _from_json(path, json.loads(text))
        except json.JSONDecodeError as error:
            raise Invalid(f"{path.name} is not JSON: {error}") from error
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if stripped.startswith("{"):
        for number, line in enumerate(lines, 1):
            try:
                yield from _from_json(path, [json.loads(line)], first=number)
            except json.JSONDecodeError as error:
                raise Invalid(f"{path.name}, line {number} is not JSON: {error}") from error
        return
    header = [cell.strip().lower() for cell in next(csv.reader(lines[:1]), [])]
    column = next((header.index(name) for name in _COLUMNS if name in header), None)
    start = 0 if column is None else 1
    for number, row in enumerate(csv.reader(lines[start:]), start + 1):
        index = column or 0
        yield f"line {number}", row[index] if index < len(row) else ""


def _from_json(path: Path, items: object, first: int = 1) -> Iterable[tuple[str, str]]:
    if not isinstance(items, list):
        raise Invalid(f"{path.name} is not a list.")
    for number, item in enumerate(items, first):
        if isinstance(item, dict):
            item = next((item[name] for name in _COLUMNS if name in item), "")
        yield f"entry {number}", str(item)


@transaction.atomic
def bank_import(
    *,
    name: str,
    rule: str,
    kind: BankEntry.Kind,
    values: Sequence[str],
    dry_run: bool,
    actor: Account | None,
) -> BankTally:
    """Add hashes to a bank, creating it if need be. Raises Invalid if it is under another rule."""
    bank = Bank.objects.filter(name=name).first()
    if bank is not None and bank.rule != rule:
        raise Invalid(f"The bank “{name}” is under the rule “{bank.rule}”, not “{rule}”.")
    wanted = set(values)
    present = (
        set(bank.entries.filter(kind=kind).values_list("value", flat=True)) & wanted
        if bank
        else set()
    )
    if not dry_run:
        bank = bank or Bank.objects.create(name=name, rule=rule)
        BankEntry.objects.bulk_create(
            BankEntry(bank=bank, kind=kind, value=value, is_imported=True)
            for value in sorted(wanted - present)
        )
        # What a decision had put there stays when that decision is taken back.
        bank.entries.filter(kind=kind, value__in=present).update(is_imported=True)
        event_record(
            action="bank.imported",
            actor=actor,
            data={"bank": name, "kind": kind, "added": len(wanted - present)},
        )
    return BankTally(len(wanted - present), len(present))


@transaction.atomic
def bank_add_decided(*, name: str, decision: Decision, actor: Account) -> BankTally:
    """Add the files of a removed version to a bank, on the word of the person who adds them.

    Raises Invalid unless the decision removed the version under the rule of the bank, Conflict if
    it was overturned since, NotAllowed to whoever made or reported the model.
    """
    require_impartial(actor, decision.version)
    if decision.action != Action.REMOVE:
        raise Invalid("Only what a person has removed goes into a bank.")
    if decision not in restrictions_standing(decision.version):
        raise Conflict(
            "This decision was overturned, or is not in force yet, so nothing of it goes into a "
            "bank.",
            code="overturned",
        )
    if not _NAME.fullmatch(name):
        raise Invalid(
            "A bank's name has small letters, digits and hyphens, at most 60.", field="name"
        )
    rules = [clause["slug"] for clause in decision.clauses]
    bank, _ = Bank.objects.get_or_create(name=name, defaults={"rule": rules[0]})
    if bank.rule not in rules:
        # A match names the rule of the bank: it must be one that a person decided under.
        raise Invalid(
            f"The bank “{name}” is under the rule “{bank.rule}”, and this decision names "
            f"“{rules[0]}”. Choose another name.",
            field="name",
        )
    entries = []
    for file in decision.version.files.select_related("sketch"):
        entries.append((BankEntry.Kind.SHA256, file.sha256))
        sketch = getattr(file, "sketch", None)
        if sketch is not None and sketch.data_sha256:
            entries.append((BankEntry.Kind.DATA_SHA256, sketch.data_sha256))
    entries += [
        (BankEntry.Kind.SHA256, preview.sha256) for preview in decision.version.previews.all()
    ]
    added = 0
    for kind, value in entries:
        entry, created = BankEntry.objects.get_or_create(bank=bank, kind=kind, value=value)
        entry.decisions.add(decision)
        added += created
    event_record(
        action="bank.added",
        actor=actor,
        version=decision.version,
        data={"bank": name, "decision": decision.code, "added": added},
    )
    return BankTally(added, len(entries) - added)


@transaction.atomic
def bank_withdraw(*, decision: Decision, actor: Account) -> int:
    """Take out what only an overturned decision had added; return how many entries that were.

    What was imported, or added by another decision too, stays.
    """
    for entry in BankEntry.objects.filter(decisions=decision):
        entry.decisions.remove(decision)
    alone = BankEntry.objects.filter(decisions__isnull=True, is_imported=False)
    removed, _ = alone.delete()
    if removed:
        event_record(
            action="bank.withdrawn",
            actor=actor,
            version=decision.version,
            data={"decision": decision.code, "removed": removed},
        )
    return removed
