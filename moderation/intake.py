"""The door: models, files and previews come in, versions are submitted.

Writes everything of one step in one transaction, or nothing. A refused file leaves no trace.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_may_publish, require_may_speak, require_own
from moderation.errors import Conflict, Invalid
from moderation.jobs import jobs_create
from moderation.models import (
    Account,
    ModelFile,
    ModelVersion,
    Policy,
    PreviewImage,
    UploadedModel,
)
from moderation.models.catalog import DESCRIPTION_LENGTH, TITLE_LENGTH
from moderation.parts import (
    Parts,
    Upload,
    here_already,
    picture_kept,
    require_room,
    require_some,
    weights_kept,
)
from moderation.states import REACHABLE, DeliveryState, Visibility
from moderation.stored import file_delete

MAX_TAGS = 30
TAG_LENGTH = 60


# --- Models and drafts ----------------------------------------------------------------------


@transaction.atomic
def model_create(
    *,
    title: str,
    description: str = "",
    tags: Sequence[str] = (),
    trigger_words: Sequence[str] = (),
    base_model: str = "",
    licence: str = "",
    actor: Account,
) -> ModelVersion:
    """Create a model with the draft of its first version.

    Raises Invalid if a text is missing or too long.
    """
    require_may_publish(actor)
    fields = _check_texts(title, description, tags, base_model, licence)
    words = _check_words("trigger_words", trigger_words)
    uploaded_model = UploadedModel.objects.create(creator=actor, **fields)
    version = ModelVersion.objects.create(uploaded_model=uploaded_model, trigger_words=words)
    event_record(action="model.created", actor=actor, version=version)
    return version


@transaction.atomic
def version_create(*, uploaded_model: UploadedModel, actor: Account) -> ModelVersion:
    """Create the draft of a model's next version; the draft there already is, if there is one."""
    require_own(actor, uploaded_model)
    require_may_publish(actor)
    _refuse_removed(uploaded_model)
    UploadedModel.objects.select_for_update(no_key=True).get(pk=uploaded_model.pk)
    last = uploaded_model.versions.order_by("-number").first()
    if last is not None and last.visibility == Visibility.DRAFT:
        return last
    version = ModelVersion.objects.create(
        uploaded_model=uploaded_model,
        number=last.number + 1 if last else 1,
        trigger_words=last.trigger_words if last else [],
    )
    event_record(action="version.created", actor=actor, version=version)
    return version


@transaction.atomic
def draft_edit(
    *,
    version: ModelVersion,
    title: str,
    description: str = "",
    tags: Sequence[str] = (),
    trigger_words: Sequence[str] = (),
    base_model: str = "",
    licence: str = "",
    actor: Account,
) -> None:
    """Change the texts of a draft.

    Raises Conflict if a text of the page would change that was weighed with an earlier version.
    """
    require_own(actor, version.uploaded_model)
    fields = _check_texts(title, description, tags, base_model, licence)
    words = _check_words("trigger_words", trigger_words)
    version = _locked_draft(version)
    page = UploadedModel.objects.select_for_update(no_key=True).get(pk=version.uploaded_model_id)
    changed = [
        name for name, value in fields.items() if _as_typed(getattr(page, name)) != _as_typed(value)
    ]
    # The texts of the page are shared by its versions: nobody would weigh what is changed here
    # before it stands beside a version that was weighed with other words.
    if changed and page.versions.exclude(visibility=Visibility.DRAFT).exists():
        raise Conflict(
            f"The {changed[0].replace('_', ' ')} was weighed with a version submitted before, and "
            "is shown with it, so it cannot be changed any more. Only the trigger words belong to "
            "this version alone.",
            code="page_was_weighed",
            field=changed[0],
        )
    if changed:
        UploadedModel.objects.filter(pk=page.pk).update(**fields)
    version.trigger_words = words
    version.save(update_fields=["trigger_words"])


def _as_typed(value: str | Sequence[str]) -> list[str]:
    """Return a text as every form gives it back: browsers end lines, and pages join words."""
    if isinstance(value, str):
        return value.splitlines()
    return [word.strip() for word in ",".join(value).split(",")]


