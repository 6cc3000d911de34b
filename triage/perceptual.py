"""PDQ, the perceptual hash of pictures, in numpy.

A picture becomes 256 bits that change little when the picture is scaled, recompressed, blurred
or recoloured: whether each of its 16 by 16 lowest spatial frequencies lies above their median.
The method is published in "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing
Algorithm" (Facebook, 2019); hashes made here can be matched with hashes made by other
implementations of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Hash = bytes  # 32 bytes; ``hex()`` gives the customary 64 digits

# Published defaults: a distance of at most 31 bits is a match, and a quality of at most 49
# (of 100) means too little structure to match on.
MATCH_DISTANCE = 31
MINIMUM_QUALITY = 50

ORIENTATIONS = (
    "as it is",
    "turned by 90 degrees",
    "turned by 180 degrees",
    "turned by 270 degrees",
    "mirrored",
    "mirrored and turned by 90 degrees",
    "mirrored and turned by 180 degrees",
    "mirrored and turned by 270 degrees",
)

# Raise it when a hash of the same picture changes: older ones are then not remembered any more.
REVISION = "1"
_HASH_BYTES = 32
# Larger pictures are first brought down to this side, as the published implementations do.
_LARGEST_SIDE = 512
_SMALLEST_SIDE = 5  # below this the method defines no hash
_BLOCKS = 64
_FREQUENCIES = 16
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


@dataclass(frozen=True, slots=True)
class Pdq:
    """A hash of 256 bits and how much structure the picture has, 0 to 100."""

    hash: Hash
    quality: int


def pdq(image: Image.Image) -> Pdq:
    """Return the PDQ hash of a picture. Raises ``OSError`` when its pixels cannot be read."""
    return _hash(_luma(image))


def pdq_dihedral(image: Image.Image) -> tuple[Pdq, ...]:
    """Return the hashes of a picture in its eight flips and rotations, as ``ORIENTATIONS`` names.

    Raises ``OSError`` when its pixels cannot be read.
    """
    # The usual shortcut, changing signs among the frequencies, is off by up to 26 bits on a real
    # flipped picture, because the published blur is not symmetric. Hashing eight times is exact.
    luma = _luma(image)
    return tuple(
        _hash(np.rot90(picture, turns)) for picture in (luma, luma[:, ::-1]) for turns in range(4)
    )


def dihedral_bytes(hashes: Sequence[Pdq]) -> bytes:
    """Write what ``pdq_dihedral`` returned in 264 bytes: the hashes, then their qualities."""
    return b"".join(each.hash for each in hashes) + bytes(each.quality for each in hashes)


def dihedral_from(written: bytes) -> tuple[Pdq, ...]:
    """Read what ``dihedral_bytes`` wrote."""
    number = len(written) // (_HASH_BYTES + 1)
    return tuple(
        Pdq(written[_HASH_BYTES * at : _HASH_BYTES * (at + 1)], written[_HASH_BYTES * number + at])
        for at in range(number)
    )


def distance(a: Hash, b: Hash) -> int:
    """Return in how many of their 256 bits two hashes differ."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def pack(hashes: Sequence[Hash]) -> NDArray[np.uint64]:
    """Lay N hashes out for ``distances``, shape ``(N, 4)``.

    Raises ``ValueError`` for a bad length.
    """
    for value in hashes:
        if len(value) != _HASH_BYTES:
            raise ValueError(f"A PDQ hash has {_HASH_BYTES} bytes, not {len(value)}.")
    return np.frombuffer(b"".join(hashes), dtype=np.uint64).reshape(-1, 4)


def distances(one: Hash, many: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the distance of one hash to each of N packed ones, shape ``(N,)``."""
    counts: NDArray[np.int64] = np.bitwise_count(many ^ pack([one])).sum(axis=1, dtype=np.int64)
    return counts


def _luma(image: Image.Image) -> NDArray[np.float32]:
    """Return the brightness of a picture, 0 to 255, at most 512 pixels a side."""
    picture = image.convert("RGB")
    if max(picture.size) > _LARGEST_SIDE:
        size = (min(picture.width, _LARGEST_SIDE), min(picture.height, _LARGEST_SIDE))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    luma: NDArray[np.float32] = np.asarray(picture, dtype=np.float32) @ _LUMA
    return luma


def _hash(luma: NDArray[np.float32]) -> Pdq:
    rows, columns = luma.shape
    if min(rows, columns) < _SMALLEST_SIDE:
        return Pdq(bytes(_HASH_BYTES), 0)
    blocks = _reduction(rows) @ luma @ _reduction(columns).T
    transform = _cosines()
    frequencies = (transform @ blocks @ transform.T).ravel()
    median = np.partition(frequencies, 127)[127]  # the lower of the two middle values
    bits = (frequencies > median)[::-1]  # bit 0 is printed last
    return Pdq(np.packbits(bits).tobytes(), _quality(blocks))


def _quality(blocks: NDArray[np.floating]) -> int:
    """Count the steps of brightness between neighbouring blocks, in hundredths of the range."""
    steps = (np.floor(np.abs(np.diff(blocks, axis=axis)) * 100 / 255) for axis in (0, 1))
    # 90 is the published divisor; 100 is reached by any picture with ordinary structure.
    return min(100, int(sum(step.sum() for step in steps)) // 90)


@lru_cache(maxsize=1024)
def _reduction(length: int) -> NDArray[np.float32]:
    """Return the matrix that blurs ``length`` pixels and keeps 64, shape ``(64, length)``.

    The blur is a box applied twice, as wide as half a block and cut off at the borders. Both
    steps are linear and treat rows and columns alike, so that the whole reduction of a picture
    is one matrix on either side.
    """
    width = (length + 2 * _BLOCKS - 1) // (2 * _BLOCKS)
    ahead = width // 2
    behind = width - ahead - 1
    position = np.arange(length)
    offset = position[None, :] - position[:, None]
    box = ((offset >= -behind) & (offset <= ahead)).astype(np.float32)
    box /= box.sum(axis=1, keepdims=True)
    centres = ((np.arange(_BLOCKS) + 0.5) * length / _BLOCKS).astype(int)
    reduction: NDArray[np.float32] = box[centres] @ box
    return reduction


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float32]:
    """Return rows 1 to 16 of the 64-point discrete cosine transform, shape ``(16, 64)``."""
    frequency = np.arange(1, _FREQUENCIES + 1)[:, None]
    position = 2 * np.arange(_BLOCKS)[None, :] + 1
    angles = np.pi / (2 * _BLOCKS) * frequency * position
    cosines: NDArray[np.float32] = np.cos(angles).astype(np.float32)
    return cosines
