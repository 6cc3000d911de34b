"""Who asks: a token, and what it may be used for."""

from typing import Any, cast

from django.http import HttpRequest
from ninja.security import HttpBearer

from moderation.errors import NotAllowed
from moderation.models import ApiToken
from moderation.states import Scope
from moderation.tokens import token_find


class TokenAuth(HttpBearer):
    """``Authorization: Bearer wh_…`` with one scope."""

    openapi_description = "A key made with `manage.py api_token create`."

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        """Return the token, or None for one that is not valid; raises NotAllowed for its scope."""
        found = _found(request, token)
        if found is None:
            return None
        if self.scope not in found.scopes:
            raise NotAllowed(f"This key lacks the scope “{self.scope}”.", code="scope_missing")
        return found


def _found(request: HttpRequest, key: str) -> ApiToken | None:
    """Return the token of a key; a POST asks twice, before its key is looked up and after."""
    known: tuple[str, ApiToken] | None = getattr(request, "weighhouse_token", None)
    if known is not None and known[0] == key:
        return known[1]
    found = token_find(key) if key.isascii() else None
    if found is not None:
        request.weighhouse_token = key, found  # type: ignore[attr-defined]
    return found


def token_of(request: HttpRequest) -> ApiToken:
    """Return the token that was shown."""
    return cast(ApiToken, request.auth)  # type: ignore[attr-defined]
