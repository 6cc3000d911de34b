"""Resumable uploads: create, send parts in any order, complete. Writes ``Upload``.

Here a part goes into a file of its own; with a bucket the browser sends parts straight to it, to
addresses signed for an hour (S3 multipart). A part that comes twice replaces itself. What was
completed goes through the same door as any other file, and its digest is computed here.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone

from moderation.authz import Hidden, require_may_publish, require_own
from moderation.errors import Conflict, Invalid
from moderation.intake import version_add_file
from moderation.models import Account, ModelFile, ModelVersion, Upload, UploadPart
from moderation.states import UploadState, Visibility
from moderation.stored import (
    STORAGE_ERRORS,
    file_delete,
    is_on_this_machine,
    links_storage,
    local_path,
    name_shown,
)

PART_SIZE = 16 * 1024**2
# S3 takes at most 10,000 parts of an object ("Multipart upload limits", Amazon S3 user guide).
MOST_PARTS = 10_000
# Of one account, in all its drafts.
OPEN_UPLOADS = 20
SIGNED_FOR = timedelta(hours=1)
UNDER_WAY = (UploadState.OPEN, UploadState.JOINING)
# What nobody touched for so long is thrown away.
ABANDONED_AFTER = timedelta(days=7)


def upload_create(
    *, version: ModelVersion, name: str, size: int, modified: int = 0, actor: Account
) -> Upload:
    """Begin an upload, or find the one to resume: the same file into the same draft.

    ``modified`` is when it was last changed, in milliseconds: a file that was trained anew has
    often the name and the size of the old one, and a mixture of both would be neither. One that is
    being put together now is found, too. Raises Invalid for a size that is not admitted, Conflict
    if the version is no draft.
    """
    require_own(actor, version.uploaded_model)
    require_may_publish(actor)
    name = name_shown(name)
    if not 0 < size <= settings.MAX_WEIGHTS_BYTES:
        most = settings.MAX_WEIGHTS_BYTES / 1024**2
        raise Invalid(
            f"“{name}” is empty." if size <= 0 else f"“{name}” is larger than {most:,.0f} MB.",
            code="empty" if size <= 0 else "too_large",
            field="file",
        )
    with transaction.atomic():
        draft = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
        if draft.visibility != Visibility.DRAFT:
            raise Conflict("This version has been submitted.", code="not_a_draft")
        mine = Upload.objects.filter(version=draft, state__in=UNDER_WAY)
        found = mine.filter(name=name, size=size, modified=modified).first()
        if found is not None and not _is_gone(found):
            return found
        if found is not None:
            mine.filter(pk=found.pk).update(state=UploadState.ABANDONED)
        if Upload.objects.filter(creator=actor, state__in=UNDER_WAY).count() >= OPEN_UPLOADS:
            raise Conflict(
                f"{OPEN_UPLOADS} uploads of yours are under way. Finish one first: choose its file "
                "again, and it goes on where it stopped.",
                code="too_many",
            )
        part_size = max(PART_SIZE, -(-size // MOST_PARTS))
        upload = Upload.objects.create(
            version=draft,
            creator=actor,
            name=name,
            size=size,
            modified=modified,
            part_size=part_size,
            touched_at=timezone.now(),
        )
        if not is_on_this_machine():
            upload.key = f"uploads/{uuid.uuid4().hex}"
            answer = _s3().create_multipart_upload(**_object(upload))
            upload.multipart_id = answer["UploadId"]
            upload.save(update_fields=["key", "multipart_id"])
    return upload


def upload_of(*, code: str, actor: Account) -> Upload:
    """Return an open upload of this person; raises Hidden for any other."""
    upload = Upload.objects.filter(code=code, creator=actor).select_related("version").first()
    if upload is None or not actor.is_active:
        raise Hidden
    return upload


def upload_progress(upload: Upload) -> dict[str, Any]:
    """Return what the page needs to go on: which parts are there, and where the others go."""
    have = _parts_of(upload)
    # Whoever sends parts to the bucket is heard of here alone.
    Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN).update(touched_at=timezone.now())
    missing = [number for number in range(1, upload.parts_count + 1) if number not in have]
    return {
        "code": upload.code,
        "state": upload.state,
        "size": upload.size,
        "part_size": upload.part_size,
        "parts": upload.parts_count,
        "have": sorted(have),
        # Signed ones for a while only: the page asks again when it has used them up.
        "addresses": {number: _signed(upload, number) for number in missing[:100]}
        if upload.multipart_id and upload.state == UploadState.OPEN
        else {},
    }


def part_put(*, upload: Upload, number: int, chunks: Iterable[bytes], sha256: str) -> None:
    """Keep one part. ``sha256`` is the sender's digest of it, or empty.

    Raises Invalid if it has another length or digest than it should: nothing is kept of it then.
    """
    _require_open(upload)
    if not 1 <= number <= upload.parts_count:
        raise Invalid(f"This upload has the parts 1 to {upload.parts_count}.", code="bad_part")
    if upload.multipart_id:
        raise Conflict("The parts of this upload go to the bucket.", code="bad_part")
    expected = min(upload.part_size, upload.size - (number - 1) * upload.part_size)
    folder = _folder(upload)
    folder.mkdir(parents=True, exist_ok=True)
    arriving = folder / f"{number}.{uuid.uuid4().hex}"
    digest, length = hashlib.sha256(), 0
    try:
        with arriving.open("wb") as target:
            for chunk in chunks:
                length += len(chunk)
                if length > expected:
                    break
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if length != expected:
            raise Invalid(
                f"Part {number} should have {expected:,} bytes; {length:,} came. Send it again.",
                code="part_incomplete",
            )
        if sha256 and digest.hexdigest() != sha256.lower():
            raise Invalid(
                f"Part {number} arrived changed. Send it again.", code="part_digest_differs"
            )
        arriving.replace(folder / str(number))
    finally:
        arriving.unlink(missing_ok=True)
    UploadPart.objects.update_or_create(
        upload=upload, number=number, defaults={"sha256": digest.hexdigest()}
    )
    Upload.objects.filter(pk=upload.pk).update(touched_at=timezone.now())


def upload_complete(*, upload: Upload, actor: Account) -> ModelFile:
    """Put the parts together and bring the file through the door.

    A second call finds the file that the first one made, and one after a call that broke goes on
    with what the bucket has joined by then. Raises Conflict if parts are missing, Invalid if the
    file can be no model file or Conflict if the draft cannot take it; the upload is over then.
    """
    upload.refresh_from_db()
    if upload.state == UploadState.DONE:
        made = ModelFile.objects.filter(version=upload.version, name=upload.name).last()
        if made is not None:
            return made
    if upload.state == UploadState.JOINING:
        raise _joining()
    _require_open(upload)
    have = _parts_of(upload)
    missing = upload.parts_count - len(have)
    if missing:
        raise Conflict(
            f"{missing} of {upload.parts_count} parts are missing.", code="parts_missing"
        )
    # One of two calls at once does it; the other is told to wait.
    taken = Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN)
    if not taken.update(state=UploadState.JOINING, touched_at=timezone.now()):
        raise _joining()
    after = UploadState.OPEN
    try:
        with _joined(upload) as file:
            given: UploadedFile[bytes] = UploadedFile(file=file, name=upload.name, size=upload.size)
            made = version_add_file(version=upload.version, upload=given, actor=actor)
        after = UploadState.DONE
    except (Invalid, Conflict):
        # The draft has it already, or was submitted meanwhile: that will not change.
        after = UploadState.REFUSED
        raise
    finally:
        Upload.objects.filter(pk=upload.pk).update(state=after)
        if after != UploadState.OPEN:
            _tidy(upload)
    return made


def uploads_forget() -> int:
    """Throw away uploads that nobody touched for a week; return how many.

    One whose joining was cut off by a crash is opened again after an hour.
    """
    now = timezone.now()
    cut_off = Upload.objects.filter(
        state=UploadState.JOINING, touched_at__lt=now - timedelta(hours=1)
    )
    for upload in cut_off:
        # Somebody may have begun the same file anew meanwhile: then this one is given up.
        anew = Upload.objects.filter(
            version=upload.version_id,
            name=upload.name,
            size=upload.size,
            modified=upload.modified,
            state=UploadState.OPEN,
        )
        state = UploadState.ABANDONED if anew.exists() else UploadState.OPEN
        Upload.objects.filter(pk=upload.pk).update(state=state)
    abandoned = Upload.objects.filter(state=UploadState.OPEN, touched_at__lt=now - ABANDONED_AFTER)
    forgotten = 0
    for upload in abandoned[:100]:
        Upload.objects.filter(pk=upload.pk).update(state=UploadState.ABANDONED)
        _tidy(upload)
        forgotten += 1
    return forgotten


def _joining() -> Conflict:
    return Conflict("The parts are being put together now.", code="joining")


def _require_open(upload: Upload) -> None:
    if upload.state != UploadState.OPEN:
        raise Conflict("This upload is over. Begin a new one.", code=f"upload_{upload.state}")


def _folder(upload: Upload) -> Path:
    return Path(settings.DATA_DIR) / "uploads" / upload.code


def _parts_of(upload: Upload) -> set[int]:
    """Return the numbers of the parts that have arrived. Raises Conflict if the bucket has none."""
    if upload.state == UploadState.JOINING:
        return set(range(1, upload.parts_count + 1))
    if not upload.multipart_id:
        return _parts_here(upload)
    if upload.state != UploadState.OPEN:
        return set()
    tags = _parts_in_bucket(upload)
    if tags is None:
        Upload.objects.filter(pk=upload.pk).update(state=UploadState.ABANDONED)
        raise Conflict("This upload is over. Begin a new one.", code="upload_abandoned")
    return set(tags)


def _is_gone(upload: Upload) -> bool:
    """Return whether the bucket has ended an upload by a rule of its own."""
    is_open = upload.state == UploadState.OPEN
    return bool(is_open and upload.multipart_id) and _parts_in_bucket(upload) is None


def _parts_here(upload: Upload) -> set[int]:
    """Return the parts whose row and file are both there."""
    folder = _folder(upload)
    numbers = upload.parts.values_list("number", flat=True)
    return {number for number in numbers if (folder / str(number)).exists()}


@contextmanager
def _joined(upload: Upload) -> Iterator[IO[bytes]]:
    """Yield the whole file, open for reading."""
    if upload.multipart_id:
        if not _is_joined(upload):
            tags = _parts_in_bucket(upload) or {}
            parts = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(tags.items())]
            _s3().complete_multipart_upload(
                **_object(upload), UploadId=upload.multipart_id, MultipartUpload={"Parts": parts}
            )
        with local_path(upload.key).open("rb") as stored:
            yield stored
        return
    folder = _folder(upload)
    whole = folder / "whole"
    with whole.open("wb") as target:
        for number in range(1, upload.parts_count + 1):
            with (folder / str(number)).open("rb") as part:
                shutil.copyfileobj(part, target, 1024 * 1024)
    with whole.open("rb") as joined:
        yield joined


def _tidy(upload: Upload) -> None:
    """Delete what an upload left behind."""
    shutil.rmtree(_folder(upload), ignore_errors=True)
    if not upload.multipart_id:
        return
    try:
        file_delete(upload.key)
        _s3().abort_multipart_upload(**_object(upload), UploadId=upload.multipart_id)
    except STORAGE_ERRORS:
        # Completed, or gone: a bucket's own rule ends what is left (docs/operations.md).
        pass


# --- The bucket -----------------------------------------------------------------------------


def _s3() -> Any:
    return default_storage.connection.meta.client  # type: ignore[attr-defined]


def _object(upload: Upload) -> dict[str, str]:
    return {
        "Bucket": default_storage.bucket_name,  # type: ignore[attr-defined]
        "Key": default_storage._normalize_name(upload.key),  # type: ignore[attr-defined]
    }


def _parts_in_bucket(upload: Upload) -> dict[int, str] | None:
    """Return number and tag of the parts that the bucket has, of the right length each.

    All of them, without tags, once it has joined them; None if it knows the upload no more.
    """
    have: dict[int, str] = {}
    client = _s3()
    pages = client.get_paginator("list_parts")
    try:
        for page in pages.paginate(**_object(upload), UploadId=upload.multipart_id):
            for part in page.get("Parts", []):
                number = part["PartNumber"]
                rest = upload.size - (number - 1) * upload.part_size
                if part["Size"] == min(upload.part_size, rest):
                    have[number] = part["ETag"]
    except client.exceptions.NoSuchUpload:
        return dict.fromkeys(range(1, upload.parts_count + 1), "") if _is_joined(upload) else None
    return have


def _is_joined(upload: Upload) -> bool:
    """Return whether the bucket has put the parts together, for a call that broke afterwards."""
    return bool(
        default_storage.exists(upload.key) and default_storage.size(upload.key) == upload.size
    )


def _signed(upload: Upload, number: int) -> str:
    client = links_storage().connection.meta.client
    return str(
        client.generate_presigned_url(
            "upload_part",
            Params={**_object(upload), "UploadId": upload.multipart_id, "PartNumber": number},
            ExpiresIn=int(SIGNED_FOR.total_seconds()),
        )
    )
