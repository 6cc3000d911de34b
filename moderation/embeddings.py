"""Keeps what encoders made of pictures and texts. Writes ``Embedding``, adds and never changes."""

from collections.abc import Iterable
from dataclasses import dataclass

from moderation.models import Embedding


@dataclass(frozen=True, slots=True)
class EmbeddingIn:
    """One vector as triage hands it in; ``Embedding`` says how ``vector`` is written."""

    sha256: str
    encoder: str
    revision: str
    vector: bytes
    kind: str = Embedding.Kind.PICTURE


def embeddings_record(*, embeddings: Iterable[EmbeddingIn]) -> None:
    """Store vectors that are not there yet; what another worker was quicker with stays."""
    # Sorted, so that two workers with the same pictures never wait for each other in a circle.
    given = sorted(embeddings, key=lambda one: (one.sha256, one.encoder, one.revision, one.kind))
    Embedding.objects.bulk_create(
        (
            Embedding(
                kind=one.kind,
                sha256=one.sha256,
                encoder=one.encoder,
                revision=one.revision,
                dim=len(one.vector) // 2,
                vector=one.vector,
            )
            for one in given
        ),
        batch_size=500,
        ignore_conflicts=True,
    )