def _check_texts(
    title: str, description: str, tags: Sequence[str], base_model: str, licence: str
) -> dict[str, Any]:
    title = title.strip()
    if not title:
        raise Invalid("Give the model a title.", field="title")
    limits = (
        ("title", title, TITLE_LENGTH),
        ("description", description, DESCRIPTION_LENGTH),
        ("base_model", base_model, 80),
        ("licence", licence, 80),
    )
    for field, text, limit in limits:
        if len(text) > limit:
            name = field.replace("_", " ")
            raise Invalid(
                f"The {name} is {len(text):,} characters long; {limit:,} are the most.",
                code="too_long",
                field=field,
            )
    return {
        "title": title,
        "description": description.strip(),
        "tags": _check_words("tags", tags),
        "base_model": base_model.strip(),
        "licence": licence.strip(),
    }


def _check_words(field: str, words: Sequence[str]) -> list[str]:
    kept = list(dict.fromkeys(word.strip() for word in words if word.strip()))
    name = field.replace("_", " ")
    if len(kept) > MAX_TAGS:
        raise Invalid(f"There are {len(kept)} {name}; {MAX_TAGS} are the most.", field=field)
    for word in kept:
        if len(word) > TAG_LENGTH:
            raise Invalid(
                f"One of the {name} is {len(word):,} characters long; {TAG_LENGTH} are the most.",
                code="too_long",
                field=field,
            )
    return kept


def _locked_draft(version: ModelVersion) -> ModelVersion:
    locked = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    if locked.visibility != Visibility.DRAFT:
        raise Conflict(
            "This version has been submitted and cannot be changed any more. "
            "Create a new version instead.",
            code="not_a_draft",
        )
    return locked


# --- Files ----------------------------------------------------------------------------------


def version_add_file(*, version: ModelVersion, upload: Upload, actor: Account) -> ModelFile:
    """Store a file of weights with a draft.

    Raises Invalid, and keeps nothing, if the file can be no model file.
    """
    require_own(actor, version.uploaded_model)
    require_may_publish(actor)
    with weights_kept(upload) as file:
        return version_add_kept_file(version=version, file=file, actor=actor)


@transaction.atomic
def version_add_kept_file(*, version: ModelVersion, file: ModelFile, actor: Account) -> ModelFile:
    """Write down a file of weights that is stored and looked at already; raises likewise."""
    require_own(actor, version.uploaded_model)
    require_may_publish(actor)
    draft = _locked_draft(version)
    require_room(files=draft.files.count() + 1)
    if draft.files.filter(sha256=file.sha256).exists():
        raise here_already(file)
    file.version = draft
    file.save(force_insert=True)
    return file


def version_add_preview(
    *, version: ModelVersion, upload: Upload, prompt: str = "", actor: Account
) -> PreviewImage:
    """Store a picture with a draft, and two copies of its pixels that carry no metadata.

    Raises Invalid, and keeps nothing, if the picture cannot be read.
    """
    require_own(actor, version.uploaded_model)
    require_may_publish(actor)
    with picture_kept(upload, prompt) as preview:
        return version_add_kept_preview(version=version, preview=preview, actor=actor)


@transaction.atomic
def version_add_kept_preview(
    *, version: ModelVersion, preview: PreviewImage, actor: Account
) -> PreviewImage:
    """Write down a picture that is stored and looked at already; raises likewise."""
    require_own(actor, version.uploaded_model)
    require_may_publish(actor)
    draft = _locked_draft(version)
    preview.position = draft.previews.count()
    require_room(previews=preview.position + 1)
    if draft.previews.filter(sha256=preview.sha256).exists():
        raise here_already(preview)
    preview.version = draft
    preview.save(force_insert=True)
    return preview


@transaction.atomic
def version_remove_file(*, version: ModelVersion, code: str, actor: Account) -> None:
    """Take a file or a preview off a draft."""
    require_own(actor, version.uploaded_model)
    draft = _locked_draft(version)
    names: list[str] = []
    for file in draft.files.filter(code=code):
        names.append(file.content.name or "")
        file.delete()
    for preview in draft.previews.filter(code=code):
        names += preview.names
        preview.delete()
    transaction.on_commit(partial(_delete, names))


def _delete(names: Sequence[str]) -> None:
    for name in names:
        file_delete(name)


# --- Submission -----------------------------------------------------------------------------


