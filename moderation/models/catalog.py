"""What is moderated: uploaded models, their versions, files and previews."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from moderation.models.codes import new_code
from moderation.states import Visibility

TITLE_LENGTH = 120
DESCRIPTION_LENGTH = 20_000
PROMPT_LENGTH = 2000

# What is shown, and can be pressed, where a title is missing.
UNTITLED = "Without a title"


class UploadedModel(models.Model):
    """A creator's page for one model."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    creator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="uploaded_models"
    )
    title = models.CharField(max_length=TITLE_LENGTH)
    description = models.TextField(blank=True, max_length=DESCRIPTION_LENGTH)
    tags = models.JSONField(default=list, blank=True)
    base_model = models.CharField(max_length=80, blank=True)
    licence = models.CharField(max_length=80, blank=True)
    # Kept by ``effects`` from the decisions that stand: nothing under it is shown or published.
    removed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["creator", "-created_at"])]

    def __str__(self) -> str:
        return self.title


class ModelVersion(models.Model):
    """One version of a model: what is submitted, weighed and decided about."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    uploaded_model = models.ForeignKey(
        UploadedModel, on_delete=models.PROTECT, related_name="versions"
    )
    number = models.PositiveIntegerField(default=1)
    trigger_words = models.JSONField(default=list, blank=True)
    visibility = models.CharField(
        max_length=20, choices=Visibility.choices, default=Visibility.DRAFT
    )
    created_at = models.DateTimeField(auto_now_add=True)
    submitted_at = models.DateTimeField(null=True, blank=True)
    triaged_at = models.DateTimeField(null=True, blank=True)
    published_at = models.DateTimeField(null=True, blank=True)
    files_published_at = models.DateTimeField(
        null=True, blank=True, help_text="When its files had left quarantine."
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    # Kept by ``effects`` from the decisions that stand.
    label = models.CharField(max_length=200, blank=True)
    # Held apart for child safety: shown, found and exported nowhere else.
    isolated_at = models.DateTimeField(null=True, blank=True)
    downloads = models.PositiveBigIntegerField(default=0)
    # The clock of a likeness request, in the row itself: it works while every worker is out.
    hidden_from = models.DateTimeField(
        null=True, blank=True, help_text="From this moment nobody sees it until a person decides."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["uploaded_model", "number"], name="version_number_once"
            ),
            models.CheckConstraint(
                condition=Q(visibility__in=Visibility.values), name="version_visibility"
            ),
            models.CheckConstraint(
                condition=Q(visibility=Visibility.DRAFT) | Q(submitted_at__isnull=False),
                name="version_beyond_draft_was_submitted",
            ),
        ]
        indexes = [
            models.Index(fields=["visibility", "-published_at"]),
            models.Index(
                fields=["visibility"],
                condition=Q(files_published_at__isnull=True),
                name="version_files_in_quarantine",
            ),
            models.Index(
                fields=["hidden_from"],
                condition=Q(hidden_from__isnull=False),
                name="version_hidden_from",
            ),
            models.Index(
                fields=["isolated_at"],
                condition=Q(isolated_at__isnull=False),
                name="version_held_apart",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.uploaded_model.title or UNTITLED} v{self.number}"


class ModelFile(models.Model):
    """A file of weights. ``name`` is the uploader's and only ever shown, never used as a path."""

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="files")
    name = models.CharField(max_length=255)
    content = models.FileField(max_length=200)
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    format = models.CharField(max_length=20)
    purged_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "sha256"], name="file_once_per_version"),
        ]
        indexes = [models.Index(fields=["sha256"])]

    def __str__(self) -> str:
        return self.name


class PreviewImage(models.Model):
    """A picture the creator shows.

    ``original`` is what came in; ``shown`` is a copy of its pixels, which is published, and
    ``small`` a smaller one of them, which machines look at (none for what came before there was).
    """

    code = models.CharField(max_length=10, unique=True, default=new_code, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="previews")
    name = models.CharField(max_length=255)
    original = models.FileField(max_length=200)
    shown = models.FileField(max_length=200)
    small = models.FileField(max_length=200, blank=True)
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    # Format, sides and whether it moves, of what came in: the copies are still JPEGs.
    uploaded = models.JSONField(default=dict, blank=True)
    prompt = models.CharField(max_length=PROMPT_LENGTH, blank=True)
    position = models.PositiveSmallIntegerField(default=0)
    # Kept by ``effects`` from the decisions that stand.
    is_disabled = models.BooleanField(default=False)
    purged_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["version", "sha256"], name="preview_once_per_version"),
        ]
        indexes = [models.Index(fields=["sha256"], name="preview_sha256")]

    def __str__(self) -> str:
        return self.name

    @property
    def names(self) -> list[str]:
        """Return the names of its stored files."""
        return [file.name for file in (self.original, self.shown, self.small) if file.name]

    @property
    def weighed(self) -> str:
        """Return the name of the stored file that machines look at."""
        return self.small.name or self.shown.name or ""
