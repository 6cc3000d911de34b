"""What the domain does in the background: sends notices, and sweeps up what was left lying."""

from celery import shared_task

from moderation import cases, findings, heartbeats, inquiries, jobs, outbox, queue


@shared_task(name="moderation.notice_send")
def notice_send(notice_id: int) -> None:
    """Send the e-mail of one notice."""
    outbox.notice_send(notice_id=notice_id)


@shared_task(name="moderation.sweep")
def sweep() -> None:
    """Take back what nobody finished, settle what died of it, and send messages again."""
    jobs.jobs_expire()
    findings.versions_settle()
    jobs.jobs_resend()
    outbox.notices_resend()
    queue.claims_expire()
    inquiries.inquiries_expire()
    cases.cases_weigh()
    heartbeats.heartbeats_forget()
