"""Documentation that cannot rot: settings, commands and probes are described, links lead on."""

import re
import tomllib
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class

ROOT = settings.BASE_DIR
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    source = (ROOT / "config" / "settings.py").read_text()
    read = set(re.findall(r"env\.\w+\(\s*[\"']([A-Z_]+)[\"']", source))
    table = (ROOT / "docs" / "settings.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))
    assert read == documented


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


OURS = sorted(name for name, app in get_commands().items() if app in {"moderation", "triage"})


@pytest.mark.parametrize("name", OURS)
def test_every_command_teaches_and_is_listed(name: str) -> None:
    command = load_command_class(get_commands()[name], name)
    assert len(command.help) > 60
    assert f"manage.py {name}" in (ROOT / "docs" / "commands.md").read_text()


def test_every_probe_has_a_page() -> None:
    probes = {path.stem for path in (ROOT / "triage" / "probes").glob("[a-z]*.py")}
    pages = {path.stem for path in (ROOT / "docs" / "probes").glob("*.md")}
    assert probes <= pages


def test_the_floors_are_drawn_as_they_are_held() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (held,) = (
        each["layers"] for each in settings["contracts"] if each["name"].startswith("inside")
    )
    drawn = re.findall(r"^```\n(.+?)^```", (ROOT / "ARCHITECTURE.md").read_text(), re.M | re.S)
    assert [layer.split(" | ") for layer in held] in [
        [line.split() for line in picture.splitlines()] for picture in drawn
    ]


def test_nothing_names_a_machine_or_a_registry() -> None:
    """Paths of one machine and hosts of package registries do not belong in the repository."""
    words = ("pypi" + ".org", "files.python" + "hosted", "registry.npm" + "js", "/ro" + "ot/")
    for page in [*PAGES, ROOT / "constraints.txt", ROOT / "pyproject.toml", ROOT / "Makefile"]:
        text = page.read_text()
        assert not [word for word in words if word in text], page
