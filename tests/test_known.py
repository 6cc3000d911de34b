"""What was seen before: removed models, other creators' models, banks, people on the list."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from moderation.intake import version_submit
from moderation.models import Account, BankEntry, Finding, ModelVersion, Person
from moderation.people import consent_grant, consent_withdraw
from tests import factories
from triage.tasks import files, previews

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


def _lora(seed: int, *, prefix: str = "lora_unet", metadata: dict[str, str] | None = None) -> bytes:
    random = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for block in range(3):
        key = f"{prefix}_down_blocks_{block}_attentions_0_attn2_to_k"
        tensors[f"{key}.lora_down.weight"] = random.normal(size=(4, 768))
        tensors[f"{key}.lora_up.weight"] = random.normal(size=(320, 4))
    return factories.safetensors_bytes(tensors, metadata=metadata)


def _weigh(creator: Account, weights: bytes, **texts: Any) -> ModelVersion:
    """Submit a version with these weights and let the tasks of triage weigh it."""
    version = factories.draft(creator, **texts)
    file = version.files.get()
    file.content.name = default_storage.save("quarantine/weights", ContentFile(weights))
    file.save()
    version = version_submit(version=version, actor=creator)
    for job in version.jobs.order_by("pk"):
        {"files": files, "previews": previews}[job.stage](job.pk)
    version.refresh_from_db()
    return version


def _remove(version: ModelVersion, moderator: Account, as_: Browser) -> Any:
    """Let somebody report a published version and a moderator remove it."""
    as_(None).post(reverse("report", args=[version.code]), {"text": "A red star."})
    case = version.cases.get()
    client = as_(moderator)
    client.post(reverse("console:claim", args=[case.code]))
    removal = {"action": "remove", "rules": ["red-star"], "facts": "A red star."}
    assert client.post(reverse("console:decide", args=[case.code]), removal).status_code == 302
    return case.decisions.get()


def _concern(version: ModelVersion, rule: str) -> Finding | None:
    return version.findings.filter(rule__slug=rule).exclude(concern="none").first()


def test_a_removed_model_under_a_new_name_and_new_metadata_is_held_and_named(
    as_: Browser, uma: Account, nobody: Account, mo: Account
) -> None:
    original = _weigh(uma, _lora(1), title="The original")
    assert original.visibility == "published"
    _remove(original, mo, as_)
    again = _weigh(nobody, _lora(1, metadata={"note": "all mine"}), title="Something new")
    assert again.visibility == "quarantined"
    finding = _concern(again, "removed-before")
    assert finding is not None
    assert finding.concern == "hold"
    assert "The original" in finding.reason
    page = as_(mo).get(reverse("console:case", args=[again.cases.get().code])).content.decode()
    assert "The original" in page


def test_a_copy_of_another_creators_model_goes_to_a_person_and_the_uploader_hears_it_neutrally(
    as_: Browser, uma: Account, nobody: Account
) -> None:
    _weigh(uma, _lora(2), title="The original")
    copy = _weigh(nobody, _lora(2), title="My own work")
    finding = _concern(copy, "unauthorised-copy")
    assert finding is not None
    assert finding.concern == "review"
    page = as_(nobody).get(reverse("creator:version", args=[copy.code])).content.decode()
    assert "resemble" in page
    assert "The original" not in page


def test_a_new_version_of_ones_own_model_is_no_copy(uma: Account) -> None:
    _weigh(uma, _lora(3), title="Mine")
    assert _weigh(uma, _lora(3), title="Mine, again").visibility == "published"


def test_unrelated_weights_are_no_copy(uma: Account, nobody: Account) -> None:
    _weigh(uma, _lora(4), title="One")
    assert _weigh(nobody, _lora(5), title="Another").visibility == "published"


def test_a_bank_that_was_imported_holds_what_it_names(tmp_path: Path, uma: Account) -> None:
    version = factories.draft(uma)
    hashes = tmp_path / "hashes.csv"
    hashes.write_text(f"value,note\n{version.files.get().sha256},seen before\n")
    arguments = ("bank", "import", str(hashes), "--kind", "sha256", "--name", "partner")
    out = io.StringIO()
    call_command(*arguments, "--rule", "red-star", "--dry-run", stdout=out)
    assert not BankEntry.objects.exists()
    call_command(*arguments, "--rule", "red-star", stdout=out)
    call_command(*arguments, "--rule", "red-star", stdout=out)
    assert "0 added, 1 there already" in out.getvalue()
    version = version_submit(version=version, actor=uma)
    files(version.jobs.get(stage="files").pk)
    finding = _concern(version, "red-star")
    assert finding is not None
    assert (finding.concern, finding.score) == ("hold", 1.0)
    assert "partner" in finding.reason


@pytest.mark.parametrize("content", ["", "value\nnot a hash\n", '[{"value": "abc"}]', "{broken"])
def test_a_bank_file_with_a_mistake_is_refused_whole(
    content: str, tmp_path: Path, db: None
) -> None:
    path = tmp_path / "hashes"
    path.write_text(content)
    with pytest.raises(CommandError, match="hashes"):
        call_command(
            "bank", "import", str(path), "--kind", "pdq", "--name", "b", "--rule", "red-star"
        )
    assert not BankEntry.objects.exists()


def test_a_removal_can_be_added_to_a_bank_by_a_person_and_an_approval_cannot(
    as_: Browser, uma: Account, mo: Account, ada: Account, nobody: Account
) -> None:
    version = factories.published(uma)
    decision = _remove(version, mo, as_)
    address = reverse("console:bank", args=[decision.code])
    assert as_(nobody).post(address, {"name": "house"}).status_code == 403
    assert as_(ada).post(address, {"name": "house"}).status_code == 302
    assert set(BankEntry.objects.values_list("value", flat=True)) == {
        version.files.get().sha256,
        version.previews.get().sha256,
    }
    assert set(BankEntry.objects.values_list("decisions", flat=True)) == {decision.pk}


def test_a_listed_person_is_found_unless_they_agreed_and_again_once_they_take_it_back(
    tmp_path: Path, uma: Account
) -> None:
    people = tmp_path / "people.csv"
    people.write_text("name,aliases\nMarta Kolbova,marta k.;m kolbova\n")
    call_command("people", "import", str(people), stdout=io.StringIO())
    named = {"ss_dataset_dirs": '{"10_marta kolbova woman": {"n_repeats": 10, "img_count": 24}}'}

    first = _weigh(uma, _lora(6, metadata=named), title="Portraits")
    finding = _concern(first, "real-person")
    assert finding is not None
    assert finding.concern == "hold"
    assert first.visibility == "quarantined"

    consent = consent_grant(
        person=Person.objects.get(), creator=uma, rules=["real-person"], until=None, actor=None
    )
    second = _weigh(uma, _lora(7, metadata=named), title="Portraits, agreed")
    assert _concern(second, "real-person") is None

    consent_withdraw(consent=consent, actor=None)
    third = _weigh(uma, _lora(8, metadata=named), title="Portraits, no longer")
    assert _concern(third, "real-person") is not None


def test_importing_people_twice_changes_nothing_and_a_bad_file_says_its_line(
    tmp_path: Path, db: None
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,aliases\nMarta Kolbova,\n")
    out = io.StringIO()
    for _ in range(2):
        call_command("people", "import", str(path), stdout=out)
    assert "0 added, 0 changed, 1 as they were" in out.getvalue()
    path.write_text("name\nMarta Kolbova\n \n" + "x" * 300)
    with pytest.raises(CommandError, match="line"):
        call_command("people", "import", str(path))
    assert Person.objects.count() == 1
