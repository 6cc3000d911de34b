"""The demo: twelve uploads that differ, and a second loading that changes nothing."""

import io

import pytest
from django.core.management import call_command

from moderation.models import Appeal, Case, Decision, Event, ModelVersion, Report


def _load() -> str:
    out = io.StringIO()
    call_command("demo", stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_the_demo_shows_every_stage_and_loading_it_again_changes_nothing() -> None:
    assert "12 uploads loaded, 12 there" in _load()
    states = {
        version.uploaded_model.title: version.visibility
        for version in ModelVersion.objects.select_related("uploaded_model")
    }
    assert len(states) == 12
    assert states["Meadow shapes"] == "published"
    assert states["Evening sky"] == "quarantined"
    assert states["Faded pennants"] == "published"
    assert states["Valentine stickers"] == "age_restricted"
    assert states["Old tiles"] == "quarantined"
    assert states["Crossroads checkpoint"] == "quarantined"
    assert states["Autumn leaves"] == "draft"
    assert {"red-star"} == _rules_at("Evening sky")
    assert {"damaged-file"} == _rules_at("Old tiles")
    assert {"code-that-runs"} == _rules_at("Crossroads checkpoint")
    assert {"black-triangle"} == _rules_at("Warning signs")
    assert {"yellow-ring"} == _rules_at("Ring toss")
    assert Report.objects.count() == 2
    assert Case.objects.filter(source="report").count() == 1
    assert Decision.objects.count() == 1
    assert Appeal.objects.get().state == "open"

    nearly = ModelVersion.objects.get(uploaded_model__title="Faded pennants")
    highest = max(finding.score or 0 for finding in nearly.findings.filter(probe="previews"))
    assert 0.2 < highest < 0.5, "it is meant to come close to a threshold without crossing it"

    before = Event.objects.count()
    assert "0 uploads loaded, 12 there" in _load()
    assert Event.objects.count() == before
    call_command("audit_verify", stdout=io.StringIO())


def _rules_at(title: str) -> set[str]:
    version = ModelVersion.objects.get(uploaded_model__title=title)
    concerned = version.findings.exclude(concern="none")
    return {finding.rule.slug for finding in concerned if finding.rule}
