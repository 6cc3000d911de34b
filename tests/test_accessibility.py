"""axe-core looks at every page of the console and of an account, light and dark: all is well.

The pages come from the addresses of the console, so that a new one is looked at, too: if it needs
something in its address, it says so here in ``_example``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client, override_settings
from django.urls import URLPattern, reverse

from moderation.console.urls import urlpatterns
from moderation.decisions import decision_make
from moderation.heads import Place, head_record, head_win
from moderation.models import (
    Account,
    Case,
    ChildSafetyRecord,
    ModelVersion,
    Policy,
    ReviewItem,
    Rule,
)
from moderation.queue import case_claim
from moderation.selectors.policies import stored_rules
from moderation.states import Action, Role
from tests import factories
from tests.account_pages import account_pages, session_shown

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe-4.14.1.min.js"
LONG = "Incomprehensibilities" * 4
# What answers a GET with something other than a page of its own.
NOT_PAGES = {"heatmap", "heatmap-png", "evidence", "appeal-file", "team-table"}

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("policy", "asleep"),
]
Page = Any


@pytest.fixture
def reader(db: None) -> Account:
    """Return somebody who may open every page of the console."""
    return factories.account("chris", role=Role.CHILD_SAFETY)


@pytest.fixture(params=["light", "dark"])
def page(
    request: pytest.FixtureRequest, live_server: Any, chromium: Any, reader: Account
) -> Iterator[Page]:
    """Return a browser window in which the reader is logged in."""
    client = Client()
    client.force_login(reader)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    context = chromium.new_context(
        base_url=live_server.url, color_scheme=request.param, reduced_motion="reduce"
    )
    context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
    )
    yield context.new_page()
    context.close()


def _violations(page: Page, address: str) -> list[str]:
    """Open an address and everything that folds, and return what axe-core finds wrong there."""
    answer = page.goto(address)
    assert answer is not None and answer.status == 200, (address, answer and answer.status)
    return _faults(page, address)


def _faults(page: Page, address: str) -> list[str]:
    """Return what axe-core finds wrong on the page that is open."""
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true })")
    page.evaluate(AXE.read_text())
    # What a page is made of is the same in the dark; its colours are not.
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    found = page.evaluate(
        "axe.run({runOnly: ['color-contrast', 'link-in-text-block']})" if is_dark else "axe.run()"
    )
    assert found["passes"], f"axe-core looked at nothing on {address}."
    return [
        f"{address}: {violation['id']}: {violation['help']}: {node['html'][:200]}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def _example(pattern: URLPattern, case: Case) -> dict[str, Any]:
    """Return what to put into an address of the console."""
    route = str(pattern.pattern)
    if "<" not in route:
        return {}
    if route.startswith(("concepts/<slug:rule>/", "questions/<slug:rule>/")):
        return {"rule": "red-star", "concept": "red-star"}
    if pattern.name == "child-safety-record":
        return {"code": ChildSafetyRecord.objects.get().code}
    if pattern.name == "second-review":
        return {"code": ReviewItem.objects.get().code}
    if route.startswith("cases/<str:code>/") and route.count("<") == 1:
        return {"code": case.code}
    raise AssertionError(f"Say in tests/test_accessibility.py what to put into {route}.")


def _addresses(case: Case, reader: Account) -> Iterator[str]:
    """Yield every address of the console that a person may open."""
    client = Client()
    client.force_login(reader)
    for pattern in urlpatterns:
        if pattern.name in NOT_PAGES or _only_posts(pattern, reader):
            continue
        address = reverse(f"console:{pattern.name}", kwargs=_example(pattern, case))
        # What is only posted to, or has nothing to show, is no page.
        if client.get(address).status_code not in {204, 405}:
            yield address


def _only_posts(pattern: URLPattern, reader: Account) -> bool:
    """Return whether an address refuses to be opened, whatever stands in it."""
    kinds = {"str": "AAAAAAAAAAAA", "int": 1}
    given = {name: kinds.get(_kind(kind), "a") for name, kind in pattern.pattern.converters.items()}
    client = Client()
    client.force_login(reader)
    return client.get(reverse(f"console:{pattern.name}", kwargs=given)).status_code == 405


def _kind(converter: Any) -> str:
    return type(converter).__name__.removesuffix("Converter").lower().replace("string", "str")


def test_every_page_of_the_console_satisfies_axe_core(
    page: Page, reader: Account, uma: Account, mo: Account
) -> None:
    apart = case_claim(case=factories.held(uma, rule="red-star"), actor=mo)
    decision_make(
        case=apart, action=Action.CHILD_SAFETY, rules=["red-star"], facts="Seen.", actor=mo
    )
    with override_settings(SECOND_REVIEW_SHARE=1.0):
        factories.decided(uma, mo, title="Decided once")
    case = factories.held(uma, rule="red-star", title=LONG)
    factories.held(uma, rule="purple-heart", title="<script>alert(1)</script>")
    addresses = list(_addresses(case, reader))
    assert {reverse("console:queue"), reverse("console:case", args=[case.code])} <= set(addresses)
    assert [fault for address in addresses for fault in _violations(page, address)] == []


def test_a_case_satisfies_axe_core_in_every_state(
    page: Page, reader: Account, uma: Account, ada: Account
) -> None:
    mine = factories.held(uma, rule="red-star", title="Mine")
    case_claim(case=mine, actor=reader)
    others = factories.held(uma, rule="red-star", title="Another's")
    case_claim(case=others, actor=ada)
    decided = factories.decided(uma, reader, title="Decided").case
    codes = [case.code for case in (mine, others, decided)]
    addresses = [reverse("console:case", args=[code]) for code in codes]
    assert [fault for address in addresses for fault in _violations(page, address)] == []


def test_what_the_console_shows_only_at_times_satisfies_axe_core(
    page: Page, reader: Account, uma: Account, mo: Account, ada: Account
) -> None:
    taken = factories.held(uma, rule="red-star", title="Another's")
    case_claim(case=taken, actor=ada)
    near = factories.held(uma, rule="red-star", title="A near miss")
    found = near.version.findings.get(concern="hold")
    evidence = {"deciding": {"concept": "red-star"}}
    changed = {"evidence": evidence, "preview": near.version.previews.get(), "score": 0.6}
    near.version.findings.filter(pk=found.pk).update(**changed)
    with override_settings(SECOND_PERSON_FOR=["popular"]):
        popular = case_claim(case=factories.held(uma, title="Popular"), actor=mo)
        ModelVersion.objects.filter(pk=popular.version_id).update(downloads=10**6)
        removal = {"action": Action.REMOVE, "rules": ["red-star"], "facts": "Seen."}
        decision_make(case=popular, **removal, actor=mo)
    performance = {
        "curve": [{"forecast": 0.1, "observed": 0.2, "pictures": 10}],
        "calibration_error": 0.1,
        "log_loss": 0.3,
    }
    change = {"digest": "0" * 64, "verdict": True, "before": 0.1, "after": 0.9}
    place = Place("red-star", "red-star", "demo", "1")
    head = head_record(
        place=place,
        prompts=stored_rules(Policy.objects.get(is_active=True)).prompts["red-star", "red-star"],
        parameters={"kind": "anchored", "performance": performance},
        held_out={},
        labels=20,
        positives=10,
        comparison={"sentence": "The new head is better.", "changes": [change]},
    )
    head_win(place=place, head=head, reason="It is better.")
    questions = reverse("console:questions", args=["red-star", "red-star"])
    addresses = [
        reverse("console:take-over", args=[taken.code]),
        reverse("console:heatmap", args=[near.code, found.pk]),
        questions,
        reverse("console:concept", args=["red-star", "red-star"]),
        reverse("console:held"),
        reverse("console:queue") + "?colour=red&state=nonsense&q=no",
        reverse("console:case", args=[near.code]),
        reverse("console:group", args=[near.code]),
    ]
    faults = [fault for address in addresses for fault in _violations(page, address)]
    # And the same with what is severe.
    Rule.objects.filter(slug="red-star").update(is_severe=True)
    faults += [fault for address in addresses[2:] for fault in _violations(page, address)]
    assert "Before you open it" in page.goto(questions).text()
    # A form that was refused.
    page.goto(reverse("console:keys"))
    page.locator("[name=approve]").fill("7")
    page.locator("main button.main").click()
    page.get_by_role("alert").first.wait_for()
    assert faults + _faults(page, page.url) == []


def test_an_empty_queue_satisfies_axe_core(page: Page) -> None:
    assert _violations(page, reverse("console:queue")) == []


def test_every_page_of_an_account_satisfies_axe_core(
    page: Page, live_server: Any, uma: Account
) -> None:
    faults = []
    for client, addresses in account_pages(uma):
        session_shown(page, client, live_server.url)
        faults += [fault for address in addresses for fault in _violations(page, address)]
    assert faults == []


@pytest.mark.parametrize("form", ["account_signup", "account_login"])
def test_a_form_that_was_refused_satisfies_axe_core(page: Page, form: str) -> None:
    page.context.clear_cookies()
    page.goto(reverse(form))
    for field in page.locator("main input:visible").all():
        field.fill("a@b.example")
    page.locator("main button.main").click()
    page.get_by_role("alert").first.wait_for()
    assert _faults(page, page.url) == []
