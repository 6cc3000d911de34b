"""Likeness requests: “this is me, take it down”. No account; a link in an e-mail confirms.

Writes ``LikenessRequest`` and the reports that come of it, for the models it names and for every
copy of them, each in its own case under the same clock (TAKE IT DOWN Act, sec. 3: 48 hours from a
valid request, and reasonable efforts to remove known identical copies).
"""

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from moderation.audit import event_record
from moderation.cases import case_open, case_weigh
from moderation.copies import Copy, copies_by_bytes, copies_of
from moderation.dispatch import wake_likeness
from moderation.errors import Invalid
from moderation.holds import hold_schedule
from moderation.models import Case, LikenessRequest, ModelVersion, PreviewImage, Report, Rule
from moderation.models.cases import NAME_LENGTH, REPORT_LENGTH
from moderation.models.reports import NAMED
from moderation.notices import notice_issue
from moderation.states import (
    LIKENESS_HOURS,
    REACHABLE,
    Language,
    ReportState,
    Track,
    Visibility,
)
from moderation.throttle import TooMany, throttle_take

MOST_MODELS = 50
# The rule under which a likeness case is looked at, where the policy in force has it.
LIKENESS_RULE = "real-person"
_CODE = re.compile(r"(/previews/)?(?<![0-9A-Za-z])([0-9a-hjkmnp-tv-z]{10})(?![0-9A-Za-z])")
_HOST = re.compile(r"https?://[^/\s]*")


@transaction.atomic
def _stored(
    versions: Sequence[ModelVersion],
    email: str,
    signature: str,
    text: str,
    is_intimate: bool,
    language: Language,
) -> LikenessRequest:
    request = LikenessRequest.objects.create(
        email=email,
        signature=signature,
        text=text,
        is_intimate=is_intimate,
        language=language,
        filed_at=timezone.now(),
    )
    request.versions.set(versions)
    event_record(
        action="likeness.requested",
        actor=None,
        data={"request": request.code, "models": len(versions)},
    )
    notice_issue(
        kind="likeness_confirm",
        email=email,
        language=language,
        extra={"request_token": request.token, "models": len(versions)},
    )
    return request


def likeness_request(
    *,
    models: str,
    email: str,
    signature: str,
    text: str,
    is_intimate: bool = False,
    agrees: bool = False,
    language: Language = Language.ENGLISH,
    address: str = "",
) -> LikenessRequest:
    """Take a request and send the link that makes it valid.

    ``models`` holds the addresses of the models, or of their pictures, as text. ``agrees`` is the
    statement, in good faith, that the person did not consent. Raises Invalid with a code and field
    for what is missing, TooMany where a throttle refuses.
    """
    email, signature, text = email.strip(), signature.strip(), text.strip()
    versions = _named(models)
    _check_person(email, signature, text, agrees)
    free = not address or throttle_take(limit="likeness.address", key=address)
    if not free or not throttle_take(limit="likeness.email", key=email.lower()):
        raise TooMany(
            "Several requests came from here in a short time. Open the link in the letter that "
            "you were sent, or try again later."
        )
    return _stored(versions, email, signature[:NAME_LENGTH], text, is_intimate, language)


def _named(models: str) -> list[ModelVersion]:
    found = _CODE.findall(_HOST.sub(" ", models))
    shown = PreviewImage.objects.filter(code__in=[code for is_picture, code in found if is_picture])
    # Who copies the address of a picture means the version that shows it.
    of_pictures = dict(shown.values_list("code", "version__code"))
    codes = list(dict.fromkeys(of_pictures.get(code, code) for _, code in found))
    if not codes:
        raise Invalid(
            "Name at least one address of a model on this site.", code="no_models", field="models"
        )
    if len(codes) > MOST_MODELS:
        raise Invalid(
            f"A request names {MOST_MODELS} models at most.", code="too_many_models", field="models"
        )
    versions = list(ModelVersion.objects.filter(code__in=codes, visibility__in=sorted(REACHABLE)))
    missing = set(codes) - {version.code for version in versions}
    if missing:
        raise Invalid(
            f"“{sorted(missing)[0]}” leads to no published model. Check it, or leave it out.",
            code="unknown_model",
            field="models",
        )
    return versions


def _check_person(email: str, signature: str, text: str, agrees: bool) -> None:
    try:
        validate_email(email)
    except ValidationError as error:
        raise Invalid("This is no e-mail address.", code="bad_email", field="email") from error
    if not text:
        raise Invalid("Say in a few words what is wrong.", code="no_text", field="text")
    if len(text) > REPORT_LENGTH:
        raise Invalid(
            f"Your text is {len(text):,} characters long; {REPORT_LENGTH:,} are the most.",
            code="text_too_long",
            field="text",
        )
    if not signature:
        raise Invalid("Sign with your name.", code="no_signature", field="signature")
    if not agrees:
        raise Invalid(
            "Confirm that it shows you (or a person you act for) and that there was no consent.",
            code="no_statement",
            field="agrees",
        )


