"""Spans of time in words."""

from datetime import datetime, timedelta

from django.utils import timezone


def span(value: timedelta) -> str:
    """Say a span of time in its largest unit: “3 days”, “5 h”, “12 min”."""
    minutes = int(abs(value.total_seconds()) // 60)
    if minutes >= 48 * 60:
        return f"{minutes // (24 * 60)} days"
    if minutes >= 60:
        return f"{minutes // 60} h"
    return f"{minutes} min"


def left(moment: datetime, language: str = "en") -> str:
    """Say how long there is until a moment, or by how much it has passed; in English or German."""
    rest = moment - timezone.now()
    if language == "de":
        said = span(rest).replace("days", "Tage").replace(" h", " Std.")
        return f"noch {said}" if rest > timedelta(0) else f"{said} zu spät"
    return f"{span(rest)} left" if rest > timedelta(0) else f"{span(rest)} too late"


def ago(moment: datetime) -> str:
    """Say how long ago a moment was."""
    passed = timezone.now() - moment
    return "just now" if passed < timedelta(minutes=1) else f"{span(passed)} ago"
