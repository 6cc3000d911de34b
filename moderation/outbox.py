"""The outbox: delivers notices by e-mail, tries again with growing pauses, and gives up in sight.

Reads and writes ``Notice``. The row decides; the message that wakes a worker may be lost or come
twice.
"""

from datetime import timedelta
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.text import wrap

from moderation.audit import event_record
from moderation.authz import require_moderator
from moderation.dispatch import NOTICE_TASK, room_for, wake_notice
from moderation.errors import Conflict
from moderation.models import Account, Notice
from moderation.states import NoticeState
from moderation.waiting import written_down

ATTEMPTS = 5
PAUSE = timedelta(seconds=60)
SWEEP_LIMIT = 200
# RFC 5322, 2.1.1 asks for at most 78 characters a line; 72 leaves room for marks of quotation.
LINE_LENGTH = 72


def notice_send(*, notice_id: int) -> bool:
    """Send the e-mail of a notice; True if this call sent it.

    A failure is kept with its reason and tried again with growing pauses, five times in all.
    """
    now = timezone.now()
    # Taking an attempt first means that a second message for the same notice finds it taken.
    taken = Notice.objects.filter(pk=notice_id, state=NoticeState.QUEUED, attempts__lt=ATTEMPTS)
    with transaction.atomic():
        notice = taken.select_for_update().first()
        if notice is None:
            return False
        # A stray message must neither send early nor try again before the pause is over.
        if notice.not_before > now:
            return False
        pause = PAUSE * 2**notice.attempts
        Notice.objects.filter(pk=notice.pk).update(
            attempts=F("attempts") + 1, not_before=now + pause
        )
    message = EmailMultiAlternatives(
        subject=notice.subject,
        body=wrap(notice.text, LINE_LENGTH),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[notice.email],
        headers={
            "Message-ID": f"<{notice.code}@weighhouse>",
            "Auto-Submitted": "auto-generated",  # RFC 3834: keeps vacation replies away
        },
    )
    message.attach_alternative(notice.html, "text/html")
    try:
        message.send()
    except (SMTPException, OSError, UnicodeError) as error:
        # UnicodeError: Django accepts some addresses whose domain cannot be written in IDNA.
        dead = notice.attempts + 1 >= ATTEMPTS
        Notice.objects.filter(pk=notice.pk).update(
            error=str(error)[:2000], state=NoticeState.DEAD if dead else NoticeState.QUEUED
        )
        return False
    sent_at = timezone.now()

    def note() -> int:
        return Notice.objects.filter(pk=notice.pk).update(
            state=NoticeState.SENT, sent_at=sent_at, error=""
        )

    # It went out: unless that is written down before the pause is over, it goes out again.
    written_down(note, seconds=pause.total_seconds())
    return True


def notices_resend() -> int:
    """Wake a worker for every notice whose e-mail is overdue; return how many.

    Gives up those whose last attempt ended without a word, so that they block nobody's way.
    """
    now = timezone.now()
    overdue = Notice.objects.filter(state=NoticeState.QUEUED, not_before__lt=now)
    overdue.filter(attempts__gte=ATTEMPTS).update(
        state=NoticeState.DEAD,
        error="The worker was lost during the last attempt; it may or may not have been sent.",
    )
    silent = overdue.filter(
        Q(woken_at__isnull=True) | Q(woken_at__lt=now - timedelta(seconds=settings.RESEND_SECONDS))
    )
    woken = 0
    most = min(SWEEP_LIMIT, room_for(NOTICE_TASK))
    for notice_id in silent.order_by("not_before").values_list("pk", flat=True)[:most]:
        if silent.filter(pk=notice_id).update(woken_at=now):
            wake_notice(notice_id=notice_id)
            woken += 1
    return woken


@transaction.atomic
def notice_revive(*, code: str, actor: Account) -> None:
    """Give a dead letter five new attempts, the first one now.

    Raises Conflict if it is not dead or has no address.
    """
    require_moderator(actor)
    now = timezone.now()
    dead = Notice.objects.filter(code=code, state=NoticeState.DEAD).exclude(email="")
    if not dead.update(
        state=NoticeState.QUEUED, attempts=0, not_before=now, woken_at=now, error=""
    ):
        raise Conflict("This letter does not wait for anybody.", code="not_dead")
    event_record(action="notice.revived", actor=actor, data={"notice": code})
    wake_notice(notice_id=Notice.objects.values_list("pk", flat=True).get(code=code))
