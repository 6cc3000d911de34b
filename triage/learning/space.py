"""The coordinates that heads are fitted in.

Embeddings of CLIP lie in a narrow cone: most of what two pictures share is what all pictures
share. Taking the mean away, and dividing by the spread of ordinary pictures in each direction,
leaves what tells pictures apart (linear discriminants with a shared covariance; Wang et al. 2024,
"A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation"). No label is needed for it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Part of the mean variance that is added in every direction, so that directions in which ordinary
# pictures hardly differ do not drown the others.
_SHRINKAGE = 0.1


@dataclass(frozen=True, slots=True)
class Space:
    """An affine map: coordinates = (embedding - centre) @ transform, of mean squared length 1."""

    centre: Floats
    transform: Floats

    def coordinates(self, embeddings: Floats) -> Floats:
        """Return (n, dim) coordinates of (n, dim) embeddings."""
        found: Floats = (embeddings - self.centre) @ self.transform
        return found

    def direction(self, weights: Floats) -> tuple[Floats, float]:
        """Return the weights and the offset that say the same of the embeddings themselves."""
        turned: Floats = self.transform @ weights
        return turned, -float(self.centre @ turned)


def space_of(embeddings: ArrayLike) -> Space:
    """Return the space of ordinary pictures, shape (n, dim), labelled or not.

    With at least twice as many rows as dimensions directions are whitened; with fewer only the
    centre and the overall size are taken, since a covariance would be noise.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    count, dim = rows.shape
    centre = rows.mean(axis=0)
    centred = rows - centre
    size = float((centred**2).sum(axis=1).mean())
    if size == 0.0:
        return Space(centre, np.eye(dim))
    if count < 2 * dim:
        return Space(centre, np.eye(dim) / np.sqrt(size))
    variances, axes = np.linalg.eigh(centred.T @ centred / count)
    shrunk = np.maximum(variances, 0.0) + _SHRINKAGE * size / dim
    transform = axes / np.sqrt(shrunk)
    length = float(((centred @ transform) ** 2).sum(axis=1).mean())
    return Space(centre, transform / np.sqrt(length))
