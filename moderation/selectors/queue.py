"""The moderators' queue: what waits, in which order, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Exists, IntegerField, OuterRef, QuerySet, Subquery, Value
from django.http import QueryDict
from django.utils import timezone
from django.utils.text import get_text_list

from moderation.errors import NotAllowed
from moderation.models import (
    Account,
    Case,
    CaseFacet,
    PreviewImage,
    Rule,
    SavedFilter,
    TriageJob,
)
from moderation.models.catalog import UNTITLED
from moderation.ordering import head_start, share_used
from moderation.selectors import queue_filters
from moderation.selectors.queue_filters import Active, Choice, QueueFilter
from moderation.spans import ago, left
from moderation.states import (
    HELD_CASES,
    LISTED_CASES,
    REACHABLE,
    CaseState,
    Concern,
    JobState,
)
from moderation.wellbeing import preference_of

PAGE_LENGTH = 25
# Counting stops here: what a person makes of “over 1,000” does not change with the number, and
# the page costs the same with a thousand cases and with a million.
COUNTED = 1000
SHOWN_CONCERNS = 3
TABS = ("queued", "in_review", "asked", "escalated", "second", "appealed")


def require_team(account: Account) -> None:
    """Let the moderation team into the console."""
    if not account.is_team:
        raise NotAllowed("The console is for the moderation team.")


# --- The counters ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Tally:
    """The counters above the queue; each stops one above ``COUNTED``."""

    queued: int
    in_review: int
    asked: int
    escalated: int
    second: int
    appealed: int
    overdue: int
    jobs: int

    @property
    def waiting(self) -> int:
        """Return how many cases wait to be taken."""
        return self.queued + self.escalated + self.appealed


class _Counted(Subquery):
    """The number of rows of a query, counted no further than its limit."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()


def queue_tally(account: Account) -> Tally:
    """Count what this person could see in the queue, without scanning the table.

    The indexes alone answer how many there are; the person's own and what is held apart are few,
    and taken off.
    """
    cases = Case.objects.all()
    jobs = TriageJob.objects.all()
    counted: dict[str, QuerySet[Any]] = {
        name: cases.filter(state__in=sorted(queue_filters.STATES[name][1])) for name in TABS
    }
    counted["overdue"] = cases.filter(state__in=sorted(LISTED_CASES), due_at__lt=timezone.now())
    counted["jobs_queued"] = jobs.filter(state=JobState.QUEUED)
    counted["jobs_running"] = jobs.filter(state=JobState.RUNNING)
    names = list(counted)
    counts = Account.objects.filter(pk=account.pk).values_list(
        *(_Counted(counted[name].values("pk")[: COUNTED + 1]) for name in names)
    )
    found: dict[str, int] = dict(zip(names, counts.get(), strict=True))
    listed = Case.objects.filter(state__in=sorted(LISTED_CASES))
    own = listed.filter(version__uploaded_model__creator=account)
    apart = listed.filter(version__isolated_at__isnull=False).exclude(
        version__uploaded_model__creator=account
    )
    unseen = own.values_list("state", "due_at").union(
        apart.values_list("state", "due_at"), all=True
    )
    for state, due_at in unseen[:COUNTED]:
        overdue = ["overdue"] if due_at < timezone.now() else []
        for name in [each for each in TABS if state in queue_filters.STATES[each][1]] + overdue:
            # A count that stopped says “over 1,000” with and without one's own.
            found[name] -= found[name] <= COUNTED
    jobs_open = found.pop("jobs_queued") + found.pop("jobs_running")
    return Tally(jobs=jobs_open, **found)


def _visible_to(account: Account) -> QuerySet[Case]:
    """Return all cases but those about the person's own models: they name who reported them.

    Nor what is held apart for child safety.
    """
    return Case.objects.exclude(version__uploaded_model__creator=account).filter(
        version__isolated_at__isnull=True
    )


