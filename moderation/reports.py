"""Reports: the one way in for what people say is wrong with something published.

Writes ``Report`` and its evidence, joins it to the version's one open case, and sends the
receipt. Nothing is ever hidden because of how many reports there are.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from moderation.audit import event_record
from moderation.authz import require_may_speak, require_sight
from moderation.cases import case_opened, case_weigh
from moderation.copies import comparison_of
from moderation.errors import Conflict, Invalid, NotAllowed
from moderation.evidence import Upload, evidence_add, pictures_kept
from moderation.misuse import reporting_suspended
from moderation.models import (
    Account,
    Case,
    ModelVersion,
    PreviewImage,
    Report,
    TrustedFlagger,
)
from moderation.models.cases import NAME_LENGTH, PLACE_LENGTH
from moderation.notices import notice_issue
from moderation.report_changes import links_checked, rule_checked, text_checked
from moderation.states import (
    NOTICES_OF_ILLEGALITY,
    REACHABLE,
    Language,
    ReportState,
    Track,
    Visibility,
)
from moderation.throttle import TooMany, throttle_take

OPEN_REPORTS_PER_ADDRESS = 5
# Up to here a new report is weighed at once; in a flood the sweeper weighs the case for all of
# them every few seconds.
WEIGHED_AT_ONCE = 10


@dataclass(frozen=True)
class Words:
    """What a reporter says: which fields must be there depends on the track."""

    text: str
    rule: str = ""
    place: str = ""
    preview: str = ""
    email: str = ""
    name: str = ""
    law: str = ""
    links: Sequence[str] = field(default_factory=tuple)
    good_faith: bool = False
    is_child_safety: bool = False
    original: str = ""


def report_file(
    *,
    version: ModelVersion,
    text: str,
    rule: str = "",
    email: str = "",
    track: Track = Track.RULE,
    words: Words | None = None,
    pictures: Sequence[Upload] = (),
    language: Language = Language.ENGLISH,
    address: str = "",
    form_key: str = "",
    actor: Account | None,
) -> Report:
    """File a report on a published version; it joins the version's open case.

    ``words`` holds everything where the track asks for more than ``text``, ``rule`` and
    ``email``. ``address`` is a digest of the network address it came from
    (``throttle.address_digest``). The same words from the same form, told by its ``form_key``, are
    one report, whoever sends them. A registered trusted flagger's notices of illegal content run on
    their own track (DSA Art. 22); what they say breaks a rule is asked of them as of anybody.

    An account has one open report of a kind on a version: who said that a rule is broken can still
    give notice of a crime. Raises Hidden where the version cannot be seen, AlreadyReported if this
    account has reported it or this form was sent before, Invalid with a code and field where
    something is missing, TooMany where a throttle refuses, NotAllowed while reporting is suspended
    or the account may not speak. Where a child may be in danger (``is_child_safety`` on a notice of
    illegality) neither refuses.
    """
    words = words or Words(text=text, rule=rule, email=email)
    is_urgent = words.is_child_safety and track in NOTICES_OF_ILLEGALITY
    require_sight(actor, version)
    # Where a child may be in danger nobody is kept from saying so, whatever else they have done.
    if actor is not None and not is_urgent:
        require_may_speak(actor)
    # Before anything else is asked: in a flood most people have reported it already.
    digest = _form_digest(form_key, version, track, words)
    before = _sent_before(digest, version, track, is_urgent=is_urgent, actor=actor)
    if before is not None:
        raise AlreadyReported(before)
    _require_reportable(version, actor, is_urgent=is_urgent)
    flagger = actor is not None and _is_flagger(actor)
    if flagger and track == Track.ILLEGAL:
        track = Track.FLAGGER
    fields = _checked(words, track, version, actor)
    _throttled(version, actor, address, is_urgent=fields["is_child_safety"], flagger=flagger)
    with pictures_kept(pictures) as copies:
        try:
            with transaction.atomic():
                opened = case_opened(version=version, source=Case.Source.REPORT, actor=actor)
                with opened as (case, _):
                    report = Report.objects.create(
                        case=case,
                        version=version,
                        track=track,
                        reporter=actor,
                        language=language,
                        form_digest=digest,
                        **fields,
                    )
                    evidence_add(report=report, pictures=copies)
                    _weigh(case)
                    notice_issue(
                        kind="report_received",
                        version=version,
                        account=actor,
                        email=report.email,
                        report=report,
                    )
                # Last: whoever writes an event holds up every other writer until the commit.
                event_record(
                    action="report.filed",
                    actor=actor,
                    version=version,
                    case=case,
                    data={"report": report.code, "track": track, "rule": words.rule},
                )
        except IntegrityError as error:
            # Two at the same moment: the constraint let only one through.
            other = _sent_before(digest, version, track, is_urgent=is_urgent, actor=actor)
            raise AlreadyReported(other) from error
    return report


def _sent_before(
    digest: str | None,
    version: ModelVersion,
    track: Track,
    *,
    is_urgent: bool,
    actor: Account | None,
) -> Report | None:
    """Return what this very form, or this account, has sent already."""
    sent = Report.objects.filter(form_digest=digest).first() if digest else None
    return sent or report_open_of(version=version, track=track, is_urgent=is_urgent, actor=actor)


def _form_digest(key: str, version: ModelVersion, track: Track, words: Words) -> str | None:
    """Return what tells a form with its words from every other; None where it has no key.

    The words are a part of it: should a page with its key have come to two people, their reports
    stay apart.
    """
    if not key:
        return None
    said = [key, version.code, track, words.rule, words.text.strip(), words.email, words.name]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class AlreadyReported(Conflict):
    """This account has such an open report on the version already, or this form was sent before."""

    code = "already_reported"

    def __init__(self, report: Report | None) -> None:
        super().__init__("You have reported this already; your report is being looked at.")
        self.report = report


def report_open_of(
    *, version: ModelVersion, track: Track, is_urgent: bool, actor: Account | None
) -> Report | None:
    """Return the open report of a kind that an account has sent on a version, if any.

    ``is_urgent`` where a child may be in danger: that is a kind of its own.
    """
    if actor is None:
        return None
    # What a trusted flagger says is illegal runs on the flaggers' track.
    tracks = {track, Track.FLAGGER} if track == Track.ILLEGAL else {track}
    return Report.objects.filter(
        reporter=actor,
        version=version,
        state=ReportState.OPEN,
        track__in=sorted(tracks),
        is_child_safety=is_urgent,
    ).first()


def _require_reportable(version: ModelVersion, actor: Account | None, *, is_urgent: bool) -> None:
    if version.visibility not in REACHABLE:
        raise Conflict("Only what is published can be reported.", code="not_published")
    if actor is None:
        return
    if actor.pk == version.uploaded_model.creator_id:
        raise Conflict("This is your own model.", code="own_model")
    if reporting_suspended(actor) and not is_urgent:
        raise NotAllowed(
            "Your account cannot report at the moment. Why, until when, and how to object stands "
            "among your notices.",
            code="reporting_suspended",
        )


def _is_flagger(account: Account) -> bool:
    return TrustedFlagger.objects.filter(account=account, ended_at__isnull=True).exists()


def _weigh(case: Case) -> None:
    if case.weighed_at is None and case.reasons.get("reporters", 0) >= WEIGHED_AT_ONCE:
        # A flood: the sweeper is going to weigh it for everybody who came meanwhile.
        return
    if case.reports.count() <= WEIGHED_AT_ONCE:
        case_weigh(case=case)
    else:
        Case.objects.filter(pk=case.pk, weighed_at__isnull=False).update(weighed_at=None)


# --- What a report must hold ----------------------------------------------------------------


def _checked(
    words: Words, track: Track, version: ModelVersion, actor: Account | None
) -> dict[str, Any]:
    """Return the fields of a report. Raises Invalid or Conflict for the first that is wrong."""
    text = text_checked(words.text)
    rule = rule_checked(words.rule)
    preview = None
    if words.preview:
        preview = PreviewImage.objects.filter(version=version, code=words.preview).first()
    email, name, place = words.email.strip(), words.name.strip(), words.place.strip()
    if track in NOTICES_OF_ILLEGALITY:
        _check_notice(words, actor)
    if track == Track.COPY and actor is None:
        raise Conflict("To report a copy of your work, log in first.", code="needs_account")
    original = _original(words, version, actor) if track == Track.COPY else None
    is_urgent = words.is_child_safety and track in NOTICES_OF_ILLEGALITY
    if email:
        _check_email(email)
        if _is_busy(email):
            if track not in NOTICES_OF_ILLEGALITY:
                raise _busy()
            # Taken all the same, but without the address, so that no more letters go there: anybody
            # can type it, and the law asks for it with these. The next page says that its link is
            # the only way back.
            email = ""
    return {
        "text": text,
        "rule": rule,
        "preview": preview,
        "place": place[:PLACE_LENGTH],
        "email": email,
        "name": name[:NAME_LENGTH],
        "law": words.law.strip()[:NAME_LENGTH],
        "links": links_checked(words.links),
        "good_faith": words.good_faith,
        "is_child_safety": is_urgent,
        "original": original,
        "comparison": comparison_of(original, version) if original else {},
    }


def _check_notice(words: Words, actor: Account | None) -> None:
    """Ask for what makes a notice one in the sense of DSA Art. 16(2)(b) to (d)."""
    if not words.place.strip():
        raise Invalid(
            "Say exactly where it is to be seen: the address of the page or the picture.",
            code="no_place",
            field="place",
        )
    if words.is_child_safety:
        return
    if not words.name.strip() and actor is None:
        raise Invalid(
            "Give your name. The law asks for it with this kind of report, except where it is "
            "about the abuse of a child.",
            code="no_name",
            field="name",
        )
    if not words.email.strip() and actor is None:
        raise Invalid(
            "Give an e-mail address. The law asks for it with this kind of report, except where "
            "it is about the abuse of a child.",
            code="no_email",
            field="email",
        )
    if not words.good_faith:
        raise Invalid(
            "Confirm that what you say is accurate and complete to the best of your knowledge.",
            code="no_good_faith",
            field="good_faith",
        )


def _original(words: Words, version: ModelVersion, actor: Account | None) -> ModelVersion:
    own = (
        ModelVersion.objects.filter(code=words.original, uploaded_model__creator=actor)
        .exclude(visibility=Visibility.DRAFT)
        .first()
    )
    if own is None:
        raise Invalid(
            "Choose the model of yours that was copied.", code="not_your_work", field="original"
        )
    return own


def _check_email(email: str) -> None:
    try:
        validate_email(email)
    except ValidationError as error:
        raise Invalid("This is no e-mail address.", code="bad_email", field="email") from error


def _is_busy(email: str) -> bool:
    """Return whether several open reports of visitors bear an address already.

    Anybody can write anybody's address there; nobody's letter box may be flooded through us.
    """
    open_reports = Report.objects.filter(
        email__iexact=email, reporter__isnull=True, state=ReportState.OPEN
    )
    return open_reports.count() >= OPEN_REPORTS_PER_ADDRESS


def _busy() -> Conflict:
    return Conflict(
        "Several reports with this address are being looked at. Leave it out, and keep the "
        "private link on the next page instead.",
        code="address_busy",
        field="email",
    )


@transaction.atomic
def _throttled(
    version: ModelVersion, actor: Account | None, address: str, *, is_urgent: bool, flagger: bool
) -> None:
    """Take a token from each bucket concerned: all of them, or none where one is empty.

    On a page outside of the report's own transaction; through the API within the one that keeps
    the answer, with which they are given back if the report fails.

    Where a child may be in danger nothing is ever refused. What is refused costs no token.
    """
    if is_urgent:
        return
    if actor is not None:
        limit = "report.flagger" if flagger else "report.account"
        free = throttle_take(limit=limit, key=str(actor.pk))
        free = free and (not address or throttle_take(limit="report.address", key=address))
    else:
        free = not address or throttle_take(limit="report.visitor", key=address)
        if free and not throttle_take(limit="report.target", key=str(version.pk)):
            raise TooMany(
                "This model has been reported many times and is being looked at. Log in to report "
                "it all the same, or try again later.",
                code="target_busy",
            )
    if not free:
        raise TooMany(
            "Many reports came from here in a short time. Try again later; what you sent is being "
            "looked at."
        )
