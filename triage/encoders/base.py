"""The one small protocol that every encoder speaks."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]


class EncoderError(Exception):
    """The encoder cannot be loaded or used; the message says what to do."""


class Encoder(Protocol):
    """Turns pictures and texts into unit vectors of one shared space."""

    name: str
    revision: str  # changes whenever the weights or the preprocessing change
    dim: int
    logit_scale: float  # the trained inverse temperature that multiplies a cosine
    demo: bool  # knows only the drawings of the demo; its scores mean nothing elsewhere

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        """Return one unit row per picture, shape ``(len(images), dim)``."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Return one unit row per text, shape ``(len(texts), dim)``."""
        ...
