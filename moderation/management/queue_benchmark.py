"""Measures the queue at scale: fills a database of its own, plays eight moderators, reports.

Used by ``manage.py bench queue``. PostgreSQL only: SQLite is for one machine and small teams.
"""

import gc
import logging
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.hashers import make_password
from django.core.management.base import CommandError
from django.db import connection, connections, models, transaction
from django.db.models import Max
from django.test import Client
from django.test.utils import override_settings
from django.urls import include, path
from tqdm import tqdm

from moderation.models import (
    Account,
    Case,
    CaseFacet,
    CaseText,
    Event,
    ModelVersion,
    PreviewImage,
    Rule,
    UploadedModel,
)
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.states import LISTED_CASES, CaseState, Role, Visibility

CLIENTS = 8
SERVERS = 2  # processes that answer them
PER_SECOND = 10  # requests of all clients together
SMALL = 10_000  # cases, for the growth
CREATORS = 2000
CHUNK = 100_000
LISTED_ON_A_PAGE = 25
# Of 8 open cases 6 wait; the others are spread over the states that a queue has.
STATES = "(ARRAY['queued','queued','queued','queued','queued','queued','asked','escalated'])"
WORDS = "(ARRAY['ink','portrait','landscape','ember','meadow','harbour','neon','charcoal'])"


class PlainChangelist(admin.ModelAdmin):  # type: ignore[type-arg]
    """Django's own list of the same cases with the same columns, as its documentation has it."""

    list_display = ("code", "version", "state", "priority", "due_at", "claimed_by")
    list_select_related = ("version__uploaded_model__creator", "claimed_by")
    list_filter = ("state", "source")
    list_per_page = LISTED_ON_A_PAGE
    ordering = ("turn_at", "pk")


class CountingChangelist(PlainChangelist):
    """The same with what Django has for the queue's counters: how many there are of each state."""

    show_facets = admin.ShowFacets.ALWAYS


_counting = admin.AdminSite(name="counting")
_counting.register(Case, CountingChangelist)
_plain = admin.AdminSite(name="plain")
_plain.register(Case, PlainChangelist)
# This module is the root of all addresses while it measures.
urlpatterns = [
    path("bench/counting/", _counting.urls),
    path("bench/plain/", _plain.urls),
    path("", include(settings.ROOT_URLCONF)),
]


def measure(*, cases: int, opened: int, events: int, seconds: float, keep: bool) -> dict[str, Any]:
    """Fill, measure at 10,000 cases and at ``cases``, and return the figures.

    Raises CommandError on another database than PostgreSQL.
    """
    if connection.vendor != "postgresql":
        raise CommandError("This needs PostgreSQL: set DATABASE_URL to a server of your own.")
    found: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "clients": CLIENTS,
        "requests_per_second": PER_SECOND,
        "server_processes": SERVERS,
    }
    quiet = {
        "ROOT_URLCONF": __name__,
        "ALLOWED_HOSTS": ["*"],
        # Without a manifest, so that nothing has to be collected first.
        "STORAGES": {
            **settings.STORAGES,
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
        },
    }
    logging.disable(logging.INFO)
    with _database_of_its_own(keep), override_settings(**quiet):
        share = SMALL / cases
        filled = Case.objects.count()
        small: dict[str, Any] = {}
        if filled <= SMALL < cases:
            _fill(SMALL, round(opened * share), round(events * share))
            small = _play(seconds)
        _fill(cases, opened, events)
        found |= {
            "cases": Case.objects.count(),
            "open": Case.objects.filter(state__in=_LISTED).count(),
            "events": Event.objects.aggregate(last=Max("sequence"))["last"],
        }
        found |= _play(seconds)
        found |= _against_changelist()
    if small:
        found["queue_page_p95_ms_at_10000"] = small["queue_page_p95_ms"]
        found["claim_p95_ms_at_10000"] = small["claim_p95_ms"]
        found["growth"] = round(found["queue_page_p95_ms"] / small["queue_page_p95_ms"], 2)
    return found


_LISTED = sorted(str(state) for state in LISTED_CASES)


@contextmanager
def _database_of_its_own(keep: bool) -> Iterator[None]:
    before = str(connection.settings_dict["NAME"])
    connection.settings_dict["TEST"]["NAME"] = f"{before}_bench_queue"
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False, keepdb=keep)
    try:
        yield
    finally:
        connections.close_all()
        connection.creation.destroy_test_db(before, verbosity=0, keepdb=keep)


