"""Waits out a database that is away, for what must be written down whatever happens."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
PAUSE_SECONDS = 1.0


def written_down(write: Callable[[], Result], *, seconds: float) -> Result:
    """Do a write, again and again for ``seconds`` while the database is away; return its result.

    For deeds that cannot be taken back, such as a letter that was sent. Doing the write twice must
    do no harm: a connection can break after the commit and before the word of it. Within a
    transaction it is tried once, because the transaction is lost with the connection.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block or time.monotonic() > until:
                raise
            logger.warning("The database is away; trying again: %s", error)
            connection.close()
            time.sleep(PAUSE_SECONDS)
