"""What goes wrong, one thing at a time, on a timetable that stretches with the run."""

import json
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis
from django.db import DatabaseError, connection

from moderation.models import Counter, TriageJob
from tests.faults.house import LEASE_SECONDS, House
from tests.faults.servers import PATIENCE_SECONDS, wait_until

FILES_TO_TRY = 5
FREEZES_TO_TRY = 2
STOPS_TO_TRY = 25
COPIES = 9
KILL_EVERY_SECONDS = 20.0
# Kubernetes and Docker kill what has not ended half a minute after it was told to.
GRACE_SECONDS = 30.0
Say = Callable[[str], None]


@dataclass
class Toll:
    """What was done, and what was seen of it."""

    kills: int = 0
    flushes: int = 0
    redis_restarts: int = 0
    database_stops: int = 0
    frozen: int = 0
    leases_lost: int = 0
    late_answers: int = 0
    copies: int = 0
    drains: list[float] = field(default_factory=list)
    drained_jobs: int = 0


class Breaking:
    """Breaks a house for ``seconds``; ``run`` returns when the last thing has been done."""

    def __init__(
        self,
        house: House,
        *,
        seconds: float,
        submit_large: Callable[[], tuple[Path, int]],
        say: Say,
    ) -> None:
        """``submit_large`` submits a file that takes seconds to read; returns its path and job."""
        self.house = house
        self.seconds = seconds
        self.submit_large = submit_large
        self.say = say
        self.toll = Toll()
        self._over = threading.Event()
        # Held while a worker is looked for that is in the middle of something: none is killed.
        self._calm = threading.Lock()

    def run(self) -> None:
        """Do everything on the timetable, with a worker killed now and then beside it."""
        killer = threading.Thread(target=self._keep_killing, name="killer")
        began = time.monotonic()
        timetable: list[tuple[float, Callable[[], None]]] = [
            (0.10, self.empty_redis),
            (0.20, self.restart_redis),
            (0.32, self.stop_database),
            (0.45, self.freeze_worker),
            (0.65, self.repeat_messages),
            (0.90, self.drain_worker),
        ]
        killer.start()
        try:
            for share, fault in timetable:
                time.sleep(max(0.0, began + share * self.seconds - time.monotonic()))
                fault()
            time.sleep(max(0.0, began + self.seconds - time.monotonic()))
        finally:
            self._over.set()
            killer.join()
            self.toll.late_answers = _counter("late_answers")

    # --- Workers ----------------------------------------------------------------------------

    def _keep_killing(self) -> None:
        """Kill a worker every 20 seconds, one after the other."""
        places = self.house.places
        while not self._over.wait(KILL_EVERY_SECONDS):
            with self._calm:
                for place in (places[self.toll.kills % len(places)], *places):
                    if self.house.hands[place].acquire(blocking=False):
                        try:
                            self.kill_worker(place)
                        finally:
                            self.house.hands[place].release()
                        break

    def kill_worker(self, place: str) -> None:
        """End a worker in the middle of its work, and start another."""
        self.say(f"kill -9 of {place}")
        self.house.kill(place)
        self.toll.kills += 1
        self.house.start_worker(place)

    def freeze_worker(self) -> None:
        """Stop a worker beyond its lease, then let it go on: what it hands in is refused.

        Once more where nobody took its job meanwhile: on a machine that is slow enough nobody may
        have come to it.
        """
        for _ in range(FREEZES_TO_TRY):
            if self._freeze_worker():
                return
            self.say("nobody had taken the job of the worker that stood still")

    def _freeze_worker(self) -> bool:
        """Freeze a worker once; return whether what it handed in late was refused."""
        refused, lost = _counter("late_answers"), _counter("lease_expiries")
        place, job_id, held = self._frozen_reader()
        self.toll.frozen += 1
        try:
            # The other worker takes the job. A start takes much of the time between two kills, so
            # it is left alive for as long.
            with self._calm:
                time.sleep(LEASE_SECONDS)
                _waited(lambda: _held_as(job_id) not in {held, None}, PATIENCE_SECONDS)
        finally:
            self.house.signal(place, signal.SIGCONT)
        self.toll.leases_lost += _counter("lease_expiries") - lost
        self.say(f"SIGCONT of {place}")
        _waited(lambda: _counter("late_answers") > refused, PATIENCE_SECONDS)
        self.house.hands[place].release()
        return _counter("late_answers") > refused

    def _frozen_reader(self) -> tuple[str, int, str]:
        """Stop a worker that reads a large file; return it, the job, and the token it is held with.

        Where the job was over just before the worker stood still, another file is tried.
        """
        for _ in range(FILES_TO_TRY):
            path, job_id = self.submit_large()
            place = self._reader_of(path)
            self.say(f"SIGSTOP of {place}, for longer than its lease, while it reads a large file")
            self._stop_between_transactions(place)
            held = _held_as(job_id)
            if held:
                return place, job_id, str(held)
            self.say(f"SIGCONT of {place}: it had just read it")
            self.house.signal(place, signal.SIGCONT)
            self.house.hands[place].release()
        raise TimeoutError("Every large file was read before its worker could be stopped.")

    def _stop_between_transactions(self, place: str) -> None:
        """Stop a worker, if possible when no thread of it is in the middle of a transaction.

        There it would keep its locks for the two minutes after which PostgreSQL ends it.
        """
        for _ in range(STOPS_TO_TRY):
            self.house.signal(place, signal.SIGSTOP)
            if not _in_transaction(self.house.processes[place].pid):
                return
            self.house.signal(place, signal.SIGCONT)
            time.sleep(0.02)
        self.house.signal(place, signal.SIGSTOP)

    def _reader_of(self, path: Path) -> str:
        """Return the worker that reads a file, with a hand on it."""
        until = time.monotonic() + 3 * PATIENCE_SECONDS
        with self._calm:
            while time.monotonic() < until:
                for place in self.house.places:
                    if not self.house.hands[place].acquire(blocking=False):
                        continue
                    if _has_open(self.house.processes[place].pid, path):
                        return place
                    self.house.hands[place].release()
                time.sleep(0.05)
        raise TimeoutError(f"No worker began to read {path.name}.")

    def drain_worker(self) -> None:
        """Tell a worker in the middle of a job to end, as an orchestrator does, and time it."""
        path, job_id = self.submit_large()
        place = self._reader_of(path)
        process = self.house.processes[place]
        tries = TriageJob.objects.get(pk=job_id).attempts
        self.say(f"SIGTERM of {place} while it reads a large file")
        began = time.monotonic()
        process.terminate()
        try:
            process.wait(timeout=2 * GRACE_SECONDS)
        finally:
            self.toll.drains.append(time.monotonic() - began)
        job = TriageJob.objects.get(pk=job_id)
        self.say(
            f"{place} ended after {self.toll.drains[-1]:.1f} s; its job is {job.state}, "
            f"attempts {job.attempts} (before: {tries})"
        )
        # Finished, or given back and perhaps taken by the other worker; not left to run out.
        given_back = job.attempts == tries - (job.state != "running")
        self.toll.drained_jobs += job.state == "done" or given_back
        self.house.start_worker(place)
        self.house.hands[place].release()

    # --- Servers ----------------------------------------------------------------------------

    def empty_redis(self) -> None:
        """Make Redis forget everything."""
        self.say("FLUSHALL")
        self.house.redis.client.flushall()
        self.toll.flushes += 1

    def restart_redis(self) -> None:
        """Kill Redis, leave everybody without it for a while, and start it anew and empty."""
        self.say("kill -9 of Redis")
        self.house.redis.kill()
        time.sleep(min(5.0, self.seconds / 12))
        self.house.redis.start()
        self.toll.redis_restarts += 1
        self.say("Redis is back, and empty")

    def stop_database(self) -> None:
        """Stop PostgreSQL without letting anybody finish, and start it again."""
        self.say("pg_ctl stop -m immediate")
        self.house.postgres.stop_at_once()
        time.sleep(min(5.0, self.seconds / 12))
        self.house.postgres.start()
        self.toll.database_stops += 1
        self.say("PostgreSQL is back")

    def repeat_messages(self) -> None:
        """Deliver each message that is sent for a while ten times."""
        self.say("each message is delivered ten times")
        until = time.monotonic() + self.seconds / 6
        self.toll.copies += repeat_messages(self.house.redis.port, until)
        self.say(f"{self.toll.copies} copies were sent")


