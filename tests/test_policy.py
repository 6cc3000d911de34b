"""Policies: checked with sentences, stored as versions that never change."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from moderation.models import Policy, Prompt
from moderation.policy import POLICY_DIR

DEMO = POLICY_DIR / "demo.yaml"


def _run(*arguments: str) -> str:
    out = StringIO()
    call_command("policy", *arguments, stdout=out)
    return out.getvalue()


def _changed(folder: Path, old: str, new: str) -> str:
    text = DEMO.read_text()
    assert old in text
    path = folder / "policy.yaml"
    path.write_text(text.replace(old, new, 1))
    return str(path)


@pytest.mark.parametrize("path", sorted(POLICY_DIR.glob("*.yaml")), ids=lambda path: path.name)
def test_every_policy_that_ships_is_sound(path: Path) -> None:
    assert "Nothing is wrong" in _run("check", str(path))


@pytest.mark.django_db
def test_importing_puts_a_policy_in_force_and_twice_changes_nothing() -> None:
    assert "In force" in _run("import", str(DEMO))
    assert "In force" in _run("import", str(DEMO))
    policy = Policy.objects.get()
    assert policy.is_active
    assert Prompt.objects.filter(rule__slug="red-star", kind="prohibited").count() == 5


@pytest.mark.django_db
def test_a_dry_run_changes_nothing() -> None:
    _run("import", str(DEMO), "--dry-run")
    assert not Policy.objects.exists()


@pytest.mark.django_db
def test_a_stored_version_is_never_edited(tmp_path: Path) -> None:
    _run("import", str(DEMO))
    with pytest.raises(CommandError, match="higher version"):
        _run("import", _changed(tmp_path, "title: Demo policy", "title: Another"))


@pytest.mark.django_db
def test_a_newer_version_replaces_the_one_in_force(tmp_path: Path) -> None:
    _run("import", str(DEMO))
    _run("import", _changed(tmp_path, "version: 1", "version: 2"))
    assert list(Policy.objects.filter(is_active=True).values_list("version", flat=True)) == [2]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hold: 0.85", "hold: 0.1", "hold"),
        ("review: 0.5", "review: high", "review"),
        ("slug: purple-heart", "slug: red-star", "twice"),
        ("signals: [previews, text_space]", "signals: []", "signals"),
        ("title: Demo policy", "titel: Demo policy", "titel"),
        ("actions: [limit, remove]", "actions: [vanish]", "actions"),
        ("name: demo", "name: [", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(old: str, new: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=words):
        _run("check", _changed(tmp_path, old, new))