# --- Filling --------------------------------------------------------------------------------


def _fill(cases: int, opened: int, events: int) -> None:
    """Bring the tables up to these numbers of rows, in chunks that PostgreSQL makes itself."""
    if not Rule.objects.exists():
        content = policy_read(POLICY_DIR / "demo.yaml")
        policy_import(content=content, activate=True, actor=None)
    _accounts()
    with connection.cursor() as cursor:
        # A superuser need not have every reference looked up that is right by construction.
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone() == (True,):
            cursor.execute("SET session_replication_role = replica")
    done = Case.objects.count()
    # The open ones are spread over all cases, as they would be after years.
    step = max(1, cases // max(opened, 1))
    for first in _chunks(done, cases, "cases"):
        _cases(first, min(first + CHUNK, cases), step)
    done = Event.objects.aggregate(last=Max("sequence"))["last"] or 0
    total = Case.objects.count()
    for first in _chunks(done, events, "events"):
        _events(first, min(first + CHUNK, events), total)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = DEFAULT")
        for model in (UploadedModel, ModelVersion, PreviewImage, Case, CaseFacet, CaseText, Event):
            table = model._meta.db_table
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "  # noqa: S608
                f"(SELECT max(id) FROM {table}))"
            )
        cursor.execute("VACUUM ANALYZE")


def _chunks(done: int, wanted: int, what: str) -> Iterator[int]:
    return iter(tqdm(range(done, wanted, CHUNK), desc=what, unit=" chunks", file=sys.stderr))


def _accounts() -> None:
    if Account.objects.exists():
        return
    password = make_password(None)
    Account.objects.bulk_create(
        Account(
            username=f"person{n}",
            email=f"person{n}@example.org",
            password=password,
            role=Role.MODERATOR if n < CLIENTS else Role.CREATOR,
            is_staff=n == 0,
            is_superuser=n == 0,
        )
        for n in range(CLIENTS + CREATORS)
    )


def _cases(first: int, last: int, step: int) -> None:
    people = sorted(Account.objects.filter(role=Role.CREATOR).values_list("pk", flat=True))
    creator = f"({people[0]} + i % {len(people)})"
    rules = list(Rule.objects.filter(policy__is_active=True).order_by("position"))
    slugs = "(ARRAY[" + ",".join(f"'{rule.slug}'" for rule in rules) + "])"
    harms = "(ARRAY[" + ",".join(str(rule.harm) for rule in rules) + "])"
    word = f"{WORDS}[1 + i % 8]"
    title = f"initcap({word}) || ' ' || {WORDS}[1 + (i / 8) % 8] || ' ' || i"
    # Knuth's multiplicative hash: neighbours in number are no neighbours in time or risk.
    spread = "((i::bigint * 2654435761) % 1000003)"
    opened_at = f"now() - {spread} * interval '3 seconds'"
    risk = f"({harms}[1 + i % {len(rules)}] * (50 + {spread} % 50) / 100.0)"
    due_at = f"({opened_at} + interval '72 hours')"
    is_open = f"i % {step} = 0"
    state = f"CASE WHEN {is_open} THEN {STATES}[1 + (i / {step}) % 8] ELSE 'closed' END"
    _insert(
        UploadedModel, first, last, title=title, creator_id=creator, base_model="'SDXL'",
        description="repeat('Trained on drawings of my own. ', 20)", created_at=opened_at,
    )  # fmt: skip
    _insert(
        ModelVersion, first, last, uploaded_model_id="i", visibility=f"'{Visibility.QUARANTINED}'",
        created_at=opened_at, submitted_at=opened_at, triaged_at=opened_at,
    )  # fmt: skip
    _insert(
        PreviewImage, first, last, version_id="i", name="'preview.png'", original="'x'",
        shown="'x'", sha256="md5(i::text)", width="512", height="512", created_at=opened_at,
        prompt=f"{word} || ' at dusk, 50mm'",
    )  # fmt: skip
    reasons = (
        f"jsonb_build_object('harm', {harms}[1 + i % {len(rules)}], 'probability', "
        f"(50 + {spread} % 50) / 100.0, 'reach', 1, 'rule', {slugs}[1 + i % {len(rules)}], "
        "'score', 0.9, 'reports', 0, 'reporters', 0, 'titles', "
        f"jsonb_build_array(jsonb_build_array({slugs}[1 + i % {len(rules)}], 'hold')), "
        "'strongest', jsonb_build_object('preview', 1, 'file', false, 'score', 0.9, "
        "'threshold', 0.85, 'concern', 'hold'))"
    )
    _insert(
        Case, first, last, version_id="i", state=state, source="'triage'",
        priority=f"round(100 * {risk})", reasons=reasons, weighed_at=opened_at,
        clock_from=opened_at, due_at=due_at, opened_at=opened_at,
        turn_at=f"{due_at} - interval '24 hours' * log(2.0, greatest({risk}, 0.25)::numeric)",
        closed_at=f"CASE WHEN {is_open} THEN NULL ELSE {due_at} END",
        escalated_at=f"CASE WHEN {state} = 'escalated' THEN {opened_at} END",
    )  # fmt: skip
    _insert(CaseFacet, first, last, number="2 * i", case_id="i", kind="'rule'",
            value=f"{slugs}[1 + i % {len(rules)}]")  # fmt: skip
    _insert(CaseFacet, first, last, number="2 * i + 1", case_id="i", kind="'probe'",
            value="'previews'")  # fmt: skip
    _insert(CaseText, first, last, case_id="i",
            text=f"lower({title}) || ' person' || i % {len(people)} || ' ' || md5(i::text) || ' ' "
            f"|| {word} || ' at dusk, 50mm'")  # fmt: skip


