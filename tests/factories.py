"""One function per thing that a test needs, made through the services where one exists."""

import hashlib
import io
import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from allauth.account.models import EmailAddress
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from moderation import intake
from moderation.decisions import decision_make
from moderation.findings import FindingIn, findings_record
from moderation.jobs import job_lease
from moderation.models import Account, Case, Decision, ModelFile, ModelVersion, PreviewImage
from moderation.queue import case_claim
from moderation.states import RESTRICTIONS, Action, Role

PASSWORD = "a long pass phrase"


def account(name: str, *, role: Role = Role.CREATOR) -> Account:
    """Return a stored account."""
    return Account.objects.create_user(
        username=name, email=f"{name}@example.org", password=PASSWORD, role=role
    )


def address_confirmed(account: Account) -> None:
    """Let an account have followed the link of the letter to its address."""
    EmailAddress.objects.create(user=account, email=account.email, verified=True, primary=True)


def safetensors_bytes(
    tensors: Mapping[str, Any] | None = None, *, metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return a sound safetensors file of float32 tensors."""
    tensors = {"lora.down": np.arange(8.0)} if tensors is None else tensors
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    body = b""
    for name, values in tensors.items():
        data = np.asarray(values, dtype=np.float32)
        header[name] = {
            "dtype": "F32",
            "shape": list(data.shape),
            "data_offsets": [len(body), len(body) + data.nbytes],
        }
        body += data.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def picture_bytes(
    colour: tuple[int, int, int] = (120, 160, 90), *, size: tuple[int, int] = (64, 64)
) -> bytes:
    """Return a PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def weights_upload(name: str = "weights.safetensors", **options: Any) -> SimpleUploadedFile:
    """Return a file of weights as a browser would send it."""
    return SimpleUploadedFile(name, safetensors_bytes(**options))


def preview_upload(name: str = "preview.png", content: bytes | None = None) -> SimpleUploadedFile:
    """Return a picture as a browser would send it."""
    return SimpleUploadedFile(name, content or picture_bytes(), content_type="image/png")


def draft(creator: Account, *, title: str = "Ink wash", **texts: Any) -> ModelVersion:
    """Return a draft with a file of weights and a preview.

    The rows are written directly: the door, with its child process per file, is for the tests of
    the door.
    """
    version = intake.model_create(title=title, actor=creator, **texts)
    weights, picture = safetensors_bytes(), picture_bytes()
    ModelFile.objects.create(
        version=version,
        name="weights.safetensors",
        content=_stored(weights),
        size=len(weights),
        sha256=hashlib.sha256(weights).hexdigest(),
        format="safetensors",
    )
    PreviewImage.objects.create(
        version=version,
        name="preview.png",
        original=_stored(picture),
        shown=_stored(picture),
        sha256=hashlib.sha256(picture).hexdigest(),
        width=64,
        height=64,
    )
    return version


def _stored(content: bytes) -> str:
    return default_storage.save(f"quarantine/{uuid.uuid4().hex}", ContentFile(content))


def submitted(creator: Account, **texts: Any) -> ModelVersion:
    """Return a submitted version whose jobs wait for a worker.

    Within a test's transaction nothing is sent on commit, so no worker is woken.
    """
    return intake.version_submit(version=draft(creator, **texts), actor=creator)


def finding(score: float | None = 0.0, **fields: Any) -> FindingIn:
    """Return a finding as triage hands it in; without a score it is a failed one."""
    return FindingIn(
        **{
            "probe": "previews",
            "outcome": "failed" if score is None else "scored",
            "subject_kind": "version",
            "subject_key": "",
            "code": "test",
            "reason": "A finding made for a test.",
            "score": score,
            "review": None if score is None else 0.5,
            "hold": None if score is None else 0.85,
            **fields,
        }
    )


def triaged(creator: Account, findings: Sequence[FindingIn] = (), **texts: Any) -> ModelVersion:
    """Return a version whose jobs have been answered with these findings, or with none."""
    version = submitted(creator, **texts)
    for job in version.jobs.all():
        lease = job_lease(job_id=job.pk)
        assert lease is not None
        answer = findings if job.stage == "previews" and findings else [finding()]
        assert findings_record(lease=lease, findings=list(answer))
    version.refresh_from_db()
    return version


def published(creator: Account, **texts: Any) -> ModelVersion:
    """Return a published version."""
    return triaged(creator, **texts)


def held(creator: Account, *, rule: str = "", **texts: Any) -> Case:
    """Return the case of a version with a finding above the hold threshold."""
    version = triaged(creator, [finding(0.95, rule=rule)], **texts)
    return version.cases.get()


def decided(
    creator: Account, moderator: Account, *, action: Action = Action.REMOVE, **texts: Any
) -> Decision:
    """Return a decision that a moderator made about a held version."""
    case = held(creator, **texts)
    case_claim(case=case, actor=moderator)
    return decision_make(
        case=case,
        action=action,
        rules=["red-star"] if action in RESTRICTIONS else [],
        facts="The first preview shows a red star.",
        private_note="seen before",
        actor=moderator,
    )