def repeat_messages(port: int, until: float) -> int:
    """Watch Redis, and push nine copies of each message that is pushed; return how many.

    Watching (MONITOR) sees a message even if a worker takes it at once, so none is missed. Each
    copy gets a delivery tag of its own, as a message that was really sent ten times would have.
    """
    sender = redis.Redis(port=port)
    ours: set[str] = set()
    copies = 0
    # Ends the watch even if nobody else says anything.
    last_word = threading.Timer(until - time.monotonic() + 0.1, sender.ping)
    last_word.start()
    with redis.Redis(port=port).monitor() as watched:
        while time.monotonic() < until:
            said = watched.next_command()
            name, _, rest = said["command"].partition(" ")
            if name.upper() != "LPUSH":
                continue
            queue, _, body = rest.partition(" ")
            message = json.loads(body)
            if message["properties"]["delivery_tag"] in ours:
                continue
            for _ in range(COPIES):
                tag = str(uuid.uuid4())
                ours.add(tag)
                message["properties"]["delivery_tag"] = tag
                sender.lpush(queue, json.dumps(message))
                copies += 1
    last_word.join()
    return copies


def _has_open(pid: int, path: Path) -> bool:
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    for process in family:
        try:
            if any(Path(file.path) == path for file in process.open_files()):
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def _in_transaction(pid: int) -> bool:
    """Return whether a process that stands still has begun something in the database."""
    ports = [each.laddr.port for each in psutil.Process(pid).net_connections() if each.laddr]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE client_port = ANY(%s) AND state <> 'idle' AND pid <> pg_backend_pid()",
            [ports],
        )
        return bool(cursor.fetchone()[0])


def _held_as(job_id: int) -> Any:
    """Return the token that a job is held with; None while the database does not say."""
    return _asked(TriageJob.objects.values_list("token", flat=True).get, None, pk=job_id)


def _counter(name: str) -> int:
    found = Counter.objects.filter(name=name)
    return int(_asked(lambda: found.values_list("value", flat=True).first(), 0) or 0)


def _asked(question: Callable[..., Any], otherwise: Any, **given: Any) -> Any:
    """Ask the database; it may be away just now."""
    try:
        return question(**given)
    except DatabaseError:
        connection.close()
        return otherwise


def _waited(condition: Callable[[], object], seconds: float) -> bool:
    try:
        wait_until(condition, what="", seconds=seconds)
    except TimeoutError:
        return False
    return True
