"""Knows when the database is away, and waits it out for what must be written down.

Django's OperationalError says both “come again” and “this can never work”: SQLite has it for a
table that is missing, PostgreSQL for a statement that ran too long. The driver's own code tells
them apart, so that a fault of ours is not taken for a restart of the database.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
PAUSE_SECONDS = 1.0

# PostgreSQL, appendix A: connection exceptions, and the server goes down or comes up.
_LOST = ("08", "57P")
# Insufficient resources, a deadlock, a lock that was not to be had, serialisation.
_BUSY = ("53", "40P01", "55P03", "40001")
# SQLite's primary result codes (https://www.sqlite.org/rescode.html).
_SQLITE_LOST = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
_SQLITE_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL}


def database_is_away(error: BaseException | None) -> bool:
    """Return whether an exception is, or came of, a database that is lost or too busy just now."""
    return any(
        _is_one_of(each, _LOST + _BUSY, _SQLITE_LOST | _SQLITE_BUSY) for each in _chain(error)
    )


def connection_is_lost(error: BaseException | None) -> bool:
    """Return whether an exception is, or came of, a lost connection: nothing else will work."""
    return any(_is_one_of(each, _LOST, _SQLITE_LOST) for each in _chain(error))


def _is_one_of(error: BaseException, states: tuple[str, ...], codes: set[int]) -> bool:
    # InterfaceError: a connection that broke earlier in the same request is used again.
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        # The low byte is the primary code. What the driver itself refuses has no code.
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in codes
    state = getattr(cause, "sqlstate", None)
    # Where no server answers there is none.
    return state is None or state.startswith(states)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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
            away = database_is_away(error)
            if not away or connection.in_atomic_block or time.monotonic() > until:
                raise
            logger.warning("The database is away; trying again: %s", error)
            connection.close()
            time.sleep(PAUSE_SECONDS)
