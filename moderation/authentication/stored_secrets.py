"""Secrets of second factors, encrypted where they are stored: a copy of the database opens nothing.

Fernet (https://github.com/fernet/spec) under a key that is derived from ``SECRET_KEY``, and from
``SECRET_KEY_FALLBACKS`` for what was stored before it changed.
"""

import base64

from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import transaction

from moderation.errors import Refusal

# Fernet's version, 0x80, as base64 writes it. No secret begins so: those of apps are base32, in
# capitals, and the seeds of recovery codes hexadecimal.
_ENCRYPTED = "gAAAA"


class Unreadable(Refusal):
    """A secret was stored under a key that is not there any more."""

    status = 503
    code = "second_factor_unreadable"


def secret_encrypt(secret: str) -> str:
    """Encrypt a secret under the key of now."""
    return _keys().encrypt(secret.encode()).decode()


def secret_decrypt(stored: str) -> str:
    """Return a secret that was stored encrypted, or in clear by an older version.

    Raises Unreadable where it was encrypted under none of the keys.
    """
    if not stored.startswith(_ENCRYPTED):
        return stored
    try:
        return _keys().decrypt(stored.encode()).decode()
    except InvalidToken as error:
        raise Unreadable(
            "Your second factor cannot be read. Use a passkey, or turn to those who run this site."
        ) from error


def secrets_encrypt_again() -> int:
    """Encrypt every stored secret under the key of now, clear ones too; return how many there are.

    Raises Unreadable at the first that none of the keys opens; those before it are done.
    """
    done = 0
    for number in Authenticator.objects.order_by("pk").values_list("pk", flat=True):
        # One at a time, held: a recovery code may be used up meanwhile, and stands beside it.
        with transaction.atomic():
            factor = Authenticator.objects.select_for_update().filter(pk=number).first()
            names = {"secret", "seed"} & set(factor.data) if factor is not None else set()
            if factor is None or not names:
                continue
            for name in names:
                factor.data[name] = secret_encrypt(secret_decrypt(factor.data[name]))
            factor.save(update_fields=["data"])
            done += 1
    return done


def _keys() -> MultiFernet:
    # The first encrypts, all decrypt.
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return MultiFernet([_key(secret) for secret in secrets])


def _key(secret: str) -> Fernet:
    # RFC 5869; SECRET_KEY is random, so that it needs no salt and no stretching.
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"weighhouse second factor")
    return Fernet(base64.urlsafe_b64encode(derivation.derive(secret.encode())))
