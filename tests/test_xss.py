"""Seven hundred payloads in every text that people write, and every page with them in a browser.

Once in a house where every page of the console has something to show, and once as every row of the
access matrix opens a page to somebody, in each state, Django's admin included.

The rows are written directly, whole where the database admits it: what a page does with a text must
not depend on who let it in. No dialog may open, and nothing may even be tried.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import filter as fnfilter
from itertools import groupby
from operator import itemgetter
from typing import Any
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.db import connection, models
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from moderation.appeals import appeal_file
from moderation.decisions import decision_make
from moderation.models import (
    Account,
    Appeal,
    AppealMessage,
    Bank,
    BankEntry,
    Case,
    ConceptVector,
    Event,
    FileReference,
    HeadPlacement,
    HeatMap,
    Hold,
    Inquiry,
    LegalHold,
    LikenessRequest,
    ModelVersion,
    Notice,
    Person,
    Report,
    ReportEvidence,
    ReportingMeasure,
    ReviewItem,
    Rule,
    SavedFilter,
    SecondReview,
    Term,
    TrustedFlagger,
    UploadedModel,
    Webhook,
    WebhookDelivery,
)
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.statements import hold_statement_issue
from moderation.states import Action, Role
from tests import factories
from tests.access_world import World, world_build
from tests.account_pages import account_pages, session_shown
from tests.test_access_matrix import METHODS, _first, address_of, routes, tables
from tests.test_accessibility import _addresses
from tests.xss_payloads import payloads

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("policy", "asleep"),
]
PAYLOADS = list(dict.fromkeys(payloads()))
# What people write, here or in a file that they send.
WRITTEN = {
    "ApiToken": {"name"},
    "Account": {"first_name", "last_name"},
    "Appeal": {"text", "answer"},
    "AppealFile": {"name"},
    "AppealMessage": {"text"},
    "Bank": {"name"},
    "CaseText": {"text"},
    "ChildSafetyRecord": {"authority", "reference"},
    "ConceptVector": {"name"},
    "Decision": {"facts", "message", "private_note", "label"},
    "FileReference": {"url", "name", "prompt", "error"},
    "Finding": {"reason"},
    "HeadPlacement": {"reason"},
    "HeatMap": {"error"},
    "Hold": {"objection"},
    "Inquiry": {"text", "answer"},
    "LegalHold": {"reason"},
    "LikenessRequest": {"email", "signature", "text"},
    "ModelFile": {"name"},
    "ModelVersion": {"label", "trigger_words"},
    "Notice": {"subject", "text", "email", "error"},
    "Person": {"name"},
    "Policy": {"title", "introduction"},
    "PreviewImage": {"name", "prompt"},
    "Prompt": {"text"},
    "Report": {"place", "name", "email", "text", "law"},
    "ReportEvidence": {"name"},
    "ReportingMeasure": {"reason", "appeal", "answer"},
    "ReviewItem": {"reason"},
    "Rule": {"title", "text", "advice"},
    "SavedFilter": {"name"},
    "SecondReview": {"note"},
    "Term": {"text"},
    "TriageJob": {"error"},
    "TrustedFlagger": {"organisation", "expertise"},
    "Upload": {"name"},
    "UploadedModel": {"title", "description", "base_model", "licence", "tags"},
    "WebhookDelivery": {"error"},
}
# What no person chooses freely: codes, digests and names out of our own lists, what is checked to
# be an address or a user name, and letters in HTML, which no page shows.
NOT_WRITTEN = {
    *("action", "body", "body_digest", "bulk", "category", "chain", "code", "concept"),
    *("content_type", "country", "deadline_class", "digest", "encoder", "external_id", "format"),
    *("found_by", "html", "key", "keyword", "kind", "legal_ground", "multipart_id", "pdq"),
    *("previous_digest", "probe", "query", "relation", "revision", "route", "rule", "scorer"),
    *("secret", "sha256", "data_sha256", "form_digest", "slug", "token", "value", "password"),
}
NOT_WRITTEN_THERE = {
    "Account": {"username", "email"},
    "ConceptHead": {"prompts"},
    # A digest, and what the arithmetic of the guarantee says.
    "ConceptThreshold": {"prompts", "sentence"},
    "Counter": {"name"},
    "Heartbeat": {"name"},
    "Policy": {"name"},
    "Webhook": {"url"},
}


def _texts(model: type[models.Model]) -> set[str]:
    """Return the fields of a model that hold text which is not one of a list."""
    return {
        field.name
        for field in model._meta.concrete_fields
        if isinstance(field, models.CharField | models.TextField) and not field.choices
    }


@pytest.fixture
def reader(db: None) -> Account:
    """Return somebody who may open every page of the console."""
    return factories.account("chris", role=Role.CHILD_SAFETY)


def _poison(*, at_once: int = len(PAYLOADS)) -> set[tuple[str, str]]:
    """Write the payloads into every row, ``at_once`` of them, beginning elsewhere in each.

    Where no row has anything in a field, all get it. Returns the fields that have no row at all.
    """
    turn, empty = 0, set()
    for model in apps.get_app_config("moderation").get_models():
        with _unguarded(model._meta.db_table) as cursor:
            for name in sorted(WRITTEN.get(model.__name__, ())):
                field = model._meta.get_field(name)
                table, column = f'"{model._meta.db_table}"', f'"{field.column}"'
                cursor.execute(f"SELECT id, CAST({column} AS TEXT) FROM {table}")
                rows = cursor.fetchall()
                if not rows:
                    empty.add((model.__name__, name))
                chosen = [row for row, text in rows if text not in {None, "", "[]"}]
                for row in chosen or [row for row, _ in rows]:
                    turn = (turn + 37) % len(PAYLOADS)
                    payloads = (PAYLOADS[turn:] + PAYLOADS[:turn])[:at_once]
                    text = " ".join(payloads)
                    if isinstance(field, models.JSONField):
                        text = json.dumps(payloads)
                    else:
                        if connection.vendor != "sqlite" and isinstance(field, models.CharField):
                            text = text[: (field.max_length or 0) - 8]
                        # The number keeps apart what a constraint wants to be different.
                        text += str(row)
                    cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", [text, row])
    return empty


@contextmanager
def _unguarded(table: str) -> Iterator[Any]:
    """Lift the triggers of a table: some refuse every change."""
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite":
            cursor.execute(f'ALTER TABLE "{table}" DISABLE TRIGGER USER')
            yield cursor
            cursor.execute(f'ALTER TABLE "{table}" ENABLE TRIGGER USER')
            return
        cursor.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [table]
        )
        triggers = cursor.fetchall()
        for name, _ in triggers:
            cursor.execute(f"DROP TRIGGER {name}")
        yield cursor
        for _, sql in triggers:
            cursor.execute(sql)


def test_there_are_more_than_five_hundred() -> None:
    assert len(PAYLOADS) >= 500


def test_every_text_is_known_as_written_by_people_or_not() -> None:
    for model in apps.get_app_config("moderation").get_models():
        name = model.__name__
        other = _texts(model) - NOT_WRITTEN - NOT_WRITTEN_THERE.get(name, set())
        assert other <= WRITTEN.get(name, set()), f"Say in tests/test_xss.py who writes {name}."


def _listen(page: Any, complaints: list[str]) -> None:
    """Write down whatever a payload sets off, or only tries."""
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Content Security Policy" in message.text else None
        ),
    )


def test_no_payload_runs_on_the_pages_of_an_account(
    chromium: Any, live_server: Any, uma: Account
) -> None:
    complaints: list[str] = []
    payloads = " ".join(PAYLOADS)
    page = chromium.new_context(base_url=live_server.url).new_page()
    _listen(page, complaints)
    named = False
    for client, addresses in account_pages(uma, passkey=payloads):
        session_shown(page, client, live_server.url)
        for address in addresses:
            # Where to go on to stands in a link that anybody may have written.
            answer = page.goto(f"{address}?{urlencode({'next': '/' + payloads[:4000]})}")
            assert answer is not None and answer.status == 200, (address, answer)
            named = named or PAYLOADS[0] in page.locator("main").inner_text()
    assert named, "no page shows the name of the passkey"
    page.context.clear_cookies()
    for name in ("account_signup", "account_login", "account_reset_password"):
        page.goto(reverse(name))
        page.evaluate(
            """(text) => {
                const form = document.querySelector('main form')
                for (const field of form.querySelectorAll('input:not([type=hidden])')) {
                    field.type = 'text'
                    field.value = text
                }
                form.submit()
            }""",
            payloads,
        )
        page.get_by_role("alert").first.wait_for()
        kept = page.locator("main form input:not([type=hidden])").first.input_value()
        assert PAYLOADS[0] in kept, "the form comes back with what was typed"
    assert complaints == []


def test_no_payload_runs_on_any_page(
    chromium: Any, live_server: Any, reader: Account, uma: Account, mo: Account, rui: Account
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
    now = timezone.now()
    appeal = appeal_file(decision=decision, text="They are flowers.", actor=uma)
    AppealMessage.objects.create(
        appeal=appeal, author=uma, from_team=False, text="Look again.", written_at=now
    )
    Inquiry.objects.create(
        case=case, text="Who is it?", asked_by=mo, asked_at=now, answer_until=now,
        answer="Nobody.", closed_at=now,
    )  # fmt: skip
    ReportEvidence.objects.create(report=Report.objects.get(), name="seen.png", content="x")
    likeness = LikenessRequest.objects.create(
        email="dana@example.org", signature="Dana", text="It is me.", filed_at=now, valid_at=now
    )
    hold = Hold.objects.create(
        version=case.version, case=case, due_at=now, held_at=now, objection="No.", objected_at=now
    )
    hold_statement_issue(hold=hold)
    TrustedFlagger.objects.create(account=rui, organisation="Helpers", expertise="Faces")
    measure = ReportingMeasure.objects.create(
        account=rui, measure="suspension", state="decided", proposed_at=now, reason="Too many.",
        decided_by=mo, decided_at=now, until=now, appeal_until=now, appeal="No.", answer="Yes.",
    )  # fmt: skip
    ReportingMeasure.objects.create(account=rui, measure="warning", proposed_at=now, reason="So.")
    LegalHold.objects.create(version=case.version, reason="A letter.", placed_by=mo, placed_at=now)
    SavedFilter.objects.create(account=reader, name="Mine", query="rule=red-star")
    UploadedModel.objects.update(tags=["ink"], licence="MIT", base_model="SDXL")
    shown = Case.objects.filter(version__isolated_at__isnull=True)
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
            reverse("creator:hold", args=[case.version.code]),
            reverse("creator:standing"),
            reverse("creator:notices"),
            *(
                reverse("creator:notice", args=[notice.code])
                for notice in Notice.objects.filter(recipient=uma)
            ),
        ],
        rui: [
            reverse("creator:notices"),
            reverse("creator:standing"),
            reverse("creator:measure", args=[measure.code]),
            reverse("likeness-page", args=[likeness.token]),
        ],
        reader: [
            reverse("console:case", args=[appeal.case.code]),
            *(
                reverse("console:case", args=[code])
                for code in shown.values_list("code", flat=True)
            ),
            *(address for address in _addresses(case, reader)
            if address != reverse("console:next")),
        ],
    }  # fmt: skip
    _poison()
    complaints: list[str] = []
    for person, addresses in pages.items():
        context = chromium.new_context(base_url=live_server.url)
        if person is not None:
            client = Client()
            client.force_login(person)
            session = client.cookies[settings.SESSION_COOKIE_NAME].value
            context.add_cookies(
                [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
            )
        page = context.new_page()
        _listen(page, complaints)
        for address in addresses:
            answer = page.goto(address)
            assert answer is not None and answer.status == 200, (address, answer and answer.status)
            page.evaluate(
                "document.querySelectorAll('details').forEach((part) => { part.open = true })"
            )
        context.close()
    assert complaints == []


def _rows_that_are_seldom(world: World) -> None:
    """Make one of everything that people write into and that no state needs."""
    now = timezone.now()
    version = ModelVersion.objects.get(code=world.states["published"]["version"])
    draft = ModelVersion.objects.get(code=world.states["draft"]["version"])
    adam = Account.objects.get(username="adam")
    rule = Rule.objects.get(slug="red-star")
    bank = Bank.objects.create(name="stars", rule=rule.slug)
    BankEntry.objects.create(bank=bank, kind="sha256", value="a" * 64)
    Person.objects.create(name="Dana")
    Term.objects.create(rule=rule, text="star")
    place = {"concept": "red-star", "encoder": "demo", "revision": "1"}
    # A concept of its own: none has both prompts and vectors.
    ConceptVector.objects.create(
        rule=rule, name="stars", values=b"", threshold=0, **{**place, "concept": "drawn-stars"}
    )
    HeadPlacement.objects.create(rule=rule.slug, reason="Worse.", placed_at=now, **place)
    FileReference.objects.create(
        version=draft, kind="file", url="u", name="n", sha256="a" * 64, not_before=now
    )
    HeatMap.objects.create(
        finding=version.findings.earliest("pk"),
        woken_at=now,
        ended_at=now,
        error="Gone.",
    )
    WebhookDelivery.objects.create(
        webhook=Webhook.objects.get(), event=Event.objects.earliest("pk"), not_before=now
    )
    Inquiry.objects.update(answer="Nobody.", closed_at=now)
    Hold.objects.update(objection="No.", objected_at=now)
    AppealMessage.objects.create(
        appeal=Appeal.objects.earliest("pk"), text="Look.", from_team=False, written_at=now
    )
    TrustedFlagger.objects.create(account=adam, organisation="Helpers", expertise="Faces")
    LegalHold.objects.create(version=version, reason="A letter.", placed_by=adam, placed_at=now)
    item = ReviewItem.objects.earliest("pk")
    decision = item.decision
    assert decision is not None
    SecondReview.objects.create(
        item=item, kind=item.kind, decided_by=decision.decided_by, answer="restrict",
        reviewer=Account.objects.get(username="ada"), agrees=True, given_at=now, note="Plain.",
        rules=["red-star"],
    )  # fmt: skip


def _address(name: str, state: Mapping[str, Any]) -> str:
    """Return an address; of the admin's tables that of a row which is there, or none."""
    of_a_row = re.fullmatch(r"admin:moderation_(\w+)_(change|history)", name)
    if of_a_row is None:
        return address_of(name, state)
    row = apps.get_model("moderation", of_a_row[1])._default_manager.first()
    return reverse(name, args=[row.pk]) if row is not None else ""


