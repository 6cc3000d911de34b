"""Files of a published version leave quarantine. Writes the names of files, nothing else.

The new file is there before the row names it, and the old one goes only after the row was
committed: whenever the work is cut off, the row names a file that exists.
"""

from collections.abc import Callable
from functools import partial

from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from moderation.dispatch import PUBLISHING_TASK, room_for, wake_publishing
from moderation.models import ModelFile, ModelVersion, PreviewImage
from moderation.states import REACHABLE
from moderation.stored import QUARANTINE, file_delete, file_publish

SWEEP_LIMIT = 20


def files_to_publish() -> int:
    """Wake a worker for published versions whose files are still in quarantine."""
    waiting = ModelVersion.objects.filter(
        visibility__in=sorted(REACHABLE), files_published_at__isnull=True
    ).values_list("pk", flat=True)[: min(SWEEP_LIMIT, room_for(PUBLISHING_TASK))]
    for version_id in waiting:
        wake_publishing(version_id=version_id)
    return len(waiting)


def files_publish(*, version_id: int) -> int:
    """Move the files of a published version out of quarantine; return how many were moved."""
    version = ModelVersion.objects.filter(pk=version_id, visibility__in=sorted(REACHABLE)).first()
    if version is None or version.files_published_at is not None:
        return 0
    moved = 0
    for file in ModelFile.objects.filter(version=version):
        moved += _move(ModelFile, file.pk, "content", file.content.name or "")
    for preview in PreviewImage.objects.filter(version=version):
        moved += _move(PreviewImage, preview.pk, "original", preview.original.name or "")
        moved += _move(PreviewImage, preview.pk, "shown", preview.shown.name or "")
        moved += _move(PreviewImage, preview.pk, "small", preview.small.name or "")
    ModelVersion.objects.filter(pk=version.pk).update(files_published_at=timezone.now())
    return moved


def _move(model: type[Model], pk: int, field: str, name: str) -> int:
    if not name.startswith(QUARANTINE):
        return 0
    new = file_publish(name)
    with transaction.atomic():
        rows = model._default_manager.filter(pk=pk, **{field: name})
        changed = rows.update(**{field: new})
        if changed:
            after: Callable[[], None] = partial(file_delete, name)
            transaction.on_commit(after)
    return changed
