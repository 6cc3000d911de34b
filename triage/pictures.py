"""Reads a stranger's picture safely into RGB, or says why it cannot be looked at.

What a picture is comes from its content, never from its name. Everything that the header tells
is judged before a pixel is decoded.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
MAX_PIXELS = 40_000_000
# libwebp holds every pixel four times while it decodes; above this it takes more than 512 MB.
MAX_WEBP_PIXELS = 25_000_000
# Encoders see a square of at most a few hundred pixels. Of a picture 50 times as long as it is
# wide they would see a fiftieth, or all of it squashed beyond recognition.
MAX_ASPECT = 50
MIN_SIDE = 16  # below this there is nothing to recognise
# The largest input of common encoders is 384 or 448 pixels; more is decoded for nothing.
ENOUGH_PIXELS = 512

# What Pillow's readers raise on broken files, named so that our own mistakes are not hidden.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
    MemoryError,
)
# Of these the average of pixels is what is seen, so they are reduced before anything else is made
# of them; transparent ones are weighted by Pillow.
_AVERAGED = frozenset({"RGB", "RGBA", "L", "LA"})
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class PictureError(Exception):
    """A picture cannot be looked at: ``code`` for machines, ``str()`` for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What the header of a picture tells; the sides are those of the file as it is stored."""

    format: str
    width: int
    height: int
    animated: bool  # there are more frames than the first, which is the one that is read


@dataclass(frozen=True, slots=True)
class Picture(PictureFacts):
    """An opened picture."""

    image: Image.Image


def picture_facts(path: Path, *, max_pixels: int = MAX_PIXELS) -> PictureFacts:
    """Return what the header of a picture tells, without decoding a pixel.

    Raises ``PictureError`` as ``open_picture`` does, for all that the header shows.
    """
    with _refusing(max_pixels), Image.open(path, formats=FORMATS) as image:
        return _facts(image, max_pixels)


def read_picture(
    path: Path, *, max_pixels: int = MAX_PIXELS, enough: int | None = ENOUGH_PIXELS
) -> Image.Image:
    """Return the picture in a file as upright RGB; see ``open_picture``."""
    return open_picture(path, max_pixels=max_pixels, enough=enough).image


def open_picture(
    path: Path, *, max_pixels: int = MAX_PIXELS, enough: int | None = ENOUGH_PIXELS
) -> Picture:
    """Return the picture in a file, upright, as RGB, transparency laid over white.

    Larger pictures are reduced by a whole factor as long as the shorter side keeps ``enough``
    pixels (``None`` keeps every pixel). Of an animation the first frame is read.

    Raises ``PictureError`` with one of the codes ``picture.missing``, ``picture.format``,
    ``picture.too_many_pixels``, ``picture.too_small``, ``picture.strip``, ``picture.broken``.
    """
    with _refusing(max_pixels), Image.open(path, formats=FORMATS) as image:
        facts = _facts(image, max_pixels)
        if enough is not None:
            # A JPEG can be decoded at half, a quarter or an eighth of its size.
            image.draft(None, (enough, enough))
        # In place: turning a copy would cost a third of what decoding does.
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in _AVERAGED:
            return Picture(**asdict(facts), image=_rgb(_reduced(image, enough)))
        return Picture(**asdict(facts), image=_reduced(_rgb(image), enough))


class OpenedPictures:
    """Opens each picture once for all who look at it; gone with the sample it belongs to."""

    def __init__(self) -> None:
        self._opened: dict[Path, Picture] = {}

    def open(self, path: Path) -> Picture:
        """Return what ``open_picture`` does. Nobody may change the pixels."""
        if path not in self._opened:
            self._opened[path] = open_picture(path)
        return self._opened[path]


def _facts(image: Image.Image, max_pixels: int) -> PictureFacts:
    width, height = image.size
    if image.format == "WEBP":
        max_pixels = min(max_pixels, MAX_WEBP_PIXELS)
    _check_size(width, height, max_pixels)
    return PictureFacts(
        image.format or "", width, height, bool(getattr(image, "is_animated", False))
    )


@contextmanager
def _refusing(max_pixels: int) -> Iterator[None]:
    """Turn whatever Pillow raises on a stranger's picture into a ``PictureError``."""
    try:
        yield
    except FileNotFoundError as error:
        raise PictureError("picture.missing", "The stored file of the picture is gone.") from error
    except UnidentifiedImageError as error:
        raise PictureError(
            "picture.format",
            f"This is none of the pictures we read ({', '.join(FORMATS)}), or its header is "
            "broken. Upload it again as JPEG or PNG.",
        ) from error
    except _BOMB as error:
        raise _too_many(max_pixels) from error
    except _BROKEN as error:
        raise PictureError(
            "picture.broken",
            f"The picture is damaged or cut short ({type(error).__name__}: {error}). "
            "Upload it again from the original.",
        ) from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_many(max_pixels)
    if min(width, height) < MIN_SIDE:
        raise PictureError(
            "picture.too_small",
            f"The picture is {width} by {height} pixels; nothing can be recognised below "
            f"{MIN_SIDE} pixels a side. Upload a larger one.",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(
            "picture.strip",
            f"The picture is {width} by {height} pixels, a strip of which the encoder would see "
            f"too little. Upload one at most {MAX_ASPECT} times as long as it is wide.",
        )


def _too_many(max_pixels: int) -> PictureError:
    return PictureError(
        "picture.too_many_pixels",
        f"The picture has more than {max_pixels // 1_000_000} megapixels. Upload a smaller one.",
    )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Sixteen-bit grey: Pillow's own conversion cuts off at 255 instead of scaling.
        grey = np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        rgb = Image.new("RGB", layer.size, "white")
        rgb.paste(layer, mask=layer)
        return rgb
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")


def _reduced(image: Image.Image, enough: int | None) -> Image.Image:
    factor = 1 if enough is None else min(image.size) // enough
    return image.reduce(factor) if factor > 1 else image
