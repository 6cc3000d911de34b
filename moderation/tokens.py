"""Keys to the API: made once, kept as digests, scoped, and revoked. Writes ``ApiToken``."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.errors import Invalid
from moderation.models import Account, ApiToken
from moderation.states import Scope

PREFIX = "wh_"
# How often the last use is written down: a write for every request would help nobody.
NOTE_USE_EVERY = timedelta(minutes=5)


@transaction.atomic
def token_create(
    *,
    account: Account,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    actor: Account | None,
) -> tuple[ApiToken, str]:
    """Make a token; return its row and the key, which is shown once and never stored.

    Raises Invalid for a scope that does not exist or no name.
    """
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in Scope.values]
    if unknown or not wanted:
        raise Invalid(
            f"There is no scope “{unknown[0]}”." if unknown else "Name at least one scope.",
            code="bad_scope",
            field="scopes",
        )
    if not name.strip():
        raise Invalid("Give the token a name, so that you know it again.", field="name")
    key = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        account=account,
        name=name.strip()[:80],
        digest=_digest(key),
        scopes=wanted,
        created_at=timezone.now(),
        expires_at=expires_at,
    )
    event_record(
        action="api_token.created",
        actor=actor,
        data={"token": token.code, "account": account.username, "scopes": wanted},
    )
    return token, key


@transaction.atomic
def token_revoke(*, token: ApiToken, actor: Account | None) -> None:
    """End a token at once; a second time changes nothing."""
    ended = ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True)
    if ended.update(revoked_at=timezone.now()):
        event_record(action="api_token.revoked", actor=actor, data={"token": token.code})


def token_find(key: str) -> ApiToken | None:
    """Return the token of a key while it is valid and its account is active."""
    now = timezone.now()
    token = ApiToken.objects.select_related("account").filter(digest=_digest(key)).first()
    if token is None or token.revoked_at is not None or not token.account.is_active:
        return None
    if token.expires_at is not None and token.expires_at <= now:
        return None
    if token.last_used_at is None or now - token.last_used_at > NOTE_USE_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def _digest(key: str) -> str:
    # A plain digest suffices: the key has 256 random bits, so there is nothing to guess.
    return hashlib.sha256(key.encode()).hexdigest()
