"""Formatting for templates: Markdown from strangers, spans of time, scores."""

from datetime import timedelta

import nh3
from django import template
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

register = template.Library()

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
_TAGS = {
    "a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "hr", "li", "ol", "p", "pre",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


@register.filter
def markdown(text: str) -> SafeString:
    """Render Markdown with raw HTML off, then let an allow-list of tags through. No pictures."""
    html = nh3.clean(
        _markdown.render(text),
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
    )
    return mark_safe(html)  # noqa: S308 - cleaned on the line above


@register.filter
def span(value: timedelta) -> str:
    """Say a span of time in its largest unit: “3 days”, “5 h”, “12 min”."""
    minutes = int(abs(value.total_seconds()) // 60)
    if minutes >= 48 * 60:
        return f"{minutes // (24 * 60)} days"
    if minutes >= 60:
        return f"{minutes // 60} h"
    return f"{minutes} min"


@register.filter
def tenth(score: float | None) -> int:
    """Turn a score in 0..1 into one of 21 steps of a bar, for a class instead of inline style."""
    return round((score or 0) * 20)


@register.filter
def megabytes(size: int) -> str:
    """Say a size in the unit that fits."""
    for unit, step in (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} bytes"
