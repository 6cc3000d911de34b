"""What uploads are compared with: people and their consents, banks, and sketches of weights."""

from django.conf import settings
from django.db import models

from moderation.models.catalog import ModelFile
from moderation.models.decisions import Decision


class Person(models.Model):
    """A real person whose likeness is protected."""

    name = models.CharField(max_length=200, unique=True)
    aliases = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "people"

    def __str__(self) -> str:
        return self.name


class Consent(models.Model):
    """A person's permission to one creator, for the rules it names, until it ends."""

    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="consents")
    creator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="consents"
    )
    rules = models.JSONField(default=list)
    until = models.DateField(null=True, blank=True)
    granted_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.person} to {self.creator}"


class Bank(models.Model):
    """A list of material that is already known to be prohibited under one rule."""

    name = models.SlugField(max_length=60, unique=True)
    rule = models.SlugField(max_length=60)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class BankEntry(models.Model):
    """One digest or perceptual hash of a bank."""

    class Kind(models.TextChoices):
        """What the value is of."""

        SHA256 = "sha256", "the whole file"
        DATA_SHA256 = "data_sha256", "the bytes after a safetensors header"
        PDQ = "pdq", "the look of a picture"

    bank = models.ForeignKey(Bank, on_delete=models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    value = models.CharField(max_length=64)
    # It stays while one of these stands, or where it was imported.
    decisions = models.ManyToManyField(Decision, blank=True, related_name="bank_entries")
    is_imported = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "bank entries"
        constraints = [
            models.UniqueConstraint(fields=["bank", "kind", "value"], name="bank_entry_once"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.value[:12]}"


class WeightSketch(models.Model):
    """What lineage keeps of a file of weights: enough to find its relatives, too little to use."""

    file = models.OneToOneField(ModelFile, on_delete=models.PROTECT, related_name="sketch")
    # 2,048 numbers in half precision.
    sketch = models.BinaryField(max_length=4096)
    data_sha256 = models.CharField(max_length=64, blank=True, db_index=True)

    def __str__(self) -> str:
        return f"sketch of {self.file_id}"
