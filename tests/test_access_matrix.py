"""Everybody asks everything: who may open what, in which state, stands in ``access_matrix.md``.

The addresses come from the URL conf and from the API's own document, so that a new one without a
row fails, and so does a method that somebody may use and no row names.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from django.http import HttpResponseBase
from django.test import Client, override_settings
from django.test.client import ClientHandler
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from moderation.api.urls import api
from moderation.policy import policy_import, policy_read
from tests import factories
from tests.access_requests import BODIES, FORMS, PARAMETERS
from tests.access_world import World, world_build

MATRIX = Path(__file__).parent / "access_matrix.md"
# Django's own views and allauth's take a PUT for a POST, so there it says nothing new.
METHODS = {
    "public": ("GET", "POST", "PUT", "DELETE"),
    "account": ("GET", "POST"),
    "studio": ("GET", "POST", "PUT", "DELETE"),
    "console": ("GET", "POST", "PUT", "DELETE"),
    "admin": ("GET", "POST"),
}
SECOND_FACTOR = "/account/second-factor/"
# One for all requests: each would load every middleware anew.
HANDLER = ClientHandler(enforce_csrf_checks=False)
# Every one of them holds for whole tables of Django's admin, by the names of its addresses.
ADMIN = "admin:"
Row = tuple[str, str, str]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_as_in_production")]


def tables() -> dict[str, tuple[list[str], dict[Row, str]]]:
    """Read the matrix: by room, who asks, and each row's answers in that order."""
    found: dict[str, tuple[list[str], dict[Row, str]]] = {}
    for room, lines in groupby(_lines(), key=lambda pair: pair[0]):
        cells = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for _, line in lines]
        head, rows = cells[0][3:], cells[2:]
        keys = [(row[0], row[1], row[2]) for row in rows]
        assert len(set(keys)) == len(keys), f"A row stands twice under {room}."
        found[room] = (head, {key: "".join(row[3:]) for key, row in zip(keys, rows, strict=True)})
    return found


def _lines() -> Iterator[tuple[str, str]]:
    room = ""
    for line in MATRIX.read_text().splitlines():
        if line.startswith("## "):
            room = line.removeprefix("## ")
        elif line.startswith("|") and room:
            yield room, line


def routes() -> dict[str, set[str]]:
    """Return the names of all addresses but the API's, by room."""
    found: dict[str, set[str]] = {}
    for name, route in _walk(get_resolver().url_patterns, "", ""):
        room = name.partition(":")[0] if ":" in name else "public"
        if name.startswith(("account_", "mfa_")):
            room = "account"
        if room != "api-1":
            found.setdefault({"creator": "studio"}.get(room, room), set()).add(name)
        assert name.rpartition(":")[2] or room == "admin", f"{route} has no name."
    return found


def _walk(
    patterns: list[URLPattern | URLResolver], namespace: str, before: str
) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{pattern.namespace}:" if pattern.namespace else ""
            yield from _walk(pattern.url_patterns, namespace + inner, route)
        else:
            yield f"{namespace}{pattern.name or ''}", route


