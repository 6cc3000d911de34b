"""One run: fill the house, load it, break it, wait until it is quiet, count."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import DatabaseError, connection

from moderation.models import Account, ModelVersion, TriageJob
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.states import Role, Scope
from moderation.tokens import token_create
from tests import factories
from tests.faults.asking import TIMES, Post
from tests.faults.breaking import GRACE_SECONDS, Breaking, Toll
from tests.faults.counting import Line, is_quiet, left_over, letters_repeated, promises
from tests.faults.house import House
from tests.faults.load import Load

TARGETS, REPORTERS, POISONED = 24, 30, 3
# From so many seconds of load on the rates are a promise, too. The short form, which has to do on
# any machine, says what it reached.
PROMISED_FROM_SECONDS = 120
LEAST_SHARE_SENT = 0.95
# For how long after the load what was begun is sent again until it is acknowledged.
PATIENCE_SECONDS, SHORT_PATIENCE_SECONDS = 300.0, 45.0
LARGE_BYTES = 2_000_000_000
# A letter whose attempt was cut off is tried again after a minute; a busy machine takes its time.
QUIET_SECONDS = 900
Say = Callable[[str], None]


def measure(house: House, *, seconds: float, rates: dict[str, float], say: Say) -> dict[str, Any]:
    """Do it all; return every figure, with ``kept`` if every promise was."""
    fill()
    # Nobody logs in with a password, and a slow digest of each takes half a minute here.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    say("the tables are made")
    targets = [_published(number).code for number in range(TARGETS)]
    poisoned = [_poisoned(number).code for number in range(POISONED)]
    shop = factories.account("shop")
    _, key = token_create(account=shop, name="faults", scopes=Scope.values, actor=None)
    reporters = [session_of(factories.account(f"reporter{n}")) for n in range(REPORTERS)]
    # A case and a moderator for each decision, so that at its moment neither has to be waited for.
    decisions = math.ceil(rates["decisions"] * seconds)
    moderators = [
        session_of(factories.account(f"moderator{n}", role=Role.MODERATOR))
        for n in range(decisions)
    ]
    holder = factories.account("holder")
    for number in range(decisions):
        factories.held(holder, title=f"Held {number:03}")
    say(
        f"{TARGETS} published versions, {POISONED} poisoned, {decisions} held; web, workers and "
        "clock are starting"
    )
    house.start_web()
    for place in house.places:
        house.start_worker(place)
    house.start_clock()
    say(f"load for {seconds:.0f} s: " + ", ".join(f"{rate:g} {n}/s" for n, rate in rates.items()))
    post = Post(house.port)
    promised = seconds >= PROMISED_FROM_SECONDS
    load = Load(
        post,
        key=key,
        targets=targets,
        reporters=reporters,
        moderators=moderators,
        rates=rates,
        seconds=seconds,
        patience_seconds=PATIENCE_SECONDS if promised else SHORT_PATIENCE_SECONDS,
    )
    breaking = Breaking(house, seconds=seconds, submit_large=_submit_large, say=say)
    with load:
        breaking.run()
    say(
        f"all answered {load.answered_seconds:.0f} s after the last began; waiting until nothing "
        "is left to do"
    )
    quiet_after = _wait_until_quiet(say)
    say(f"quiet after {quiet_after:.0f} s; counting")
    lines = [
        *promises(load.ledger, house, poisoned),
        *_of_the_run(load, post, breaking.toll),
        *(_of_the_rates(load) if promised else []),
    ]
    return _told(house, load, post, breaking.toll, lines, quiet_after, say)


def fill() -> None:
    """Make the tables, collect what pages need, and put the demo's policy in force."""
    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    content = policy_read(POLICY_DIR / "demo.yaml")
    policy_import(content=content, activate=True, actor=None)


