"""Reads settings from the environment; says which variable cannot be read, and why."""

from collections.abc import Callable
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

KINDS: dict[Callable[..., Any] | type, str] = {
    int: "a whole number, such as 600",
    float: "a number, such as 2.5",
    bool: "true or false",
}


class Environment(environ.Env):  # type: ignore[misc]
    """The environment, with a sentence that names the variable where it cannot be read.

    The value itself is not repeated: it may hold a password.
    """

    def get_value(
        self, var: Any, cast: Any = None, default: Any = environ.Env.NOTSET, **given: Any
    ) -> Any:
        """Return a variable; raises ImproperlyConfigured if it is not of its kind."""
        try:
            return super().get_value(var, cast=cast, default=default, **given)
        except ValueError as error:
            kind = KINDS.get(cast, "of another form")
            raise ImproperlyConfigured(
                f"{var} cannot be read: it should be {kind}. docs/settings.md explains it."
            ) from error

    def address(self, var: str, *, schemes: dict[str, str], example: str) -> str:
        """Return an address whose scheme is one of ``schemes``, or an empty string if unset.

        Raises ImproperlyConfigured if it is of another scheme.
        """
        value = self.str(var, default="")
        scheme = value.partition(":")[0]
        if value and scheme not in schemes:
            raise ImproperlyConfigured(
                f"{var} should begin with {' or '.join(f'{known}:' for known in schemes)}, "
                f"such as {example}. docs/settings.md explains it."
            )
        return str(value)
