"""What is read beside a case: relatives side by side, the record, what was written."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.findings import findings_record
from moderation.jobs import job_lease
from moderation.models import Account, Case, LineageEdge, ModelVersion
from moderation.states import Action
from tests import factories

Browser = Callable[[Account], Client]
pytestmark = pytest.mark.usefixtures("policy")


def related_to(other: ModelVersion, *, relation: str = "derived", cosine: float = 0.963) -> Any:
    """Return a finding of the lineage probe that names one relative."""
    return factories.finding(
        0.7,
        probe="lineage",
        code="lineage.copy",
        evidence={
            "relatives": [
                {
                    "version": other.code,
                    "title": other.uploaded_model.title,
                    "state": "published",
                    "relation": relation,
                    "cosine": cosine,
                    "compared_exactly": True,
                    "share": 0.4,
                    "comparison": {
                        "relation": relation,
                        "cosine": cosine,
                        "layer_cosine": 0.951,
                        "layers": [64, 72, 60],
                        "identical_tensors": 0.25,
                        "families": ["SDXL", "SD 1.5"],
                    },
                }
            ]
        },
    )


def part(client: Client, case: Case, name: str, **headers: Any) -> str:
    """Return a page beside a case."""
    return client.get(reverse(f"console:{name}", args=[case.code]), **headers).content.decode()


def test_parent_and_child_stand_side_by_side_with_what_is_the_same(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    parent = factories.published(rui, title="The source", base_model="SDXL", tags=["ink"])
    child = factories.triaged(uma, [related_to(parent)], title="The copy", base_model="SDXL")
    page = part(as_(mo), child.cases.get(), "related")
    pair = page.partition(f'id="pair-{parent.code}"')[2].partition("</article>")[0]
    assert "The source" in pair
    assert "This one derives from it, cosine 0.963, its share in the merge 0.40" in pair
    assert "60 layers in common, layer by layer 0.951, 25.0% of the tensors identical" in pair
    rows = [row.replace("\n", "") for row in pair.split("<tr")]
    assert any("Creator" in row and "<td>uma</td><td>rui</td>" in row for row in rows)
    assert any("For" in row and "SDXL" in row and "(the same)" in row for row in rows)
    assert any("Tags" in row and "<td>none</td><td>ink</td>" in row for row in rows)
    assert any("Family" in row and "<td>SDXL</td><td>SD 1.5</td>" in row for row in rows)
    assert any("SHA-256" in row and "(the same)" in row for row in rows)

    # Seen from the other side it is a child.
    decided = factories.decided(rui, mo, action=Action.LIMIT, title="Reported source")
    factories.triaged(uma, [related_to(decided.version, relation="same")], title="Again")
    page = part(as_(mo), decided.case, "related")
    assert "The weights are the same" in page and "Again" in page
    assert "Limit: Red stars" in page


def test_a_later_weighing_takes_the_place_of_an_earlier_and_nobody_is_their_own_parent(
    uma: Account, rui: Account
) -> None:
    parent = factories.published(rui, title="The source")
    child = factories.submitted(uma)
    for job in child.jobs.all():
        lease = job_lease(job_id=job.pk)
        assert lease is not None
        cosine = 0.5 if job.stage == "files" else 0.9
        findings_record(
            lease=lease, findings=[related_to(parent, cosine=cosine), related_to_self(child)]
        )
    edge = LineageEdge.objects.get()
    assert (edge.child, edge.parent) == (child, parent)
    assert edge.cosine in {0.5, 0.9}


def related_to_self(version: ModelVersion) -> Any:
    """Return a finding that names the upload itself, which no probe should."""
    return factories.finding(
        0.0,
        probe="lineage",
        subject_key="x",
        evidence={"relatives": [{"version": version.code, "relation": "same", "cosine": 1.0}]},
    )


def test_what_is_held_apart_is_named_beside_no_case(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    parent = factories.published(rui, title="Held apart")
    case = factories.triaged(uma, [related_to(parent)]).cases.get()
    ModelVersion.objects.filter(pk=parent.pk).update(isolated_at=timezone.now())
    for name in ("related", "history", "look-alikes", "together"):
        address = "group" if name == "together" else name
        assert "Held apart" not in part(as_(mo), case, address)


def test_a_part_comes_without_its_page_to_whoever_fetches_it(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    client = as_(mo)
    whole = part(client, case, "history")
    fetched = part(client, case, "history", HTTP_HX_REQUEST="true")
    assert "<html" in whole and "<html" not in fetched
    assert "What happened" in whole and "What happened" in fetched


def test_the_history_says_what_was_decided_about_the_creator_before(
    as_: Browser, uma: Account, mo: Account
) -> None:
    before = factories.decided(uma, mo, title="Removed once")
    case = factories.held(uma, title="Now")
    page = part(as_(mo), case, "history")
    section = page.partition('id="creator-history"')[2]
    assert "Remove" in section and "Removed once" in section
    assert reverse("console:case", args=[before.case.code]) in section


def test_no_picture_of_a_severe_case_is_shown_beside_it_before_it_is_opened(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case.version.findings.get(concern="hold").rule.__class__.objects.update(is_severe=True)
    client = as_(mo)
    assert "you have not opened the pictures" in part(client, case, "look-alikes")
    client.get(reverse("console:case", args=[case.code]), {"open": ""})
    assert "you have not opened the pictures" not in part(client, case, "look-alikes")


def test_the_edges_of_earlier_findings_are_read_by_the_migration(
    uma: Account, rui: Account
) -> None:
    parent = factories.published(rui, title="The source")
    child = factories.triaged(uma, [related_to(parent)])
    LineageEdge.objects.all().delete()
    migration = import_module("moderation.migrations.0020_lineage_edges")
    migration.read_relatives(apps, None)
    assert LineageEdge.objects.get().child == child