# --- The rows -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the queue, in words: the template only sets them.

    A page has 25 of them, and a lookup in a template costs as much as a dozen here.
    """

    code: str
    title: str
    about: str
    preview: str
    is_unwanted: bool
    concerns: tuple[tuple[str, str], ...]
    more_concerns: int
    why: str
    order: tuple[str, ...]
    used: int
    left: str
    bar: str
    is_mine: bool
    holder: str
    is_held: bool
    is_over: bool
    assigned: str


@dataclass(frozen=True)
class QueuePage:
    """What the page of the queue shows."""

    asked: QueueFilter
    rows: list[Row]
    tally: Tally
    active: list[Active]
    choices: dict[str, list[Choice]]
    saved: list[SavedFilter]
    held: list[Case]
    previous: str
    next: str


def queue_page(*, account: Account, query: Mapping[str, str] | QueryDict) -> QueuePage:
    """Return one page of the queue for a member of the team, by the query of its link.

    Raises NotAllowed for everybody else. The number of queries does not depend on the rows.
    """
    require_team(account)
    in_force = Rule.objects.filter(policy__is_active=True).order_by("position")
    rules = dict(in_force.values_list("slug", "title"))
    asked = queue_filters.filter_read(query, rules)
    cases, before, after = _cases(asked, account, query)
    return QueuePage(
        asked=asked,
        rows=[_row(case, account) for case in cases],
        tally=queue_tally(account),
        active=queue_filters.in_words(asked, rules),
        choices=queue_filters.choices(asked, rules),
        saved=list(SavedFilter.objects.filter(account=account).order_by("name")),
        held=held_cases(account),
        previous=_link(asked, "before", before),
        next=_link(asked, "after", after),
    )


def _cases(
    asked: QueueFilter, account: Account, query: Mapping[str, str] | QueryDict
) -> tuple[list[Case], Case | None, Case | None]:
    """Return the cases of a page, and the ones that the links to its neighbours begin at."""
    cursor = queue_filters.cursor_read(query)
    cases = queue_filters.filter_apply(_visible_to(account), asked, account)
    order = ["turn_at", "pk"]
    if cursor is not None:
        cases = cursor.apply(cases)
        if cursor.backwards:
            order = ["-turn_at", "-pk"]
    first_preview = PreviewImage.objects.filter(version=OuterRef("version"))
    found: list[Any] = list(
        cases.select_related("version__uploaded_model__creator", "claimed_by", "assigned_to")
        # Of five tables, only what a row shows: a description can be long.
        .only(
            *("code", "state", "reasons", "is_incomplete", "priority", "opened_at"),
            *("clock_from", "due_at", "turn_at", "escalated_at"),
            *("version__number", "version__visibility"),
            *("version__uploaded_model__title", "version__uploaded_model__base_model"),
            *("version__uploaded_model__creator__username", "claimed_by__username"),
            "assigned_to__username",
        )
        .annotate(
            first_preview=Subquery(first_preview.values("code")[:1]), is_unwanted=_unwanted(account)
        )
        .order_by(*order)[: PAGE_LENGTH + 1]
    )
    more = len(found) > PAGE_LENGTH
    found = found[:PAGE_LENGTH]
    backwards = cursor is not None and cursor.backwards
    if backwards:
        found.reverse()
    if not found:
        return [], None, None
    has_previous = more if backwards else cursor is not None
    has_next = True if backwards else more
    return found, found[0] if has_previous else None, found[-1] if has_next else None


def _unwanted(account: Account) -> Exists | Value:
    """Return whether a case is about something that a person opted out of."""
    opted_out = preference_of(account).opted_out
    if not opted_out:
        return Value(False)
    rules = CaseFacet.objects.filter(kind=CaseFacet.Kind.RULE, value__in=opted_out)
    return Exists(rules.filter(case=OuterRef("pk")))


def _link(asked: QueueFilter, name: str, case: Case | None) -> str:
    if case is None:
        return ""
    query = asked.query()
    return f"{query}{'&' if query else ''}{name}={queue_filters.cursor_write(case)}"


def _row(case: Any, account: Account) -> Row:
    model, now = case.version.uploaded_model, timezone.now()
    stands_still = case.state == CaseState.ASKED and case.version.visibility not in REACHABLE
    used = share_used(start=case.clock_from, due_at=case.due_at, now=now)
    bars = [bar for bar in (90, 75, 50) if used >= bar and not stands_still]
    concerns = concerns_of(case)
    is_mine = case.claimed_by_id == account.pk
    return Row(
        code=case.code,
        title=model.title or UNTITLED,
        about=f"Version {case.version.number}{', ' if model.base_model else ''}{model.base_model}, "
        f"by {model.creator.username}, opened {ago(case.opened_at)}",
        preview="" if case.is_unwanted else case.first_preview or "",
        is_unwanted=bool(case.is_unwanted),
        concerns=concerns[:SHOWN_CONCERNS],
        more_concerns=max(0, len(concerns) - SHOWN_CONCERNS),
        why=why_in_words(case),
        order=tuple(order_in_words(case)),
        used=used,
        left="" if stands_still else left(case.due_at),
        bar=f"used-{bars[0]}" if bars else "",
        is_mine=is_mine,
        holder="yours" if is_mine else _holder(case),
        is_held=case.claimed_by_id is not None and not is_mine,
        is_over=case.state in {CaseState.DECIDED, CaseState.CLOSED},
        assigned=_assigned(case, account),
    )


_HOLDERS: Mapping[str, str] = {
    CaseState.QUEUED: "free",
    CaseState.ASKED: "waits for the creator",
    CaseState.ESCALATED: "escalated",
    CaseState.CONFIRM: "for a second person",
    CaseState.RECONFIRM: "for a second person",
    CaseState.APPEALED: "appeal, free",
}


def _holder(case: Case) -> str:
    if case.claimed_by is not None:
        return f"with {case.claimed_by.username}"
    return _HOLDERS.get(case.state, CaseState(case.state).label.lower())


def _assigned(case: Case, account: Account) -> str:
    if case.assigned_to is None:
        return ""
    mine = case.assigned_to_id == account.pk
    return "assigned to you" if mine else f"for {case.assigned_to.username}"


def concerns_of(case: Case) -> tuple[tuple[str, str], ...]:
    """Return what a case is about, each with its concern, the gravest first."""
    titles = [(str(title), str(concern)) for title, concern in case.reasons.get("titles", [])]
    if case.is_incomplete or not titles:
        titles.append(("Not everything could be seen", Concern.REVIEW))
    return tuple(titles)


def why_in_words(case: Case) -> str:
    """Say in a sentence why the case is in the queue at all."""
    parts = []
    if case.state in {CaseState.APPEALED, CaseState.HEARING}:
        parts.append("the creator appeals")
    if case.escalated_at and case.state in {CaseState.ESCALATED, CaseState.CLAIMED}:
        parts.append("a moderator asks for a senior one")
    if strongest := case.reasons.get("strongest"):
        parts.append(_scored(strongest))
    if case.is_incomplete:
        parts.append("something could not be looked at")
    if reporters := case.reasons.get("reporters", 0):
        parts.append(_reported(reporters))
    return f"Here because {get_text_list(parts, 'and') or 'it waits for a person'}."


def order_in_words(case: Case) -> list[str]:
    """Explain a case's place in sentences, with the numbers that it was computed from."""
    reasons = case.reasons
    if "harm" not in reasons:
        return ["It is being weighed; until then it stands where its deadline puts it."]
    rule = f" (“{reasons['rule']}”)" if reasons["rule"] else ""
    risk = case.priority / 100
    start = head_start(risk)
    said = [
        f"Harm: {reasons['harm']} of 5{rule}.",
        f"Probability: {100 * reasons['probability']:.0f} %{_witnesses(reasons)}.",
        f"Reach: {reasons['reach']:g}, because "
        + ("everybody can get it." if reasons["reach"] > 1 else "nobody can get it yet."),
        f"Together {reasons['harm']} × {reasons['probability']:.2f} × {reasons['reach']:g} = "
        f"{risk:.2f}. Twice the risk is worth a day on the clock, so it stands {_ahead(start)}.",
    ]
    length, now = case.due_at - case.clock_from, timezone.now()
    used = now - case.clock_from
    if used <= length:
        said.append(f"Clock: {_hours(used)} of {_hours(length)} are used.")
    else:
        said.append(f"Clock: {_hours(length)} were allowed; it is {_hours(used - length)} late.")
    return said


