"""A typed client for the API of Weighhouse."""

from weighhouse_client.client import Client, WeighhouseError, verify
from weighhouse_client.types import (
    Appeal,
    Decision,
    Event,
    Finding,
    Policy,
    Report,
    Version,
    Webhook,
)

__all__ = [
    "Appeal",
    "Client",
    "Decision",
    "Event",
    "Finding",
    "Policy",
    "Report",
    "Version",
    "Webhook",
    "WeighhouseError",
    "verify",
]
