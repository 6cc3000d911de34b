"""Notices: renders the triple of a kind and stores it as sent. ``outbox`` delivers it.

Reads ``templates/notices/{kind}/``; writes ``Notice``. Private notes and reporters' names never
reach a template: only what ``notice_issue`` names is in its context.
"""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone

from moderation.dispatch import wake_notice
from moderation.models import Account, Decision, ModelVersion, Notice, Report
from moderation.states import NoticeState
from moderation.translations import templates_in


def notice_issue(
    *,
    kind: str,
    version: ModelVersion | None = None,
    account: Account | None = None,
    email: str = "",
    decision: Decision | None = None,
    report: Report | None = None,
    extra: dict[str, Any] | None = None,
    not_before: datetime | None = None,
    language: str = "",
) -> Notice | None:
    """Write a notice to one person and wake a worker to send it on commit.

    With ``not_before`` its reader sees nothing of it until then, neither by e-mail nor on a page,
    and ``notices_withdraw`` can take it back. Returns None where there is nobody to tell: a
    visitor who left no address. It is written in ``language``, else in the language that the
    report was written in, else in that of the account.
    """
    if account is None and not email:
        return None
    now = timezone.now()
    moment = max(not_before or now, now)
    context = {
        "site": settings.SITE_URL.rstrip("/"),
        # On one line, so that a title cannot pass for a paragraph of ours.
        "title": " ".join(version.uploaded_model.title.split()) if version else "",
        "number": version.number if version else 0,
        "version_code": version.code if version else "",
        "visibility": version.visibility if version else "",
        "decision_code": decision.code if decision else "",
        "clauses": decision.clauses if decision else [],
        "decided_action": decision.action if decision else "",
        "report_token": report.token if report else "",
        "report_code": report.code if report else "",
        "name": account.username if account else "",
        **(extra or {}),
    }
    address = account.email if account else email
    if not language:
        language = report.language if report else account.language if account else ""

    def rendered(part: str) -> str:
        return render_to_string(templates_in(language, f"notices/{kind}/{part}"), context)

    notice = Notice.objects.create(
        kind=kind,
        recipient=account,
        email=address,
        version=version,
        decision=decision,
        report=report,
        subject=" ".join(rendered("subject.txt").split())[:250],
        text=rendered("body.txt"),
        html=rendered("body.html"),
        state=NoticeState.QUEUED if address else NoticeState.DEAD,
        error="" if address else "The account has no e-mail address; it reads this on its page.",
        not_before=moment,
        shown_from=moment,
        # The sweeper wakes a worker when the moment has come; what is due now is woken here.
        woken_at=now if moment == now else None,
    )
    if moment == now:
        wake_notice(notice_id=notice.pk)
    return notice


def notices_withdraw(*, decision: Decision) -> int:
    """Take back the notices of a decision that nobody could read yet; return how many.

    For a decision that is undone before it takes effect.
    """
    unseen = Notice.objects.filter(
        decision=decision, shown_from__gt=timezone.now(), attempts=0, sent_at__isnull=True
    )
    return unseen.delete()[0]


def notice_read(*, notice: Notice) -> None:
    """Mark a notice as read by its recipient, who has opened it."""
    Notice.objects.filter(pk=notice.pk, read_at__isnull=True).update(read_at=timezone.now())


def notices_read(*, account: Account, decision: Decision | None = None) -> int:
    """Mark what an account was told, or told about one decision, as read; return how many."""
    now = timezone.now()
    unread = Notice.objects.filter(recipient=account, read_at__isnull=True, shown_from__lte=now)
    if decision is not None:
        unread = unread.filter(decision=decision)
    return unread.update(read_at=now)
