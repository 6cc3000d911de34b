"""Lists by cursor: a page stays the same while rows are added before it."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from django.db.models import Model, QuerySet
from ninja import Query

from moderation.errors import Invalid

Row = TypeVar("Row", bound=Model)
Limit = Annotated[int, Query(ge=1, le=100)]


class BadCursor(Invalid):
    """The cursor is not one of ours."""

    status = 400
    code = "bad_cursor"


def page_of(
    rows: QuerySet[Row], *, cursor: str, limit: int, descending: bool = True, by: str = "pk"
) -> tuple[Sequence[Row], str | None]:
    """Return one page and the cursor of the next, or None on the last.

    Raises BadCursor for a cursor that this API did not give out.
    """
    if cursor:
        after = position_of(cursor)
        rows = rows.filter(**{f"{by}__{'lt' if descending else 'gt'}": after})
    found = list(rows[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    following = cursor_at(_position(found[-1], by)) if more else None
    return found, following


def cursor_at(position: int) -> str:
    """Return the cursor of a position."""
    return base64.urlsafe_b64encode(f"v1:{position}".encode()).decode().rstrip("=")


def position_of(cursor: str) -> int:
    """Return the position of a cursor; raises BadCursor."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        version, _, position = text.partition(":")
        if version != "v1" or not position.isascii() or not position.isdigit():
            raise ValueError
        if len(position) > 18:
            raise ValueError
        return int(position)
    except (ValueError, binascii.Error) as error:
        raise BadCursor("This cursor is not one that this API gave out; begin without one.") from (
            error
        )


def _position(row: Any, by: str) -> int:
    return int(getattr(row, by))
