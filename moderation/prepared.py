"""Queries whose SQL is written once and that are asked many times.

Composing a query of Django's and writing its SQL takes several times as long as asking it, and was
near to half of what taking a case cost (docs/benchmarks.md). What a person waits for with every
request, or every key, is prepared here.
"""

from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import TransactionManagementError

Row = TypeVar("Row", bound=Model)
# So many shapes of one query are remembered; others are written anew.
SHAPES = 256
# What stands in for a value while the SQL is written. None of these is ever in a table.
_STAND_INS: dict[type, Callable[[int], Any]] = {
    int: lambda place: -(1 << 62) - place,
    str: lambda place: f"\x02{place}\x03",
    datetime: lambda place: datetime(1, 1, 1 + place, tzinfo=UTC),
}


class Prepared(Generic[Row]):
    """One query, whose SQL is written the first time that each of its shapes is asked.

    ``compose(*shape, **values)`` returns a query set. It is called with stand-ins of the types in
    ``values``, which it may put into conditions and nowhere else. What changes the SQL itself, such
    as how many values a list has, is its ``shape``: anything that can be a key.
    """

    def __init__(self, compose: Callable[..., QuerySet[Row]], **values: type) -> None:
        self._compose = compose
        self._stand_ins = {
            name: _STAND_INS[kind](place) for place, (name, kind) in enumerate(values.items())
        }
        self._written = lru_cache(SHAPES)(self._write)

    def rows(self, *shape: Any, **values: Any) -> list[Row]:
        """Ask with these values and return what the query set would.

        Raises TransactionManagementError where it locks rows outside of a transaction.
        """
        compiler, sql, parameters = self._written(*shape)
        if compiler.query.select_for_update and not connection.in_atomic_block:
            raise TransactionManagementError("Rows are locked within a transaction.")
        asked = copy(compiler)
        # Each thread has a connection of its own.
        asked.connection = connection
        given = {name: _as_sent(values[name]) for name in self._stand_ins}
        sent = tuple(given[name] if name else value for name, value in parameters)
        asked.as_sql = lambda: (sql, sent)  # type: ignore[method-assign, misc, assignment]
        query = SimpleNamespace(get_compiler=lambda using: asked)
        asking: Any = SimpleNamespace(db=DEFAULT_DB_ALIAS, query=query, _known_related_objects={})
        return list(ModelIterable(asking))

    def first(self, *shape: Any, **values: Any) -> Row | None:
        """Return the first row or None. A query that wants no more says so itself: ``[:1]``."""
        return next(iter(self.rows(*shape, **values)), None)

    def _write(self, *shape: Any) -> tuple[SQLCompiler, str, list[tuple[str, Any]]]:
        """Return compiler, SQL and parameters, each with the name of the value it stands in for."""
        query = self._compose(*shape, **self._stand_ins).query
        compiler = query.get_compiler(DEFAULT_DB_ALIAS)
        sql, parameters = compiler.as_sql()
        names = {_as_sent(value): name for name, value in self._stand_ins.items()}
        named = [
            (names.get(value, "") if isinstance(value, int | str | datetime) else "", value)
            for value in parameters
        ]
        if missing := self._stand_ins.keys() - {name for name, _ in named}:
            raise ValueError(f"The query asks for no {', '.join(sorted(missing))}.")
        return compiler, sql, named


def _as_sent(value: Any) -> Any:
    """Return a value as it goes to the database."""
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return value
