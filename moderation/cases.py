"""Cases: opens them and is the only writer of a case's state.

Writes ``Case`` and an ``Event`` for each move. Never decides.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Max
from django.utils import timezone

from moderation.audit import event_record
from moderation.errors import Conflict, IllegalTransition
from moderation.language import language_of
from moderation.models import Account, Case, CaseFacet, Finding, ModelVersion, Rule
from moderation.ordering import UNKNOWN, Weight, together, turn_of
from moderation.reporters import Witness, case_witnesses
from moderation.search import case_facets_store, case_text_store
from moderation.states import (
    LISTED_CASES,
    OPEN_CASES,
    REACHABLE,
    TRACK_HOURS,
    CaseState,
    Concern,
    Outcome,
    Track,
    may_follow,
)

# The clock of a case that no rule sets a shorter one for.
DEFAULT_DEADLINE_HOURS = 72
WEIGH_LIMIT = 200
# What a case is about where a report names no rule.
_TRACK_TITLES: dict[str, str] = {
    Track.LIKENESS: "A depicted person asks for removal",
    Track.ILLEGAL: "Said to be illegal",
    Track.FLAGGER: "From a trusted flagger",
    Track.COPY: "Said to be a copy",
}


def case_open(
    *, version: ModelVersion, source: Case.Source, actor: Account | None
) -> tuple[Case, bool]:
    """Return the open case on a version, opening one if there is none; and whether it is new."""
    with case_opened(version=version, source=source, actor=actor) as (case, is_new):
        return case, is_new


@contextmanager
def case_opened(
    *, version: ModelVersion, source: Case.Source, actor: Account | None
) -> Iterator[tuple[Case, bool]]:
    """Yield what ``case_open`` returns, and record an opening at the end of the block.

    For whoever has more to write about the case: who records something holds up everybody else.
    """
    with transaction.atomic(savepoint=False):
        # Locking the version makes two openers queue up instead of meeting at the constraint.
        # Without its key: every event refers to the version, and would have to wait for us.
        ModelVersion.objects.select_for_update(no_key=True).values_list("pk").get(pk=version.pk)
        case = Case.objects.filter(version=version, state__in=OPEN_CASES).first()
        if case is not None:
            yield case, False
            return
        now = timezone.now()
        due_at = now + timedelta(hours=DEFAULT_DEADLINE_HOURS)
        case = Case.objects.create(
            version=version, source=source, clock_from=now, due_at=due_at, turn_at=due_at
        )
        yield case, True
        event_record(
            action="case.opened", actor=actor, version=version, case=case, data={"source": source}
        )


@dataclass(frozen=True)
class Weighing:
    """What is known about a version that a case is weighed by, as it was read."""

    findings: list[Finding]
    witnesses: list[Witness]
    # None where it was not guessed: what was guessed before stays.
    language: str | None
    seen: tuple[Any, ...]


def case_weigh(*, case: Case) -> None:
    """Compute the priority, the clock and the place of a case, and what it is found by.

    Called whenever a report or the reach of the version changes. Everything that the queue says
    about the case is stored here, so that what is shown is what was computed. Its caller holds the
    lock on the version. No language is guessed, which would have a web process read 95 MB while
    everybody waits, and the sweeper weighs it once more.
    """
    _weighing_store(case, _weighing(case, language=None), now=None)


@transaction.atomic(savepoint=False)
def case_open_weighed(*, version: ModelVersion, source: Case.Source) -> Case:
    """Return the open case on a version, weighed in full, opening one if there is none.

    For workers, who guess the language, too.
    """
    ModelVersion.objects.select_for_update(no_key=True).values_list("pk").get(pk=version.pk)
    language = _language(version)
    with case_opened(version=version, source=source, actor=None) as (case, _):
        _weighing_store(case, _weighing(case, language=language), now=timezone.now())
    return case


def _language(version: ModelVersion) -> str:
    page = version.uploaded_model
    return language_of(f"{page.title}\n{page.description}")


def _weighing(case: Case, *, language: str | None) -> Weighing:
    # What was seen is read first: whatever comes in after it asks for another weighing.
    seen = _to_weigh(case)
    findings = list(
        Finding.objects.filter(version=case.version)
        .exclude(concern=Concern.NONE)
        .select_related("rule", "preview")
        # Where there is no score, PostgreSQL would put it first and SQLite last.
        .order_by(F("score").desc(nulls_last=True), "pk")
    )
    return Weighing(findings, case_witnesses(case), language, seen)


def _to_weigh(case: Case) -> tuple[Any, ...]:
    """Return what differs as soon as a report or a finding came in, was changed or taken back."""
    reports = case.reports.aggregate(
        Count("pk"), Max("pk"), Max("edited_at"), Max("answered_at"), Max("due_at")
    )
    return (*reports.values(), case.version.findings.count(), case.version.visibility)


def _weighing_store(case: Case, weighing: Weighing, *, now: datetime | None) -> None:
    """Store a weighing. Without a moment the case goes on asking for another one."""
    findings, witnesses = weighing.findings, weighing.witnesses
    weight = _weight(case, findings, witnesses)
    case.priority = round(100 * weight.risk)
    if case.state in OPEN_CASES:
        # An appeal has a clock of its own.
        case.due_at = case.clock_from + _time_allowed(findings, witnesses) + case.paused_for
        # A deadline of the law does not wait for anybody's answer.
        case.due_at = min([case.due_at, *(w.due_at for w in witnesses if w.due_at)])
    case.turn_at = turn_of(due_at=case.due_at, risk=weight.risk)
    case.is_incomplete = any(finding.outcome == Outcome.FAILED for finding in findings) or (
        case.version.jobs.filter(state="dead").exists()
    )
    case.reasons = {
        **weight.as_data(),
        "reporters": len({witness.person for witness in witnesses}),
        "strongest": _strongest(findings),
        "titles": _titles(findings, witnesses),
    }
    case.weighed_at = now
    case.save(
        update_fields=["priority", "due_at", "turn_at", "is_incomplete", "reasons", "weighed_at"]
    )
    rules = [*(finding.rule for finding in findings), *(each.rule for each in witnesses)]
    case_facets_store(
        case=case,
        keep=CaseFacet.Kind.LANGUAGE if weighing.language is None else None,
        facets=[
            *((CaseFacet.Kind.RULE, rule.slug) for rule in rules if rule),
            *((CaseFacet.Kind.PROBE, finding.probe) for finding in findings),
            (CaseFacet.Kind.LANGUAGE, weighing.language or ""),
            *((CaseFacet.Kind.TRACK, each.track) for each in witnesses),
        ],
    )
    case_text_store(case=case)


@transaction.atomic
def case_open_for_appeal(*, version: ModelVersion, due_at: datetime, actor: Account | None) -> Case:
    """Open the case of an appeal against a decision that was taken beside a case that goes on."""
    case = Case.objects.create(
        version=version,
        source=Case.Source.APPEAL,
        state=CaseState.APPEALED,
        due_at=due_at,
        turn_at=due_at,
    )
    event_record(
        action="case.opened",
        actor=actor,
        version=version,
        case=case,
        data={"source": Case.Source.APPEAL},
    )
    return case


def cases_weigh() -> int:
    """Weigh the cases that ask for it, the oldest first; return how many."""
    asking = Case.objects.filter(state__in=LISTED_CASES, weighed_at__isnull=True)
    cases = list(
        asking.select_related("version__uploaded_model__creator").order_by("opened_at")[
            :WEIGH_LIMIT
        ]
    )
    for case in cases:
        # Read without a lock: in a flood of reports everybody would wait for the reading.
        weighing = _weighing(case, language=_language(case.version))
        with transaction.atomic():
            # Reports lock the version, too: none comes in between asking and storing.
            version = ModelVersion.objects.select_for_update(
                of=("self",), no_key=True
            ).select_related("uploaded_model__creator")
            locked = Case.objects.select_for_update(no_key=True)
            held = version.get(pk=case.version_id)
            fresh = locked.get(pk=case.pk)
            fresh.version = held
            same = _to_weigh(fresh) == weighing.seen
            _weighing_store(fresh, weighing, now=timezone.now() if same else None)
    return len(cases)


def _weight(case: Case, findings: list[Finding], witnesses: list[Witness]) -> Weight:
    """Return harm, probability and reach of the rule that weighs most.

    A probe and the people under the same rule are witnesses to the same thing, each as probably
    right as their record says. What belongs to no rule, such as a file that could not be read,
    has the least harm.
    """
    reach = 2.0 if case.version.visibility in REACHABLE else 1.0
    machine: dict[Rule | None, list[float]] = {}
    failed: set[Rule | None] = set()
    for finding in findings:
        if finding.score is None:
            failed.add(finding.rule)
        else:
            machine.setdefault(finding.rule, []).append(finding.score)
    people: dict[Rule | None, list[float]] = {}
    harms: dict[Rule | None, int] = {None: 1}
    for witness in witnesses:
        people.setdefault(witness.rule, []).append(witness.probability)
        harms[witness.rule] = max(harms.get(witness.rule, 1), witness.harm)
    weights = []
    for rule in {*machine, *failed, *people}:
        score = max(machine.get(rule, []), default=None)
        seen = max(score or 0.0, UNKNOWN if rule in failed else 0.0)
        said = people.get(rule, [])
        weight = Weight(
            harm=max(harms.get(rule, 1), rule.harm if rule else 1),
            probability=round(together([seen, *said]), 4),
            reach=reach,
            rule=rule.title if rule else "",
            score=score,
            reports=len(said),
        )
        weights.append(weight)
    nothing = Weight(harm=1, probability=UNKNOWN, reach=reach)
    return max(weights, key=lambda weight: (weight.risk, weight.rule), default=nothing)


def _time_allowed(findings: list[Finding], witnesses: list[Witness]) -> timedelta:
    """Return the shortest time that a rule or a track concerned allows."""
    rules = [*(finding.rule for finding in findings), *(each.rule for each in witnesses)]
    hours = [rule.deadline_hours for rule in rules if rule]
    hours += [TRACK_HOURS[each.track] for each in witnesses if each.track in TRACK_HOURS]
    return timedelta(hours=min(hours, default=DEFAULT_DEADLINE_HOURS))


def _strongest(findings: list[Finding]) -> dict[str, Any]:
    """Return the finding that says most, in plain data for a sentence."""
    scored = [finding for finding in findings if finding.score is not None]
    if not scored:
        return {}
    finding = max(scored, key=lambda each: each.concern == Concern.HOLD)
    holds = finding.concern == Concern.HOLD and finding.hold is not None
    return {
        "preview": finding.preview.position + 1 if finding.preview else None,
        "file": finding.file_id is not None,
        "score": finding.score,
        "threshold": finding.hold if holds else finding.review,
        "concern": Concern.HOLD if holds else Concern.REVIEW,
    }


def _titles(findings: list[Finding], witnesses: Iterable[Witness]) -> list[list[str]]:
    """Return what the case is about, each with its gravest concern, the gravest first."""
    titles: dict[str, str] = {}
    for concern in (Concern.HOLD, Concern.REVIEW):
        for finding in findings:
            if finding.rule and finding.concern == concern:
                titles.setdefault(finding.rule.title, concern)
    for witness in witnesses:
        named = witness.rule.title if witness.rule else _TRACK_TITLES.get(witness.track, "A report")
        titles.setdefault(named, Concern.REVIEW)
    return [[title, concern] for title, concern in titles.items()]


@transaction.atomic
def case_transition(
    *, case: Case, to: CaseState, actor: Account | None, action: str = "", **fields: Any
) -> None:
    """Move a case to another state, set ``fields`` with it, and record who moved it.

    Raises IllegalTransition if the table of transitions forbids the move, Conflict if somebody
    else moved the case first.
    """
    _move(case, to, actor, action or f"case.{to}", fields)
    case.refresh_from_db()


def case_take(*, case: Case, to: CaseState, actor: Account, until: datetime, **fields: Any) -> None:
    """Put a waiting case into somebody's hands, within the transaction that found it.

    As ``case_transition``, in as few round trips as it takes: people wait for it.
    """
    fields |= {"claimed_by": actor, "claimed_until": until}
    _move(case, to, actor, "case.claimed", fields)
    for name, value in {**fields, "state": to}.items():
        setattr(case, name, value)


def _move(
    case: Case, to: CaseState, actor: Account | None, action: str, fields: dict[str, Any]
) -> None:
    if not may_follow(CaseState, case.state, to):
        raise IllegalTransition(
            f"A case that is “{CaseState(case.state).label}” cannot become “{to.label}”. "
            "Reload the page to see where it stands."
        )
    fields |= _in_order(case, fields)
    _compare_and_set(case, state=to, **fields)
    event_record(action=action, actor=actor, case=case, data={"from": case.state, "to": to})


@transaction.atomic
def case_hand_over(*, case: Case, to: Account, until: datetime, actor: Account) -> None:
    """Give a held case to another holder in the same state, and record from whom.

    Raises Conflict if it is not held any more as it was read.
    """
    before = case.claimed_by
    _compare_and_set(case, claimed_by=to, claimed_until=until)
    event_record(
        action="case.taken_over",
        actor=actor,
        version=case.version,
        case=case,
        data={"from": before.username if before else "", "to": to.username},
    )
    case.refresh_from_db()


def _compare_and_set(case: Case, **fields: Any) -> None:
    # Two people may press the button at once; only one may win.
    moved = Case.objects.filter(pk=case.pk, state=case.state, claimed_by=case.claimed_by_id).update(
        **fields
    )
    if moved != 1:
        raise Conflict("Somebody else was quicker: this case has just changed.", code="stale_case")


def _in_order(case: Case, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the place in the queue that follows from a new deadline."""
    if "due_at" in fields:
        turn = turn_of(due_at=fields["due_at"], risk=case.priority / 100)
        return {**fields, "turn_at": turn}
    return fields
