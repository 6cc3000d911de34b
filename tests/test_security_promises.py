"""What SECURITY.md promises is held by tests that exist; production settings raise no warning."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
INLINE = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>|<style\b|\sstyle\s*=|\son[a-z]+\s*=", re.I)


def test_every_promise_names_a_test_that_exists() -> None:
    rows = re.findall(r"^\| .+ \| (.*) \|$", (ROOT / "SECURITY.md").read_text(), re.M)[1:]
    assert len(rows) >= 9
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", row)
        assert named, row
        assert all((ROOT / name).is_file() for name in named), row


def test_production_settings_pass_the_deployment_check_without_warnings(tmp_path: Path) -> None:
    production = {
        "SITE_URL": "https://weigh.example.org",
        "ALLOWED_HOSTS": "weigh.example.org",
        "SECRET_KEY": "".join(map(chr, range(40, 125))),
        "WEIGHHOUSE_DATA": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **production},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.django_db
def test_the_policy_of_content_admits_nothing_but_our_own_files(client: Any) -> None:
    parts = client.get("/log-in/")["Content-Security-Policy"]
    assert "default-src 'none'" in parts
    assert "unsafe" not in parts
    assert set(re.findall(r"(?:-src|-action) ([^;]+)", parts)) <= {"'none'", "'self'"}


def test_no_page_has_a_program_or_a_style_of_its_own() -> None:
    pages = [path for path in (ROOT / "templates").rglob("*.html") if "notices" not in path.parts]
    assert len(pages) > 50
    assert {str(path): INLINE.findall(path.read_text()) for path in pages} == {
        str(path): [] for path in pages
    }
