"""The page's own progress bar: weights in parts, here or into a bucket, on through every break."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as configured
from django.core.files.storage import default_storage

from moderation.models import Account, ModelVersion
from tests import factories
from tests.test_browser import _log_in
from tests.test_browser import open_page as open_page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("policy")]
Page = Any
# Part of the sentence that the page says while it waits for the line.
BROKE = "The connection broke"
# Tells of each change of the bar and of the words below it.
WATCH = """() => new MutationObserver(() => {
    const row = document.querySelector('.uploading li')
    if (row) noted(row.querySelector('progress').value, row.lastElementChild.textContent)
}).observe(document, {subtree: true, childList: true, attributes: true, characterData: true})"""


@pytest.fixture
def draft(uma: Account) -> ModelVersion:
    version = factories.draft(uma)
    version.files.all().delete()
    return version


def _choose(page: Page, draft: ModelVersion, weights: Path) -> list[tuple[int, str]]:
    """Choose a file on the page of a draft and send it; return what the bar will have shown."""
    shown: list[tuple[int, str]] = []
    page.expose_function("noted", lambda value, said: shown.append((int(value), said)))
    page.goto(f"/studio/{draft.code}/")
    page.evaluate(WATCH)
    page.get_by_label("Add weights").set_input_files(os.fspath(weights))
    page.get_by_label("Description").fill("Typed, and not saved.")
    page.get_by_role("button", name="Add", exact=True).first.click()
    return shown


def _part(route: Any) -> str:
    return str(route.request.url.rstrip("/").rsplit("/", 1)[1])


def _values(shown: list[tuple[int, str]]) -> list[int]:
    values = [value for value, _ in shown]
    assert values == sorted(values), "the bar goes back"
    return list(dict.fromkeys(values))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of five parts."""
    monkeypatch.setattr("moderation.uploads.PART_SIZE", 2000)
    path = tmp_path / "long.safetensors"
    path.write_bytes(factories.safetensors_bytes({"lora.down": np.arange(2000.0)}))
    return path


def test_weights_go_on_where_they_stopped_when_the_connection_breaks(
    open_page: Callable[[], Page], uma: Account, draft: ModelVersion, weights: Path
) -> None:
    page = _log_in(open_page(), "uma")
    sent: list[str] = []

    def breaks_twice(route: Any) -> None:
        sent.append(_part(route))
        if len(sent) in {3, 4}:
            route.abort()
        else:
            route.continue_()

    page.route("**/parts/*/", breaks_twice)
    shown = _choose(page, draft, weights)
    page.get_by_text("SHA-256").wait_for()
    assert page.get_by_label("Description").input_value() == "Typed, and not saved."
    # Part 3 broke twice and came a third time; no other was sent twice.
    assert sent == ["1", "2", "3", "3", "3", "4", "5"]
    size = weights.stat().st_size
    assert _values(shown) == [0, 2000, 4000, 6000, 8000, size]
    assert {value for value, said in shown if BROKE in said} == {4000}
    assert Path(draft.files.get().content.path).read_bytes() == weights.read_bytes()


def test_a_large_file_is_waited_for_however_long_it_takes_to_be_put_together(
    open_page: Callable[[], Page], uma: Account, draft: ModelVersion, weights: Path
) -> None:
    page = _log_in(open_page(), "uma")
    asked: list[str] = []

    def joining(route: Any) -> None:
        """Answer as the house does while an answer that a proxy cut off is still worked for."""
        asked.append("complete")
        if len(asked) > 1:
            route.continue_()
            return
        said = {"code": "joining", "sentence": "The parts are being put together now."}
        route.fulfill(status=409, content_type="application/json", body=json.dumps(said))

    def progress(route: Any) -> None:
        asked.append("progress")
        state = "joining" if asked.count("progress") == 1 else "open"
        route.fulfill(content_type="application/json", body=json.dumps({"state": state}))

    page.route("**/complete/", joining)
    page.route(re.compile(r"/studio/uploads/\w+/$"), progress)
    shown = _choose(page, draft, weights)
    page.get_by_text("SHA-256").wait_for()
    assert asked == ["complete", "progress", "progress", "complete"]
    assert not [said for _, said in shown if BROKE in said]


