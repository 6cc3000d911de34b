"""The same POST sent twice has one effect. Writes ``IdempotentAnswer``.

The key, the effect and the answer are written in one transaction. A second request with the key
waits at the unique index until the first has ended, and then finds its answer; if the first
broke, nothing of it is left, and the second does the work.
(The header is that of draft-ietf-httpapi-idempotency-key-header.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, connection, transaction
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


class _FirstOneIsThere(Exception):  # noqa: N818 - a signal, no fault
    pass


def answer_once(
    *, token: ApiToken, key: str, route: str, body_digest: str, work: Callable[[], Kept]
) -> Kept:
    """Do the work and keep its answer, or return the answer that is kept under the key.

    ``work`` is called in a transaction; answers below 500 are kept, whatever it raises is not.
    Raises Invalid for a missing or overlong key, Conflict where the key belongs to another
    request.
    """
    if not 0 < len(key) <= KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise Invalid(
            "Every POST needs the header Idempotency-Key: up to 100 characters that you choose "
            "anew for each request and repeat when you send it again.",
            code="idempotency_key_missing",
        )
    IdempotentAnswer.objects.filter(
        token=token, key=key, created_at__lt=timezone.now() - KEPT_FOR
    ).delete()
    try:
        return _first(token=token, key=key, route=route, body_digest=body_digest, work=work)
    except _FirstOneIsThere:
        kept = IdempotentAnswer.objects.get(token=token, key=key)
    if (kept.route, kept.body_digest) != (route, body_digest):
        raise Conflict(
            "This Idempotency-Key was used for another request. Choose a new key.",
            code="idempotency_key_reused",
        )
    return Kept(kept.status, kept.content_type, kept.body, is_replay=True)


def _first(
    *, token: ApiToken, key: str, route: str, body_digest: str, work: Callable[[], Kept]
) -> Kept:
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
        try:
            with transaction.atomic():
                row = IdempotentAnswer.objects.create(
                    token=token,
                    key=key,
                    route=route,
                    body_digest=body_digest,
                    created_at=timezone.now(),
                )
        except IntegrityError as error:
            raise _FirstOneIsThere from error
        kept = work()
        row.status, row.content_type, row.body = kept.status, kept.content_type, kept.body
        row.save(update_fields=["status", "content_type", "body"])
    return kept


def answers_forget() -> int:
    """Forget answers that are older than a day; return how many."""
    old = IdempotentAnswer.objects.filter(created_at__lt=timezone.now() - KEPT_FOR)
    return old.delete()[0]
