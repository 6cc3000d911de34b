"""The life of a worker process: it says that it is alive, and ends in time when it is told to.

A file says so to the machine it runs on, whose orchestrator ends what is not alive; a row says so
to the house. While the database is away there is no row, and nothing is gained by ending workers.
"""

import logging
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from moderation.heartbeats import BEAT_SECONDS, heart_beat, heart_stop
from moderation.jobs import leases_give_back
from moderation.stored import copies_forget

logger = logging.getLogger(__name__)
_ending = threading.Event()
_name = ""


def alive_file() -> Path:
    """Return the file that a worker of this machine touches every few seconds."""
    return Path(settings.DATA_DIR) / "alive" / socket.gethostname()


def live_visibly() -> None:
    """Touch that file until the worker ends, whatever else hangs."""
    file = alive_file()
    while not _ending.is_set():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        except OSError as error:
            logger.warning("The file that says this worker is alive was not touched: %s", error)
        _ending.wait(BEAT_SECONDS)


def beat_forever(name: str, queues: Sequence[str]) -> None:
    """Write a heartbeat every few seconds until the worker ends; a dead database is waited out.

    Tidies up the copies of fetched files beside it, which each machine has of its own.
    """
    global _name
    _name = name
    while not _ending.is_set():
        try:
            heart_beat(name=name, kind="worker", queues=queues)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("No heartbeat was written: %s", error)
            connection.close()
        _tidy_up()
        _ending.wait(BEAT_SECONDS)
    connection.close()


def _tidy_up() -> None:
    try:
        copies_forget()
    except OSError as error:
        logger.warning("Copies of fetched files were not tidied up: %s", error)


def end_after_grace() -> None:
    """Give back what is unfinished after ``DRAIN_SECONDS``, then end the process.

    Containers are killed 30 seconds after they were told to end; a lease given back before is
    taken by another worker at once, one that is lost only after ``LEASE_SECONDS``.
    """
    _ending.set()
    try:
        heart_stop(name=_name)
    except (DatabaseError, InterfaceError) as error:
        # It may be back before the grace is over; what is being done may be finished by then.
        logger.warning("The heartbeat was not taken back: %s", error)
        connection.close()
    threading.Event().wait(settings.DRAIN_SECONDS)
    try:
        given_back = leases_give_back()
        logger.warning("Ended before %s jobs were finished; they are queued again.", given_back)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Ended without the database; leases will run out: %s", error)
    # After the leases: what a killed child leaves half done is then refused, not recorded.
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(0)
