"""Looks at uploads as the house does, and notes whether a transaction was open meanwhile."""

from pathlib import Path
from typing import Any

from django.db import connection

from triage import inspection

in_transaction: list[bool] = []


def inspect_weights(path: Path) -> Any:
    """Say what kind of model file this is."""
    in_transaction.append(connection.in_atomic_block)
    return inspection.inspect_weights(path)


def reencode_preview(source: Path, target: Path, *, small: Path) -> Any:
    """Write a copy of the pixels that carries no metadata."""
    in_transaction.append(connection.in_atomic_block)
    return inspection.reencode_preview(source, target, small=small)