def session_of(account: Account) -> str:
    """Return the key of a session in which somebody is logged in."""
    store = SessionStore()
    store[SESSION_KEY] = str(account.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = account.get_session_auth_hash()
    store.save()
    return str(store.session_key)


def _published(number: int) -> ModelVersion:
    creator = Account.objects.filter(username="uma").first() or factories.account("uma")
    return factories.published(creator, title=f"Target {number:03}")


def _poisoned(number: int) -> ModelVersion:
    """Submit a version whose weights are gone from the storage: nobody can ever weigh it."""
    creator = Account.objects.get(username="uma")
    version = factories.draft(creator, title=f"Poisoned {number}")
    file = version.files.get()
    file.content.storage.delete(file.content.name)
    return factories.intake.version_submit(version=version, actor=creator)


def _submit_large() -> tuple[Path, int]:
    """Submit a version with 2 GB of weights, all nought; return where they lie, and the job."""
    version = factories.draft(Account.objects.get(username="uma"), title="Large")
    path = Path(version.files.get().content.path)
    header = json.dumps(
        {"weight": {"dtype": "F16", "shape": [LARGE_BYTES // 2], "data_offsets": [0, LARGE_BYTES]}}
    ).encode()
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        # Sparse: it takes time to read and no room on the disk.
        stream.truncate(8 + len(header) + LARGE_BYTES)
    factories.intake.version_submit(version=version, actor=version.uploaded_model.creator)
    return path, version.jobs.get(stage="files").pk


def _wait_until_quiet(say: Say) -> float:
    began = told = time.monotonic()
    while True:
        try:
            if is_quiet():
                return time.monotonic() - began
            if time.monotonic() - told > 15:
                told = time.monotonic()
                say(f"still to do: {left_over()}")
        except DatabaseError:
            connection.close()
        if time.monotonic() - began > QUIET_SECONDS:
            # What is still unfinished then is counted as broken promises.
            return time.monotonic() - began
        time.sleep(1)


def _of_the_run(load: Load, post: Post, toll: Toll) -> list[Line]:
    """Return the promises that the run itself shows, and that each fault has really happened."""
    slow = [f"{seconds:.1f} s" for seconds in toll.drains if seconds > GRACE_SECONDS]
    if toll.drained_jobs != len(toll.drains):
        slow.append("what it was at was neither finished nor given back")
    happened = {
        "workers killed": toll.kills,
        "FLUSHALL": toll.flushes,
        "Redis restarted": toll.redis_restarts,
        "PostgreSQL stopped": toll.database_stops,
        "answers that came too late": toll.late_answers,
        "copies of messages": toll.copies,
        "workers drained": len(toll.drains),
        "uploads accepted": len(load.ledger.uploads),
        "reports accepted": len(load.ledger.reports),
        "decisions accepted": len(load.ledger.decisions),
    }
    return [
        Line("every answer of the web was clean", post.statuses.total(), post.unclean),
        Line(
            "one key or form sent three times at once is answered alike",
            post.statuses.total() // TIMES,
            load.ledger.differing,
        ),
        Line(
            f"a worker told to end is gone in {GRACE_SECONDS:.0f} s, its job done or given back",
            len(toll.drains),
            slow,
        ),
        Line(
            "every kind of fault happened, and something was accepted",
            len(happened),
            [what for what, number in happened.items() if not number],
        ),
    ]


def _of_the_rates(load: Load) -> list[Line]:
    """Return whether the load was as heavy as asked for, and everything of it answered."""
    short, unanswered = [], []
    for kind in load.rates:
        figures = load.figures(kind)
        if figures["sent_on_time"] < LEAST_SHARE_SENT * figures["asked"]:
            short.append(f"{kind}: {figures['sent_on_time']} of {figures['asked']}")
        if figures["given_up"]:
            unanswered.append(f"{kind}: {figures['given_up']} of {figures['sent']}")
    return [
        Line(
            f"at least {LEAST_SHARE_SENT:.0%} of what was asked for was really sent, on time",
            len(load.rates),
            short,
        ),
        Line(
            "whatever was sent was acknowledged or refused in the end",
            len(load.ledger.courses),
            unanswered,
        ),
    ]


def _told(
    house: House,
    load: Load,
    post: Post,
    toll: Toll,
    lines: list[Line],
    quiet_after: float,
    say: Say,
) -> dict[str, Any]:
    figures = {kind: load.figures(kind) for kind in load.rates}
    found = {
        "kept": not any(line.broken for line in lines),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "seconds": round(load.seconds, 1),
        "quiet_after_seconds": round(quiet_after, 1),
        "answered_after_seconds": round(load.answered_seconds, 1),
        "wanted_a_second": load.rates,
        "load": figures,
        "faults": asdict(toll),
        "answers": {str(status): number for status, number in sorted(post.statuses.items())},
        "slowest_answer_seconds": round(post.slowest, 1),
        "letters_repeated_after_a_cut": letters_repeated(house.mail),
        "jobs_retried": TriageJob.objects.filter(attempts__gt=1).count(),
        "promises": [line.plain() for line in lines],
    }
    for kind, figure in figures.items():
        say(f"{kind}: " + _in_words(figure, load.rates[kind]))
    say(f"faults: {asdict(toll)}")
    answers = ", ".join(f"{number} × {status}" for status, number in found["answers"].items())
    say(f"answers: {answers}; the slowest after {post.slowest:.1f} s")
    say(f"letters handed over again after a cut attempt: {found['letters_repeated_after_a_cut']}")
    for line in lines:
        say(f"{'BROKEN' if line.broken else 'kept':>6}  {line.looked_at:6}  {line.promise}")
        for broken in line.broken[:10]:
            say(f"{'':14}  {broken}")
        if len(line.broken) > 10:
            say(f"{'':14}  and {len(line.broken) - 10} more")
    kept = sum(not line.broken for line in lines)
    say(f"{kept} of {len(lines)} promises were kept")
    return found


def _in_words(figure: dict[str, Any], rate: float) -> str:
    waits = figure["seconds"] or {"median": "–", "p95": "–", "most": "–"}
    left = ", ".join(
        f"{figure[name]} {words}"
        for name, words in (
            ("refused", "refused"),
            ("no_case", "without a case in the queue"),
            ("given_up", "given up"),
        )
        if figure[name]
    )
    return (
        f"{figure['sent_on_time']} of {figure['asked']} sent on time; acknowledged "
        f"{figure['acknowledged_during_the_load']} during the load "
        f"({figure['acknowledged_a_second_during_the_load']} a second, asked: {rate:g}), "
        f"{figure['acknowledged']} in the end"
        + (f", {left}" if left else "")
        + f"; after {waits['median']} s in the middle, {waits['p95']} s at p95, "
        f"{waits['most']} s at most"
    )
