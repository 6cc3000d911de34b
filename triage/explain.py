"""Shows where in a picture a concept is. Pure numpy, and Pillow to paint.

MaskCLIP (Zhou et al. 2022, "Extract Free Dense Labels from CLIP") brings each patch of a vision
transformer into the space of texts. Each patch is then scored like a whole picture: prohibited
against contrast prompts. The contrast also takes away what all prompts have in common, which
otherwise lights up the background (CLIP Surgery, Li et al. 2023).
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triage.encoders.base import Array

# Low is see-through, high is a strong orange-red. One hue, so that it reads without colour vision.
_INK = (214, 62, 18)
_STRONGEST = 0.65  # how opaque the hottest place is; what is below must stay recognisable


def heat_map(
    patches: Array, prohibited: Array, contrast: Array, *, logit_scale: float = 100.0
) -> Array:
    """Return how much each patch is of a concept, compared with the other patches of the picture.

    ``patches`` are unit rows of shape (rows, columns, dim), the others unit rows of prompts of
    shape (n, dim). The map has the shape (rows, columns) and lies in 0..1: 1 is the patch that
    speaks most for the concept, not a proof that it is there; the score of the picture says that.
    A picture without differences is 0 everywhere. Raises ``ValueError`` if shapes do not fit or
    a group of prompts is empty.
    """
    dim = patches.shape[-1]
    if patches.ndim != 3 or not len(prohibited) or not len(contrast):
        raise ValueError("A heat-map needs a grid of patches, and prompts of both groups.")
    if prohibited.shape[1:] != (dim,) or contrast.shape[1:] != (dim,):
        raise ValueError(f"Patches have {dim} dimensions; the prompts come of another encoder.")
    scores = _log_mean_exp(logit_scale * (patches @ prohibited.T)) - _log_mean_exp(
        logit_scale * (patches @ contrast.T)
    )
    lowest, highest = scores.min(), scores.max()
    # Below this the differences are those of rounding in fp32.
    if not highest - lowest > 1e-4:
        return np.zeros(scores.shape, np.float32)
    scaled: Array = ((scores - lowest) / (highest - lowest)).astype(np.float32)
    return scaled


def paint(
    picture: Image.Image, heat: Array, *, seen: tuple[int, int, int, int] | None = None
) -> bytes:
    """Return the picture with the heat-map laid over it, as a PNG of the same size.

    ``seen`` is the part that the encoder looked at (left, top, right, bottom; all of it if left
    out): the rest is dimmed, since nothing is known about it.
    """
    left, top, right, bottom = seen or (0, 0, *picture.size)
    alpha = Image.fromarray((heat.clip(0, 1) * (255 * _STRONGEST)).astype(np.uint8))
    alpha = alpha.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    painted = Image.blend(
        picture.convert("RGB"), Image.new("RGB", picture.size, "grey"), _STRONGEST
    )
    looked_at = picture.convert("RGB").crop((left, top, right, bottom))
    looked_at.paste(_INK, mask=alpha)
    painted.paste(looked_at, (left, top))
    file = io.BytesIO()
    painted.save(file, "PNG")
    return file.getvalue()


def _log_mean_exp(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return log(mean(exp(values))) over the last axis, without overflow."""
    largest = values.max(axis=-1, keepdims=True)
    means = np.log(np.mean(np.exp(values - largest), axis=-1))
    total: NDArray[np.floating] = largest[..., 0] + means
    return total
