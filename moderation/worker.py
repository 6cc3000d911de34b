"""The life of a worker process: it says that it is alive, and ends in time when it is told to."""

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

import psutil
from django.conf import settings
from django.db import DatabaseError, connection

from moderation.heartbeats import BEAT_SECONDS, heart_beat, heart_stop
from moderation.jobs import leases_give_back

logger = logging.getLogger(__name__)
_ending = threading.Event()
_name = ""


def beat_forever(name: str, queues: Sequence[str]) -> None:
    """Write a heartbeat every few seconds until the worker ends; a dead database is waited out."""
    global _name
    _name = name
    while not _ending.is_set():
        try:
            heart_beat(name=name, kind="worker", queues=queues)
        except DatabaseError as error:
            logger.warning("No heartbeat was written: %s", error)
            connection.close()
        _ending.wait(BEAT_SECONDS)
    connection.close()


def end_after_grace() -> None:
    """Give back what is unfinished after ``DRAIN_SECONDS``, then end the process.

    Containers are killed 30 seconds after they were told to end; a lease given back before is
    taken by another worker at once, one that is lost only after ``LEASE_SECONDS``.
    """
    _ending.set()
    try:
        heart_stop(name=_name)
        threading.Event().wait(settings.DRAIN_SECONDS)
        given_back = leases_give_back()
        logger.warning("Ended before %s jobs were finished; they are queued again.", given_back)
    except DatabaseError as error:
        logger.warning("Ended without the database; leases will run out: %s", error)
    # After the leases: what a killed child leaves half done is then refused, not recorded.
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(0)
