"""Say how long uploads and cases would wait with so many workers and moderators."""

import json
import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from moderation.selectors import capacity
from moderation.simulation import DAY, Course, Durations, House, arrive, needed, percentile, run

MEASURED = "measured"
# What a worker spends on a job beside weighing: taking the message, storing the findings, opening
# a case. `manage.py bench workers` prints what a machine really needs as `between_jobs_seconds`.
OVERHEAD = 0.02
WORKING_HOURS = 6.0


def _number(least: float, most: float = math.inf) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            upper = f" to {most:g}" if most < math.inf else " or more"
            raise ArgumentTypeError(f"“{text}” should be a number of {least:g}{upper}.")
        return value

    return read


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"“{text}” should be a whole number of 1 or more.")
    return int(text)


class Command(BaseCommand):
    """``manage.py simulate``."""

    help = (
        "Say how long uploads wait for workers and cases for moderators, how busy both are, what "
        "piles up, and how many of them a wanted wait takes. Nothing is written. "
        "Uploads arrive at random at --arrivals a day, or as they did on the last day of this "
        "database (--arrivals measured). Each makes a job for its files and one for its previews; "
        "a worker serves one at a time, in the order in which they came. A share of the uploads "
        "(--review-share) then waits for a moderator. Times that are not given are drawn from "
        "what this database measured. Times that are given are means; single ones vary around "
        "them exponentially. Start with `simulate --arrivals measured --workers 2 --moderators 3`, "
        "see whether it repeats the day you had, and then change one number."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--arrivals",
            required=True,
            help=f"uploads a day, or “{MEASURED}”: as in the last 24 hours of this database",
        )
        parser.add_argument(
            "--workers", type=_count, required=True, help="worker threads that weigh at once"
        )
        parser.add_argument(
            "--moderators", type=_count, required=True, help="people at their desks at once"
        )
        parser.add_argument(
            "--preview-workers",
            type=_count,
            help="workers for previews alone, such as a card; --workers then serve files only",
        )
        seconds = _number(0.0)
        parser.add_argument("--files-seconds", type=seconds, help="to weigh files (measured)")
        parser.add_argument("--previews-seconds", type=seconds, help="to weigh previews (measured)")
        parser.add_argument("--handling-seconds", type=seconds, help="a decision (measured)")
        parser.add_argument(
            "--review-share", type=_number(0, 1), help="of the uploads, for a person (measured)"
        )
        parser.add_argument(
            "--overhead",
            type=seconds,
            default=OVERHEAD,
            help=f"seconds beside weighing for each job ({OVERHEAD:g})",
        )
        parser.add_argument(
            "--worker-wait",
            type=seconds,
            default=60.0,
            help="wanted: 95%% of the jobs begin within so many seconds (60)",
        )
        parser.add_argument(
            "--moderator-wait",
            type=seconds,
            default=4 * 3600.0,
            help="wanted: 95%% of the cases are taken within so many seconds (14400: 4 hours)",
        )
        parser.add_argument(
            "--days", type=_number(0.01, 366), default=1.0, help="to simulate, from empty (1)"
        )
        parser.add_argument("--seed", type=int, default=0, help="another one is another day (0)")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Simulate and report."""
        random = np.random.default_rng(options["seed"])
        house = _house(options)
        since, day = _measured_day(options["arrivals"])
        per_day = len(day) if day else _number(1.0)(options["arrivals"])
        until = options["days"] * DAY
        with tqdm(total=3, desc="simulating", leave=False, disable=options["json"]) as progress:
            came = arrive(per_day, options["days"], random, day)
            course = run(house, came, until, random)
            progress.update()
            found = _figures(course)
            wanted = {
                name: options["moderator_wait" if name == "moderators" else "worker_wait"]
                for name in course.lines
            }
            for name, line in course.lines.items():
                takes = line.ended - line.began
                found[name]["needed"] = needed(line.came, takes, until, wanted[name])
            progress.update(2)
        found["people"] = math.ceil(found["moderators"]["needed"] * 24 / WORKING_HOURS)
        if since is not None:
            measured = np.array(capacity.waits(since=since))
            found["measured_wait_p50"] = round(percentile(measured, 50), 3)
            found["measured_wait_p95"] = round(percentile(measured, 95), 3)
        if options["json"]:
            self.stdout.write(json.dumps(found))
        else:
            self._tell(found, wanted)

    def _tell(self, found: dict[str, Any], wanted: dict[str, float]) -> None:
        self.stdout.write(
            f"{found['uploads']} uploads in {found['days']:g} × 24 hours; "
            f"{found['cases']} of them went to a person."
        )
        heading = f"{'':<12}{'at work':>8}{'busy':>7}{'wait p50':>11}{'p95':>10}"
        self.stdout.write(f"{heading}{'most waiting':>14}{'at the end':>12}")
        for name in wanted:
            line = found[name]
            self.stdout.write(
                f"{name:<12}{line['servers']:>8}{line['utilisation']:>7.0%}"
                f"{_duration(line['wait_p50']):>11}{_duration(line['wait_p95']):>10}"
                f"{line['longest_backlog']:>14}{line['backlog_at_end']:>12}"
            )
        self.stdout.write(
            f"From upload to weighed: {_duration(found['weighed_p50'])} in the middle, "
            f"{_duration(found['weighed_p95'])} at p95."
        )
        for name, wait in wanted.items():
            line = found[name]
            self.stdout.write(
                f"For 95 % within {_duration(wait)}: {line['needed']} {name} "
                f"(there are {line['servers']})."
            )
            if line["offered"] > line["servers"]:
                self.stdout.write(
                    self.style.WARNING(
                        f"  {line['servers']} cannot keep up: the work fills {line['offered']:.1f} "
                        "of them, so what waits grows day by day."
                    )
                )
        self.stdout.write(
            f"{found['moderators']['needed']} at their desks around the clock are "
            f"{found['people']} people who decide for {WORKING_HOURS:g} hours a day."
        )
        if "measured_wait_p50" in found:
            self.stdout.write(
                f"Measured on that day: jobs waited {_duration(found['measured_wait_p50'])} in "
                f"the middle, {_duration(found['measured_wait_p95'])} at p95."
            )


def _house(options: dict[str, Any]) -> House:
    share = options["review_share"]
    share = capacity.review_share() if share is None else share
    if share is None:
        raise CommandError("No upload was measured here: give --review-share, such as 0.02.")
    return House(
        files=_durations(
            options["files_seconds"], lambda: capacity.service_times(stage="files"), "files"
        ),
        previews=_durations(
            options["previews_seconds"],
            lambda: capacity.service_times(stage="previews"),
            "previews",
        ),
        handling=_durations(options["handling_seconds"], capacity.decision_times, "handling"),
        workers=options["workers"],
        moderators=options["moderators"],
        review_share=share,
        preview_workers=options["preview_workers"] or 0,
        overhead=options["overhead"],
    )


def _durations(
    given: float | None, measured: Callable[[], Sequence[float]], name: str
) -> Durations:
    if given is not None:
        return Durations(given)
    times = measured()
    if not times:
        raise CommandError(
            f"Nothing was measured here yet: give --{name}-seconds, such as "
            f"{'60' if name == 'handling' else '0.5'}."
        )
    return Durations.drawn_from(times)


def _measured_day(arrivals: str) -> tuple[datetime | None, list[float]]:
    """Return the beginning of the measured day and its moments, or neither for a rate.

    Raises CommandError for what is neither a rate nor “measured”, or where nothing was measured.
    """
    if arrivals != MEASURED:
        try:
            _number(1.0)(arrivals)
        except ArgumentTypeError as error:
            raise CommandError(f"--arrivals: {error} Or “{MEASURED}”.") from error
        return None, []
    since = capacity.last_day()
    if since is None:
        raise CommandError("No upload was measured here yet: give --arrivals a number a day.")
    return since, capacity.arrivals(since=since)


def _figures(course: Course) -> dict[str, Any]:
    weighing = course.weighed - course.came
    found: dict[str, Any] = {
        "days": course.until / DAY,
        "uploads": len(course.came),
        "cases": len(course.decided),
        "weighed_p50": round(percentile(weighing, 50), 3),
        "weighed_p95": round(percentile(weighing, 95), 3),
    }
    for name, line in course.lines.items():
        found[name] = {
            "servers": line.servers,
            "utilisation": round(line.utilisation(course.until), 4),
            "offered": round(float((line.ended - line.began).sum()) / course.until, 3),
            "wait_p50": round(percentile(line.waits, 50), 3),
            "wait_p95": round(percentile(line.waits, 95), 3),
            "longest_backlog": line.longest_backlog(),
            "backlog_at_end": line.backlog(course.until),
        }
    return found


def _duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