def _opens_as(world: World) -> Iterator[tuple[str, str]]:
    """Yield who opens which address, in every row of the access matrix that opens to somebody."""
    for room in METHODS:
        people, rows = tables()[room]
        names = routes()[room]
        for (method, pattern, state), letters in rows.items():
            if method != "GET" or "+" not in letters:
                continue
            person = people[letters.index("+")]
            for name in sorted(fnfilter(names, pattern)):
                its_own = name == pattern or _first(rows, "GET", name) == (method, pattern, state)
                address = _address(name, world.states.get(state, {})) if its_own else ""
                if address:
                    yield person, address


@override_settings(REQUIRE_MFA=True)
def test_no_payload_runs_on_any_page_in_any_state_nor_in_the_admin(
    chromium: Any, live_server: Any
) -> None:
    world = world_build()
    _rows_that_are_seldom(world)
    pages = list(_opens_as(world))
    assert not _poison(at_once=30)
    complaints: list[str] = []
    rooms, opened = set(), set()
    for person, addresses in groupby(sorted(set(pages)), key=itemgetter(0)):
        context = chromium.new_context(base_url=live_server.url)
        client = Client()
        if world.cookies[person]:
            client.cookies[settings.SESSION_COOKIE_NAME] = world.cookies[person]
            session = {"name": settings.SESSION_COOKIE_NAME, "value": world.cookies[person]}
            context.add_cookies([{**session, "url": live_server.url}])
        page = context.new_page()
        _listen(page, complaints)
        for _, address in addresses:
            # What leads on, or is a file, is no page.
            answer = client.get(address)
            if answer.status_code != 200 or not answer["Content-Type"].startswith("text/html"):
                assert answer.status_code < 500, address
                continue
            page.goto(address)
            opened.add(address)
            if "alert(1)" in page.content():
                rooms.add(address.split("/")[1])
        context.close()
    assert complaints == []
    assert rooms >= {"models", "reports", "studio", "console", "admin"}
    tables_shown = {address.split("/")[3] for address in opened if address.endswith("/change/")}
    kept = {model._meta.model_name for model in admin.site._registry if model.__name__ in WRITTEN}
    assert kept <= tables_shown
