"""What the domain does in the background: sends notices, and sweeps up what was left lying."""

import logging
from collections.abc import Callable

from celery import shared_task
from django.conf import settings

from moderation import (
    cases,
    copies,
    enforcement,
    findings,
    heartbeats,
    holds,
    idempotency,
    inquiries,
    jobs,
    likeness,
    outbox,
    outcomes,
    publishing,
    queue,
    references,
    rescreening,
    retention,
    throttle,
    uploads,
    waiting,
    webhooks,
)

logger = logging.getLogger(__name__)

# After this another worker sweeps, too: the first may have died at it.
LONGEST_SWEEP_SECONDS = 10.0


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


@shared_task(name="moderation.reports_tell")
def reports_tell(case_id: int) -> None:
    """Tell the reporters of an answered case who are still to be told."""
    while outcomes.reports_tell(limit=outcomes.PORTION, case_id=case_id):
        pass


@shared_task(name="moderation.likeness_sweep")
def likeness_sweep(request_id: int) -> None:
    """Look for copies of what a likeness request names."""
    likeness.likeness_sweep(request_id=request_id)


@shared_task(name="moderation.look_for_copies")
def look_for_copies() -> None:
    """Hash what is new, look again for copies while requests are open, and forget old throttles."""
    copies.previews_hash()
    likeness.likeness_requests_sweep()
    throttle.buckets_forget()


@shared_task(name="moderation.purge")
def purge() -> None:
    """Erase what has been kept for long enough."""
    retention.purge()


@shared_task(name="moderation.sweep")
def sweep() -> None:
    """Take back what nobody finished, settle what died of it, and send messages again.

    One at a time, and not sooner than half of ``SWEEP_SECONDS`` after the last: sweeps that were
    queued up while no worker ran, or sent twice, are over at once.
    """
    if not throttle.turn_take(name="sweep", seconds=LONGEST_SWEEP_SECONDS):
        return
    try:
        _sweep()
    finally:
        throttle.turn_end(name="sweep", pause=settings.SWEEP_SECONDS / 2)


STEPS: tuple[Callable[[], object], ...] = (
    jobs.jobs_expire,
    findings.versions_settle,
    enforcement.decisions_enforce_due,
    enforcement.decisions_expire,
    rescreening.rescreenings_settle,
    jobs.jobs_resend,
    holds.holds_place,
    outcomes.reports_tell,
    outbox.notices_resend,
    queue.claims_expire,
    inquiries.inquiries_expire,
    cases.cases_weigh,
    publishing.files_to_publish,
    uploads.uploads_forget,
    references.references_send,
    webhooks.webhooks_fan_out,
    webhooks.deliveries_send,
    heartbeats.heartbeats_forget,
    idempotency.answers_forget,
)


def _sweep() -> None:
    """Do every step, also after one that failed; raise the first failure at the end.

    A row that one step stumbles over each time must not keep the others from their work. That a
    sweep was begun is the clock's sign of life.
    """
    heartbeats.heart_beat(name="sweep", kind="sweep")
    failures: list[Exception] = []
    for step in STEPS:
        try:
            step()
        except Exception as error:
            if waiting.connection_is_lost(error):
                # Without the database none gets anywhere; the next sweep is seconds away.
                raise
            logger.exception("A step of the sweep failed: %s", step.__qualname__)
            failures.append(error)
    if failures:
        raise failures[0]
