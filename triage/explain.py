"""Shows where in a picture a concept is. Pure numpy, and Pillow to paint.

MaskCLIP (Zhou et al. 2022, "Extract Free Dense Labels from CLIP") brings each patch of a vision
transformer into the space of texts. Each patch is then scored like a whole picture: prohibited
against contrast prompts. The contrast also takes away what all prompts have in common, which
otherwise lights up the background (CLIP Surgery, Li et al. 2023).
"""

import io
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triage.encoders.base import Array, Encoder, EncoderError
from triage.pictures import read_picture
from triage.sample import Concept, Policy
from triage.scoring import embed_prompts

# Low is see-through, high is a strong orange-red. One hue, so that it reads without colour vision.
_INK = (214, 62, 18)
_STRONGEST = 0.65  # how opaque the hottest place is; what is below must stay recognisable


# What a person needs to see where something is; larger ones are only longer under way.
_SIDE = 512
# Windows for encoders without patches: seven by seven, each two fifths of the side.
_WINDOWS = 7
_WINDOW_SHARE = 0.4


class NoPlaceError(Exception):
    """It cannot be said where in the picture the concept is; the message says why."""


@runtime_checkable
class PatchEncoder(Protocol):
    """An encoder that can tell the patches of a picture apart."""

    def embed_patches(self, image: Image.Image) -> Array:
        """Return one unit row per patch, shape (rows, columns, dim); raises ``EncoderError``."""
        ...

    def seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the part of a picture that is looked at: left, top, right, bottom in pixels."""
        ...


def draw(path: Path, *, policy: Policy, rule: str, concept: str, encoder: Encoder) -> bytes:
    """Return a picture with the heat-map of one concept of a rule over it, as a PNG.

    An encoder without patches looks at 49 overlapping windows instead, each as a picture of its
    own. Raises ``PictureError``, ``EncoderError``, and ``NoPlaceError`` for a concept that is not
    there or is made of vectors, which have nothing to be compared with.
    """
    prompts = _concept(policy, rule, concept)
    picture = read_picture(path)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    seen = None
    try:
        if not isinstance(encoder, PatchEncoder):
            raise EncoderError("no patches")
        patches = encoder.embed_patches(picture)
        seen = encoder.seen(*picture.size)
    except EncoderError:
        patches = embed_windows(encoder, picture)
    heat = heat_map(
        patches,
        embed_prompts(encoder, prompts.prohibited, policy.templates),
        embed_prompts(encoder, (*prompts.contrast, *policy.neutral), policy.templates),
        logit_scale=encoder.logit_scale,
    )
    return paint(picture, heat, seen=seen)


def embed_windows(encoder: Encoder, picture: Image.Image) -> Array:
    """Return one unit row per window of a picture, shape (7, 7, dim)."""
    width, height = (round(side * _WINDOW_SHARE) for side in picture.size)
    lefts = np.linspace(0, picture.width - width, _WINDOWS).astype(int)
    tops = np.linspace(0, picture.height - height, _WINDOWS).astype(int)
    crops = [
        picture.crop((left, top, left + width, top + height)) for top in tops for left in lefts
    ]
    rows: Array = encoder.embed_images(crops).reshape(_WINDOWS, _WINDOWS, -1)
    return rows


def _concept(policy: Policy, rule: str, slug: str) -> Concept:
    concepts = [each for one in policy.rules if one.slug == rule for each in one.concepts]
    found = next((each for each in concepts if each.slug == slug), None)
    if found is None or not found.prohibited:
        raise NoPlaceError(
            "This concept cannot be shown in the picture: it has no prompts to compare its parts "
            "with."
        )
    return found


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
