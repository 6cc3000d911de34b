"""Large files on their way in, part by part."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from moderation.models.catalog import ModelVersion
from moderation.models.codes import new_code
from moderation.states import UploadState


class Upload(models.Model):
    """A file of weights that is being uploaded in parts, and can be resumed."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="uploads")
    creator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="uploads"
    )
    name = models.CharField(max_length=255)
    size = models.PositiveBigIntegerField()
    # When the file was last changed, in milliseconds, as the sender's machine says.
    modified = models.BigIntegerField(db_default=0)
    part_size = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=UploadState.choices, default=UploadState.OPEN)
    # Of the bucket, where there is one: the key, and S3's own name for the upload.
    key = models.CharField(max_length=200, blank=True)
    multipart_id = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    touched_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["version", "name", "size", "modified"],
                condition=Q(state=UploadState.OPEN),
                name="upload_open_once",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def parts_count(self) -> int:
        """How many parts the file has."""
        return -(-self.size // self.part_size)


class UploadPart(models.Model):
    """A part that arrived whole."""

    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["upload", "number"], name="upload_part_once"),
        ]

    def __str__(self) -> str:
        return f"{self.upload_id}/{self.number}"
