"""What the upload door asks about a stranger's file: can this be a model, can this be a picture?

The web process calls these functions through a setting. They take paths and return plain data,
and refuse only what can never be right; whatever is strange but readable passes and is left to
the probes. Short headers are read here, everything else in the sandbox.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triage import perceptual, picture_checks, pictures, sandbox
from triage.containers.check import check_header
from triage.containers.errors import ContainerError, Severity
from triage.containers.safetensors_header import header_length
from triage.containers.sniff import Format, sniff

logger = logging.getLogger(__name__)

# Most headers are below 100 kB. Parsing a megabyte of hostile JSON takes at most 30 MB.
_PARSED_HERE_BYTES = 1_000_000
# Address space, of which the interpreter and the libraries take some 85 MB without using them: the
# worst that is read, 40 megapixels of AVIF or with transparency, takes 470 MB of it.
_COPY_LIMITS = sandbox.Limits(memory_mb=600, seconds=10, file_mb=16)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file cannot be taken: a code for machines and a sentence for its uploader."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class WeightsSummary:
    """What a file of weights is. ``tensors`` is known for safetensors only."""

    format: str
    size: int
    tensors: int | None = None


@dataclass(frozen=True, slots=True)
class PreviewSummary:
    """What the copy of a picture is; width and height in pixels.

    ``uploaded`` holds format, width, height and animated of the file itself.
    """

    format: str
    width: int
    height: int
    uploaded: Mapping[str, str | int | bool]


def inspect_weights(path: Path) -> Refusal | WeightsSummary:
    """Refuse a file that can be no model: of unknown kind, cut short, or no JSON where JSON is due.

    Reads headers only. Raises ``OSError`` where the file itself is missing.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        form = sniff(file)
        if form is Format.UNKNOWN:
            return Refusal(
                "weights.unknown_format",
                "This is no model file that we know. Upload a .safetensors file or a PyTorch"
                " checkpoint."
                if size
                else "The file is empty. Upload it again.",
            )
        if form is not Format.SAFETENSORS:
            return WeightsSummary(form.value, size)
        file.seek(0)
        try:
            length = header_length(file, size)
        except ContainerError as error:
            return Refusal(error.code, error.sentence)
    return _inspect_header(path, length, size)


def _inspect_header(path: Path, length: int, size: int) -> Refusal | WeightsSummary:
    summary = WeightsSummary(Format.SAFETENSORS.value, size)
    if length <= _PARSED_HERE_BYTES:
        answer: dict[str, Any] = check_header(str(path))
    else:
        try:
            answer = sandbox.run(check_header, str(path))
        except sandbox.SandboxError as error:
            # The probe will fail on it too, and then a person looks.
            logger.warning("A long header could not be read at the door: %s", error)
            return summary
    if answer.get("severity") == Severity.UNREADABLE.value:
        return Refusal(str(answer.get("code")), str(answer.get("sentence")))
    tensors = answer.get("tensors")
    if isinstance(tensors, int):
        return WeightsSummary(summary.format, size, tensors)
    return summary


def reencode_preview(
    source: Path, target: Path, max_side: int = 1600, *, small: Path | None = None
) -> Refusal | PreviewSummary:
    """Write the copy that is published: a JPEG of the pixels, without any metadata.

    And to ``small``, where it is given, the copy that machines look at. Nothing is left of either
    where the source is refused. Raises ``SandboxError`` (``sandbox.start``) where no child process
    can be started.
    """
    answer = _picture(
        _run(
            picture_checks.copy_pixels,
            str(source),
            str(target),
            max_side,
            str(small or ""),
            limits=_COPY_LIMITS,
        )
    )
    if isinstance(answer, Refusal):
        for copy in filter(None, (target, small)):
            copy.unlink(missing_ok=True)
    return answer


def _run(function: Any, *arguments: object, limits: sandbox.Limits) -> Any:
    try:
        return sandbox.run(function, *arguments, limits=limits)
    except sandbox.SandboxError as error:
        if error.code == "sandbox.start":
            raise
        logger.warning("A picture could not be read: %s", error)
        return {
            "code": "picture.unreadable",
            "sentence": "The picture cannot be decoded with reasonable time and memory."
            " Upload it again as an ordinary JPEG or PNG.",
        }


def _picture(answer: Any) -> Refusal | PreviewSummary:
    """Check what the child claims."""
    match answer:
        case {
            "format": str(form),
            "width": int(width),
            "height": int(height),
            "uploaded": {
                "format": str(before),
                "width": int(across),
                "height": int(down),
                "animated": bool(animated),
            },
        }:
            uploaded: dict[str, str | int | bool] = {
                "format": before[:20],
                "width": across,
                "height": down,
                "animated": animated,
            }
            return PreviewSummary(form[:20], width, height, uploaded)
        case {"code": str(code), "sentence": str(sentence)}:
            return Refusal(code[:100], sentence[:1000])
    return Refusal("picture.unreadable", "The picture cannot be read.")


def perceptual_hash(path: Path) -> tuple[str, int]:
    """Return the PDQ hash of a copy of ours, in hexadecimal, and its quality, 0 to 100.

    Nothing and 0 where it cannot be read.
    """
    try:
        found = perceptual.pdq(pictures.open_picture(path).image)
    except (pictures.PictureError, OSError):
        return "", 0
    return found.hash.hex(), found.quality
