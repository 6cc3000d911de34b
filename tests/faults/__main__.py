"""``python -m tests.faults``: a whole house on private servers, broken under load."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.house import ROOT, House, house
from tests.faults.servers import MissingError, postgres_programs, redis_program

SECONDS = 120
SHORT_SECONDS = 40


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    options = _options()
    # Both end it in order, also where a shell started it in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        postgres_programs()
        redis_program()
    except MissingError as missing:
        sys.stdout.write(f"Skipped: {missing}; `apt-get install postgresql redis-server`.\n")
        return int(os.environ.get("CI") == "true")
    # On a terminal the table is for people; --json keeps the output to itself.
    out = sys.stderr if options.json else sys.stdout
    began = time.monotonic()

    def say(words: str) -> None:
        out.write(f"{time.monotonic() - began:7.1f} s  {words}\n")
        out.flush()

    try:
        with house(keep=options.keep) as built:
            found = _measured(built, options, say)
    except KeyboardInterrupt:
        out.write("\nStopped. Nothing of it runs or lies about any more.\n")
        return 130
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return int(not found["kept"])


def _measured(built: House, options: argparse.Namespace, say: Any) -> dict[str, Any]:
    say("PostgreSQL and Redis are up; the tables are being made")
    os.environ.update(built.environment, DJANGO_SETTINGS_MODULE="config.settings")
    import django

    django.setup()
    # These know the models, and so need the settings.
    from tests.faults import poison, running

    if options.what == "poison":
        return poison.measure(built, jobs=options.jobs, fresh=options.fresh, say=say)
    rates = {
        "uploads": options.uploads,
        "reports": options.reports,
        "decisions": options.decisions,
    }
    seconds = SHORT_SECONDS if options.short else options.seconds
    return running.measure(built, seconds=seconds, rates=rates, say=say)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=(
            "Starts a PostgreSQL, a Redis, the web server (two processes), two workers and the "
            "clock in a temporary folder and on free ports; sends uploads, reports and decisions, "
            "each three times at once; meanwhile kills workers, empties and kills Redis, stops "
            "PostgreSQL at once, freezes a worker beyond its lease, delivers each message ten "
            "times and drains a worker; waits until all is quiet; and counts what is left. "
            "“poison” puts hopeless jobs at the head of the queue and measures how long fresh "
            "ones wait. The exit status is 0 if every promise was kept."
        ),
    )
    parser.add_argument("what", nargs="?", choices=("load", "poison"), default="load")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of load (default {SECONDS}; at least 30)"
    )
    parser.add_argument(
        "--short", action="store_true", help=f"{SHORT_SECONDS} seconds: each kind of fault once"
    )
    parser.add_argument("--uploads", type=float, default=5.0, help="a second (default 5)")
    parser.add_argument("--reports", type=float, default=5.0, help="a second (default 5)")
    parser.add_argument("--decisions", type=float, default=2.0, help="a second (default 2)")
    parser.add_argument("--jobs", type=int, default=10_000, help="poisoned (default 10,000)")
    parser.add_argument("--fresh", type=int, default=100, help="uploads behind them (default 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy all logs there")
    options = parser.parse_args()
    if options.seconds < 30:
        parser.error("below 30 seconds not every fault has its turn")
    return options


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
