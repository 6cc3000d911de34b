"""A typed client for the API of Weighhouse."""

from weighhouse_client.client import Client, WeighhouseError, verify
from weighhouse_client.types import Appeal, Decision, Event, Finding, Report, Version

__all__ = [
    "Appeal",
    "Client",
    "Decision",
    "Event",
    "Finding",
    "Report",
    "Version",
    "WeighhouseError",
    "verify",
]
