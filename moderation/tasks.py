"""What the domain does in the background: sends notices, and sweeps up what was left lying."""

from celery import shared_task

from moderation import (
    cases,
    enforcement,
    findings,
    heartbeats,
    idempotency,
    inquiries,
    jobs,
    outbox,
    publishing,
    queue,
    references,
    rescreening,
    stored,
    uploads,
    webhooks,
)


@shared_task(name="moderation.notice_send")
def notice_send(notice_id: int) -> None:
    """Send the e-mail of one notice."""
    outbox.notice_send(notice_id=notice_id)


@shared_task(name="moderation.webhook_send")
def webhook_send(delivery_id: int) -> None:
    """Send one event to one webhook."""
    webhooks.delivery_send(delivery_id=delivery_id)


@shared_task(name="moderation.reference_fetch")
def reference_fetch(reference_id: int) -> None:
    """Fetch one file that a marketplace keeps."""
    references.reference_fetch(reference_id=reference_id)


@shared_task(name="moderation.files_publish")
def files_publish(version_id: int) -> None:
    """Move the files of a published version out of quarantine."""
    publishing.files_publish(version_id=version_id)


@shared_task(name="moderation.sweep")
def sweep() -> None:
    """Take back what nobody finished, settle what died of it, and send messages again."""
    jobs.jobs_expire()
    findings.versions_settle()
    enforcement.decisions_enforce_due()
    enforcement.decisions_expire()
    rescreening.rescreenings_settle()
    jobs.jobs_resend()
    outbox.notices_resend()
    queue.claims_expire()
    inquiries.inquiries_expire()
    cases.cases_weigh()
    publishing.files_to_publish()
    uploads.uploads_forget()
    stored.copies_forget()
    references.references_send()
    webhooks.webhooks_fan_out()
    webhooks.deliveries_send()
    heartbeats.heartbeats_forget()
    idempotency.answers_forget()
