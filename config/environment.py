"""Reads settings from the environment; says which variable cannot be read, and why."""

import os
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import parse_qs, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

KINDS: dict[Callable[..., Any] | type, str] = {
    int: "a whole number, such as 600",
    float: "a number, such as 2.5",
    bool: "true or false",
}


BOOLEANS = frozenset({"", *environ.Env.BOOLEAN_TRUE_STRINGS, "false", "off", "no", "n", "0"})


class Environment(environ.Env):  # type: ignore[misc]
    """The environment, with a sentence that names the variable where it cannot be read.

    The value itself is not repeated: it may hold a password.
    """

    def get_value(
        self, var: Any, cast: Any = None, default: Any = environ.Env.NOTSET, **given: Any
    ) -> Any:
        """Return a variable; raises ImproperlyConfigured if it is not of its kind."""
        try:
            if cast is bool and os.environ.get(var, "").strip().lower() not in BOOLEANS:
                raise ValueError  # it would count as false
            return super().get_value(var, cast=cast, default=default, **given)
        except ValueError as error:
            kind = KINDS.get(cast, "of another form")
            raise ImproperlyConfigured(
                f"{var} cannot be read: it should be {kind}. docs/settings.md explains it."
            ) from error

    def address(self, var: str, *, schemes: dict[str, str], example: str) -> str:
        """Return an address whose scheme is one of ``schemes``, or an empty string if unset.

        Raises ImproperlyConfigured if it is of another scheme, or has a port that is no number.
        """
        value = self.str(var, default="")
        scheme = value.partition(":")[0]
        if value and scheme not in schemes:
            raise ImproperlyConfigured(
                f"{var} should begin with {' or '.join(f'{known}:' for known in schemes)}, "
                f"such as {example}. docs/settings.md explains it."
            )
        try:
            urlsplit(value).port  # noqa: B018 - it is looked at here
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{var} names a port that is none; it should be like {example}. "
                "docs/settings.md explains it."
            ) from error
        return str(value)

    def choice(self, var: str, *, among: Collection[str], default: str) -> str:
        """Return a variable that is one of a few words; raises ImproperlyConfigured otherwise."""
        value = str(self.str(var, default=default))
        if value not in among:
            raise ImproperlyConfigured(
                f"{var} should be one of {', '.join(among)}. docs/settings.md explains it."
            )
        return value


def bucket_storage(url: str, *, for_links: bool = False) -> dict[str, Any]:
    """Return Django's storage setting for ``s3://bucket/prefix?region=…&endpoint=…&public=…``.

    ``for_links`` asks for the one that signs what browsers are given: ``public`` is the bucket's
    address as they reach it, where the house itself has another. The key comes from the
    environment or the machine's role, as everywhere with S3. Raises ImproperlyConfigured for an
    option that is not known.
    """
    from botocore.config import Config  # of the s3 extra

    parts, options = urlsplit(url), _options(url)
    endpoint = options.get("endpoint")
    if for_links:
        endpoint = options.get("public", endpoint)
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": parts.netloc,
            "location": parts.path.strip("/"),
            "endpoint_url": endpoint,
            "region_name": options.get("region"),
            "client_config": Config(
                s3={"addressing_style": "path" if endpoint else None},
                signature_version="s3v4",
                # A bucket that hangs must not hold a page or a worker for minutes.
                connect_timeout=5,
                read_timeout=30,
                retries={"max_attempts": 2, "mode": "standard"},
            ),
            "file_overwrite": False,
            # What is read goes to the disk beyond this; django-storages would keep all in memory.
            "max_memory_size": 1024**2,
            "default_acl": None,
            "querystring_auth": True,
            "querystring_expire": 60,
        },
    }


def bucket_origin(url: str) -> str:
    """Return the origin that a browser sends to when it uploads into the bucket."""
    options = _options(url)
    reached_at = options.get("public") or options.get("endpoint")
    if reached_at:
        endpoint = urlsplit(reached_at)
        return f"{endpoint.scheme}://{endpoint.netloc}"
    region = f".{options['region']}" if options.get("region") else ""
    return f"https://{urlsplit(url).netloc}.s3{region}.amazonaws.com"


def _options(url: str) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    unknown = sorted(set(options) - {"region", "endpoint", "public"})
    if unknown or not urlsplit(url).netloc:
        wrong = f"has the option “{unknown[0]}”" if unknown else "names no bucket"
        raise ImproperlyConfigured(
            f"STORAGE_URL {wrong}; it should be like s3://bucket/prefix?region=…&endpoint=…&public=…"
        )
    return options
