"""Files that come with an appeal: pictures, PDF and plain text, kept under random names.

Their type is told from their first bytes, never from their name; nobody opens them here, and they
are only ever served as downloads. Writes ``AppealFile``.
"""

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile

from moderation.errors import Invalid
from moderation.models import Appeal, AppealFile
from moderation.stored import name_shown

if TYPE_CHECKING:
    Upload = UploadedFile[Any]
else:
    Upload = UploadedFile  # Django's class takes no parameter when it runs

MAX_FILES = 5
MAX_BYTES = 5 * 1024 * 1024
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"%PDF-", "application/pdf"),
)
# Names end as their kind does, so that no page that runs is offered to a moderator as one.
_ENDINGS = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/webp": (".webp",),
    "application/pdf": (".pdf",),
    "text/plain": (".txt",),
}


@contextmanager
def appeal_files_kept(uploads: Sequence[Upload]) -> Iterator[list[AppealFile]]:
    """Store the files of an appeal, and delete them again unless the block ends well.

    Gives their rows, which ``appeal_files_add`` saves. Raises Invalid with the first that is not a
    small picture, PDF or text.
    """
    if len(uploads) > MAX_FILES:
        raise Invalid(f"{MAX_FILES} files are the most.", code="too_many_files", field="files")
    contents = [(upload, _checked(upload)) for upload in uploads]
    kept: list[AppealFile] = []
    well = False
    try:
        for upload, (content, kind) in contents:
            kept.append(
                AppealFile(
                    name=_named(name_shown(upload.name), kind),
                    content=default_storage.save(
                        f"appeals/{uuid.uuid4().hex}", ContentFile(content)
                    ),
                    kind=kind,
                    size=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                )
            )
        yield kept
        well = True
    finally:
        if not well:
            for file in kept:
                default_storage.delete(file.content.name or "")


def appeal_files_add(*, appeal: Appeal, files: Sequence[AppealFile]) -> None:
    """Attach stored files to their appeal."""
    for file in files:
        file.appeal = appeal
    AppealFile.objects.bulk_create(files)


def _named(name: str, kind: str) -> str:
    endings = _ENDINGS[kind]
    if name.lower().endswith(endings):
        return name
    return name[: 255 - len(endings[0])] + endings[0]


def _checked(upload: Upload) -> tuple[bytes, str]:
    name = name_shown(upload.name)[:80]
    if not upload.size:
        raise Invalid(f"“{name}” is empty.", code="empty_file", field="files")
    if upload.size > MAX_BYTES:
        raise Invalid(
            f"“{name}” has {upload.size / 1024**2:.1f} MB; {MAX_BYTES // 1024**2} MB are the most.",
            code="file_too_large",
            field="files",
        )
    content = upload.read()
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            return content, kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return content, "image/webp"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Invalid(
            f"“{name}” is neither a picture (PNG, JPEG, WebP) nor a PDF nor plain text.",
            code="bad_file",
            field="files",
        )
    return content, "text/plain"
