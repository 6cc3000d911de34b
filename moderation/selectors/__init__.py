"""All reads: what the pages and the workers see. Access is checked here, not in views."""

from moderation.selectors import cases, creators, marketplace, operations, public, queue, workers

__all__ = ["cases", "creators", "marketplace", "operations", "public", "queue", "workers"]
