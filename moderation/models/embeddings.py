"""What encoders made of pictures and texts, kept so that nothing is embedded twice."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Length
from django.db.models.lookups import Exact


class Embedding(models.Model):
    """The unit vector that one encoder gave one content, be it a picture or a prompt.

    ``vector`` holds ``dim`` numbers in little-endian half precision: ``numpy.frombuffer(vector,
    "<f2")``. It belongs to the content and not to a preview, so the same picture uploaded twice
    shares it. ``revision`` changes whenever the encoder's weights or preprocessing do, so a row is
    never wrong, at worst unused. Rows of the kind ``PDQ`` hold perceptual hashes instead, as
    ``triage.perceptual.dihedral_bytes`` writes them.
    """

    class Kind(models.TextChoices):
        """What the digest is of."""

        PICTURE = "picture", "the bytes of a picture"
        TEXT = "text", "a text in UTF-8"
        PDQ = "pdq", "the bytes of a picture, of which perceptual hashes were made"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    sha256 = models.CharField(max_length=64)
    encoder = models.CharField(max_length=200)
    revision = models.CharField(max_length=64)
    dim = models.PositiveSmallIntegerField()
    vector = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["sha256", "encoder", "revision", "kind"], name="embedding_once"
            ),
            models.CheckConstraint(
                condition=Q(Exact(Length("vector"), F("dim") * 2), dim__gt=0),
                name="embedding_has_dim_numbers",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.sha256[:12]} by {self.encoder} {self.revision}"
