"""Encoders that remember in the domain what they made of a text.

A policy has some hundreds of prompts in some templates each, and a process embeds them all before
its first picture: two minutes of a CPU for a ViT-B/32, for each process and each start.
"""

import hashlib
from collections.abc import Sequence
from threading import Lock

from PIL import Image

from moderation.embeddings import EmbeddingIn, embeddings_record
from moderation.models.embeddings import Embedding
from moderation.selectors.workers import embeddings_of
from triage import encoders
from triage.embeddings import pack, unpack
from triage.encoders.base import Array, Encoder, EncoderError

_AT_ONCE = 256  # texts: below every database's limit of parameters, and saved as they are made
_loaded: dict[str, "RememberingEncoder"] = {}
_lock = Lock()


class RememberingEncoder:
    """An ``Encoder`` that embeds no text twice; pictures go straight to the one inside."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.name = encoder.name
        self.revision = encoder.revision
        self.dim = encoder.dim
        self.logit_scale = encoder.logit_scale
        self.demo = encoder.demo

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        """Return one unit row per picture; see ``Encoder``."""
        return self.encoder.embed_images(images)

    def embed_patches(self, image: Image.Image) -> Array:
        """Return one unit row per patch; see ``BatchingEncoder``, also for what is raised."""
        embed = getattr(self.encoder, "embed_patches", None)
        if embed is None:
            raise EncoderError(f"The encoder {self.name} has no patches.")
        patches: Array = embed(image)
        return patches

    def seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the part of a picture that is looked at: left, top, right, bottom in pixels."""
        seen = getattr(self.encoder, "seen", None)
        box: tuple[int, int, int, int] = seen(width, height) if seen else (0, 0, width, height)
        return box

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Return one unit row per text, remembered or new; see ``Encoder``."""
        if not texts:
            return self.encoder.embed_texts(texts)
        digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        by_digest = dict(zip(digests, texts, strict=True))
        known: dict[str, bytes] = {}
        wanted = list(by_digest)
        for at in range(0, len(wanted), _AT_ONCE):
            known |= self._some({each: by_digest[each] for each in wanted[at : at + _AT_ONCE]})
        return unpack([known[digest] for digest in digests])

    def _some(self, texts: dict[str, str]) -> dict[str, bytes]:
        known = {
            row["sha256"]: row["vector"]
            for row in embeddings_of(texts, kinds=[Embedding.Kind.TEXT])
            if (row["encoder"], row["revision"]) == (self.name, self.revision)
        }
        missing = [digest for digest in texts if digest not in known]
        if missing:
            rows = self.encoder.embed_texts([texts[digest] for digest in missing])
            new = {digest: pack(row) for digest, row in zip(missing, rows, strict=True)}
            embeddings_record(
                embeddings=[
                    EmbeddingIn(digest, self.name, self.revision, vector, Embedding.Kind.TEXT)
                    for digest, vector in new.items()
                ]
            )
            known |= new
        return known


def load(spec: str) -> Encoder:
    """Return the encoder that a setting names, remembering its texts; see ``encoders.load``."""
    encoder = encoders.load(spec)
    with _lock:
        if spec not in _loaded or _loaded[spec].encoder is not encoder:
            _loaded[spec] = RememberingEncoder(encoder)
        return _loaded[spec]
