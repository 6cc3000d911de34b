"""Files that a marketplace keeps: fetched by a worker into a draft.

Writes ``FileReference``; what was fetched goes through the same door as an upload. The draft waits
for whoever submits it, and cannot be submitted while a file that was named is missing.
"""

import hashlib
import logging
import re
import tempfile
from datetime import timedelta
from typing import IO

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_own
from moderation.dispatch import REFERENCE_TASK, room_for, wake_reference
from moderation.errors import Conflict, Invalid, Refusal
from moderation.intake import version_add_file, version_add_preview
from moderation.models import Account, FileReference, ModelVersion
from moderation.outbound import OutboundError, ask, target_of
from moderation.parts import prompt_checked
from moderation.states import DeliveryState, Visibility
from moderation.stored import STORAGE_ERRORS, name_shown

logger = logging.getLogger(__name__)

PAUSES = (10, 60, 300)
# Enough for 8 GB at 5 MB a second.
FETCH_SECONDS = 30 * 60
SWEEP_LIMIT = 50


@transaction.atomic
def reference_add(
    *,
    version: ModelVersion,
    kind: str,
    url: str,
    name: str,
    sha256: str,
    prompt: str = "",
    actor: Account,
) -> FileReference:
    """Note where a file of a draft is to be fetched, and wake a worker.

    One that was given up, or that is not in the draft any more, may be named again. Raises Invalid
    for an address that may not be asked or a digest that is none, Conflict for a file that is
    there or on its way or a version that is no draft.
    """
    require_own(actor, version.uploaded_model)
    locked = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    if locked.visibility != Visibility.DRAFT:
        raise Conflict("This version has been submitted.", code="not_a_draft")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise Invalid(
            "Give the SHA-256 of the file as 64 hexadecimal digits: what is fetched has to be "
            "what you meant.",
            code="bad_digest",
            field="sha256",
        )
    if len(url) > 2000:
        raise Invalid("The address has more than 2,000 characters.", code="bad_url", field="url")
    target_of(url)
    fields = {
        "kind": kind,
        "url": url,
        "name": name_shown(name),
        "prompt": prompt_checked(prompt),
        "not_before": timezone.now(),
    }
    # Nobody else writes one meanwhile: the version is locked.
    reference = locked.references.filter(sha256=sha256).first()
    if reference is None:
        if locked.references.count() >= settings.MAX_FILES + settings.MAX_PREVIEWS:
            raise Invalid("A version has no more files than that.", code="too_many", field="url")
        reference = FileReference.objects.create(version=locked, sha256=sha256, **fields)
    elif _is_wanted(reference):
        raise Conflict("A file with this digest was named before.", code="same_file")
    else:
        again = {"state": DeliveryState.QUEUED, "attempts": 0, "error": "", **fields}
        FileReference.objects.filter(pk=reference.pk).update(**again)
        reference.refresh_from_db()
    wake_reference(reference_id=reference.pk)
    return reference


def _is_wanted(reference: FileReference) -> bool:
    """Return whether a file is on its way, or in the draft."""
    if reference.state == DeliveryState.DONE:
        version, sha256 = reference.version, reference.sha256
        parts = version.files if reference.kind == FileReference.Kind.FILE else version.previews
        return parts.filter(sha256=sha256).exists()
    return reference.state == DeliveryState.QUEUED


@transaction.atomic
def reference_remove(*, reference: FileReference, actor: Account) -> None:
    """Forget a file that could not be fetched; the draft can then be submitted without it.

    Raises Conflict for one that was fetched or is still to be, or a version that is no draft.
    """
    require_own(actor, reference.version.uploaded_model)
    locked = ModelVersion.objects.select_for_update(no_key=True).get(pk=reference.version_id)
    if locked.visibility != Visibility.DRAFT:
        raise Conflict("This version has been submitted.", code="not_a_draft")
    if not locked.references.filter(pk=reference.pk, state=DeliveryState.DEAD).delete()[0]:
        raise Conflict(
            "Only a file that could not be fetched can be taken back.", code="reference_not_dead"
        )
    event_record(action="version.reference_removed", actor=actor, version=locked)


