"""How a person of the cast logs in, and shows a second factor, in a test."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import (
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.test import Client

from moderation.models import Account
from tests import factories

Browser = Callable[[Account | None], Client]
LOG_IN = "/log-in/"
SECOND = "/account/second-factor/"
OTHER_MACHINE = "198.51.100.7"


def log_in(
    name: str, password: str = factories.PASSWORD, *, client: Client | None = None, **where: str
) -> tuple[Client, Any]:
    client = client or Client()
    return client, client.post(LOG_IN, {"login": name, "password": password}, **where)


def code_of(secret: str, *, step: int = 0) -> str:
    """Return the code an app shows now, or ``step`` half minutes from now."""
    now = list(yield_hotp_counters_from_time())[1]
    return format_hotp_value(hotp_value(secret, now + step))


# Signals about second factors are sent when a transaction is over: these tests have real ones.
committed = pytest.mark.django_db(transaction=True)


def confirm(client: Client) -> None:
    assert client.post("/account/confirm/", {"password": factories.PASSWORD}).status_code == 302


def link_in(letter: Any) -> str:
    """Return where the link of a letter leads, on the site."""
    found = re.search(r"http://127\.0\.0\.1:8000(/\S+)", letter.body)
    assert found, letter.body
    return found[1]


def app_set_up(client: Client) -> str:
    """Set up an app on the account that is logged in; return its secret."""
    confirm(client)
    page = client.get(SECOND + "app/")
    secret = page.context["form"].secret
    # Not the code of now: it would be used up for what comes next.
    answer = client.post(SECOND + "app/", {"code": code_of(secret, step=-1)})
    assert answer.status_code == 302, answer.content
    return str(secret)
