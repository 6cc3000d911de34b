"""Throttles: token buckets in the database, exact however many processes ask at once.

Reads and writes ``ThrottleBucket``. A bucket is stored as the moment at which it is full again:
taking a token moves it on, and one statement both asks and takes (the generic cell rate algorithm,
ITU-T I.371, which is a token bucket without a counter to refill).
"""

import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass

from django.db import connection
from django.db.models import F
from django.utils.crypto import salted_hmac

from moderation.errors import Refusal
from moderation.models import ThrottleBucket


@dataclass(frozen=True, slots=True)
class Limit:
    """``burst`` tokens at once, and ``per_day`` of them spread over a day."""

    burst: int
    per_day: int

    @property
    def seconds(self) -> float:
        """How long one token takes to come back."""
        return 86_400 / self.per_day


# Mozilla's add-ons and Mastodon allow 20 a day and 400 a day; a person who goes through a
# creator's page needs more than a visitor, and people behind one address share it.
LIMITS: Mapping[str, Limit] = {
    "report.account": Limit(burst=30, per_day=100),
    "report.flagger": Limit(burst=500, per_day=5000),
    "report.visitor": Limit(burst=10, per_day=30),
    "report.address": Limit(burst=200, per_day=2000),
    # Reports of visitors on one version. Those of accounts, of children in danger and of depicted
    # people are never refused for what others send.
    "report.target": Limit(burst=60, per_day=600),
    # New words for one report or one request: each change is an event and a new weighing.
    "report.edit": Limit(burst=10, per_day=50),
    # Messages of whoever appealed, in one thread: each takes the lock of the record.
    "appeal.message": Limit(burst=20, per_day=100),
    "likeness.address": Limit(burst=5, per_day=20),
    # Letters to one address that nobody has confirmed: nobody's letter box is flooded through us.
    "likeness.email": Limit(burst=3, per_day=6),
    # Wrong passwords from one address: ten, then one a minute, so that the eleventh of a minute is
    # refused. Right ones give their token back, so people who share an address do not add up.
    "password.address": Limit(burst=10, per_day=1440),
    # Wrong passwords for one account from everywhere: NIST SP 800-63B-4, 3.2.2 allows a hundred in
    # a row. While it is empty its owner gets in with a browser that is known, by passkey or letter.
    "password.account": Limit(burst=100, per_day=500),
    # Wrong passwords for one account in a browser that it was logged in with before; they are
    # counted here alone, so that nobody else's keep it waiting.
    "password.browser": Limit(burst=10, per_day=144),
    # Codes of an app: 144 guesses a day among 10^6, of which three are valid at a time.
    "second_factor": Limit(burst=10, per_day=144),
    # One code opens once: 90 s is how long an app's code is valid, with the tolerance either side.
    "second_factor.code": Limit(burst=1, per_day=960),
    "sign_up.address": Limit(burst=20, per_day=200),
    # Letters about an account that somebody asks for: from one network address, from there to one
    # letter box, and of one kind to one letter box from everywhere. The last is empty for an hour
    # at most, which is less than a letter's link works for: see `_has_one_already`.
    "letter.address": Limit(burst=20, per_day=100),
    "letter.sender": Limit(burst=3, per_day=12),
    "letter.recipient": Limit(burst=5, per_day=24),
}


# Both databases speak this. Nothing is returned where the bucket is empty.
_TAKE = """
    INSERT INTO moderation_throttlebucket AS bucket (key, full_at)
    VALUES (%(key)s, %(now)s + %(seconds)s)
    ON CONFLICT (key) DO UPDATE SET full_at = %(seconds)s
        + CASE WHEN bucket.full_at > %(now)s THEN bucket.full_at ELSE %(now)s END
    WHERE bucket.full_at <= %(free)s
    RETURNING full_at
"""


class TooMany(Refusal):
    """The bucket is empty."""

    status = 429
    code = "too_many"


def throttle_take(*, limit: str, key: str) -> bool:
    """Take a token from a bucket; False if it is empty. Call it outside of long transactions.

    ``limit`` names one of ``LIMITS``; ``key`` whose bucket it is.
    """
    rule = LIMITS[limit]
    return _take(_bucket(limit, key), seconds=rule.seconds, burst=rule.burst)


def _bucket(limit: str, key: str) -> str:
    """Return the name of a bucket: of one length, and no address in it whatever was typed."""
    return f"{limit}:{salted_hmac('moderation.throttle', key, algorithm='sha256').hexdigest()}"


def _take(key: str, *, seconds: float, burst: int) -> bool:
    now = time.time()
    given: dict[str, str | float] = {
        "key": key,
        "now": now,
        "seconds": seconds,
        # Full less than a whole burst ago means that a token is left.
        "free": now + (burst - 1) * seconds,
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, given)
        return cursor.fetchone() is not None


def throttle_give_back(*, limit: str, key: str) -> None:
    """Put a token back that turned out not to be needed, such as for a right password."""
    mine = ThrottleBucket.objects.filter(key=_bucket(limit, key))
    mine.update(full_at=F("full_at") - LIMITS[limit].seconds)


def require_token(*, limit: str, key: str) -> None:
    """Take a token from a bucket; raises TooMany, saying how soon there is another."""
    if throttle_take(limit=limit, key=key):
        return
    minutes = max(1, round(LIMITS[limit].seconds / 60))
    raise TooMany(
        "That was tried too often in a short time. Wait "
        + ("a minute" if minutes == 1 else f"{minutes} minutes")
        + " and try once more.",
        code="too_many_attempts",
    )


def turn_take(*, name: str, seconds: float) -> bool:
    """Take the turn that one process at a time has; False while another has it.

    Whoever dies with it keeps it for ``seconds``, no longer.
    """
    return _take(f"turn:{name}", seconds=seconds, burst=1)


def turn_end(*, name: str, pause: float) -> None:
    """Give the turn back; the next one may be taken after ``pause`` seconds."""
    ThrottleBucket.objects.filter(key=f"turn:{name}").update(full_at=time.time() + pause)


def buckets_forget() -> int:
    """Delete the buckets that are full again: an absent bucket is a full one; return how many."""
    return ThrottleBucket.objects.filter(full_at__lt=time.time() - 60).delete()[0]


def address_digest(address: str) -> str:
    """Return a keyed digest of a network address, so that no address is ever stored.

    Of IPv6 the first 64 bits, which is what one household or machine is given.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        network = address
    else:
        width = 32 if parsed.version == 4 else 64
        network = str(ipaddress.ip_network(f"{parsed}/{width}", strict=False))
    return salted_hmac("moderation.throttle", network, algorithm="sha256").hexdigest()[:40]
