"""What an encoder made of a picture is remembered, and the picture never asked about again."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from PIL import Image

from moderation.embeddings import EmbeddingIn
from moderation.findings import findings_record
from moderation.jobs import job_lease
from moderation.models import Account, Bank, BankEntry, Embedding, Finding, ModelVersion
from moderation.states import Visibility
from tests import factories
from tests.test_flow import drawing
from triage import encoders, known_texts
from triage.embeddings import pack, unpack
from triage.encoders.base import Array
from triage.perceptual import pdq

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("policy")]
Browser = Callable[[Account | None], Client]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Write down how many pictures the encoder is given, each time it is given any."""
    encoder = encoders.load("demo")
    calls: list[int] = []
    real = encoder.embed_images

    def counting(images: Sequence[Image.Image]) -> Array:
        if images:
            calls.append(len(images))
        return real(images)

    monkeypatch.setattr(encoder, "embed_images", counting)
    yield calls


def draft_with(client: Client, title: str, *previews: SimpleUploadedFile) -> ModelVersion:
    """Upload through the pages and do not submit."""
    client.post(reverse("creator:create"), {"title": title, "description": "Shapes."})
    version = ModelVersion.objects.get(uploaded_model__title=title)
    add = reverse("creator:add", args=[version.code])
    client.post(add, {"file": factories.weights_upload()})
    for preview in previews:
        preview.seek(0)
        client.post(add, {"preview": preview})
    return version


def spoil(version: ModelVersion) -> None:
    """Leave the header of the one picture and nothing of its pixels: whoever decodes it fails."""
    copy = Path(default_storage.path(version.previews.get().weighed))
    copy.write_bytes(copy.read_bytes()[:200] + bytes(len(copy.read_bytes()) - 200))


def upload(client: Client, title: str, *previews: SimpleUploadedFile) -> ModelVersion:
    """Upload and submit through the pages; the jobs run at once."""
    version = draft_with(client, title, *previews)
    assert client.post(reverse("creator:submit", args=[version.code])).status_code == 302
    version.refresh_from_db()
    assert version.triaged_at is not None
    return version


def scores(version: ModelVersion) -> dict[str, float | None]:
    rows = Finding.objects.filter(version=version, probe="previews")
    return {row.rule.slug: row.score for row in rows if row.rule is not None}


def test_the_same_picture_uploaded_twice_is_embedded_once(
    as_: Browser, uma: Account, rui: Account, asked: list[int]
) -> None:
    star = drawing(("red", "star"), ("red", "star"))
    first = upload(as_(uma), "First", star)
    second = upload(as_(rui), "Second", star)
    assert asked == [1]
    assert scores(first) == scores(second)
    assert max(score or 0 for score in scores(first).values()) > 0.85
    assert Embedding.objects.filter(kind="picture").count() == 1


def test_of_a_version_only_the_pictures_not_seen_before_are_embedded(
    as_: Browser, uma: Account, asked: list[int]
) -> None:
    old, new = drawing(("red", "star")), drawing(("blue", "circle"), seed=8)
    upload(as_(uma), "First", old)
    version = upload(as_(uma), "Second", old, new)
    assert asked == [1, 1]
    looked_at = {finding.preview_id for finding in version.findings.filter(probe="previews")}
    assert looked_at == set(version.previews.values_list("pk", flat=True))


def test_a_picture_seen_before_is_not_even_decoded(as_: Browser, uma: Account) -> None:
    star = drawing(("red", "star"))
    upload(as_(uma), "First", star)
    client = as_(uma)
    version = draft_with(client, "Second", star)
    spoil(version)
    client.post(reverse("creator:submit", args=[version.code]))
    outcomes = version.findings.filter(probe="previews").values_list("outcome", flat=True)
    assert set(outcomes) == {"scored"}


def test_a_picture_whose_hashes_are_remembered_is_not_decoded_for_a_bank(
    as_: Browser, uma: Account
) -> None:
    bank = Bank.objects.create(name="Elsewhere", rule="red-star")
    noise = Image.effect_noise((256, 256), 80).convert("RGB")
    entry = BankEntry.objects.create(bank=bank, kind="pdq", value=pdq(noise).hash.hex())
    stream = io.BytesIO()
    noise.save(stream, "PNG")
    picture = SimpleUploadedFile("noise.png", stream.getvalue(), "image/png")
    first = upload(as_(uma), "First", picture)
    # Now what is remembered decides: nothing of the pictures can be read any more.
    version = draft_with(as_(uma), "Second", picture)
    spoil(version)
    as_(uma).post(reverse("creator:submit", args=[version.code]))
    found = {
        of.code: of.findings.get(probe="banks", preview__isnull=False) for of in (first, version)
    }
    assert {finding.code for finding in found.values()} == {"banks.pdq"}
    assert found[first.code].evidence["matches"] == found[version.code].evidence["matches"]
    entry.delete()


