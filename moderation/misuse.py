"""Misuse of reporting (DSA Art. 23): figures propose, a person decides, another answers an appeal.

Writes ``Report.unfounded_at`` and ``ReportingMeasure``. A warning comes first; a suspension of
reporting ends by itself. Reports already sent are looked at all the same.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import Hidden, has_reported, require_impartial, require_moderator
from moderation.errors import Conflict, Invalid, NotAllowed, TooLate
from moderation.models import Account, Report, ReportingMeasure
from moderation.notices import notice_issue
from moderation.states import (
    ANSWERED_REPORTS,
    APPEAL_WINDOW,
    Measure,
    MeasureState,
    ReportState,
    may_follow,
)

# Art. 23 speaks of "frequently"; pub.dev and others count from three. Half of somebody's reports
# must be without any ground, so that a diligent reporter's few mistakes propose nothing.
LEAST_UNFOUNDED = 3
LEAST_SHARE = 0.5
WINDOW = timedelta(days=184)
LONGEST_DAYS = 90
REASON_LENGTH = 2000
STANDING = frozenset({MeasureState.IN_FORCE, MeasureState.APPEALED, MeasureState.UPHELD})


@dataclass(frozen=True)
class MisuseFigures:
    """What Art. 23(3) asks to be weighed, of the reports answered since a moment.

    ``gravity`` is the greatest harm (1 to 5) wrongly alleged. Intent is not counted: the person
    who decides says what can be told of it.
    """

    unfounded: int
    answered: int
    share: float
    gravity: int


def misuse_figures(account: Account, *, since: datetime | None = None) -> MisuseFigures:
    """Return the figures of an account's reports in the last 184 days, or since a later moment."""
    begin = max(timezone.now() - WINDOW, since) if since else timezone.now() - WINDOW
    answered = Report.objects.filter(
        reporter=account, state__in=sorted(ANSWERED_REPORTS), created_at__gte=begin
    )
    # A won appeal has shown that a report had a ground, whatever was said of it before.
    unfounded = answered.filter(unfounded_at__isnull=False, state=ReportState.NO_ACTION)
    total, wrong = answered.count(), unfounded.count()
    gravity = unfounded.aggregate(most=Max("rule__harm"))["most"] or 1
    if unfounded.filter(is_child_safety=True).exists():
        gravity = 5
    return MisuseFigures(wrong, total, round(wrong / total, 2) if total else 0.0, gravity)


def reporting_suspended(account: Account) -> bool:
    """Return whether a suspension keeps an account from reporting now."""
    return ReportingMeasure.objects.filter(
        account=account,
        measure=Measure.SUSPENSION,
        state__in=sorted(STANDING),
        until__gt=timezone.now(),
    ).exists()


@transaction.atomic
def report_mark_unfounded(*, report: Report, actor: Account) -> None:
    """Note that a report was without any ground, and that its sender must have known.

    Raises Conflict unless no action was taken upon it, NotAllowed for a conflict of interest.
    """
    require_impartial(actor, report.version)
    marked = Report.objects.filter(
        pk=report.pk, state=ReportState.NO_ACTION, unfounded_at__isnull=True
    ).update(unfounded_at=timezone.now())
    if not marked:
        raise Conflict(
            "Only a report upon which no action was taken can be called unfounded, and only once.",
            code="not_dismissed",
        )
    event_record(
        action="report.unfounded",
        actor=actor,
        version=report.version,
        case=report.case,
        data={"report": report.code},
    )
    if report.reporter is not None:
        _propose(report.reporter)


def _propose(account: Account) -> None:
    """Propose a warning, or a suspension after a warning, where the figures ask for one."""
    measures = ReportingMeasure.objects.filter(account=account)
    if measures.filter(state=MeasureState.PROPOSED).exists() or reporting_suspended(account):
        return
    warning = measures.filter(measure=Measure.WARNING, state__in=sorted(STANDING)).last()
    figures = misuse_figures(account, since=warning.decided_at if warning else None)
    if figures.unfounded < LEAST_UNFOUNDED or figures.share < LEAST_SHARE:
        return
    measure = ReportingMeasure.objects.create(
        account=account,
        measure=Measure.SUSPENSION if warning else Measure.WARNING,
        figures=asdict(figures),
        proposed_at=timezone.now(),
    )
    event_record(action="measure.proposed", actor=None, data={"measure": measure.code})


