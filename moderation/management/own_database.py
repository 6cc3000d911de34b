"""A PostgreSQL database for one measurement, beside the one that DATABASE_URL names."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections


def require_postgresql() -> None:
    """Raise CommandError on another database than PostgreSQL."""
    if connection.vendor != "postgresql":
        raise CommandError("This needs PostgreSQL: set DATABASE_URL to a server of your own.")


@contextmanager
def database_of_its_own(suffix: str) -> Iterator[None]:
    """Make an empty database, use it in this process meanwhile, and drop it in the end.

    What is still connected to it then, such as a server that was killed, is thrown out.
    """
    usual = connection.settings_dict["NAME"]
    name = f"{usual}_{suffix}"
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
    connections.close_all()
    connection.settings_dict["NAME"] = name
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connections.close_all()
        connection.settings_dict["NAME"] = usual
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def database_url() -> str:
    """Return the address of the database that this process uses now, for other processes."""
    given = connection.settings_dict
    login = given["USER"] + (f":{given['PASSWORD']}" if given["PASSWORD"] else "")
    host = f"{given['HOST'] or '127.0.0.1'}:{given['PORT'] or 5432}"
    return f"postgres://{f'{login}@' if login else ''}{host}/{given['NAME']}"
