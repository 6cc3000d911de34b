"""All reads: what the pages and the workers see. Access is checked here, not in views."""

from moderation.selectors import (
    cases,
    child_safety,
    creators,
    decisions,
    groups,
    heat_maps,
    learning,
    look_alikes,
    marketplace,
    operations,
    public,
    queue,
    reporting,
    wellbeing,
    workers,
)

__all__ = [
    "cases",
    "child_safety",
    "creators",
    "decisions",
    "groups",
    "heat_maps",
    "learning",
    "look_alikes",
    "marketplace",
    "operations",
    "public",
    "queue",
    "reporting",
    "wellbeing",
    "workers",
]
