"""Seven hundred payloads in every text that people write, and every page with them in a browser.

The rows are written directly, whole where the database admits it: what a page does with a text must
not depend on who let it in. No dialog may open, and nothing may even be tried.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection, models
from django.test import Client, override_settings
from django.urls import reverse

from moderation.decisions import decision_make
from moderation.models import Account, Notice, Report
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import Action, Role
from tests import factories
from tests.conftest import require
from tests.test_accessibility import _addresses
from tests.test_browser import CHROMIUM, FLAGS
from tests.xss_payloads import payloads

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("policy", "asleep"),
]
PAYLOADS = list(dict.fromkeys(payloads()))
# What people write and pages show.
WRITTEN = {
    "UploadedModel": {"title", "description", "base_model", "licence"},
    "ModelVersion": {"label"},
    "ModelFile": {"name"},
    "PreviewImage": {"name", "prompt"},
    "Policy": {"title", "introduction"},
    "Rule": {"title", "text", "advice"},
    "Finding": {"reason"},
    "Report": {"place", "name", "text", "law"},
    "Notice": {"subject", "text", "error"},
    "Account": {"first_name", "last_name"},
    "SavedFilter": {"name"},
    "Bank": {"name"},
}


@pytest.fixture
def reader(db: None) -> Account:
    """Return somebody who may open every page of the console."""
    return factories.account("chris", role=Role.CHILD_SAFETY)


def _poison() -> None:
    """Write the payloads into every row: all of them, beginning elsewhere in each field."""
    turn = 0
    with connection.cursor() as cursor:
        for model in apps.get_app_config("moderation").get_models():
            for name in sorted(WRITTEN.get(model.__name__, ())):
                turn = (turn + 37) % len(PAYLOADS)
                text = " ".join(PAYLOADS[turn:] + PAYLOADS[:turn])
                field = model._meta.get_field(name)
                if connection.vendor != "sqlite" and isinstance(field, models.CharField):
                    text = text[: field.max_length]
                if field.unique:
                    continue
                cursor.execute(f'UPDATE "{model._meta.db_table}" SET "{field.column}" = %s', [text])


@pytest.fixture
def browser(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a browser."""
    require(CHROMIUM is not None, "No Chromium is installed.")
    playwright = pytest.importorskip("playwright.sync_api")
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def test_there_are_more_than_five_hundred() -> None:
    assert len(PAYLOADS) >= 500


def test_no_payload_runs_on_any_page(
    browser: Any, live_server: Any, reader: Account, uma: Account, mo: Account, rui: Account
) -> None:
    apart = case_claim(case=factories.held(uma, rule="red-star"), actor=mo)
    decision_make(
        case=apart, action=Action.CHILD_SAFETY, rules=["red-star"], facts="Seen.", actor=mo
    )
    with override_settings(SECOND_REVIEW_SHARE=1.0):
        decision = factories.decided(uma, mo)
    case = factories.held(uma, rule="red-star")
    version = factories.published(uma)
    report_file(version=version, text="No good.", actor=rui)
    draft = factories.draft(uma)
    pages: dict[Account | None, list[str]] = {
        None: [
            reverse("home"),
            reverse("model", args=[version.code]),
            reverse("report", args=[version.code]),
            reverse("report-status", args=[Report.objects.get().token]),
            reverse("policy"),
            reverse("transparency"),
            reverse("account_login"),
            reverse("api-docs"),
        ],
        uma: [
            reverse("creator:models"),
            reverse("creator:version", args=[draft.code]),
            reverse("creator:version", args=[case.version.code]),
            reverse("creator:decision", args=[decision.code]),
            reverse("creator:standing"),
            reverse("creator:notices"),
            *(
                reverse("creator:notice", args=[notice.code])
                for notice in Notice.objects.filter(recipient=uma)
            ),
        ],
        reader: [
            address for address in _addresses(case, reader)
            if address != reverse("console:next")
        ],
    }  # fmt: skip
    _poison()
    complaints: list[str] = []
    for person, addresses in pages.items():
        context = browser.new_context(base_url=live_server.url)
        if person is not None:
            client = Client()
            client.force_login(person)
            session = client.cookies[settings.SESSION_COOKIE_NAME].value
            context.add_cookies(
                [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
            )
        page = context.new_page()
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if "Content Security Policy" in message.text
                else None
            ),
        )
        for address in addresses:
            answer = page.goto(address)
            assert answer is not None and answer.status == 200, (address, answer and answer.status)
            page.evaluate(
                "document.querySelectorAll('details').forEach((part) => { part.open = true })"
            )
        context.close()
    assert complaints == []