@transaction.atomic
def likeness_confirm(*, request: LikenessRequest) -> None:
    """Make a request valid: its sender has opened the link. The clock starts in this moment.

    The models it names get their cases at once, and so do copies of the same bytes, up to a
    number; a worker looks for all other copies. A second time changes nothing, nor does it once the
    request was withdrawn.
    """
    now = timezone.now()
    due_at = now + timedelta(hours=LIKENESS_HOURS)
    named = list(request.versions.all())
    copies = {copy.version_id: copy for copy in copies_by_bytes(named)[:MOST_MODELS]}
    # All of them before the first event: nobody waits for a model with the record's lock in hand.
    locked = list(
        ModelVersion.objects.select_for_update(no_key=True)
        .filter(pk__in=[*(version.pk for version in named), *copies])
        .order_by("pk")
    )
    started = LikenessRequest.objects.filter(
        pk=request.pk, valid_at__isnull=True, withdrawn_at__isnull=True
    ).update(valid_at=now, due_at=due_at)
    if not started:
        return
    request.refresh_from_db()
    notice_issue(
        kind="likeness_received",
        email=request.email,
        language=request.language,
        extra={"request_token": request.token, "models": len(named), "due_at": due_at},
    )
    event_record(
        action="likeness.valid",
        actor=None,
        data={"request": request.code, "due_at": due_at.isoformat(), "models": len(named)},
    )
    for version in locked:
        if version.pk not in copies:
            _claim(request, version, NAMED)
        elif version.visibility != Visibility.REMOVED:
            _claim(request, version, copies[version.pk].found_by)
    wake_likeness(request_id=request.pk)


def likeness_sweep(*, request_id: int) -> int:
    """Open cases for all copies of what a valid request names; return how many are new."""
    request = LikenessRequest.objects.filter(pk=request_id, valid_at__isnull=False).first()
    if request is None:
        return 0
    began_at = timezone.now()
    claimed = set(request.reports.values_list("version_id", flat=True))
    copies = [copy for copy in copies_of(request.versions.all()) if copy.version_id not in claimed]
    new = sum(_claim_copy(request, copy) for copy in copies)
    # Last, so that what was cut short is looked for again.
    LikenessRequest.objects.filter(pk=request.pk).update(swept_at=began_at)
    return new


@transaction.atomic
def _claim_copy(request: LikenessRequest, copy: Copy) -> bool:
    version = ModelVersion.objects.select_for_update(no_key=True).get(pk=copy.version_id)
    if version.visibility == Visibility.REMOVED:
        # Taken down by a decision it needs no clock; the banks keep it down.
        return False
    return any(_claim(stands, version, copy.found_by) for stands in _standing([request.pk]))


def _standing(requests: Iterable[int]) -> list[LikenessRequest]:
    """Lock the requests that were not taken back while copies were being looked for.

    Their versions are locked before, and nothing is recorded yet.
    """
    rows = LikenessRequest.objects.select_for_update(no_key=True)
    return list(rows.filter(pk__in=requests, withdrawn_at__isnull=True).order_by("pk"))


def likeness_requests_sweep() -> int:
    """Look for copies once more while requests wait: what came up meanwhile, or was missed."""
    return sum(likeness_sweep(request_id=pk) for pk in _waiting().values_list("pk", flat=True))


def _waiting() -> QuerySet[LikenessRequest]:
    """Return the requests whose copies are looked for.

    Those with a report that is open; and, where people have decided all of them, those that were
    borne out, until their time is over and they were looked for at least once.
    """
    reports = Report.objects.filter(request=OuterRef("pk"))
    unfinished = Q(swept_at__isnull=True) | Q(due_at__gt=timezone.now())
    return LikenessRequest.objects.filter(valid_at__isnull=False, withdrawn_at__isnull=True).filter(
        Exists(reports.filter(state=ReportState.OPEN))
        | Exists(reports.filter(state=ReportState.ACTED)) & unfinished
    )


def upload_claimed(*, version: ModelVersion) -> bool:
    """Open a case for an upload that holds what a request that waits is about; True if one is.

    Called before a version is published, so that a re-upload within the time does not come up. Its
    caller holds the lock on the version and has recorded nothing yet.
    """
    ways: dict[int, str] = {}
    for request in _waiting().exclude(versions=version).prefetch_related("versions"):
        for copy in copies_of(request.versions.all()):
            if copy.version_id == version.pk:
                ways[request.pk] = copy.found_by
    if not ways:
        return False
    claims = [_claim(request, version, ways[request.pk]) for request in _standing(ways)]
    return any(claims)


def _claim(request: LikenessRequest, version: ModelVersion, found_by: str) -> bool:
    """Attach a report of the request to the version's open case, under the request's clock."""
    if request.reports.filter(version=version).exists():
        return False
    assert request.due_at is not None  # noqa: S101 - only valid requests come here
    case, _ = case_open(version=version, source=Case.Source.REPORT, actor=None)
    report = Report.objects.create(
        case=case,
        version=version,
        track=Track.LIKENESS,
        rule=Rule.objects.filter(policy__is_active=True, slug=LIKENESS_RULE).first(),
        email=request.email,
        name=request.signature,
        language=request.language,
        text=request.text,
        good_faith=True,
        request=request,
        found_by=found_by,
        due_at=request.due_at,
    )
    hold_schedule(version=version, due_at=request.due_at)
    case_weigh(case=case)
    event_record(
        action="likeness.claimed",
        actor=None,
        version=version,
        case=case,
        data={"request": request.code, "report": report.code, "found_by": found_by},
    )
    return True