def _events(first: int, last: int, cases: int) -> None:
    _insert(
        Event, first, last, sequence="i", at="now()", action="'case.claimed'", data="'{}'::jsonb",
        version_id=f"1 + i % {cases}", case_id=f"1 + i % {cases}",
        previous_digest="encode(sha256((i - 1)::text::bytea), 'hex')",
        digest="encode(sha256(i::text::bytea), 'hex')",
    )  # fmt: skip


def _insert(
    model: type[models.Model], first: int, last: int, number: str = "i", **given: str
) -> None:
    """Insert a row for each i in (first, last], by an SQL expression in i for each column.

    Columns that are not given get their field's default, so that a new one changes nothing here.
    """
    columns, expressions, values = [], [], []
    for field in model._meta.concrete_fields:
        columns.append(f'"{field.column}"')
        if field.primary_key:
            expressions.append(number)
        elif field.column in given:
            expressions.append(given[field.column])
        elif field.name == "code":
            expressions.append("'b' || lpad(i::text, 9, '0')")
        else:
            expressions.append("%s")
            values.append(field.get_db_prep_save(field.get_default(), connection))
    table = model._meta.db_table
    rows = f"generate_series({first + 1}, {last}) i"
    chosen = ", ".join(text if text == "%s" else text.replace("%", "%%") for text in expressions)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {rows}",  # noqa: S608
            values,
        )


# --- Playing --------------------------------------------------------------------------------


Times = dict[str, list[float]]


def _play(seconds: float) -> dict[str, Any]:
    """Let eight moderators look at the queue, take cases and give them back; return the times.

    They are served by two processes with four threads each, as a web server on two cores has.
    """
    Case.objects.filter(claimed_by__isnull=False).update(
        state=CaseState.QUEUED, claimed_by=None, claimed_until=None
    )
    # A connection does not survive being shared by two processes.
    connections.close_all()
    begin = time.perf_counter() + 3
    groups = [(range(first, CLIENTS, SERVERS), begin, seconds) for first in range(SERVERS)]
    with get_context("fork").Pool(SERVERS) as servers:
        played = servers.starmap(_serve, groups)
    times: Times = defaultdict(list)
    kinds: Times = defaultdict(list)
    for of_group, of_kinds in played:
        for name, values in of_group.items():
            times[name] += values
        for name, values in of_kinds.items():
            kinds[name] += values
    figures: dict[str, Any] = {f"{name}_p95_ms": _p95(values) for name, values in times.items()}
    figures |= {
        f"{name}_median_ms": round(1000 * statistics.median(values), 1)
        for name, values in times.items()
    }
    figures["requests"] = sum(len(values) for values in times.values())
    figures["by_kind_p95_ms"] = {
        name: _p95(values) for name, values in sorted(kinds.items()) if len(values) > 1
    }
    return figures


