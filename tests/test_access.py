"""Every address of the URL conf, asked by those who may do nothing there: nothing opens.

The addresses come from the URL conf, so that a new one is asked too. What stands in an address is
made up: that it leads nowhere must be said no earlier than that somebody may not ask.
"""

from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from moderation.models import Account

Browser = Callable[[Account | None], Client]
MADE_UP = {"int": "1", "slug": "a", "str": "AAAAAAAAAA", "path": "1"}


def addresses(prefix: str) -> list[str]:
    """Return every address below a prefix, with made-up values in it."""
    return [found for found in _walk(get_resolver().url_patterns, "/") if found.startswith(prefix)]


def _walk(patterns: list[URLPattern | URLResolver], before: str) -> Iterator[str]:
    for pattern in patterns:
        route = str(pattern.pattern)
        for name, converter in getattr(pattern.pattern, "converters", {}).items():
            kind = type(converter).__name__.removesuffix("Converter").lower()
            value = MADE_UP[{"string": "str"}.get(kind, kind)]
            route = route.replace(f"<{kind.replace('string', 'str')}:{name}>", value)
            route = route.replace(f"<{name}>", value)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, before + route)
        elif "(" not in route:
            yield before + route


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("prefix", ["/studio/", "/console/"])
def test_a_visitor_is_asked_to_log_in_before_anything_else(
    prefix: str, method: str, client: Client
) -> None:
    asked = addresses(prefix)
    assert len(asked) > 20
    opened = {}
    for address in asked:
        answer = getattr(client, method)(address)
        if answer.status_code == 405 or answer.get("Location", "").startswith("/log-in/"):
            continue
        opened[address] = answer.status_code
    assert opened == {}


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_creator_opens_nothing_of_the_console(method: str, as_: Browser, nobody: Account) -> None:
    client = as_(nobody)
    answers = {
        address: getattr(client, method)(address).status_code for address in addresses("/console/")
    }
    refused = {403, 404, 405}
    assert {key: value for key, value in answers.items() if value not in refused} == {}


@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_but_admins_opens_djangos_admin(
    method: str, as_: Browser, nobody: Account, mo: Account, ada: Account
) -> None:
    for person in (None, nobody, mo, ada):
        client = as_(person)
        for address in addresses("/admin/"):
            if address in {"/admin/login/", "/admin/logout/"}:
                continue
            answer = getattr(client, method)(address)
            assert answer.status_code in {302, 403, 404, 405}, (address, answer.status_code)
            if answer.status_code == 302:
                assert "/login/" in answer["Location"], address
