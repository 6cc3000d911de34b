"""What in a policy no probe would understand: a signal nobody gives, a term nobody can match.

The domain asks here by the setting ``POLICY_INSPECTOR``, since it does not know the probes.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from triage.terms import Matcher, TermError

# Every signal that a probe speaks of: a probe that is added names its own here.
SIGNALS = (
    "claims",
    "claims.likeness",
    "container.code",
    "container.damaged",
    "lineage.copy",
    "lineage.removed",
    "previews",
    "text_space",
)
Fault = tuple[tuple[str | int, ...], str]


def policy_faults(content: dict[str, Any]) -> list[Fault]:
    """Return each place in a policy's content that no probe understands, and a sentence why."""
    return list(_faults(content))


def _faults(content: dict[str, Any]) -> Iterator[Fault]:
    for number, rule in enumerate(content["rules"]):
        for place, signal in enumerate(rule["signals"]):
            if signal not in SIGNALS:
                near = get_close_matches(signal, SIGNALS, 1)
                hint = f"Did you mean “{near[0]}”?" if near else f"There are: {', '.join(SIGNALS)}."
                yield (
                    ("rules", number, "signals", place),
                    f"No probe gives the signal “{signal}”, so the rule would never see it. {hint}",
                )
        yield from _terms(rule.get("terms", []), ("rules", number, "terms"))
        for one, condition in enumerate(rule.get("conditions", [])):
            for place, group in enumerate(condition["groups"]):
                above = ("rules", number, "conditions", one, "groups", place, "terms")
                yield from _terms(group["terms"], above)


def _terms(terms: list[str], above: tuple[str | int, ...]) -> Iterator[Fault]:
    for place, term in enumerate(terms):
        try:
            Matcher([term])
        except TermError as error:
            yield (*above, place), str(error)
