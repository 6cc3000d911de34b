"""The same POST sent twice has one effect. Writes ``IdempotentAnswer``.

The key, the effect and the answer are written in one transaction. A second request with the key
that comes later finds the answer with one look; one that comes meanwhile waits at the unique index
until the first has ended, and then finds its answer. If the first broke, nothing of it is left,
and the second does the work.
(The header is that of draft-ietf-httpapi-idempotency-key-header.)
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from moderation.errors import Conflict, Invalid
from moderation.models import ApiToken, IdempotentAnswer

KEPT_FOR = timedelta(hours=24)
KEY_LENGTH = 100
# How long a second request waits for the first, on PostgreSQL; SQLite waits for any writer.
WAIT_SECONDS = 20


@dataclass(frozen=True)
class Kept:
    """An answer as it was first given."""

    status: int
    content_type: str
    body: str
    is_replay: bool = False


class _AnsweredMeanwhileError(Exception):
    """Another request with the key came first, and has ended."""


# Both databases speak this. Nothing is returned where the key is taken.
_TAKE = """
    INSERT INTO moderation_idempotentanswer
        (token_id, key, route, body_digest, status, content_type, body, created_at)
    VALUES (%(token)s, %(key)s, %(route)s, %(digest)s, 0, '', '', %(now)s)
    ON CONFLICT (token_id, key) DO NOTHING
    RETURNING id
"""


def answer_once(
    *,
    token: ApiToken,
    key: str,
    route: str,
    body_digest: str,
    work: Callable[[], Kept],
    first: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Kept:
    """Do the work and keep its answer, or return the answer that is kept under the key.

    ``work`` is called in a transaction; what it answers is kept, and if it raises nothing is.
    ``first`` is entered before that, for what takes long and writes no row, such as storing large
    files; it is left with an exception where nothing was done, also because another request with
    the key was faster.
    Raises Invalid for a missing or overlong key, Conflict where the key belongs to another
    request.
    """
    if not 0 < len(key) <= KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise Invalid(
            "Every POST needs the header Idempotency-Key: up to 100 characters that you choose "
            "anew for each request and repeat when you send it again.",
            code="idempotency_key_missing",
        )
    answers = IdempotentAnswer.objects.filter(token=token, key=key)
    found = answers.first()
    if found is not None and found.created_at < timezone.now() - KEPT_FOR:
        # By its number, so that no younger one is forgotten that was written meanwhile.
        IdempotentAnswer.objects.filter(pk=found.pk).delete()
        found = None
    if found is None:
        with suppress(_AnsweredMeanwhileError), first(), transaction.atomic():
            taken = _take(token=token, key=key, route=route, body_digest=body_digest)
            if taken is None:
                raise _AnsweredMeanwhileError
            kept = work()
            IdempotentAnswer.objects.filter(pk=taken).update(
                status=kept.status, content_type=kept.content_type, body=kept.body
            )
            return kept
        found = answers.get()
    if (found.route, found.body_digest) != (route, body_digest):
        raise Conflict(
            "This Idempotency-Key was used for another request. Choose a new key.",
            code="idempotency_key_reused",
        )
    return Kept(found.status, found.content_type, found.body, is_replay=True)


def _take(*, token: ApiToken, key: str, route: str, body_digest: str) -> int | None:
    """Write the key down and return its row; None if somebody else has, once they have ended."""
    # With the limit for the wait in one round trip.
    wait = f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'; " if _is_postgresql() else ""
    given: dict[str, Any] = {
        "token": token.pk,
        "key": key,
        "route": route,
        "digest": body_digest,
        "now": connection.ops.adapt_datetimefield_value(timezone.now()),
    }
    with connection.cursor() as cursor:
        cursor.execute(wait + _TAKE, given)
        if wait:
            cursor.nextset()
        row = cursor.fetchone()
    return row[0] if row else None


def _is_postgresql() -> bool:
    return connection.vendor == "postgresql"


def answers_forget() -> int:
    """Forget answers that are older than a day; return how many."""
    old = IdempotentAnswer.objects.filter(created_at__lt=timezone.now() - KEPT_FOR)
    return old.delete()[0]
