"""A real browser plays creator, reporter, moderator and second moderator."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from moderation.models import Account, Decision, ModelVersion
from tests import factories
from tests.test_flow import drawing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("policy")]
Page = Any


@pytest.fixture
def open_page(live_server: Any, chromium: Any) -> Iterator[Callable[[], Page]]:
    """Return a way to open a fresh browser window; fails on any script error or CSP violation."""
    complaints: list[str] = []
    windows: list[Any] = []

    def fresh() -> Page:
        windows.append(chromium.new_context(base_url=live_server.url))
        page = windows[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if "Content Security Policy" in message.text
                else None
            ),
        )
        page.set_default_timeout(20_000)
        return page

    yield fresh
    for window in windows:
        window.close()
    assert complaints == []


def _log_in(page: Page, name: str) -> Page:
    page.goto("/log-in/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(lambda url: "log-in" not in url)
    return page


def _save(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return os.fspath(path)


def test_creator_reporter_moderator_and_second_moderator_play_the_whole_flow(
    open_page: Callable[[], Page], tmp_path: Path, rui: Account, mo: Account, ada: Account
) -> None:
    weights = _save(tmp_path, "meadow.safetensors", factories.safetensors_bytes())
    picture = _save(tmp_path, "meadow.png", drawing(("green", "circle")).read())

    creator = open_page()
    creator.goto("/sign-up/")
    creator.get_by_label("Name").fill("zoe")
    creator.get_by_label("E-mail address").fill("zoe@example.org")
    creator.get_by_label("Password").fill("four plain words here")
    creator.get_by_role("button", name="Sign up").click()
    creator.goto("/studio/new/")
    creator.get_by_label("Title").fill("Meadow")
    creator.get_by_label("Description").fill("Green *circles*.")
    creator.get_by_role("button", name="Save and go on").click()
    creator.get_by_label("Add weights").set_input_files(weights)
    creator.get_by_role("button", name="Add", exact=True).first.click()
    creator.get_by_text("SHA-256").wait_for()
    creator.get_by_label("Add previews").set_input_files(picture)
    creator.get_by_role("button", name="Add", exact=True).last.click()
    creator.get_by_text("meadow.png").wait_for()
    creator.get_by_role("button", name="Submit").click()
    creator.get_by_text("Published").first.wait_for()
    version = ModelVersion.objects.get()
    assert version.visibility == "published"

    reporter = _log_in(open_page(), "rui")
    reporter.goto("/")
    reporter.get_by_role("link", name="Meadow").first.click()
    reporter.get_by_role("link", name="Report this model").click()
    reporter.locator("input[name=rule][value=red-star]").check()
    reporter.get_by_label("What did you see?").fill("There is a red star in the corner.")
    reporter.get_by_role("button", name="Send the report").click()
    reporter.get_by_text("Being looked at").first.wait_for()
    receipt = reporter.url

    moderator = _log_in(open_page(), "mo")
    moderator.goto("/console/")
    moderator.get_by_role("button", name="Take the next case").click()
    moderator.get_by_text("There is a red star in the corner.").first.wait_for()
    moderator.locator("input[name=action][value=remove]").check()
    moderator.locator("input[name=rules][value=red-star]").check()
    moderator.get_by_label("What you saw").fill("A red star in the corner.")
    moderator.get_by_role("button", name="Submit", exact=True).click()
    moderator.wait_for_url("**/console/")
    version.refresh_from_db()
    assert version.visibility == "removed"

    reporter.goto(receipt)
    reporter.get_by_text("Action was taken").first.wait_for()
    visitor = open_page()
    assert visitor.goto(f"/models/{version.code}/").status == 404

    creator.goto("/studio/notices/")
    creator.goto(f"/studio/decisions/{Decision.objects.get().code}/")
    creator.get_by_text("A red star in the corner.").first.wait_for()
    creator.get_by_label("Why should the decision be changed?").fill("That is a flower.")
    creator.get_by_role("button", name="Appeal").click()
    creator.get_by_text("Your appeal is with us").first.wait_for()

    moderator.goto(f"/console/cases/{version.cases.get().code}/")
    moderator.get_by_text("another moderator").first.wait_for()
    assert moderator.get_by_role("button", name="Take this appeal").count() == 0

    second = _log_in(open_page(), "ada")
    second.goto("/console/")
    second.get_by_role("button", name="Take the next case").click()
    second.get_by_text("That is a flower.").first.wait_for()
    second.locator("input[name=outcome][value=overturned]").check()
    second.get_by_label("Your reasons").fill("It is a flower indeed.")
    second.get_by_role("button", name="Answer").click()
    second.wait_for_url("**/console/")

    assert visitor.goto(f"/models/{version.code}/").status == 200
    creator.reload()
    creator.get_by_text("It is a flower indeed.").first.wait_for()


@pytest.mark.usefixtures("asleep")
def test_a_case_is_claimed_and_decided_without_javascript(
    live_server: Any, open_page: Callable[[], Page], uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    page = (
        open_page()
        .context.browser.new_context(base_url=live_server.url, java_script_enabled=False)
        .new_page()
    )
    _log_in(page, "mo")
    page.goto(f"/console/cases/{case.code}/")
    page.get_by_role("button", name="Take this case").click()
    page.locator("input[name=action][value=approve]").check()
    page.get_by_label("What you saw").fill("Nothing that a rule is about.")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url("**/console/")
    case.version.refresh_from_db()
    assert case.version.visibility == "published"


@pytest.mark.usefixtures("asleep")
def test_the_queue_refreshes_itself_and_keeps_open_what_its_reader_opened(
    open_page: Callable[[], Page], uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star", title="First")
    page = _log_in(open_page(), "mo")
    page.goto("/console/")
    page.get_by_text("Why is this first?").click()
    page.get_by_text("Harm: ").wait_for()
    factories.held(uma, title="Second")
    # What the page does every ten seconds.
    page.evaluate("htmx.ajax('GET', '/console/', {target: '#queue', swap: 'outerHTML'})")
    page.get_by_role("link", name="Second", exact=True).wait_for()
    assert page.locator(f"#order-{case.code}").get_attribute("open") is not None
    # Without a mouse: to the second row, back to the first, to the search, and into a case.
    page.locator("h1").first.click()
    for key, title in (("j", "First"), ("j", "Second"), ("k", "First")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent") == title
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("secon")
    page.get_by_role("button", name="Search").click()
    page.get_by_text("“secon”").wait_for()
    assert page.locator("li[data-row]").count() == 1


@pytest.mark.usefixtures("asleep")
def test_a_picture_is_seen_as_long_as_its_button_is_held(
    open_page: Callable[[], Page], uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    page = _log_in(open_page(), "mo")
    page.goto(reverse("console:case", args=[case.code]))
    look = "getComputedStyle(document.querySelector('.shot img')).filter"
    assert "blur" in page.evaluate(look)
    page.get_by_role("button", name="Hold to look at preview 1").hover()
    page.mouse.down()
    assert page.evaluate(look) == "none"
    # Wherever it is let go.
    page.mouse.move(1, 1)
    page.mouse.up()
    assert "blur" in page.evaluate(look)
    page.keyboard.down("p")
    assert page.evaluate(look) == "none"
    page.keyboard.up("p")
    assert "blur" in page.evaluate(look)


def test_a_passkey_is_added_and_logs_in_alone(open_page: Callable[[], Page], uma: Account) -> None:
    factories.address_confirmed(uma)
    page = _log_in(open_page(), "uma")
    device = page.context.new_cdp_session(page)
    device.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    device.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto("/account/second-factor/passkeys/add/")
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.get_by_role("button", name="It is me").click()
    page.get_by_label("What you call it").fill("the laptop")
    page.get_by_role("button", name="Add it").click()
    page.wait_for_url("**/recovery-codes/")
    page.get_by_role("button", name="Log out").click()
    page.goto("/log-in/")
    page.get_by_role("button", name="Log in with a passkey").click()
    page.wait_for_url(lambda url: "log-in" not in url)
    page.get_by_role("link", name="uma").wait_for()
    # The picture for an app holds under the same policy of content.
    page.goto("/account/second-factor/app/")
    page.get_by_role("link", name="Use a passkey").click()
    page.get_by_role("button", name="Show my passkey").click()
    picture = page.get_by_role("img", name="QR code")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