def test_a_file_that_was_changed_since_is_sent_anew(
    open_page: Callable[[], Page], uma: Account, draft: ModelVersion, weights: Path
) -> None:
    page = _log_in(open_page(), "uma")
    page.route("**/parts/3/", lambda route: route.abort())
    _choose(page, draft, weights)
    page.get_by_text(BROKE).wait_for()
    page.close()
    # Of the same size, and trained anew.
    weights.write_bytes(factories.safetensors_bytes({"lora.down": np.arange(2000.0) + 1}))
    os.utime(weights, (2_000_000_000, 2_000_000_000))
    again = page.context.new_page()
    again.set_default_timeout(20_000)
    _choose(again, draft, weights)
    again.get_by_text("SHA-256").wait_for()
    assert Path(draft.files.get().content.path).read_bytes() == weights.read_bytes()


def test_a_page_that_is_opened_again_sends_only_what_is_missing(
    open_page: Callable[[], Page], uma: Account, draft: ModelVersion, weights: Path
) -> None:
    page = _log_in(open_page(), "uma")
    sent: list[str] = []

    def breaks_for_good(route: Any) -> None:
        sent.append(_part(route))
        if sent[-1] == "3":
            route.abort()
        else:
            route.continue_()

    page.route("**/parts/*/", breaks_for_good)
    _choose(page, draft, weights)
    page.get_by_text(BROKE).wait_for()
    page.close()
    assert set(sent) == {"1", "2", "3"}
    again = page.context.new_page()
    again.set_default_timeout(20_000)
    asked: list[str] = []
    again.on("request", lambda request: asked.append(request.url))
    shown = _choose(again, draft, weights)
    again.get_by_text("SHA-256").wait_for()
    parts = [url.rstrip("/").rsplit("/", 1)[1] for url in asked if "/parts/" in url]
    assert parts == ["3", "4", "5"]
    assert _values(shown)[1:] == [6000, 8000, weights.stat().st_size]
    assert Path(draft.files.get().content.path).read_bytes() == weights.read_bytes()


def test_the_page_sends_parts_straight_into_a_bucket_and_goes_on_after_a_break(
    open_page: Callable[[], Page],
    uma: Account,
    draft: ModelVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    store: str,
    bucket: Any,
) -> None:
    part = 5 * 1024**2  # the least that S3 admits, the last one aside
    monkeypatch.setattr("moderation.uploads.PART_SIZE", part)
    weights = tmp_path / "long.safetensors"
    weights.write_bytes(factories.safetensors_bytes({"lora.down": np.arange(1_500_000.0)}))
    rules = configured.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    # As the settings do where STORAGE_URL names a bucket.
    settings.CONTENT_SECURITY_POLICY = {
        "DIRECTIVES": {**rules, "connect-src": [*rules["connect-src"], store]}
    }
    page = _log_in(open_page(), "uma")
    sent: list[str] = []

    def breaks_once(route: Any) -> None:
        if route.request.method == "PUT":
            sent.append(route.request.url.partition("partNumber=")[2].partition("&")[0])
            if len(sent) == 2:
                route.abort()
                return
        route.continue_()

    page.route(f"{store}/**", breaks_once)
    shown = _choose(page, draft, weights)
    page.get_by_text("SHA-256").wait_for()
    assert sent == ["1", "2", "2"]
    assert _values(shown) == [0, part, weights.stat().st_size]
    assert {value for value, said in shown if BROKE in said} == {part}
    with default_storage.open(draft.files.get().content.name or "") as stored:
        assert stored.read() == weights.read_bytes()
