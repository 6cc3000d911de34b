"""One run: fill the house, load it, break it, wait until it is quiet, count."""

import json
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

TARGETS, REPORTERS, MODERATORS, POISONED = 24, 15, 4, 3
LARGE_BYTES = 2_000_000_000
# A letter whose attempt was cut off is tried again after a minute; a busy machine takes its time.
QUIET_SECONDS = 900
Say = Callable[[str], None]


def measure(house: House, *, seconds: float, rates: dict[str, float], say: Say) -> dict[str, Any]:
    """Do it all; return every figure, with ``kept`` if every promise was."""
    fill()
    say("the tables are made")
    targets = [_published(number).code for number in range(TARGETS)]
    poisoned = [_poisoned(number).code for number in range(POISONED)]
    shop = factories.account("shop")
    _, key = token_create(account=shop, name="faults", scopes=Scope.values, actor=None)
    reporters = [session_of(factories.account(f"reporter{n}")) for n in range(REPORTERS)]
    moderators = [
        session_of(factories.account(f"moderator{n}", role=Role.MODERATOR))
        for n in range(MODERATORS)
    ]
    say(f"{TARGETS} published versions, {POISONED} poisoned; web, workers and clock are starting")
    house.start_web()
    for place in house.places:
        house.start_worker(place)
    house.start_clock()
    say(f"load for {seconds:.0f} s: " + ", ".join(f"{rate:g} {n}/s" for n, rate in rates.items()))
    post = Post(house.port)
    load = Load(
        post, key=key, targets=targets, reporters=reporters, moderators=moderators, rates=rates
    )
    breaking = Breaking(house, seconds=seconds, submit_large=_submit_large, say=say)
    with load:
        breaking.run()
    say("the load is over; waiting until nothing is left to do")
    quiet_after = _wait_until_quiet(say)
    say(f"quiet after {quiet_after:.0f} s; counting")
    lines = [
        *promises(load.ledger, house, poisoned),
        *_of_the_run(load, post, breaking.toll),
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


def _told(
    house: House,
    load: Load,
    post: Post,
    toll: Toll,
    lines: list[Line],
    quiet_after: float,
    say: Say,
) -> dict[str, Any]:
    ledger = load.ledger
    accepted = {
        "uploads": len(ledger.uploads),
        "reports": len(ledger.reports),
        "decisions": len(ledger.decisions),
    }
    reached = {name: round(number / load.seconds, 2) for name, number in accepted.items()}
    found = {
        "kept": not any(line.broken for line in lines),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "seconds": round(load.seconds, 1),
        "quiet_after_seconds": round(quiet_after, 1),
        "wanted_a_second": load.rates,
        "accepted": accepted,
        "accepted_a_second": reached,
        "faults": asdict(toll),
        "answers": {str(status): number for status, number in sorted(post.statuses.items())},
        "slowest_answer_seconds": round(post.slowest, 1),
        "letters_repeated_after_a_cut": letters_repeated(house.mail),
        "jobs_retried": TriageJob.objects.filter(attempts__gt=1).count(),
        "promises": [line.plain() for line in lines],
    }
    for name, rate in load.rates.items():
        say(f"{name}: {accepted[name]} accepted, {reached[name]} a second (asked: {rate:g})")
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
