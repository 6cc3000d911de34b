"""Says by the exit status whether PostgreSQL and Redis answer; ``make test-servers`` asks."""

import os
import sys


def missing() -> str:
    """Return which server does not answer, and why; an empty string if both do."""
    try:
        import psycopg
        import redis
    except ImportError as error:
        return f"The `postgres` extra is not installed ({error})."
    try:
        psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return f"PostgreSQL (DATABASE_TEST_URL) does not answer: {error}"
    try:
        redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5).ping()
    except redis.RedisError as error:
        return f"Redis (REDIS_TEST_URL) does not answer: {error}"
    return ""


if __name__ == "__main__":
    if said := missing():
        sys.exit(f"Skipped: {said}")