def _serve(numbers: Sequence[int], begin: float, seconds: float) -> tuple[Times, Times]:
    """Play these moderators side by side, from ``begin`` on the clock of this machine."""
    # As the web server does (config/wsgi.py).
    gc.collect()
    gc.freeze()
    moderators = list(Account.objects.filter(role=Role.MODERATOR).order_by("pk")[:CLIENTS])
    times: Times = {name: [] for name in ("queue_page", "claim", "release")}
    kinds: Times = {}
    pause = CLIENTS / PER_SECOND

    def moderate(number: int) -> None:
        try:
            client = Client()
            client.force_login(moderators[number])
            views = _views(client)
            # A server that has been up for a while has taken and given back before.
            for turn in (1, 3):
                _turn(client, turn, number, views, defaultdict(list), {})
            begun = max(begin, time.perf_counter()) + number / PER_SECOND
            for turn in range(int(seconds / pause) + 1):
                time.sleep(max(0.0, begun + turn * pause - time.perf_counter()))
                _turn(client, turn, number, views, times, kinds)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(numbers)) as pool:
        for done in [pool.submit(moderate, number) for number in numbers]:
            done.result()
    connections.close_all()
    return times, kinds


def _views(client: Client) -> Mapping[str, str]:
    """Return the links that moderators follow, the first page more often than the others."""
    page = client.get("/console/").content.decode()
    after = page.partition('id="next" href="?')[2].partition('"')[0].replace("&amp;", "&")
    return {
        "first": "",
        "rule": "rule=red-star",
        "second": after,
        "state": "state=escalated",
        "search": "q=harbour+dusk",
        "person": "q=person7+neon",
    }


def _turn(
    client: Client,
    turn: int,
    number: int,
    views: Mapping[str, str],
    times: Times,
    kinds: Times,
) -> None:
    """Make one request: look, take, look, give back, and so on.

    Raises CommandError where one is not answered as it should be.
    """
    kind = ("queue_page", "claim", "queue_page", "release")[turn % 4]
    if kind == "queue_page":
        name = list(views)[(turn // 2 + number) % len(views)] if turn % 4 == 2 else "first"
        taken, response = _timed(lambda: client.get(f"/console/?{views[name]}"))
        kinds.setdefault(name, []).append(taken)
        expected = 200
    elif kind == "claim":
        taken, response = _timed(lambda: client.post("/console/next/"))
        expected = 302
    else:
        held = Case.objects.get(claimed_by=client.session["_auth_user_id"])
        taken, response = _timed(lambda: client.post(f"/console/cases/{held.code}/release/"))
        expected = 302
    times[kind].append(taken)
    if response.status_code != expected:
        raise CommandError(f"A request failed while measuring: {kind}, {response.status_code}.")


def _against_changelist(rounds: int = 20) -> dict[str, Any]:
    """Return how many times faster the first page is than Django's changelist, taking turns.

    ``vs_changelist`` compares with the one that counts as our page does, ``vs_plain_changelist``
    with one that leaves the counters out.
    """
    client = Client()
    client.force_login(Account.objects.get(is_superuser=True))
    listed = f"moderation/case/?state__in={','.join(_LISTED)}"
    addresses = ["/console/", f"/bench/counting/{listed}", f"/bench/plain/{listed}"]
    times: dict[str, list[float]] = {address: [] for address in addresses}
    for address in addresses:
        if client.get(address).status_code != 200:
            raise CommandError(f"{address} did not answer.")
    for _ in tqdm(range(rounds), desc="against the changelist", unit=" turns", file=sys.stderr):
        for address, taken in times.items():
            taken.append(_timed(lambda address=address: client.get(address))[0])  # type: ignore[misc]
    ours, counting, plain = (statistics.median(taken) for taken in times.values())
    return {
        "page_median_ms_alone": round(1000 * ours, 1),
        "changelist_median_ms": round(1000 * counting, 1),
        "plain_changelist_median_ms": round(1000 * plain, 1),
        "vs_changelist": round(counting / ours, 1),
        "vs_plain_changelist": round(plain / ours, 1),
    }


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    answer = work()
    return time.perf_counter() - started, answer


def _p95(values: list[float]) -> float:
    """Return the 95th percentile in milliseconds."""
    if len(values) < 2:
        raise CommandError("This was too short to measure: give it more --seconds.")
    return round(1000 * statistics.quantiles(values, n=20, method="inclusive")[-1], 1)
