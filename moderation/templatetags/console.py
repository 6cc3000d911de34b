"""Keys on buttons: the reader's own."""

import json
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from moderation.keys import KEYS, keys_of
from moderation.models import Account

register = template.Library()


def _own(context: dict[str, Any]) -> dict[str, str]:
    request = context["request"]
    if not hasattr(request, "console_keys"):
        known = isinstance(request.user, Account)
        request.console_keys = keys_of(request.user) if known else {}
    own: dict[str, str] = request.console_keys
    return own


@register.simple_tag(takes_context=True)
def key(context: dict[str, Any], name: str) -> SafeString:
    """Show the key of an action."""
    return format_html("<kbd>{}</kbd>", _own(context).get(name, KEYS[name].usual))


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
