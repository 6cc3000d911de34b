"""Public names of rows: short, unguessable, easy to read out."""

import secrets

# Crockford's base 32: no I, L, O or U, which are misread.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_code() -> str:
    """Return ten random characters, about 50 bits: enough that no code can be guessed."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def new_token() -> str:
    """Return an unguessable token for a private link, 192 bits."""
    return secrets.token_urlsafe(24)
