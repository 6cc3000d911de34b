"""open_clip's evaluation transform in Pillow and numpy, the same for every maker of encoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triage.encoders.base import Array

# Part of every revision: raise it when the arithmetic of ``Preprocessing`` changes.
PREPROCESSING_VERSION = 1
_INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Turns a picture into the square of numbers that an encoder looks at."""

    size: int
    mean: Array
    std: Array
    interpolation: Image.Resampling
    resize_mode: str

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Preprocessing":
        """Return the transform that open_clip's keys describe.

        Raises ``KeyError``, ``TypeError`` or ``ValueError`` where they ask for something else.
        """
        sizes = np.atleast_1d(settings["size"]).tolist()
        mode = settings.get("resize_mode", "shortest")
        if len(set(sizes)) != 1 or mode not in ("shortest", "squash"):
            raise ValueError(f"size {settings['size']} with resize_mode {mode!r}")
        return cls(
            size=int(sizes[0]),
            mean=np.array(settings["mean"], np.float32).reshape(3),
            std=np.array(settings["std"], np.float32).reshape(3),
            interpolation=_INTERPOLATIONS[settings.get("interpolation", "bicubic")],
            resize_mode=mode,
        )

    def __call__(self, image: Image.Image) -> Array:
        """Return pixels of shape (3, size, size), normalised."""
        pixels = self.square(image)
        # Each of 256 possible bytes is normalised once, not each of 150,000 numbers.
        levels = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
        table = ((levels - self.mean) / self.std).T.copy()
        scaled = np.empty((3, *pixels.shape[:2]), np.float32)
        for channel in range(3):
            # Bytes are never out of bounds: "clip" spares the check.
            table[channel].take(pixels[..., channel], out=scaled[channel], mode="clip")
        return scaled

    def square(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return bytes of shape (size, size, 3), not yet normalised."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        if self.resize_mode == "squash":
            image = image.resize((self.size, self.size), self.interpolation)
        else:
            image = self._centre(image)
        return np.asarray(image)

    def seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the part of a picture that the encoder sees: left, top, right, bottom."""
        if self.resize_mode == "squash":
            return 0, 0, width, height
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side

    def _centre(self, image: Image.Image) -> Image.Image:
        """Resize the shorter side and crop the centre, rounding as torchvision does."""
        short = min(image.size)
        width, height = (self.size * side // short for side in image.size)
        image = image.resize((width, height), self.interpolation)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))
