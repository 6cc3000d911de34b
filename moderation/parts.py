"""The files of a version: stored, looked at and described, before a row names them.

Writes stored files alone. Each is kept if the block that it was stored for ends well, and deleted
otherwise: a refused file leaves no trace.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from moderation.errors import Conflict, Invalid
from moderation.models import ModelFile, PreviewImage
from moderation.models.catalog import PROMPT_LENGTH
from moderation.stored import file_delete, file_keep, file_written, local_path, name_shown

if TYPE_CHECKING:
    Upload = UploadedFile[Any]
else:
    Upload = UploadedFile  # Django's class takes no parameter when it runs


class UploadInspector(Protocol):
    """What the setting ``UPLOAD_INSPECTOR`` names: asked at the door about a stranger's file.

    Each returns a summary, or an object with ``code`` and ``sentence`` that says why the file
    cannot be what it is meant to be.
    """

    def inspect_weights(self, path: Path) -> Any:
        """Say what kind of model file this is."""

    def reencode_preview(self, source: Path, target: Path, *, small: Path) -> Any:
        """Write a copy of the pixels that carries no metadata, and say how large it is."""


def _inspector() -> UploadInspector:
    return cast(UploadInspector, import_module(settings.UPLOAD_INSPECTOR))


@dataclass(frozen=True)
class Parts:
    """The files of a version that is to be submitted at once: stored, and not yet written down."""

    files: Sequence[ModelFile]
    previews: Sequence[PreviewImage]


@contextmanager
def parts_kept(
    *, files: Sequence[Upload], previews: Sequence[Upload], prompts: Sequence[str] = ()
) -> Iterator[Parts]:
    """Store the files of a version and look at them; keep them if the block ends well.

    ``prompts`` are those of the previews, in their order. Nobody waits meanwhile for what is
    written in the block. Raises Invalid or Conflict, and keeps nothing, as for a single file.
    """
    require_some(files=len(files), previews=len(previews))
    require_room(files=len(files), previews=len(previews))
    if len(prompts) > len(previews):
        raise Invalid("There are more prompts than previews.", field="prompts")
    with ExitStack() as kept:
        weights: dict[str, ModelFile] = {}
        for upload in files:
            file = kept.enter_context(weights_kept(upload))
            if weights.setdefault(file.sha256, file) is not file:
                raise here_already(file)
        pictures: dict[str, PreviewImage] = {}
        prompted = [*prompts, *[""] * (len(previews) - len(prompts))]
        for upload, prompt in zip(previews, prompted, strict=True):
            preview = kept.enter_context(picture_kept(upload, prompt))
            if pictures.setdefault(preview.sha256, preview) is not preview:
                raise here_already(preview)
        yield Parts(list(weights.values()), list(pictures.values()))


@contextmanager
def weights_kept(upload: Upload) -> Iterator[ModelFile]:
    """Store a file of weights and yield its row to be written; keep it if the block ends well.

    Raises Invalid if it is empty, too large, or no model file.
    """
    _check_size(upload, settings.MAX_WEIGHTS_BYTES, "file")
    stored, sha256 = file_keep(upload)
    with _kept_on_success(stored):
        summary = _inspector().inspect_weights(local_path(stored))
        _refuse(summary, upload, "file")
        yield ModelFile(
            name=_shown(upload),
            content=stored,
            size=upload.size or 0,
            sha256=sha256,
            format=summary.format,
        )


@contextmanager
def picture_kept(upload: Upload, prompt: str = "") -> Iterator[PreviewImage]:
    """Store a picture, and two copies of its pixels that carry no metadata, likewise.

    Raises Invalid if it is empty, too large or no picture, or if its prompt is too long.
    """
    prompt = prompt_checked(prompt)
    _check_size(upload, settings.MAX_PREVIEW_BYTES, "preview")
    stored, sha256 = file_keep(upload)
    shown, small = f"{stored}.jpg", f"{stored}.small.jpg"
    with _kept_on_success(stored, shown, small):
        with file_written(shown) as target, file_written(small) as small_target:
            summary = _inspector().reencode_preview(local_path(stored), target, small=small_target)
        _refuse(summary, upload, "preview")
        yield PreviewImage(
            name=_shown(upload),
            original=stored,
            shown=shown,
            small=small,
            sha256=sha256,
            width=summary.width,
            height=summary.height,
            uploaded=dict(summary.uploaded),
            prompt=prompt,
        )


def require_some(*, files: int, previews: int) -> None:
    """Raise Invalid if a version has too little to be submitted."""
    if not files:
        raise Invalid("Add at least one file of weights before you submit.", field="file")
    if not previews:
        raise Invalid("Add at least one preview before you submit.", field="preview")


def require_room(*, files: int = 0, previews: int = 0) -> None:
    """Raise Invalid if these are more than a version may have."""
    if files > settings.MAX_FILES:
        raise Invalid(f"A version has at most {settings.MAX_FILES} files.", field="file")
    if previews > settings.MAX_PREVIEWS:
        raise Invalid(f"A version has at most {settings.MAX_PREVIEWS} previews.", field="preview")


def prompt_checked(prompt: str) -> str:
    """Return the prompt of a preview as it is stored. Raises Invalid if it is too long."""
    prompt = prompt.strip()
    if len(prompt) > PROMPT_LENGTH:
        raise Invalid(
            f"The prompt is {len(prompt):,} characters long; {PROMPT_LENGTH:,} are the most.",
            code="too_long",
            field="prompt",
        )
    return prompt


def here_already(row: ModelFile | PreviewImage) -> Conflict:
    """Return the refusal of a file that the version has already."""
    code = "same_file" if isinstance(row, ModelFile) else "same_preview"
    return Conflict(f"“{row.name}” is here already, byte for byte.", code=code)


def _check_size(upload: Upload, limit: int, field: str) -> None:
    if not upload.size:
        raise Invalid(f"“{_shown(upload)}” is empty.", code="empty", field=field)
    if upload.size > limit:
        raise Invalid(
            f"“{_shown(upload)}” has {upload.size / 1024**2:,.0f} MB; "
            f"{limit / 1024**2:,.0f} MB are the most.",
            code="too_large",
            field=field,
        )


@contextmanager
def _kept_on_success(*names: str) -> Iterator[None]:
    """Delete the named files unless the block ends well."""
    kept = False
    try:
        yield
        kept = True
    finally:
        if not kept:
            for name in names:
                file_delete(name)


def _refuse(summary: Any, upload: Upload, field: str) -> None:
    sentence = getattr(summary, "sentence", "")
    if sentence:
        raise Invalid(f"“{_shown(upload)}”: {sentence}", code=summary.code, field=field)


def _shown(upload: Upload) -> str:
    return name_shown(upload.name)
