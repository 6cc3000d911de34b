"""A moderator's working day without a mouse, in a real browser.

``KEYBOARD_CASES=100 pytest tests/test_keyboard.py -k cases_after_another`` decides a
hundred and prints how long it took from the key to the next case on the screen.
"""

import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone

from moderation.child_safety import STEPS, step_tick
from moderation.decisions import decision_make
from moderation.keys import KEYS
from moderation.models import (
    Account,
    Case,
    ChildSafetyRecord,
    Decision,
    ModelVersion,
    ReportingMeasure,
    ReviewItem,
)
from moderation.queue import case_claim
from moderation.states import Action, CaseState, Role
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


FOCUSED = "document.activeElement"
AT = "[...document.querySelectorAll('[data-stop]')].findIndex((stop) => stop.matches('.at'))"
CHOSEN = f"{FORM}.querySelector('[name=action]:checked')?.value"
PRESSED = "document.querySelector('.judging [aria-pressed=true]')?.value"
# What is so once a key was pressed on the page of a case, and was not before; in that order.
ON_A_CASE = (
    ("following", f"{AT} === 0"),
    ("following", f"{AT} === 1"),
    ("preceding", f"{AT} === 0"),
    ("limit", f"{CHOSEN} === 'limit'"),
    ("age_restrict", f"{CHOSEN} === 'age_restrict'"),
    ("remove", f"{CHOSEN} === 'remove'"),
    ("approve", f"{CHOSEN} === 'approve'"),
    ("restrict", f"{FOCUSED}.matches('[data-digit]')"),
    ("other", f"{FOCUSED}.name === 'action'"),
    ("note", f"{FOCUSED}.name === 'private_note'"),
    ("ask", f"{FOCUSED}.name === 'text'"),
    ("escalate", f"{FOCUSED}.name === 'note'"),
    ("blur", "document.querySelector('.looks .sharp').checked"),
    ("grey", "document.querySelector('.looks .colour').checked"),
    ("one", "document.querySelector('.looks .large').checked"),
    ("peek", "document.querySelector('.shot.peeked') !== null"),
    ("heatmap", "document.querySelector('.heatmap')?.textContent.includes('Being drawn')"),
    ("right", f"{PRESSED} === 'right'"),
    ("wrong", f"{PRESSED} === 'wrong'"),
    ("unsure", f"{PRESSED} === 'unsure'"),
    ("help", "document.getElementById('keys').open"),
)


def test_every_key_of_the_list_does_what_it_says(
    window: Page, uma: Account, mo: Account, settings: Any
) -> None:
    settings.UNDO_SECONDS = 600
    case, following = (factories.held(uma, rule="red-star", title=title) for title in ("A", "B"))
    case.version.findings.filter(concern="hold").update(preview=case.version.previews.get())
    case_claim(case=case, actor=mo)
    address = reverse("console:case", args=[case.code])
    window.goto(address)
    for name, effect in ON_A_CASE:
        assert not window.evaluate(effect), name
        window.keyboard.down(KEYS[name].usual)
        _until(window, effect)
        window.keyboard.up(KEYS[name].usual)
        # Out of a field, or of the list of keys.
        window.keyboard.press("Escape")
    window.goto(address)
    window.keyboard.press(KEYS["together"].usual)
    window.wait_for_url(f"**{reverse('console:group', args=[case.code])}")
    window.goto(address)
    window.keyboard.press(KEYS["search"].usual)
    window.wait_for_url(f"**{reverse('console:queue')}#search")
    _until(window, f"{FOCUSED}.id === 'search'")
    window.keyboard.press("Escape")
    window.keyboard.press(KEYS["take"].usual)
    window.wait_for_url(f"**{address}")
    window.keyboard.press("a")
    window.keyboard.press("Enter")
    window.get_by_role("heading", name="B", exact=True).wait_for()
    window.keyboard.press(KEYS["undo"].usual)
    window.wait_for_url(f"**{address}")
    elsewhere = {"together", "search", "take", "undo"}
    assert {name for name, _ in ON_A_CASE} | elsewhere == set(KEYS)


def test_a_key_that_is_held_does_once_what_it_does(window: Page, uma: Account, mo: Account) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    window.goto(reverse("console:case", args=[case.code]))
    finding = case.version.findings.get(concern="hold")
    sent: list[str] = []
    window.on("request", lambda request: sent.append(request.url))
    ticked = _ticked(window)
    for key in ("y", "1", "n"):
        # A key that is pressed again without having been let go is one that is held.
        for _ in range(5):
            window.keyboard.down(key)
            _until(window, f"{PRESSED} === 'right'")
        window.keyboard.up(key)
    verdict = reverse("console:verdict", args=[finding.pk])
    assert len([url for url in sent if url.endswith(verdict)]) == 1
    assert _ticked(window) != ticked
    assert window.evaluate(f"{FOCUSED}.name") == "private_note"
    assert window.evaluate(f"{FOCUSED}.value") == ""
    # Whoever types may hold a key, too.
    for _ in range(3):
        window.keyboard.down("y")
    assert window.evaluate(f"{FOCUSED}.value") == "yyy"


