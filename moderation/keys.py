"""The keys of the console, and each person's own choice. Writes ``ConsolePreference``."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import transaction

from moderation.errors import Invalid
from moderation.models import Account, ConsolePreference


@dataclass(frozen=True)
class Key:
    """What a key does, and which one it is unless somebody chose another."""

    says: str
    usual: str


KEYS: Mapping[str, Key] = {
    "following": Key("Go to the next row, preview or finding", "j"),
    "preceding": Key("Go to the one before", "k"),
    "approve": Key("Approve", "a"),
    "restrict": Key("Restrict: then the digit of its rule (more digits add), then the action", "r"),
    "remove": Key("Remove", "x"),
    "limit": Key("Limit", "l"),
    "age_restrict": Key("Age-restrict", "d"),
    "other": Key("Choose among the other actions", "c"),
    "escalate": Key("Escalate to a senior moderator", "e"),
    "ask": Key("Ask the creator and wait", "w"),
    "together": Key("Decide cases like it together", "q"),
    "note": Key("Write a note for the team", "n"),
    "undo": Key("Undo the last decision", "u"),
    "blur": Key("Blur previews, or show them sharp", "b"),
    "grey": Key("Show previews in grey, or in colour", "g"),
    "heatmap": Key("Show where in the preview it was found", "h"),
    "one": Key("Show one preview large, or all small", "o"),
    "peek": Key("Look, as long as the key is held", "p"),
    "right": Key("This finding is right", "y"),
    "wrong": Key("This finding is wrong", "m"),
    "unsure": Key("Not sure about this finding", "s"),
    "take": Key("Take this case, or the next one", "t"),
    "search": Key("Search", "/"),
    "help": Key("Show all keys", "?"),
}


def keys_in(preference: ConsolePreference) -> dict[str, str]:
    """Return the key of every action for one person."""
    return {name: preference.keys.get(name, key.usual) for name, key in KEYS.items()}


@transaction.atomic
def keys_choose(*, account: Account, chosen: Mapping[str, str]) -> None:
    """Store a person's own keys; an empty choice means the usual one.

    Raises Invalid for more than one character, a digit (those choose rules), or one key for two
    actions.
    """
    own: dict[str, str] = {}
    for name, key in KEYS.items():
        given = chosen.get(name, "").strip()
        if given and (len(given) != 1 or not given.isprintable() or given.isdigit()):
            raise Invalid(
                f"“{key.says}” needs one character that is no digit: digits choose rules.",
                field=name,
            )
        if given and given != key.usual:
            own[name] = given
    taken: dict[str, str] = {}
    for name, key in KEYS.items():
        pressed = own.get(name, key.usual)
        if pressed in taken:
            raise Invalid(
                f"“{pressed}” would do two things: “{KEYS[taken[pressed]].says}” and "
                f"“{key.says}”. Choose another for one of them.",
                field=name,
            )
        taken[pressed] = name
    account.console_preference, _ = ConsolePreference.objects.update_or_create(
        account=account, defaults={"keys": own}
    )