def references_send() -> int:
    """Wake a worker for every reference that is due; return how many.

    Gives up those whose last attempt ended without a word, so that none is fetched for ever.
    """
    queued = FileReference.objects.filter(
        state=DeliveryState.QUEUED, not_before__lte=timezone.now()
    )
    for lost in queued.filter(attempts__gt=len(PAUSES)).select_related("version"):
        _failed(lost, "The worker was lost during the last attempt.", again=False)
    due = queued.filter(attempts__lte=len(PAUSES)).order_by("not_before")
    most = min(SWEEP_LIMIT, room_for(REFERENCE_TASK))
    woken = list(due.values_list("pk", flat=True)[:most])
    for reference_id in woken:
        wake_reference(reference_id=reference_id)
    return len(woken)


def reference_fetch(*, reference_id: int) -> bool:
    """Fetch one file and put it through the door; True if it is now in the draft.

    A host that does not answer is asked four times; what the door refuses, or has another
    digest, is given up at once, with the sentence that says why.
    """
    now = timezone.now()
    due = FileReference.objects.filter(
        pk=reference_id, state=DeliveryState.QUEUED, not_before__lte=now
    )
    reference = due.select_related("version__uploaded_model__creator").first()
    if reference is None:
        return False
    # Taken for as long as a fetch may last: a message that comes twice finds nothing to do.
    taken = due.filter(attempts=reference.attempts).update(
        attempts=F("attempts") + 1, not_before=now + timedelta(seconds=FETCH_SECONDS)
    )
    if not taken:
        return False
    try:
        with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
            _fetch(reference, file)
            _admit(reference, file)
    except OutboundError as error:
        _failed(reference, str(error), again=reference.attempts < len(PAUSES))
        return False
    except Refusal as refusal:
        _failed(reference, refusal.sentence, again=False)
        return False
    except STORAGE_ERRORS as error:
        # The house's own fault, which costs no attempt.
        logger.warning("The storage does not answer: %s", error)
        pause = timedelta(seconds=PAUSES[-1])
        FileReference.objects.filter(pk=reference.pk, state=DeliveryState.QUEUED).update(
            attempts=F("attempts") - 1, not_before=timezone.now() + pause
        )
        return False
    FileReference.objects.filter(pk=reference.pk).update(state=DeliveryState.DONE, error="")
    return True


def _limit(reference: FileReference) -> int:
    is_file = reference.kind == FileReference.Kind.FILE
    return int(settings.MAX_WEIGHTS_BYTES if is_file else settings.MAX_PREVIEW_BYTES)


def _fetch(reference: FileReference, file: IO[bytes]) -> None:
    digest = hashlib.sha256()
    with ask(reference.url, seconds=FETCH_SECONDS) as answer:
        if answer.status != 200:
            raise OutboundError(f"It answered {answer.status}.")
        for chunk in answer.chunks(limit=_limit(reference)):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != reference.sha256:
        raise Invalid(
            f"What was fetched has the SHA-256 {digest.hexdigest()}, not the one you gave.",
            code="other_digest",
        )


def _admit(reference: FileReference, file: IO[bytes]) -> None:
    size = file.tell()
    file.seek(0)
    upload: UploadedFile[bytes] = UploadedFile(file=file, name=reference.name, size=size)
    creator = reference.version.uploaded_model.creator
    if reference.kind == FileReference.Kind.FILE:
        version_add_file(version=reference.version, upload=upload, actor=creator)
    else:
        version_add_preview(
            version=reference.version, upload=upload, prompt=reference.prompt, actor=creator
        )


@transaction.atomic
def _failed(reference: FileReference, error: str, *, again: bool) -> None:
    pause = timedelta(seconds=PAUSES[min(reference.attempts, len(PAUSES) - 1)])
    FileReference.objects.filter(pk=reference.pk).update(
        error=error[:2000],
        state=DeliveryState.QUEUED if again else DeliveryState.DEAD,
        not_before=timezone.now() + pause,
    )
    if not again:
        event_record(
            action="version.reference_failed", actor=None, version=reference.version, data={}
        )