@pytest.fixture(scope="module")
def world(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Build the house once; every request is undone."""
    from celery import current_app

    media = tmp_path_factory.mktemp("access")
    with ExitStack() as stack:
        # Thousands of refusals are what is asked for here; the log would bury what differs.
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        stack.enter_context(django_db_blocker.unblock())
        stack.enter_context(
            override_settings(
                MEDIA_ROOT=media,
                UNDO_SECONDS=0,
                SECOND_PERSON_FOR=[],
                PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
            )
        )
        current_app.conf.task_always_eager = False
        stack.enter_context(transaction.atomic())
        content = policy_read(django_settings.BASE_DIR / "moderation" / "policies" / "demo.yaml")
        policy_import(content=content, activate=True, actor=None)
        made = world_build()
        made.states["-"] = {}
        for state in made.states.values():
            state["media"] = media
        yield made
        transaction.set_rollback(True)


def said(response: HttpResponseBase) -> str:
    """Put an answer into one letter; the matrix says what each means."""
    status, to = response.status_code, response.headers.get("Location", "")
    if status in {301, 302}:
        if to.startswith(reverse("account_login") + "?"):
            return "L"
        return "F" if to == SECOND_FACTOR else "+"
    if status < 300:
        return "+"
    known = {401: "k", 403: "x", 404: "0", 405: "m"}
    return known.get(status, "!" if status >= 500 and status != 503 else "~")


def asked(client: Client, method: str, address: str, **what: Any) -> HttpResponseBase:
    """Ask, and undo whatever it did."""
    with transaction.atomic():
        response: HttpResponseBase = client.generic(method, address, **what)
        if response.headers.get("Location", "").startswith("/admin/login/"):
            response = client.get(response.headers["Location"])
        if response.streaming:
            # Read to its end, which closes the file.
            b"".join(response)
        transaction.set_rollback(True)
    return response


def as_person(world: World, name: str) -> Client:
    client = Client(raise_request_exception=False)
    client.handler = HANDLER
    if world.cookies[name]:
        client.cookies[django_settings.SESSION_COOKIE_NAME] = world.cookies[name]
    return client


def answers(world: World, people: list[str], row: Row) -> str:
    method, name, state = row
    address = address_of(name, world.states[state])
    form = FORMS.get(name, {}) if method == "POST" else {}
    body = "&".join(f"{key}={value}" for key, value in form.items()).replace(" ", "+")
    what = {"data": body, "content_type": "application/x-www-form-urlencoded"} if body else {}
    return "".join(
        said(asked(as_person(world, person), method, address, **what)) for person in people
    )


def address_of(name: str, state: Mapping[str, Any]) -> str:
    if name.startswith(ADMIN):
        return _admin_address(name)
    needed = PARAMETERS.get(name, {})
    given = {key: 1 if kind == "one" else state[kind] for key, kind in needed.items()}
    return reverse(name, kwargs=given)


def _admin_address(name: str) -> str:
    if name == ADMIN:
        # The two that Django gave no name: an old way to a row, and whatever leads nowhere.
        return "/admin/made/up/"
    if name == f"{ADMIN}app_list":
        return reverse(name, args=["moderation"])
    if name == f"{ADMIN}view_on_site":
        return reverse(name, args=[1, 1])
    of_a_row = name.endswith(("_change", "_delete", "_history"))
    if of_a_row and name != f"{ADMIN}password_change":
        return reverse(name, args=[1])
    return reverse(name)


def rows_written(rows: Mapping[Row, str]) -> str:
    """Write rows as they stand in the matrix, to be read and pasted."""
    return "\n".join(
        f"| {' | '.join(row)} | {' | '.join(letters)} |" for row, letters in rows.items()
    )


@pytest.fixture
def _as_in_production(settings: Any, world: World) -> None:
    settings.REQUIRE_MFA = True
    settings.MEDIA_ROOT = world.states["-"]["media"]
    settings.METRICS_TOKEN = ""


@pytest.mark.parametrize("room", METHODS)
def test_every_address_answers_everybody_as_its_row_says(room: str, world: World) -> None:
    people, rows = tables()[room]
    names = routes()[room]
    wrong = {}
    for row, expected in rows.items():
        matching = [name for name in names if fnmatch(name, row[1])]
        assert matching, f"No address is called {row[1]}."
        its_own = [
            name for name in sorted(matching) if name == row[1] or _first(rows, row[0], name) == row
        ]
        for name in its_own:
            # Of the many tables that a row holds for, one is asked by everybody, and each of the
            # others by who may least and by who may most.
            asking = people if name == its_own[0] else [people[0], people[-1]]
            letters = dict(zip(people, expected, strict=True))
            found = answers(world, asking, (row[0], name, row[2]))
            if found != "".join(letters[person] for person in asking):
                wrong[(row[0], name, row[2])] = answers(world, people, (row[0], name, row[2]))
    assert not wrong, f"Other answers than the rows of {MATRIX.name} say:\n{rows_written(wrong)}"


def unlike(people: list[str], rows: Mapping[Row, str], name: str) -> list[str]:
    """Return one of each kind of person: those whom every row of an address answers alike."""
    columns = zip(*(rows[row] for row in rows if fnmatch(name, row[1])), strict=True)
    return list({column: person for person, column in zip(people, columns, strict=True)}.values())


def _first(rows: Mapping[Row, str], method: str, name: str) -> Row | None:
    return next((row for row in rows if row[0] == method and fnmatch(name, row[1])), None)


@pytest.mark.parametrize("room", METHODS)
def test_every_address_has_a_row_for_every_method_that_somebody_may_use(
    room: str, world: World
) -> None:
    people, rows = tables()[room]
    missing: dict[Row, str] = {}
    for name in sorted(routes()[room]):
        if not any(fnmatch(name, row[1]) for row in rows):
            missing[("GET", name, "?")] = ""
            continue
        state = next(row[2] for row in rows if fnmatch(name, row[1]))
        asking = unlike(people, rows, name)
        for method in METHODS[room]:
            if _first(rows, method, name) is None:
                found = answers(world, asking, (method, name, state))
                # Who is not let in at all need not be told that the method is none.
                if set(found) - set("mLFx0"):
                    missing[(method, name, state)] = answers(world, people, (method, name, state))
    assert not missing, f"No row in {MATRIX.name} for:\n{rows_written(missing)}"


# --- The API ----------------------------------------------------------------------------------


def operations() -> set[tuple[str, str]]:
    """Return method and path of everything that the API's document describes."""
    prefix = "/api/v1"
    return {
        (method.upper(), path.removeprefix(prefix))
        for path, item in api.get_openapi_schema()["paths"].items()
        for method in item
    }


UPLOADS: dict[str, Callable[[], Any]] = {
    "files": lambda: factories.weights_upload("more.safetensors", metadata={"more": "yes"}),
    "previews": lambda: factories.preview_upload("more.png", factories.picture_bytes((9, 9, 90))),
}


def key_answers(world: World, keys: list[str], row: Row) -> str:
    method, path, state = row
    given = world.states[state]
    address = "/api/v1" + path.replace("{code}", str(given.get("code", "")))
    found = ""
    for key in keys:
        headers = {"HTTP_IDEMPOTENCY_KEY": f"{method}-{key}"} if method == "POST" else {}
        if world.keys[key]:
            headers["HTTP_AUTHORIZATION"] = f"Bearer {world.keys[key]}"
        client = Client(raise_request_exception=False)
        with transaction.atomic():
            if path.endswith(("/files", "/previews")):
                upload = UPLOADS[path.rpartition("/")[2]]()
                response: Any = client.post(address, {"file": upload}, **headers)
            elif path == "/submissions":
                parts = {name: upload() for name, upload in UPLOADS.items()}
                response = client.post(address, {"title": "Ink", **parts}, **headers)
            else:
                body = (
                    json.dumps(BODIES[path](given)) if path in BODIES and method == "POST" else ""
                )
                response = client.generic(
                    method, address, body, content_type="application/json", **headers
                )
            transaction.set_rollback(True)
        found += said(response)
    return found


def test_every_operation_of_the_api_answers_every_key_as_its_row_says(world: World) -> None:
    keys, rows = tables()["api"]
    without_row = operations() - {(method, path) for method, path, _ in rows}
    gone = {(method, path) for method, path, _ in rows} - operations()
    assert (without_row, gone) == (set(), set()), f"{MATRIX.name} and the document differ."
    found = {row: key_answers(world, keys, row) for row in rows}
    wrong = {row: letters for row, letters in found.items() if letters != rows[row]}
    assert not wrong, f"Other answers than the rows of {MATRIX.name} say:\n{rows_written(wrong)}"


def test_the_document_is_for_everybody_and_sessions_open_nothing_of_the_api(world: World) -> None:
    for person in ("visitor", "uma", "adam"):
        client = as_person(world, person)
        assert client.get("/api/v1/openapi.json").status_code == 200
        assert client.get("/api/v1/docs/").status_code == 200
        assert client.get("/api/v1/versions").status_code == 401
