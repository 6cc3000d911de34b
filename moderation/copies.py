"""Copies: which versions hold the same files, the same pictures or the same weights. Reads, and
keeps the perceptual hashes of previews.

By SHA-256 of files and previews, by SHA-256 of the data behind a safetensors header, by PDQ of
previews, and by the cosine of the sketches of weights.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from django.conf import settings
from django.core.files.storage import default_storage

from moderation.models import ModelFile, ModelVersion, PreviewHash, PreviewImage, WeightSketch
from moderation.states import Visibility

# The published defaults of PDQ: at most 31 of 256 bits apart, from pictures with enough structure.
PDQ_DISTANCE = 31
PDQ_QUALITY = 50
# A sketch of 2,048 numbers estimates a cosine with a standard deviation of 0.022; the same weights
# in other precision lie above this, derived ones below.
SAME_WEIGHTS = 0.95
HASH_LIMIT = 50
# How a copy was found that has a file or a preview of the same bytes.
BYTES = "sha256"


@dataclass(frozen=True, slots=True)
class Copy:
    """A version that holds what another one holds, and how that was found."""

    version_id: int
    found_by: str


class PictureHasher(Protocol):
    """What the setting ``UPLOAD_INSPECTOR`` names, asked for the look of a picture."""

    def perceptual_hash(self, path: Path) -> tuple[str, int]:
        """Return the PDQ hash in hexadecimal and its quality, or nothing and 0."""


def previews_hash(*, limit: int = HASH_LIMIT) -> int:
    """Hash previews that have no perceptual hash yet; return how many."""
    missing = PreviewImage.objects.filter(hash__isnull=True).exclude(
        version__visibility=Visibility.DRAFT
    )
    return _hash(missing.order_by("pk")[:limit])


def _hash(previews: Iterable[PreviewImage]) -> int:
    hasher = cast(PictureHasher, import_module(settings.UPLOAD_INSPECTOR))
    hashed = []
    for preview in previews:
        value, quality = hasher.perceptual_hash(Path(default_storage.path(preview.weighed)))
        hashed.append(PreviewHash(preview=preview, pdq=value, quality=quality))
    PreviewHash.objects.bulk_create(hashed, ignore_conflicts=True)
    return len(hashed)


def copies_of(versions: Iterable[ModelVersion]) -> list[Copy]:
    """Return the other submitted versions that hold the same as these, each found once.

    The surest way of finding wins. Walks all stored hashes and sketches: for a worker.
    """
    named = {version.pk for version in versions}
    return _copies(
        named,
        (BYTES, _same_bytes(named)),
        ("data", _same_data(named)),
        ("pdq", _same_pictures(named)),
        ("weights", _same_weights(named)),
    )


def copies_by_bytes(versions: Iterable[ModelVersion]) -> list[Copy]:
    """Return the other submitted versions with a file or preview of the same bytes, by an index."""
    named = {version.pk for version in versions}
    return _copies(named, (BYTES, _same_bytes(named)))


def _copies(named: set[int], *ways: tuple[str, Iterator[int]]) -> list[Copy]:
    found: dict[int, str] = {}
    for way, pairs in ways:
        for version_id in pairs:
            if version_id not in named:
                found.setdefault(version_id, way)
    submitted = set(
        ModelVersion.objects.filter(pk__in=found)
        .exclude(visibility=Visibility.DRAFT)
        .values_list("pk", flat=True)
    )
    return [Copy(pk, way) for pk, way in sorted(found.items()) if pk in submitted]


def _same_bytes(named: set[int]) -> Iterator[int]:
    for table in (ModelFile, PreviewImage):
        rows = table._default_manager.filter(version__in=named)
        digests = list(rows.values_list("sha256", flat=True))
        yield from (
            table._default_manager.filter(sha256__in=digests).values_list("version", flat=True)
        )


def _same_data(named: set[int]) -> Iterator[int]:
    mine = WeightSketch.objects.filter(file__version__in=named).exclude(data_sha256="")
    digests = list(mine.values_list("data_sha256", flat=True))
    yield from WeightSketch.objects.filter(data_sha256__in=digests).values_list(
        "file__version", flat=True
    )


def _same_pictures(named: set[int]) -> Iterator[int]:
    _hash(PreviewImage.objects.filter(version__in=named, hash__isnull=True))
    usable = PreviewHash.objects.filter(quality__gte=PDQ_QUALITY).exclude(pdq="")
    mine = [
        int(value, 16)
        for value in usable.filter(preview__version__in=named).values_list("pdq", flat=True)
    ]
    if not mine:
        return
    for version_id, value in usable.values_list("preview__version", "pdq").iterator(5000):
        other = int(value, 16)
        if any((one ^ other).bit_count() <= PDQ_DISTANCE for one in mine):
            yield version_id


def _same_weights(named: set[int]) -> Iterator[int]:
    mine = WeightSketch.objects.filter(file__version__in=named).values_list("sketch", flat=True)
    sketches = [_unit(bytes(sketch)) for sketch in mine]
    sketches = [sketch for sketch in sketches if sketch.any()]
    if not sketches:
        return
    matrix = np.stack(sketches)
    others = WeightSketch.objects.values_list("file__version", "sketch")
    for version_id, sketch in others.iterator(1000):
        if float((matrix @ _unit(bytes(sketch))).max()) >= SAME_WEIGHTS:
            yield version_id


def _unit(packed: bytes) -> Any:
    values = np.frombuffer(packed, dtype="<f2").astype(np.float32)
    length = float(np.linalg.norm(values))
    return values / length if length else values


def comparison_of(original: ModelVersion, other: ModelVersion) -> dict[str, Any]:
    """Return what two versions have in common, in plain data for the page of a case.

    ``cosine`` is of the sketches of weights, −1 to 1, or None where one has none; ``bits`` are the
    fewest bits of PDQ, of 256, between two previews.
    """
    a, b = _facts(original), _facts(other)
    cosines = [float(x @ y) for x in a["sketches"] for y in b["sketches"] if x.shape == y.shape]
    bits = [(x ^ y).bit_count() for x in a["pdq"] for y in b["pdq"]]
    return {
        "original": original.code,
        "original_published": original.published_at.isoformat() if original.published_at else "",
        "other_published": other.published_at.isoformat() if other.published_at else "",
        "same_files": len(a["files"] & b["files"]),
        "same_data": len(a["data"] & b["data"]),
        "same_previews": len(a["previews"] & b["previews"]),
        "cosine": round(max(cosines), 4) if cosines else None,
        "bits": min(bits) if bits else None,
    }


def _facts(version: ModelVersion) -> dict[str, Any]:
    sketches = list(WeightSketch.objects.filter(file__version=version))
    hashes = PreviewHash.objects.filter(preview__version=version, quality__gte=PDQ_QUALITY)
    return {
        "files": set(version.files.values_list("sha256", flat=True)),
        "previews": set(version.previews.values_list("sha256", flat=True)),
        "data": {row.data_sha256 for row in sketches if row.data_sha256},
        "sketches": [_unit(bytes(row.sketch)) for row in sketches],
        "pdq": [int(row.pdq, 16) for row in hashes if row.pdq],
    }
