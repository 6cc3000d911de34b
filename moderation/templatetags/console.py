"""Keys on buttons: the reader's own."""

import json
from collections.abc import Iterable
from typing import Any

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from moderation.keys import KEYS, keys_in
from moderation.models import Account, ConsolePreference
from moderation.selectors.queue_filters import Choice
from moderation.wellbeing import preference_of

register = template.Library()


def _own(context: dict[str, Any]) -> dict[str, str]:
    """Return the reader's key for every action, put together once in a page."""
    request = context["request"]
    if not hasattr(request, "console_keys"):
        request.console_keys = keys_in(_preference(context))
    found: dict[str, str] = request.console_keys
    return found


def _preference(context: dict[str, Any]) -> ConsolePreference:
    """Return what the reader has chosen, asked for once in a page."""
    request = context["request"]
    if not hasattr(request, "console_preference"):
        known = isinstance(request.user, Account)
        request.console_preference = preference_of(request.user) if known else ConsolePreference()
    found: ConsolePreference = request.console_preference
    return found


@register.simple_tag(takes_context=True)
def console_preference(context: dict[str, Any]) -> ConsolePreference:
    """Return how the reader wants to be shown pictures."""
    return _preference(context)


@register.simple_tag(takes_context=True)
def key(context: dict[str, Any], name: str) -> SafeString:
    """Show the key of an action."""
    return format_html("<kbd>{}</kbd>", _own(context).get(name, KEYS[name].usual))


@register.simple_tag
def options(choices: Iterable[Choice]) -> SafeString:
    """Show the choices of a menu; there are many, and a loop in a template is slow."""
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        (
            (choice.value, mark_safe(" selected") if choice.chosen else "", choice.label)
            for choice in choices
        ),
    )


@register.simple_tag(takes_context=True)
def keys_as_json(context: dict[str, Any]) -> str:
    """Return every action's key for the script; the template escapes it."""
    return json.dumps(_own(context))


@register.simple_tag(takes_context=True)
def keys_listed(context: dict[str, Any]) -> list[dict[str, str]]:
    """Return name, meaning, own key and usual key of every action."""
    own = _own(context)
    return [
        {"name": name, "says": key.says, "key": own.get(name, key.usual), "usual": key.usual}
        for name, key in KEYS.items()
    ]
