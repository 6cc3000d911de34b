"""Starts work by task name, after commit. The only file that names tasks.

A message is a hint: it may be lost or come twice, and the row it names stays the truth.
"""

import logging
import time
from functools import partial
from typing import Any

from celery import current_app
from django.db import transaction
from kombu.exceptions import ChannelError, OperationalError

logger = logging.getLogger(__name__)

STAGE_TASKS = {"files": "triage.files", "previews": "triage.previews"}
HEAT_MAP_TASK = "triage.heat_map"
NOTICE_TASK = "moderation.notice_send"
WEBHOOK_TASK = "moderation.webhook_send"
PUBLISHING_TASK = "moderation.files_publish"
REFERENCE_TASK = "moderation.reference_fetch"
REPORTERS_TASK = "moderation.reports_tell"
LIKENESS_TASK = "moderation.likeness_sweep"


# As many messages as may wait in a queue. Enough to keep workers busy between two sweeps; a backlog
# stays in the tables, where it is in order, and a queue that nobody serves does not fill Redis.
MOST_WAITING = 200


# For so long this process asks nothing of a broker that did not answer: each message would have to
# wait for it, and with it the page that sends it. The sweeper sends what was not sent.
AWAY_SECONDS = 10.0
_away_until = 0.0


def messages_waiting(task: str) -> int:
    """Return how many messages wait in the queue of a task.

    Raises kombu's OperationalError where the broker does not answer.
    """
    if current_app.conf.task_always_eager:
        return 0
    queue = current_app.amqp.router.route({}, task)["queue"].name
    with current_app.pool.acquire(block=True) as pooled:
        connection: Any = pooled  # kombu's types take it for a producer
        # Without a limit it would try for ever.
        connection.ensure_connection(max_retries=1)
        try:
            with connection.channel() as channel:
                return int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:  # nothing was ever sent there
            return 0
        except connection.connection_errors as error:
            # Redis' own, where a connection broke that had been idle in the pool.
            raise OperationalError(str(error)) from error


def room_for(task: str) -> int:
    """Return how many more messages may be sent for a task now; none to a broker that is away."""
    if _is_away():
        return 0
    try:
        return max(0, MOST_WAITING - messages_waiting(task))
    except (OperationalError, OSError) as error:
        _note_away(error)
        return 0


def _send(task: str, row_id: int) -> None:
    if _is_away():
        return
    try:
        current_app.signature(task, args=(row_id,)).apply_async()
    except (OperationalError, OSError) as error:
        # The sweeper finds the row and sends again.
        _note_away(error)


def _is_away() -> bool:
    return time.monotonic() < _away_until


def _note_away(error: Exception) -> None:
    global _away_until
    _away_until = time.monotonic() + AWAY_SECONDS
    logger.warning("The broker does not answer; messages are sent later: %s", error)


def wake_triage(*, stage: str, job_id: int) -> None:
    """Wake a worker for a triage job once the transaction has been committed."""
    transaction.on_commit(partial(_send, STAGE_TASKS[stage], job_id))


def wake_heat_map(*, heat_map_id: int) -> None:
    """Wake a worker to draw a heat-map once the transaction has been committed."""
    transaction.on_commit(partial(_send, HEAT_MAP_TASK, heat_map_id))


def wake_notice(*, notice_id: int) -> None:
    """Wake a worker to send a notice once the transaction has been committed."""
    transaction.on_commit(partial(_send, NOTICE_TASK, notice_id))


def wake_webhook(*, delivery_id: int) -> None:
    """Wake a worker to send a webhook once the transaction has been committed."""
    transaction.on_commit(partial(_send, WEBHOOK_TASK, delivery_id))


def wake_reference(*, reference_id: int) -> None:
    """Wake a worker to fetch a file once the transaction has been committed."""
    transaction.on_commit(partial(_send, REFERENCE_TASK, reference_id))


def wake_publishing(*, version_id: int) -> None:
    """Wake a worker to move files out of quarantine once the transaction has been committed."""
    transaction.on_commit(partial(_send, PUBLISHING_TASK, version_id))


def wake_reporters(*, case_id: int) -> None:
    """Wake a worker to tell the rest of a case's reporters once the transaction is committed."""
    transaction.on_commit(partial(_send, REPORTERS_TASK, case_id))


def wake_likeness(*, request_id: int) -> None:
    """Wake a worker to look for copies once the transaction has been committed."""
    transaction.on_commit(partial(_send, LIKENESS_TASK, request_id))
