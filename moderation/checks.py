"""System checks: settings that cannot work, or cannot work together, said in sentences.

``manage.py check`` runs them, and so do the web process, every worker and the clock when they
start.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.http.request import validate_host

from moderation.states import Action

HINT = "docs/settings.md explains every variable."
# The least that still makes sense, and why.
LEAST = {
    "LEASE_SECONDS": (5, "a worker renews its lease four times in it"),
    "CLAIM_SECONDS": (30, "an open page renews a claim twice in it"),
    "SWEEP_SECONDS": (0.1, "the clock sends a message each time"),
    "RESEND_SECONDS": (1, "a message needs some time to arrive"),
    "WEB_AT_ONCE": (1, "nothing could be answered"),
    "ENCODER_THREADS": (0, "0 stands for all cores"),
    "ENCODER_BATCH": (1, "nothing could be embedded"),
    "MAX_WEIGHTS_BYTES": (1, "nothing could be uploaded"),
    "MAX_PREVIEW_BYTES": (1, "nothing could be uploaded"),
    "DRAIN_SECONDS": (0, "0 gives everything back at once"),
    "UNDO_SECONDS": (0, "0 lets nothing be undone"),
    "POPULAR_DOWNLOADS": (0, "from so many downloads on a model is popular"),
    "TRUSTED_PROXIES": (0, "0 believes nobody"),
    "SEVERE_A_DAY": (0, "0 sets no limit"),
    "SEVERE_AN_HOUR": (0, "0 sets no limit"),
    "SEVERE_MINUTES_A_DAY": (0, "0 sets no limit"),
    "SEVERE_MINUTES_AN_HOUR": (0, "0 sets no limit"),
}
SHARES = ("AUDIT_SHARE", "SECOND_REVIEW_SHARE")
# What a second person can be asked to confirm; moderation/decision_rows.py reads the words.
CAN_BE_CONFIRMED = frozenset({"popular", "overturn", *Action.values})
# Containers are killed so long after they were told to end.
KILLED_AFTER = 30


def checks_register() -> None:
    """Let Django run these checks."""
    register(check_addresses, Tags.security)
    register(check_numbers, Tags.compatibility)
    register(check_lists, Tags.compatibility)
    register(check_servers, Tags.compatibility)
    register(check_broker, deploy=True)


def check_addresses(
    app_configs: Sequence[AppConfig] | None, **options: Any
) -> Iterator[CheckMessage]:
    """Check ``SITE_URL`` and what hangs on it."""
    site = urlsplit(settings.SITE_URL)
    if site.scheme not in {"http", "https"} or not site.hostname or not _has_a_port(site):
        yield Error(
            "SITE_URL is not an address: it should begin with http:// or https:// and name a host, "
            "with a port that is a number where it has one.",
            hint=HINT,
            id="weighhouse.E001",
        )
        return
    if not validate_host(site.hostname, settings.ALLOWED_HOSTS):
        yield Error(
            f"SITE_URL names the host {site.hostname}, which ALLOWED_HOSTS does not admit: every "
            "link in an e-mail would lead to a refusal. Add it to ALLOWED_HOSTS.",
            hint=HINT,
            id="weighhouse.E002",
        )
    if site.scheme != "https":
        return
    if settings.SECRET_KEY_IS_OF_THIS_PROCESS:
        yield Error(
            "SECRET_KEY is not set: every process would sign sessions with a key of its own, and "
            "all would end when it restarts; apps that show codes would have to be set up anew. "
            "Set SECRET_KEY to a long random text.",
            hint=HINT,
            id="weighhouse.E003",
        )
    if settings.DEBUG:
        yield Error(
            "WEIGHHOUSE_DEBUG is on where SITE_URL is public: errors would show settings and data "
            "to anybody. Unset WEIGHHOUSE_DEBUG.",
            hint=HINT,
            id="weighhouse.E004",
        )
    if not settings.REQUIRE_MFA:
        yield Warning(
            "REQUIRE_MFA is off where SITE_URL is public: a stolen password of one moderator opens "
            "the console and what nobody else may see. Unset REQUIRE_MFA.",
            hint=HINT,
            id="weighhouse.W006",
        )


def _has_a_port(site: SplitResult) -> bool:
    try:
        return site.port is None or site.port > 0
    except ValueError:
        return False


def check_numbers(
    app_configs: Sequence[AppConfig] | None, **options: Any
) -> Iterator[CheckMessage]:
    """Check that times, sizes and shares are such that one can work with them."""
    for name, (least, why) in LEAST.items():
        if getattr(settings, name) < least:
            yield Error(
                f"{name} is {getattr(settings, name)}; it should be at least {least}: {why}.",
                hint=HINT,
                id="weighhouse.E005",
            )
    if settings.RESEND_SECONDS < settings.SWEEP_SECONDS:
        yield Error(
            f"RESEND_SECONDS ({settings.RESEND_SECONDS}) is shorter than SWEEP_SECONDS "
            f"({settings.SWEEP_SECONDS}): every sweep would send every message again.",
            hint=HINT,
            id="weighhouse.E006",
        )
    for name in SHARES:
        if not 0 <= getattr(settings, name) <= 1:
            yield Error(
                f"{name} is {getattr(settings, name)}; it is a share, from 0 to 1.",
                hint=HINT,
                id="weighhouse.E008",
            )
    if settings.DRAIN_SECONDS >= KILLED_AFTER:
        yield Warning(
            f"DRAIN_SECONDS is {settings.DRAIN_SECONDS}: containers are killed {KILLED_AFTER} s "
            "after they were told to end, and what is unfinished then waits for its lease to run "
            "out. Set it lower, or give containers more time.",
            hint=HINT,
            id="weighhouse.W007",
        )


def check_lists(app_configs: Sequence[AppConfig] | None, **options: Any) -> Iterator[CheckMessage]:
    """Check that no word of a list is one that nothing answers to."""
    for word in sorted(set(settings.SECOND_PERSON_FOR) - CAN_BE_CONFIRMED):
        yield Error(
            f"SECOND_PERSON_FOR has the word “{word}”, which says nothing: no second person would "
            f"be asked. There are {', '.join(sorted(CAN_BE_CONFIRMED))}.",
            hint=HINT,
            id="weighhouse.E009",
        )
    for host in settings.OUTBOUND_PRIVATE_HOSTS:
        if urlsplit(f"//{host}").hostname != host.lower():
            yield Error(
                f"OUTBOUND_PRIVATE_HOSTS has “{host}”, which is no name of a host: give it without "
                "https://, port and path.",
                hint=HINT,
                id="weighhouse.E010",
            )


def check_servers(
    app_configs: Sequence[AppConfig] | None, **options: Any
) -> Iterator[CheckMessage]:
    """Check that the database, the broker and the encoder are of a kind, and go together."""
    on_sqlite = str(settings.DATABASES["default"]["ENGINE"]).endswith("sqlite3")
    on_files = settings.CELERY_BROKER_URL.startswith("filesystem:")
    if on_sqlite and not on_files:
        yield Warning(
            "REDIS_URL is set, but DATABASE_URL is not: workers on other machines would not see "
            "the SQLite file of this one. Set DATABASE_URL to a PostgreSQL server.",
            hint=HINT,
            id="weighhouse.W001",
        )
    if not on_sqlite and on_files:
        yield Warning(
            "DATABASE_URL names a server, but REDIS_URL is not set: messages stay in a folder of "
            "this machine, and workers elsewhere are woken by nobody. Set REDIS_URL.",
            hint=HINT,
            id="weighhouse.W002",
        )
    kind = settings.ENCODER.partition(":")[0]
    if kind not in {"demo", "onnx", "open_clip"}:
        yield Error(
            f"ENCODER names the maker “{kind}”; there are demo, onnx:FOLDER and "
            "open_clip:MODEL:TAG_OR_FILE.",
            hint=HINT,
            id="weighhouse.E007",
        )
    if kind == "demo" and not on_sqlite:
        yield Warning(
            "ENCODER is the demo encoder, which knows only the shapes and colours of the demo. "
            "docs/encoders.md names encoders for real pictures.",
            hint=HINT,
            id="weighhouse.W003",
        )


def check_broker(app_configs: Sequence[AppConfig] | None, **options: Any) -> Iterator[CheckMessage]:
    """Ask Redis whether it would throw messages away when it is full."""
    if not settings.CELERY_BROKER_URL.startswith("redis"):
        return
    from redis import Redis, RedisError  # an extra: only where the setting asks for it

    try:
        client = Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=5)
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
    except RedisError as error:
        yield Warning(
            f"Redis at REDIS_URL did not answer ({type(error).__name__}): work is still accepted "
            "and done once it is back, because the sweeper sends every message again.",
            hint=HINT,
            id="weighhouse.W004",
        )
        return
    if policy != "noeviction":
        yield Warning(
            f"Redis has maxmemory-policy “{policy}”: when it is full it throws messages away "
            "without a word, and work waits for the sweeper. Set it to noeviction.",
            hint="redis-cli config set maxmemory-policy noeviction",
            id="weighhouse.W005",
        )