@transaction.atomic
def measure_decide(
    *, measure: ReportingMeasure, accept: bool, reason: str, days: int = 0, actor: Account
) -> None:
    """Put a proposed measure in force, with a reason and for some days, or dismiss it.

    Raises Invalid without a reason or with a wrong number of days, NotAllowed about oneself, Hidden
    to whose model the person concerned has reported.
    """
    require_moderator(actor)
    if measure.account_id == actor.pk:
        raise NotAllowed("You cannot decide about yourself.", code="conflict_of_interest")
    _require_not_reported(measure, actor)
    reason = _checked(reason, "reason", "Say why in your own words: the person concerned reads it.")
    now = timezone.now()
    suspends = accept and measure.measure == Measure.SUSPENSION
    if suspends and not 1 <= days <= LONGEST_DAYS:
        raise Invalid(f"A suspension lasts 1 to {LONGEST_DAYS} days.", field="days")
    _move(
        measure,
        MeasureState.IN_FORCE if accept else MeasureState.DISMISSED,
        actor,
        reason=reason,
        decided_by=actor,
        decided_at=now,
        until=now + timedelta(days=days) if suspends else None,
        appeal_until=now + APPEAL_WINDOW if accept else None,
    )
    if accept:
        _tell(measure, measure.measure)


@transaction.atomic
def measure_appeal(*, measure: ReportingMeasure, text: str, actor: Account) -> None:
    """Take the appeal of the person concerned; once, within 184 days. It changes nothing yet.

    Raises Hidden to anybody else, TooLate after the time, Conflict a second time.
    """
    if measure.account_id != actor.pk or measure.state == MeasureState.PROPOSED:
        raise Hidden
    text = _checked(text, "text", "Say in a few words why this should be changed.")
    now = timezone.now()
    if measure.appeal_until is None or now > measure.appeal_until:
        raise TooLate(
            "The time to object is over. You may still turn to a certified out-of-court dispute "
            "settlement body or to a court.",
            code="appeal_too_late",
        )
    _move(measure, MeasureState.APPEALED, actor, appeal=text, appealed_at=now)


@transaction.atomic
def measure_answer(*, measure: ReportingMeasure, uphold: bool, answer: str, actor: Account) -> None:
    """Answer an appeal, as another person than the one who decided.

    Raises NotAllowed to that person and to the person concerned; the database refuses both too.
    Raises Hidden to whose model the person concerned has reported.
    """
    require_moderator(actor)
    if actor.pk in {measure.decided_by_id, measure.account_id}:
        raise NotAllowed("Another moderator answers this.", code="conflict_of_interest")
    _require_not_reported(measure, actor)
    answer = _checked(answer, "answer", "Give the reasons in your own words.")
    _move(
        measure,
        MeasureState.UPHELD if uphold else MeasureState.OVERTURNED,
        actor,
        answer=answer,
        answered_by=actor,
        answered_at=timezone.now(),
    )
    _tell(measure, "answer")


def _require_not_reported(measure: ReportingMeasure, actor: Account) -> None:
    """Raise Hidden to whom the measure would tell who has reported their models."""
    if has_reported(measure.account, actor):
        raise Hidden


def _checked(given: str, name: str, missing: str) -> str:
    text = given.strip()
    if not text:
        raise Invalid(missing, field=name)
    if len(text) > REASON_LENGTH:
        raise Invalid(
            f"The text is {len(text):,} characters long; {REASON_LENGTH:,} are the most.",
            field=name,
        )
    return text


def _move(measure: ReportingMeasure, to: MeasureState, actor: Account, **fields: object) -> None:
    before = measure.state
    if not may_follow(MeasureState, before, to):
        raise Conflict("This has been settled already.", code="illegal_transition")
    moved = ReportingMeasure.objects.filter(pk=measure.pk, state=before).update(state=to, **fields)
    if not moved:
        raise Conflict("Somebody else was quicker.", code="stale_measure")
    event_record(
        action=f"measure.{to}", actor=actor, data={"measure": measure.code, "from": before}
    )
    measure.refresh_from_db()


def _tell(measure: ReportingMeasure, what: str) -> None:
    figures = measure.figures
    notice_issue(
        kind=f"reporting_{what}",
        account=measure.account,
        extra={
            "measure_code": measure.code,
            "measure": measure.measure,
            "reason": measure.reason,
            "unfounded": figures["unfounded"],
            "answered": figures["answered"],
            "until": measure.until,
            "appeal_until": measure.appeal_until,
            "upheld": measure.state == MeasureState.UPHELD,
            "answer": measure.answer,
        },
    )