def test_another_revision_of_the_encoder_looks_again(
    as_: Browser, uma: Account, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    star = drawing(("red", "star"))
    upload(as_(uma), "First", star)
    monkeypatch.setattr(known_texts.load("demo"), "revision", "another")
    upload(as_(uma), "Second", star)
    assert asked == [1, 1]
    assert Embedding.objects.filter(kind="picture").count() == 2


def test_what_is_kept_is_a_unit_vector_in_half_precision(as_: Browser, uma: Account) -> None:
    upload(as_(uma), "First", drawing(("red", "star")))
    row = Embedding.objects.get(kind="picture")
    vector = np.frombuffer(row.vector, "<f2")
    assert (row.dim, row.kind) == (len(vector), "picture")
    assert np.linalg.norm(vector.astype(float)) == pytest.approx(1, abs=1e-3)


def test_a_worker_that_lost_its_lease_leaves_no_embedding(uma: Account, asleep: None) -> None:
    version = factories.submitted(uma)
    job = version.jobs.get(stage="previews")
    lost = job_lease(job_id=job.pk)
    assert lost is not None
    type(job).objects.filter(pk=job.pk).update(token="somebody else's")
    vector = pack(np.array([1, 0], np.float32))
    given = [EmbeddingIn("0" * 64, "demo", "1", vector)]
    assert not findings_record(lease=lost, findings=[], embeddings=given)
    assert not Embedding.objects.exists()


def test_two_workers_with_the_same_picture_do_not_meet_at_the_constraint(
    uma: Account, asleep: None
) -> None:
    vector = pack(np.array([0.6, 0.8], np.float32))
    for _ in range(2):
        version = factories.submitted(uma)
        lease = job_lease(job_id=version.jobs.get(stage="previews").pk)
        assert lease is not None
        given = [EmbeddingIn("0" * 64, "demo", "1", vector)]
        assert findings_record(lease=lease, findings=[factories.finding()], embeddings=given)
    assert Embedding.objects.filter(kind="picture").count() == 1


@pytest.mark.parametrize("fields", [{"dim": 3}, {"dim": 0, "vector": b""}])
def test_the_database_refuses_a_vector_of_another_length(fields: dict[str, Any]) -> None:
    row = {"kind": "picture", "sha256": "0" * 64, "encoder": "demo", "revision": "1"}
    with pytest.raises(IntegrityError), transaction.atomic():
        Embedding.objects.create(**{**row, "dim": 2, "vector": b"\0" * 4, **fields})


def test_halving_the_precision_moves_no_cosine_by_a_ten_thousandth() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(200, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kept = unpack([pack(row) for row in rows])
    assert np.abs(kept @ rows.T - rows @ rows.T).max() < 1e-4
    with pytest.raises(ValueError, match="different dimensions"):
        unpack([pack(rows[0]), pack(rows[0][:3])])


def test_a_clean_picture_seen_before_is_published_again(as_: Browser, uma: Account) -> None:
    circle = drawing(("blue", "circle"))
    assert upload(as_(uma), "First", circle).visibility == Visibility.PUBLISHED
    assert upload(as_(uma), "Second", circle).visibility == Visibility.PUBLISHED


def test_the_evidence_speaks_of_what_was_uploaded_and_not_of_the_copy(
    as_: Browser, uma: Account
) -> None:
    frames = [Image.new("RGB", (900, 700), colour) for colour in ("white", "red")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    moving = SimpleUploadedFile("moving.gif", file.getvalue(), content_type="image/gif")
    version = upload(as_(uma), "Moving", moving)
    picture = version.findings.filter(probe="previews")[0].evidence["picture"]
    assert (picture["format"], picture["width"], picture["height"]) == ("GIF", 900, 700)
    assert (picture["animated"], picture["note"]) == (True, "Only the first frame was looked at.")
