"""Celery: every task has a route, and every name that is sent is a task."""

from celery import current_app
from django.conf import settings

from moderation.dispatch import (
    NOTICE_TASK,
    PUBLISHING_TASK,
    REFERENCE_TASK,
    STAGE_TASKS,
    WEBHOOK_TASK,
)


def _ours() -> set[str]:
    return {name for name in current_app.tasks if not name.startswith("celery.")}


def test_every_task_has_a_route_of_its_own() -> None:
    assert _ours() == set(settings.CELERY_TASK_ROUTES)


def test_every_name_that_is_sent_is_a_task() -> None:
    sent = {*STAGE_TASKS.values(), NOTICE_TASK, WEBHOOK_TASK, REFERENCE_TASK, PUBLISHING_TASK}
    sent |= {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert sent <= _ours()


def test_only_json_is_accepted() -> None:
    assert current_app.conf.accept_content == ["json"]
    assert current_app.conf.task_serializer == "json"
