"""The Celery app: what a worker does when it starts, while it lives, and when it is told to end."""

import logging.config
import os
import threading
from typing import Any

from celery import Celery
from celery.signals import (
    beat_init,
    setup_logging,
    worker_init,
    worker_ready,
    worker_shutting_down,
)
from django_structlog.celery.steps import DjangoStructLogInitStep

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("weighhouse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Carries the ids of the request that sent a task into the log lines of the task.
app.steps["worker"].add(DjangoStructLogInitStep)


@setup_logging.connect
def log_as_the_web_does(**_: Any) -> None:
    """Keep Celery from setting up logging of its own."""
    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)


@worker_init.connect
@beat_init.connect
def check_settings(**_: Any) -> None:
    """Refuse to start on settings that cannot work.

    Celery notes an error of whoever listens to a signal, and goes on; only SystemExit ends it.
    """
    from django.core.checks import Tags
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError

    try:
        call_command("check", tags=[Tags.security, Tags.compatibility])
    except SystemCheckError as error:
        raise SystemExit(str(error)) from error


@worker_ready.connect
def start_heartbeat(sender: Any, **_: Any) -> None:
    """Say every few seconds that this worker is alive, and which queues it serves."""
    from moderation.worker import beat_forever, live_visibly

    queues = sorted(sender.app.amqp.queues.consume_from)
    threading.Thread(target=live_visibly, name="alive", daemon=True).start()
    threading.Thread(
        target=beat_forever, args=(sender.hostname, queues), name="heartbeat", daemon=True
    ).start()


@worker_shutting_down.connect
def end_in_time(**_: Any) -> None:
    """Let running work finish for ``DRAIN_SECONDS``, then give it back and end."""
    from moderation.worker import end_after_grace

    threading.Thread(target=end_after_grace, name="drain", daemon=True).start()
