"""Pictures that reporters send along: read in the sandbox, kept as a copy of their pixels.

Writes files and ``ReportEvidence``. What cannot be read as a picture is refused and leaves no
trace.
"""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile

from moderation.errors import Invalid
from moderation.models import Report, ReportEvidence
from moderation.stored import name_shown

if TYPE_CHECKING:
    Upload = UploadedFile[Any]
else:
    Upload = UploadedFile  # Django's class takes no parameter when it runs

MOST_PICTURES = 3
MOST_BYTES = 5 * 1024**2


@dataclass(frozen=True)
class Picture:
    """A copy that was made of a picture: the name it was sent under and where the copy is."""

    name: str
    stored: str


@contextmanager
def pictures_kept(uploads: Sequence[Upload]) -> Iterator[list[Picture]]:
    """Make copies of pictures, and delete them again unless the block ends well.

    Raises Invalid where there are too many, one is too large or one is no picture.
    """
    if len(uploads) > MOST_PICTURES or any((each.size or 0) > MOST_BYTES for each in uploads):
        raise _too_much()
    kept: list[Picture] = []
    well = False
    try:
        for upload in uploads:
            kept.append(_copied(upload))
        yield kept
        well = True
    finally:
        if not well:
            for picture in kept:
                default_storage.delete(picture.stored)


def evidence_add(*, report: Report, pictures: Sequence[Picture]) -> None:
    """Attach copies of pictures to a report. Raises Invalid where it then has too many."""
    if not pictures:
        return
    if report.evidence.count() + len(pictures) > MOST_PICTURES:
        raise _too_much()
    ReportEvidence.objects.bulk_create(
        ReportEvidence(report=report, name=picture.name, content=picture.stored)
        for picture in pictures
    )


def _too_much() -> Invalid:
    return Invalid(
        f"At most {MOST_PICTURES} pictures of {MOST_BYTES // 1024**2} MB each can be sent.",
        code="too_much_evidence",
        field="pictures",
    )


def _copied(upload: Upload) -> Picture:
    inspector = import_module(settings.UPLOAD_INSPECTOR)
    stored = f"evidence/{uuid.uuid4().hex}.jpg"
    target = Path(default_storage.path(stored))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile() as source:
        for chunk in upload.chunks():
            source.write(chunk)
        source.flush()
        summary = inspector.reencode_preview(Path(source.name), target)
    if getattr(summary, "sentence", ""):
        raise Invalid(
            f"“{name_shown(upload.name)[:100]}”: {summary.sentence}",
            code="bad_picture",
            field="pictures",
        )
    return Picture(name=name_shown(upload.name), stored=stored)