@transaction.atomic
def version_submit(*, version: ModelVersion, actor: Account) -> ModelVersion:
    """Submit a draft: it is quarantined and its triage jobs are written, all at once.

    Raises Invalid if weights or previews are missing, Conflict on a second submit, or while a file
    that was named by reference has not come.
    """
    require_own(actor, version.uploaded_model)
    require_may_speak(actor)
    draft = _locked_draft(version)
    _refuse_removed(draft.uploaded_model)
    _refuse_missing_references(draft)
    require_some(files=draft.files.count(), previews=draft.previews.count())
    policy = _policy_in_force()
    draft.visibility = Visibility.QUARANTINED
    draft.submitted_at = timezone.now()
    draft.save(update_fields=["visibility", "submitted_at"])
    jobs_create(version=draft, policy=policy)
    # Last: whoever writes an event holds up every other writer until the commit.
    _record_submission(draft, policy, actor)
    return draft


def _refuse_missing_references(draft: ModelVersion) -> None:
    missing = draft.references.exclude(state=DeliveryState.DONE)
    given_up = missing.filter(state=DeliveryState.DEAD).first()
    if given_up is not None:
        raise Conflict(
            f"“{given_up.name}” could not be fetched: {given_up.error} Name it again, or take it "
            "back.",
            code="reference_dead",
        )
    if missing.exists():
        raise Conflict(
            f"{missing.count()} files that you named are still to be fetched. Submit it when they "
            "are there.",
            code="references_pending",
        )


def _policy_in_force() -> Policy:
    policy = Policy.objects.filter(is_active=True).first()
    if policy is None:
        raise Conflict(
            "No policy is in force, so nothing can be weighed. An operator imports one with "
            "`manage.py policy import`.",
            code="no_policy",
        )
    return policy


def _record_submission(version: ModelVersion, policy: Policy, actor: Account) -> None:
    event_record(
        action="version.submitted", actor=actor, version=version, data={"policy": str(policy)}
    )


@contextmanager
def model_submitted(
    *,
    parts: Parts,
    title: str,
    description: str = "",
    tags: Sequence[str] = (),
    trigger_words: Sequence[str] = (),
    base_model: str = "",
    licence: str = "",
    actor: Account,
) -> Iterator[ModelVersion]:
    """Create a model, submit its first version with these files, and yield it; or do nothing.

    Both are recorded at the end of the block, because whoever records something holds up everybody
    else. Raises Invalid if a text is missing or too long, Conflict while no policy is in force.
    """
    require_may_publish(actor)
    require_may_speak(actor)
    fields = _check_texts(title, description, tags, base_model, licence)
    words = _check_words("trigger_words", trigger_words)
    policy = _policy_in_force()
    with transaction.atomic():
        version = ModelVersion.objects.create(
            uploaded_model=UploadedModel.objects.create(creator=actor, **fields),
            trigger_words=words,
            visibility=Visibility.QUARANTINED,
            submitted_at=timezone.now(),
        )
        for file in parts.files:
            file.version = version
        ModelFile.objects.bulk_create(parts.files)
        for position, preview in enumerate(parts.previews):
            preview.version, preview.position = version, position
        PreviewImage.objects.bulk_create(parts.previews)
        jobs_create(version=version, policy=policy)
        yield version
        event_record(action="model.created", actor=actor, version=version)
        _record_submission(version, policy, actor)


def _refuse_removed(uploaded_model: UploadedModel) -> None:
    if uploaded_model.removed_at is not None:
        raise Conflict(
            "A moderator removed this model as a whole, so no version of it can be submitted. The "
            "decision says why, and how to appeal.",
            code="model_removed",
        )


@transaction.atomic
def version_withdraw(*, version: ModelVersion, actor: Account) -> ModelVersion:
    """Take a version down for good, as its creator. What is under review stays there as evidence.

    Raises Conflict for a draft, or if it is down already.
    """
    require_own(actor, version.uploaded_model)
    version = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    if version.visibility == Visibility.DRAFT:
        raise Conflict("This version is a draft; nobody sees it.", code="draft")
    if version.withdrawn_at is not None:
        raise Conflict("You have taken this version down already.", code="already_withdrawn")
    before = version.visibility
    version.withdrawn_at = timezone.now()
    if before in REACHABLE | {Visibility.QUARANTINED}:
        version.visibility = Visibility.WITHDRAWN
    version.save(update_fields=["withdrawn_at", "visibility"])
    event_record(action="version.withdrawn", actor=actor, version=version, data={"from": before})
    return version
