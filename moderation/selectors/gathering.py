"""Rows of another table gathered into one column, so that a page asks for them in one query."""

from typing import Any

from django.db.models import Func, JSONField, QuerySet, Subquery
from django.db.models.functions import JSONObject


class _Json(Func):
    """A column of JSON within JSON: SQLite keeps it as text and would quote it."""

    arity = 1
    template = "%(expressions)s"

    def as_sqlite(self, compiler: Any, connection: Any, **options: Any) -> Any:
        """Say that the text is JSON already."""
        return self.as_sql(compiler, connection, template="JSON(%(expressions)s)", **options)


class Gathered(Subquery):
    """The rows of a query as a list of dictionaries, in its order; an empty list for none.

    ``columns`` are fields, or lookups of fields, whose values JSON can hold: no moments, no bytes.
    """

    output_field = JSONField()

    def __init__(self, rows: QuerySet[Any], *columns: str) -> None:
        is_json = {field.name for field in rows.model._meta.fields if isinstance(field, JSONField)}
        wanted = {name: _Json(name) if name in is_json else name for name in columns}
        # A query without a value of its own would be gathered with every column.
        super().__init__(rows.annotate(gathered=JSONObject(**wanted)).values("gathered"))

    def as_sqlite(self, compiler: Any, connection: Any, **options: Any) -> Any:
        """Gather with SQLite's functions."""
        return self.as_sql(
            compiler,
            connection,
            template="(SELECT JSON_GROUP_ARRAY(JSON(gathered)) FROM (%(subquery)s) rows)",
            **options,
        )

    def as_postgresql(self, compiler: Any, connection: Any, **options: Any) -> Any:
        """Gather with PostgreSQL's functions."""
        return self.as_sql(
            compiler,
            connection,
            template="(SELECT COALESCE(JSONB_AGG(gathered), '[]') FROM (%(subquery)s) rows)",
            **options,
        )
