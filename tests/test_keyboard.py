"""A moderator's working day without a mouse, in a real browser.

``KEYBOARD_CASES=100 pytest tests/test_keyboard.py -k cases_after_another`` decides a
hundred and prints how long it took from the key to the next case on the screen.
"""

import math
import os
import sys
import time
from typing import Any

import pytest
from django.urls import reverse

from moderation.keys import KEYS
from moderation.models import Account, Case, Decision
from moderation.queue import case_claim
from moderation.states import CaseState
from tests import factories, test_accessibility

CASES = int(os.environ.get("KEYBOARD_CASES", "5"))

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("policy", "asleep"),
    pytest.mark.parametrize("page", ["light"], indirect=True),
]
page = test_accessibility.page


@pytest.fixture
def reader(mo: Account) -> Account:
    """Return Mo, who reads and decides."""
    return mo


Page = Any
KEYS_IN_USE = tuple(key.usual for key in KEYS.values())
FORM = "document.querySelector('form.decide')"
SHOWN = "document.querySelector('[data-case]')?.dataset.case ?? ''"


@pytest.fixture
def window(page: Page) -> Page:
    """Return Mo's window; a mouse in it would fail the test."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("This was to be done without a mouse.")

    page.set_default_timeout(20_000)
    for way in ("click", "dblclick", "hover", "tap", "check"):
        setattr(page, way, refuse)
    return page


def _until(window: Page, condition: str) -> None:
    """Wait, frame by frame, within the page that is shown."""
    is_so = window.evaluate(
        "() => new Promise((done) => { const until = Date.now() + 20_000; const look = () => "
        f"({condition}) ? done(true) : Date.now() > until ? done(false) "
        ": requestAnimationFrame(look); look(); })"
    )
    assert is_so, (condition, window.locator("main").inner_text()[:1000])


def test_cases_after_another_are_decided_by_keys_alone(
    window: Page, uma: Account, mo: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(CASES):
        factories.held(uma, rule="red-star", title=f"Number {number}")
    window.goto(reverse("console:queue"))
    window.keyboard.press("t")
    window.wait_for_url("**/console/cases/*/")
    milliseconds: list[float] = []
    for left in range(CASES, 0, -1):
        if left > 1:
            # Somebody reads; meanwhile the next case is drawn.
            _until(window, "typeof fetched !== 'undefined' && fetched !== null")
        window.keyboard.press("a" if left % 2 else "x")
        if left % 2 == 0:
            # The rule that was found is ticked already: its digit takes it out, and in again.
            for key in ("1", "1", "x"):
                window.keyboard.press(key)
        shown = window.evaluate(SHOWN)
        began = time.perf_counter()
        window.keyboard.press("Enter")
        if left > 1:
            _until(window, f"!['', {shown!r}].includes({SHOWN})")
            milliseconds.append(1000 * (time.perf_counter() - began))
    window.wait_for_url(f"**{reverse('console:queue')}")
    assert set(Case.objects.values_list("state", flat=True)) <= {
        CaseState.DECIDED,
        CaseState.CLOSED,
    }
    assert Decision.objects.filter(action="remove").count() == CASES // 2
    assert Decision.objects.count() == CASES
    milliseconds.sort()
    middle, p95 = milliseconds[CASES // 2 - 1], milliseconds[math.ceil(0.95 * (CASES - 1)) - 1]
    with capsys.disabled():
        sys.stdout.write(f"{CASES} cases; key to next case {middle:.0f}, at p95 {p95:.0f} ms. ")


def test_keys_do_nothing_while_somebody_types_or_holds_another_key(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    window.goto(reverse("console:case", args=[case.code]))
    chosen = "document.querySelector('form.decide [name=action]:checked')?.value ?? ''"
    window.keyboard.press("Control+x")
    window.keyboard.press("Alt+a")
    assert window.evaluate(chosen) == ""
    window.locator("form.decide [name=facts]").focus()
    window.keyboard.type("axe")
    assert window.evaluate(chosen) == ""
    assert window.locator("form.decide [name=facts]").input_value() == "axe"
    window.keyboard.press("Escape")
    window.keyboard.press("x")
    assert window.evaluate(chosen) == "remove"


def test_a_key_that_does_nothing_says_so_until_another_is_pressed(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    window.goto(reverse("console:case", args=[case.code]))
    said = "document.getElementById('key-hint').textContent"
    for key in ("z", "0"):
        window.keyboard.press(key)
        assert window.evaluate(said) == f"“{key}” does nothing here. Press ? for the keys."
    window.keyboard.press("x")
    assert window.evaluate(said) == ""
    window.locator("form.decide [name=facts]").focus()
    window.keyboard.type("z")
    assert window.evaluate(said) == ""


@pytest.mark.parametrize("field", ["textarea", "input", "search", "select", "contenteditable"])
def test_no_key_fires_in_any_kind_of_field(
    field: str, window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    window.goto(reverse("console:case", args=[case.code]))
    window.evaluate(
        """(kind) => {
          const element = document.createElement(
            kind === "contenteditable" ? "div" : kind === "search" ? "input" : kind);
          if (kind === "search") element.type = "search";
          if (kind === "contenteditable") element.contentEditable = "true";
          if (kind === "select") element.innerHTML = "<option>a<option>x";
          document.querySelector("main").prepend(element);
          element.focus();
          window.pressed = [];
          document.addEventListener("key", (event) => window.pressed.push(event.detail.name));
        }""",
        field,
    )
    here = window.url
    ticked = _ticked(window)
    for key in (*KEYS_IN_USE, "1", "2"):
        window.keyboard.press(key)
    assert window.evaluate("window.pressed") == []
    assert (window.url, _ticked(window)) == (here, ticked)
    assert not window.evaluate("document.getElementById('keys').open")
    assert window.evaluate(f"{FORM}.querySelector('[name=action]:checked')") is None


def test_every_key_of_the_list_does_something_on_the_page_of_a_case_or_the_queue(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    chosen = f"{FORM}.querySelector('[name=action]:checked')?.value"
    address = reverse("console:case", args=[case.code])
    window.goto(address)
    for key, action in (("l", "limit"), ("d", "age_restrict"), ("x", "remove"), ("a", "approve")):
        window.keyboard.press(key)
        assert window.evaluate(chosen) == action
    focused = "document.activeElement"
    for key, name in (("e", "note"), ("w", "text"), ("n", "private_note"), ("c", "action")):
        window.keyboard.press(key)
        assert window.evaluate(f"{focused}.name") == name
        if key != "c":
            window.keyboard.press("Escape")
    for key, switch in (("b", ".sharp"), ("g", ".colour"), ("o", ".large")):
        window.keyboard.press(key)
        assert window.evaluate(f"document.querySelector('.looks {switch}').checked"), key
    window.keyboard.press("j")
    assert window.evaluate(f"{focused}.closest('[data-stop]') !== null")
    window.keyboard.press("?")
    assert window.evaluate("document.getElementById('keys').open")
    window.keyboard.press("Escape")
    window.keyboard.press("/")
    window.wait_for_url(f"**{reverse('console:queue')}#search")
    _until(window, f"{focused}.id === 'search'")
    window.goto(address)
    window.keyboard.press("q")
    window.wait_for_url(f"**{reverse('console:group', args=[case.code])}")


def test_what_was_typed_is_there_again_when_the_page_is_opened_anew(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    address = reverse("console:case", args=[case.code])
    window.goto(address)
    window.locator("form.decide [name=facts]").focus()
    window.keyboard.type("Half a sentence")
    window.goto(reverse("console:queue"))
    window.goto(address)
    assert window.locator("form.decide [name=facts]").input_value() == "Half a sentence"


def test_words_about_the_law_are_there_again_when_the_page_is_opened_anew(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    address = reverse("console:case", args=[case.code])
    window.goto(address)
    window.keyboard.press("c")
    window.locator("form.decide [name=legal_ground]").focus()
    window.keyboard.type("Order 7")
    window.goto(address)
    assert window.locator("form.decide [name=legal_ground]").input_value() == "Order 7"
    assert window.locator("form.decide [name=legal_ground]").is_visible()


def test_what_would_change_the_outcome_follows_the_rules_until_somebody_writes_it(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    window.goto(reverse("console:case", args=[case.code]))
    said = f"{FORM}.elements.message.value"
    advice = [
        window.locator(f"[data-digit='{digit}']").get_attribute("data-advice") for digit in (1, 2)
    ]
    for keys, composed in (("x", advice[:1]), ("2", advice), ("a", []), ("l", advice)):
        for key in keys:
            window.keyboard.press(key)
        assert window.evaluate(said) == "\n\n".join(map(str, composed)), keys
    window.evaluate("document.querySelector('details.change').open = true")
    window.locator("form.decide [name=message]").focus()
    window.keyboard.press("End")
    window.keyboard.type(" Mine.")
    window.keyboard.press("Escape")
    window.keyboard.press("2")
    assert "Mine." in window.evaluate(said)


def test_a_link_to_a_finding_that_is_folded_away_unfolds_it(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    found = case.version.findings.get(concern="hold")
    found.pk, found.key, found.score = None, "weaker", 0.7
    found.save()
    window.goto(f"{reverse('console:case', args=[case.code])}#finding-{found.pk}")
    window.locator(f"#finding-{found.pk}").wait_for(state="visible")


def test_a_decision_is_undone_by_a_key_on_the_next_case(
    window: Page, uma: Account, mo: Account, settings: Any
) -> None:
    settings.UNDO_SECONDS = 600
    for number in range(2):
        factories.held(uma, rule="red-star", title=f"Number {number}")
    window.goto(reverse("console:queue"))
    window.keyboard.press("t")
    window.wait_for_url("**/console/cases/*/")
    _until(window, "typeof fetched !== 'undefined' && fetched !== null")
    shown = window.evaluate(SHOWN)
    window.keyboard.press("a")
    window.keyboard.press("Enter")
    _until(
        window,
        f"!['', {shown!r}].includes({SHOWN}) && document.querySelector('.undo .left')?.textContent",
    )
    window.keyboard.press("u")
    window.wait_for_url(f"**{reverse('console:case', args=[shown])}")
    decision = Decision.objects.get()
    assert decision.effect.state == "undone"
    assert Case.objects.get(code=shown).claimed_by == mo
    # With what was filled in.
    assert window.evaluate(f"{FORM}.elements.action.value") == "approve"
    assert window.locator("form.decide [name=facts]").input_value() == decision.facts


def test_after_restrict_a_digit_ticks_its_rule_alone_and_more_digits_add(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    window.goto(reverse("console:case", args=[case.code]))
    slugs = [
        window.locator(f"[data-digit='{digit}']").get_attribute("value") for digit in range(1, 4)
    ]
    # What was found is ticked before anybody pressed anything.
    assert _ticked(window) == slugs[:1]
    for keys, ticked in (
        ("r1x", slugs[:1]),
        ("r2x", slugs[1:2]),
        ("r31x", [slugs[0], slugs[2]]),
        # Without it a digit takes one out, or in.
        ("1", slugs[2:3]),
        ("2", slugs[1:3]),
    ):
        for key in keys:
            window.keyboard.press(key)
        assert _ticked(window) == ticked, keys


def _ticked(window: Page) -> Any:
    return window.evaluate(
        f"Array.from({FORM}.querySelectorAll('[name=rules]:checked'), (rule) => rule.value)"
    )


def test_own_words_outlast_a_refusal_and_whatever_else_is_sent_but_not_the_decision(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    address = reverse("console:case", args=[case.code])
    window.goto(address)
    facts = window.locator("form.decide [name=facts]")
    facts.focus()
    window.keyboard.type("Mine.")
    window.keyboard.press("Escape")
    submit = f"{FORM}.requestSubmit({FORM}.querySelector('[name=then][value=queue]'))"
    # A restriction without a rule is refused.
    for key in ("1", "x"):
        window.keyboard.press(key)
    window.evaluate(submit)
    window.locator(".alert[role=alert]").first.wait_for()
    assert facts.input_value() == "Mine."
    window.keyboard.press("1")
    assert facts.input_value() == "Mine."
    # Another form beside the case, which confirms something else.
    window.goto(address)
    window.evaluate("document.querySelector('.owner form').requestSubmit()")
    window.get_by_text("The case is nobody's now.").wait_for()
    assert facts.input_value() == "Mine."
    window.keyboard.press("x")
    window.evaluate(submit)
    window.wait_for_url(f"**{reverse('console:queue')}")
    assert Decision.objects.get().facts == "Mine."
    kept = window.evaluate("Object.keys(sessionStorage)")
    assert [name for name in kept if name.startswith("draft:")] == []


def test_where_no_case_comes_next_the_queue_is_opened_as_a_page_of_its_own(
    window: Page, uma: Account, mo: Account, ada: Account
) -> None:
    case, following = (factories.held(uma, title=title) for title in ("One", "Two"))
    case_claim(case=case, actor=mo)
    window.goto(reverse("console:case", args=[case.code]))
    _until(window, "typeof fetched !== 'undefined' && fetched !== null")
    case_claim(case=following, actor=ada)
    window.keyboard.press("a")
    window.keyboard.press("Enter")
    window.wait_for_url(f"**{reverse('console:queue')}")
    window.get_by_text("Nothing waits for you.").wait_for()
    assert window.get_by_text("Approve: One").count() == 1
    assert window.evaluate("Array.from(document.styleSheets, (sheet) => sheet.href).join()").count(
        "queue"
    )
