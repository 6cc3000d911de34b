"""Formatting for templates: Markdown from strangers, spans of time, scores, the record in words."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import nh3
from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

from moderation import spans
from moderation.models import Event, ModelVersion
from moderation.states import Action, Language, Step, Visibility
from moderation.translations import ACTIONS, STEPS

register = template.Library()
register.filter(spans.ago)
register.filter(spans.left)
register.filter(spans.span)

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
_TAGS = {
    "a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


@register.filter
def markdown(text: str) -> SafeString:
    """Render Markdown with raw HTML off, then let an allow-list of tags through. No pictures."""
    tokens = _markdown.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            # The page's own headings are of the first and second level.
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    html = nh3.clean(
        _markdown.renderer.render(tokens, _markdown.options, {}),
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
    )
    return mark_safe(html)  # noqa: S308 - cleaned on the line above


@register.filter
def letter(text: str) -> str:
    """Return the words of a notice without the lines that its e-mail ends with."""
    return text.partition("\n-- \n")[0].partition("\n--\n")[0].strip()


_MONTHS_IN_GERMAN = [
    *("Januar", "Februar", "März", "April", "Mai", "Juni"),
    *("Juli", "August", "September", "Oktober", "November", "Dezember"),
]


# --- Time -----------------------------------------------------------------------------------


@register.filter
def minutes(value: timedelta) -> str:
    """Say how long a piece of work took: “1 min 20 s”, “45 s”."""
    whole, seconds = divmod(round(value.total_seconds()), 60)
    return f"{whole} min {seconds} s" if whole else f"{seconds} s"


@register.filter
def when(moment: datetime | None, language: str = "en") -> str:
    """Show a moment in UTC; a script on the page turns it into the reader's own time."""
    if moment is None:
        return ""
    moment = moment.astimezone(timezone.get_default_timezone())
    day = f"{moment.day} {moment:%B %Y}"
    if language == Language.GERMAN:
        day = f"{moment.day}. {_MONTHS_IN_GERMAN[moment.month - 1]} {moment.year}"
    return format_html(
        '<time datetime="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        f"{day}, {moment:%H:%M} UTC",
    )


# --- In another language ---------------------------------------------------------------------


@register.filter
def action_in(action: str, language: str) -> str:
    """Say what was done, in a language."""
    return ACTIONS.get(language, {}).get(action, Action(action).label)


@register.filter
def step_in(step: Step, language: str) -> str:
    """Name a step of the ladder in a language."""
    return STEPS.get(language, {}).get(step.points, step.name)


# --- Figures --------------------------------------------------------------------------------


@register.filter
def percent(score: float | None) -> str:
    """Turn a score in 0..1 into a length for the bar: an attribute, so no inline style."""
    return f"{100 * (score or 0):.1f}%"


@register.filter
def points(count: Decimal, language: str = "en") -> str:
    """Say a number of points: “1 point”, “0.5 points”, “0,5 Punkte”."""
    number = f"{Decimal(count).normalize():f}"
    if language == Language.GERMAN:
        return f"{number.replace('.', ',')} {'Punkt' if count == 1 else 'Punkte'}"
    return f"{number} {'point' if count == 1 else 'points'}"


@register.filter
def figure(score: float | None) -> str:
    """Show a score or a cosine to two decimals; more would claim what nobody measured."""
    return "" if score is None else f"{score:.2f}"


@register.filter
def capped(count: int, most: int) -> str:
    """Show a count that stopped one above ``most``."""
    return f"{most:,}+" if count > most else f"{count:,}"


@register.filter
def megabytes(size: int) -> str:
    """Say a size in the unit that fits."""
    for unit, step in (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} bytes"


# --- Codes in words -------------------------------------------------------------------------

_SIGNALS = {
    "previews": "Every preview is compared with sentences that describe what is prohibited.",
    "container.code": "Every file is read, without running it, for code that would run.",
    "container.damaged": "Every file is read, without running it, for damage and hidden parts.",
    "claims": "What the page and the files say of themselves is searched for words.",
    "claims.likeness": "What the page and the files say is searched for the names of people.",
    "text_space": "The words of an embedding are compared with prohibited sentences.",
    "lineage.copy": "The weights are compared with the weights of published models.",
    "lineage.removed": "The weights are compared with the weights of removed models.",
}


@register.filter
def checks(signals: list[str]) -> list[str]:
    """Say in sentences what is looked at for a rule."""
    return [_SIGNALS.get(signal, f"The check “{signal}” looks at it.") for signal in signals]


