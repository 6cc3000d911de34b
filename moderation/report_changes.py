"""Second thoughts of those who report: changing the words, or taking it back, while it is open.

Writes ``Report`` and ``LikenessRequest``. What was pointed to stays in its case for a person to
look at; a clock that nobody asks for any more stops.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.errors import Conflict, Invalid
from moderation.evidence import Upload, evidence_add, pictures_kept
from moderation.holds import hold_reschedule
from moderation.models import Case, CaseText, LikenessRequest, ModelVersion, Report, Rule
from moderation.models.cases import PLACE_LENGTH, REPORT_LENGTH
from moderation.states import ReportState
from moderation.throttle import TooMany, throttle_take

MOST_LINKS = 5


def text_checked(given: str) -> str:
    """Return the words of a report without space around them. Raises Invalid."""
    text = given.strip()
    if not text:
        raise Invalid("Say in a few words what is wrong.", code="no_text", field="text")
    if len(text) > REPORT_LENGTH:
        raise Invalid(
            f"Your report is {len(text):,} characters long; {REPORT_LENGTH:,} are the most.",
            code="text_too_long",
            field="text",
        )
    return text


def rule_checked(slug: str) -> Rule | None:
    """Return the rule that a reporter names, None for none. Raises Invalid for an unknown one."""
    if not slug:
        return None
    rule = Rule.objects.filter(policy__is_active=True, slug=slug).first()
    if rule is None:
        raise Invalid("The policy in force has no such rule.", code="no_rule", field="rule")
    return rule


def links_checked(given: Sequence[str]) -> list[str]:
    """Return the links of a report, each once. Raises Invalid where one is none, or too many."""
    links = list(dict.fromkeys(link.strip() for link in given if link.strip()))
    valid = URLValidator(schemes=["https", "http"])
    for link in links:
        try:
            valid(link)
        except ValidationError as error:
            raise _bad_link() from error
    if len(links) > MOST_LINKS or any(len(link) > PLACE_LENGTH for link in links):
        raise _bad_link()
    return links


def _bad_link() -> Invalid:
    return Invalid(
        f"A link begins with https:// and has at most {PLACE_LENGTH} characters; {MOST_LINKS} are "
        "the most.",
        code="bad_link",
        field="links",
    )


def report_edit(
    *,
    report: Report,
    text: str,
    rule: str | None = None,
    links: Sequence[str] | None = None,
    pictures: Sequence[Upload] = (),
) -> None:
    """Change a report that is still open, and add pictures. Who has its private link may do it.

    ``rule`` and ``links`` stay as they are where they are None. Raises Conflict once it is answered
    or withdrawn, Invalid with a code and field, TooMany where a throttle refuses.
    """
    given: dict[str, Any] = {"text": text_checked(text)}
    if links is not None:
        given["links"] = links_checked(links)
    if rule is not None and rule != (report.rule.slug if report.rule else ""):
        given["rule"] = rule_checked(rule)
    if pictures:
        # Before anything is read in the sandbox.
        _require_turn(report.code)
    with pictures_kept(pictures) as copies, transaction.atomic():
        locked = _open_report(report)
        changed = {name: value for name, value in given.items() if getattr(locked, name) != value}
        if changed and not copies:
            _require_turn(locked.code)
        evidence_add(report=locked, pictures=copies)
        if changed or copies:
            _edit(locked, changed)


@transaction.atomic
def report_withdraw(*, report: Report) -> None:
    """Take a report back that is still open. What it pointed to stays for a person to look at.

    Raises Conflict once it is answered or withdrawn.
    """
    _withdraw(_open_report(report))


@transaction.atomic
def likeness_edit(*, request: LikenessRequest, text: str) -> None:
    """Change the words of a likeness request, for everything it is about that is still open.

    Raises Conflict once all of it is answered, or the request was withdrawn, TooMany where a
    throttle refuses.
    """
    text = text_checked(text)
    reports = _open_reports(request)
    if request.text != text:
        _require_turn(request.code)
    LikenessRequest.objects.filter(pk=request.pk).update(text=text)
    for report in reports:
        if report.text != text:
            _edit(report, {"text": text})


@transaction.atomic
def likeness_withdraw(*, request: LikenessRequest) -> None:
    """Take a likeness request back: no more copies are looked for, and its clocks stop.

    Before it was confirmed, too: then its link makes nothing valid any more. Raises Conflict once
    all of it is answered, or it was withdrawn already.
    """
    reports = _open_reports(request)
    LikenessRequest.objects.filter(pk=request.pk).update(withdrawn_at=timezone.now())
    for report in reports:
        _withdraw(report)
    event_record(
        action="likeness.withdrawn",
        actor=None,
        data={"request": request.code, "reports": len(reports)},
    )


def _open_reports(request: LikenessRequest) -> list[Report]:
    """Lock a request and return its open reports, each locked, too.

    The versions first and in order, as every other writer; who claims a copy holds the request,
    so that under its lock the reports stay the same.
    """
    open_reports = request.reports.filter(state=ReportState.OPEN).order_by("version_id")
    while True:
        with transaction.atomic():
            expected = list(open_reports.values_list("version_id", flat=True))
            versions = ModelVersion.objects.select_for_update(no_key=True).order_by("pk")
            list(versions.filter(pk__in=expected))
            locked = LikenessRequest.objects.select_for_update(no_key=True).get(pk=request.pk)
            reports = list(open_reports.all())
            if {report.version_id for report in reports} <= set(expected):
                break
            # A copy was claimed meanwhile. The savepoint gives the locks back.
            transaction.set_rollback(True)
    if locked.withdrawn_at is not None or (locked.valid_at is not None and not reports):
        raise _closed()
    return [_open_report(report) for report in reports]


def _require_turn(code: str) -> None:
    if not throttle_take(limit="report.edit", key=code):
        raise TooMany(
            "These words were changed many times in a short time. Those saved last are what a "
            "person reads; what you wrote now is still below. Try again later.",
            code="too_many_changes",
        )


def _edit(report: Report, changed: Mapping[str, Any]) -> None:
    for name, value in changed.items():
        setattr(report, name, value)
    report.edited_at = timezone.now()
    report.save(update_fields=[*changed, "edited_at"])
    # The words it is found by are written anew when the case is weighed.
    CaseText.objects.filter(report=report).delete()
    _after("report.edited", report)


def _withdraw(report: Report) -> None:
    report.state, report.answered_at = ReportState.WITHDRAWN, timezone.now()
    report.save(update_fields=["state", "answered_at"])
    if report.due_at is not None:
        hold_reschedule(version=report.version, actor=None)
    _after("report.withdrawn", report)


def _after(action: str, report: Report) -> None:
    Case.objects.filter(pk=report.case_id).update(weighed_at=None)
    event_record(
        action=action,
        actor=report.reporter,
        version=report.version,
        case=report.case,
        data={"report": report.code},
    )


def _open_report(report: Report) -> Report:
    # The version first, as everywhere: the weighing of its case waits for us.
    ModelVersion.objects.select_for_update(no_key=True).get(pk=report.version_id)
    locked = (
        Report.objects.select_for_update(of=("self",))
        .select_related("case", "version", "reporter")
        .get(pk=report.pk)
    )
    if locked.state != ReportState.OPEN:
        raise _closed()
    return locked


def _closed() -> Conflict:
    return Conflict("This report is closed and cannot be changed any more.", code="report_closed")