def _ahead(start: timedelta) -> str:
    if abs(start) < timedelta(minutes=30):
        return "where its deadline puts it"
    return f"{_hours(abs(start))} {'before' if start > timedelta() else 'after'} its deadline"


def _witnesses(reasons: Mapping[str, Any]) -> str:
    parts = []
    if reasons["score"] is not None:
        parts.append(f"a probe scored {reasons['score']:.2f}")
    if reasons["reports"]:
        parts.append(f"{_reported(reasons['reports'])} for this")
    return f"; {get_text_list(parts, 'and')}" if parts else "; nobody could say more"


def _reported(reports: int) -> str:
    return f"{'1 person' if reports == 1 else f'{reports} people'} reported it"


def _scored(strongest: Mapping[str, Any]) -> str:
    if strongest["preview"]:
        subject = f"preview {strongest['preview']}"
    else:
        subject = "a file" if strongest["file"] else "the page"
    said = f"{subject} scored {strongest['score']:.2f}"
    if strongest["threshold"] is None:
        return said
    return f"{said} ({strongest['concern']} from {strongest['threshold']:.2f})"


def _hours(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 96 else f"{hours:.0f} h"


def held_cases(account: Account) -> list[Case]:
    """Return the cases this moderator holds; not what was held apart since."""
    held = Case.objects.filter(
        claimed_by=account, state__in=sorted(HELD_CASES), version__isolated_at__isnull=True
    )
    return list(held.only("code").order_by("pk"))