_WEIGHED = "weighed"
_STANDS: Mapping[str, Mapping[str, str]] = {
    Language.ENGLISH: {
        Visibility.DRAFT: "Draft. Only you can see it.",
        Visibility.QUARANTINED: "Waiting for a person to look at it. Nobody else can see it yet.",
        Visibility.PUBLISHED: "Published. Everybody can see and download it.",
        Visibility.AGE_RESTRICTED: "Age-restricted. Shown only to people who say they are adults.",
        Visibility.LIMITED: "Limited. It opens by its address and is not listed.",
        Visibility.REMOVED: "Removed. Only you and the moderation team can see it.",
        Visibility.WITHDRAWN: "Taken down by you. Only you and the moderation team can see it.",
        _WEIGHED: "Being weighed. Nobody else can see it yet.",
    },
    Language.GERMAN: {
        Visibility.DRAFT: "Entwurf. Nur Sie können es sehen.",
        Visibility.QUARANTINED: "Ein Mensch wird es sich ansehen. Noch sieht es niemand sonst.",
        Visibility.PUBLISHED: "Veröffentlicht. Alle können es sehen und herunterladen.",
        Visibility.AGE_RESTRICTED: "Nur für Menschen, die sagen, dass sie erwachsen sind.",
        Visibility.LIMITED: "Beschränkt. Unter seiner Adresse zu öffnen und nirgends gelistet.",
        Visibility.REMOVED: "Entfernt. Nur Sie und die Moderation können es sehen.",
        Visibility.WITHDRAWN: "Von Ihnen zurückgezogen. Nur Sie und die Moderation sehen es.",
        _WEIGHED: "Wird gewogen. Noch kann es niemand sonst sehen.",
    },
}


@register.filter
def stands(version: ModelVersion, language: str = "en") -> str:
    """Say where a version stands, to its creator."""
    is_weighed = version.visibility == Visibility.QUARANTINED and version.triaged_at is None
    return _STANDS[language][_WEIGHED if is_weighed else version.visibility]


_EVENTS: Mapping[str, str] = {
    "model.created": "created the model",
    "version.submitted": "submitted the version under the policy {policy}",
    "version.published": "published it: everything was looked at and nothing was found",
    "version.restored": "restored it: {to}",
    "case.opened": "opened the case because of {source}",
    "case.claimed": "took the case",
    "case.confirm": "put the decision before a second person",
    "case.reconfirm": "put the answer to the appeal before a second person",
    "case.reopened": "undid the decision and has the case again",
    "decision.held": "waits for a second person",
    "decision.confirmed": "confirmed the decision",
    "decision.cancelled": "withdrew the decision without a verdict",
    "decision.undone": "undid the decision before anybody was told",
    "decision.in_force": "brought the decision into force, and told people",
    "decision.ended": "ended the restriction: its time is over",
    "version.held_by_clock": "was hidden by the clock until a person decides",
    "version.hold_ended": "ended what the clock had hidden",
    "hold.objected": "said what speaks against it",
    "version.withdrawn": "took the version down",
    "appeal.modified": "answered the appeal: a milder decision takes its place",
    "appeal.remanded": "answered the appeal: it is decided anew",
    "appeal.moot": "settled the appeal: its decision was taken back",
    "appeal.message": "wrote about the appeal",
    "overturns.alarm": "told the policy leads that this rule or probe is often overturned",
    "child_safety.step": "ticked a step of the report to the authorities",
    "child_safety.picture": "asked to see one picture that is held apart",
    "child_safety.sent": "recorded that it was reported to an authority",
    "hold.placed": "placed a legal hold: {reason}",
    "hold.released": "released the legal hold",
    "purge.done": "erased what was kept for long enough",
    "child_safety.opened": "put it where only child-safety specialists see it",
    "case.released": "gave the case back",
    "case.taken_over": "took the case over from {before}",
    "case.assigned": "assigned the case to {to_whom}",
    "case.asked": "asked the creator and put the case aside until the answer",
    "case.answered": "brought the case back with the creator's answer",
    "case.not_answered": "brought the case back: the creator did not answer in time",
    "case.escalated": "escalated the case to the senior moderators",
    "case.note": "noted: {note}",
    "inquiry.answered": "answered the moderator's question",
    "case.claim_expired": "put the case back in the queue because its time ran out",
    "case.decided": "ended the review",
    "case.closed": "closed the case",
    "case.appealed": "put the case back in the queue for another person",
    "appeal.filed": "appealed the decision",
    "appeal.upheld": "answered the appeal: the decision stands",
    "appeal.overturned": "answered the appeal: the decision is overturned",
    "report.filed": "reported it",
    "review.known_answer_given": "made the decision a known answer",
    "finding.judged": "gave a verdict on a finding",
}
_STAGES = {"files": "the weights", "previews": "the previews"}
_SOURCES = {"triage": "a finding", "report": "a report", "moderator": "an earlier decision"}


@register.filter
def in_words(event: Event) -> str:
    """Say what an event was, without naming who did it."""
    data: dict[str, Any] = event.data
    if event.action == "triage.answered":
        count = data.get("findings", 0)
        stage = _STAGES.get(data.get("stage", ""), "the upload")
        return f"weighed {stage}: {count} {'answer' if count == 1 else 'answers'}"
    if event.action == "decision.made":
        action = data.get("action", "")
        label = str(Action(action).label) if action in Action.values else action
        rules = ", ".join(data.get("rules", []))
        return f"decided: {label}{' under ' + rules if rules else ''}"
    template_ = _EVENTS.get(event.action)
    if template_ is None:
        return event.action.replace(".", ": ").replace("_", " ")
    visibility = data.get("to", "")
    return template_.format(
        policy=data.get("policy", "in force"),
        source=_SOURCES.get(data.get("source", ""), "something"),
        before=data.get("from") or "nobody",
        to_whom=visibility or "nobody",
        note=data.get("note", ""),
        reason=data.get("reason", ""),
        to=str(Visibility(visibility).label).lower() if visibility in Visibility.values else "",
    )