def test_going_through_the_findings_goes_on_while_the_key_is_held(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    window.goto(reverse("console:case", args=[case.code]))
    for _ in range(2):
        window.keyboard.down("j")
    assert window.evaluate(AT) == 1


def test_on_a_phone_the_next_case_is_shown_from_its_beginning(
    window: Page, uma: Account, mo: Account
) -> None:
    for title in ("One", "Two"):
        factories.held(uma, rule="red-star", title=title)
    window.set_viewport_size({"width": 390, "height": 844})
    window.goto(reverse("console:queue"))
    window.keyboard.press("t")
    window.wait_for_url("**/console/cases/*/")
    _until(window, "typeof fetched !== 'undefined' && fetched !== null")
    shown = window.evaluate(SHOWN)
    window.keyboard.press("a")
    assert window.evaluate("scrollY") > 400, "the button stands at the end"
    window.keyboard.press("Enter")
    _until(window, f"!['', {shown!r}].includes({SHOWN})")
    assert window.evaluate("scrollY") == 0


def test_a_fragment_that_is_refused_or_not_answered_says_so_where_it_stands(
    window: Page, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    window.goto(reverse("console:case", args=[case.code]))
    claim, verdict = window.locator("#claim"), window.locator(".judging").first
    address = reverse("console:renew", args=[case.code])
    # What the page does each minute.
    renew = f"htmx.ajax('POST', '{address}', {{source: '#claim', swap: 'outerHTML'}})"
    window.route("**/verdict/", lambda route: route.abort())
    window.keyboard.press("y")
    verdict.get_by_text("That did not work: the server does not answer.").wait_for()
    window.unroute("**/verdict/")
    ModelVersion.objects.filter(pk=case.version_id).update(isolated_at=timezone.now())
    window.keyboard.press("y")
    verdict.get_by_text("This is held apart for child safety.").wait_for()
    assert window.locator(".failed").count() == 1
    assert "until" in claim.inner_text()
    window.evaluate(renew)
    claim.get_by_text("This case is held apart for child safety.").wait_for()
    assert "until" not in claim.inner_text()
    assert "Give it back" in claim.inner_text()
    # Once there is an answer, it stands there alone.
    ModelVersion.objects.filter(pk=case.version_id).update(isolated_at=None)
    window.evaluate(renew)
    claim.get_by_text("until").wait_for()
    window.keyboard.press("y")
    _until(window, f"{PRESSED} === 'right'")
    assert window.locator(".failed").count() == 0


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


SESSION = django_settings.SESSION_COOKIE_NAME
DRAFTS = "Object.keys(sessionStorage).filter((name) => name.startsWith('draft:'))"


def _group(uma: Account, others: dict[str, Account]) -> tuple[str, str]:
    case = factories.held(uma, rule="red-star")
    return reverse("console:group", args=[case.code]), "textarea[name=facts]"


def _held(uma: Account, others: dict[str, Account]) -> tuple[str, str]:
    with override_settings(SECOND_PERSON_FOR=["popular"], POPULAR_DOWNLOADS=-1):
        assert factories.decided(uma, others["ada"]).needs_second_person
    return reverse("console:held"), "input[name=reason]"


def _misuse(uma: Account, others: dict[str, Account]) -> tuple[str, str]:
    ReportingMeasure.objects.create(
        account=others["rui"], measure="warning", proposed_at=timezone.now()
    )
    return reverse("console:misuse"), "textarea[name=words]"


def _second_review(uma: Account, others: dict[str, Account]) -> tuple[str, str]:
    with override_settings(SECOND_REVIEW_SHARE=1.0):
        factories.decided(uma, others["ada"])
    item = ReviewItem.objects.get()
    return reverse("console:second-review", args=[item.code]), "textarea[name=note]"


@pytest.mark.parametrize("place", [_group, _held, _misuse, _second_review])
def test_what_was_typed_outlasts_the_session_on_every_page_and_goes_once_it_was_sent(
    place: Callable[..., tuple[str, str]],
    window: Page,
    uma: Account,
    mo: Account,
    ada: Account,
    rui: Account,
) -> None:
    address, field = place(uma, {"ada": ada, "rui": rui})
    session = [one for one in window.context.cookies() if one["name"] == SESSION]
    window.goto(address)
    submit = f"""() => {{
      const {{ form }} = document.querySelector("{field}");
      form.querySelector("[value=approve], [value=allow]")?.click();
      form.requestSubmit();
    }}"""
    window.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    window.locator(field).focus()
    window.keyboard.type("Half a sentence")
    window.context.clear_cookies(name=SESSION)
    window.evaluate(submit)
    window.wait_for_url("**/log-in/**")
    window.context.add_cookies(session)
    window.goto(address)
    assert window.locator(field).input_value() == "Half a sentence"
    window.evaluate(submit)
    window.locator("[data-sent]:not(form)").wait_for()
    assert window.evaluate(DRAFTS) == []


def test_what_is_typed_about_what_is_held_apart_is_kept_only_while_it_is_sent(
    window: Page, uma: Account, mo: Account, ada: Account
) -> None:
    apart = case_claim(case=factories.held(uma, rule="red-star"), actor=ada)
    decision_make(
        case=apart, action=Action.CHILD_SAFETY, rules=["red-star"], facts="Seen.", actor=ada
    )
    Account.objects.filter(pk=mo.pk).update(role=Role.CHILD_SAFETY)
    mo.refresh_from_db()
    record = ChildSafetyRecord.objects.get()
    address = reverse("console:child-safety-record", args=[record.code])
    session = [one for one in window.context.cookies() if one["name"] == SESSION]
    window.goto(address)
    typed = {"authority": "The office", "reference": "7/2026"}
    for name, words in typed.items():
        window.locator(f"input[name={name}]").focus()
        window.keyboard.type(words)
    assert window.evaluate(DRAFTS) == []
    submit = "document.querySelector('input[name=reference]').form.requestSubmit()"
    window.context.clear_cookies(name=SESSION)
    window.evaluate(submit)
    window.wait_for_url("**/log-in/**")
    window.context.add_cookies(session)
    window.goto(address)
    for name, words in typed.items():
        assert window.locator(f"input[name={name}]").input_value() == words
    assert window.evaluate(DRAFTS) == []
    # What is left to do before it is sent is said; sent, nothing is left.
    for step in STEPS:
        step_tick(record=record, step=step, actor=mo)
    window.evaluate(submit)
    window.get_by_text("Recorded.").wait_for()
    assert window.evaluate(DRAFTS) == []


def test_whoever_logs_out_leaves_nothing_that_was_typed_in_the_browser(
    window: Page, uma: Account, mo: Account
) -> None:
    window.goto(_group(uma, {})[0])
    window.locator("textarea[name=facts]").focus()
    window.keyboard.type("Mine.")
    assert len(window.evaluate(DRAFTS)) == 1
    window.get_by_role("button", name="Log out").focus()
    window.keyboard.press("Enter")
    window.get_by_role("link", name="Log in").first.wait_for()
    assert window.evaluate(DRAFTS) == []


def test_the_name_of_a_view_outlasts_the_refresh_of_the_queue(
    window: Page, uma: Account, mo: Account
) -> None:
    factories.held(uma, rule="red-star")
    address = f"{reverse('console:queue')}?state=queued"
    window.goto(address)
    window.evaluate("document.getElementById('keep').open = true")
    window.locator("#view-name").focus()
    window.keyboard.type("Stars")
    window.keyboard.press("Escape")
    window.evaluate("document.getElementById('queue').dataset.old = ''")
    # What the page does every ten seconds.
    window.evaluate(f"htmx.ajax('GET', '{address}', {{target: '#queue', swap: 'outerHTML'}})")
    window.locator("#queue:not([data-old])").wait_for()
    assert window.locator("#view-name").input_value() == "Stars"


def test_cases_are_decided_together_by_keys_alone(window: Page, uma: Account, mo: Account) -> None:
    cases = [factories.held(uma, rule="red-star", title=title) for title in ("One", "Two")]
    window.goto(reverse("console:group", args=[cases[0].code]))
    form = "document.querySelector('form.group')"
    chosen = f"{form}.querySelector('[name=action]:checked')?.value"
    for key, action in (("l", "limit"), ("d", "age_restrict"), ("a", "approve"), ("x", "remove")):
        window.keyboard.press(key)
        assert window.evaluate(chosen) == action
    rules = f"Array.from({form}.querySelectorAll('[name=rules]'), (rule) => rule.checked)"
    for digit in (1, 3, 3):
        window.keyboard.press(str(digit))
    assert window.evaluate(rules)[:3] == [True, False, False]
    window.keyboard.press("j")
    window.keyboard.press("j")
    # Out of what is decided, by the key that every tick box has.
    window.keyboard.press("Space")
    window.keyboard.press("?")
    assert window.evaluate("document.getElementById('keys').open")
    window.keyboard.press("Escape")
    window.locator("textarea[name=facts]").focus()
    window.keyboard.type("lax")
    window.keyboard.press("Tab")
    window.keyboard.press("Tab")
    window.keyboard.press("Enter")
    window.get_by_role("heading", name="1 decided").wait_for()
    assert Decision.objects.get().action == "remove"


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
