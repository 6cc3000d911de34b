"""The page of a case: its evidence, verdicts, one's own keys, and what survives a conflict."""

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from moderation import decisions
from moderation.models import (
    Account,
    Case,
    ConsolePreference,
    Decision,
    Embedding,
    Finding,
    LineageEdge,
    ModelVersion,
    Notice,
    Policy,
    Report,
    Rule,
    Verdict,
)
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.selectors import groups
from moderation.states import Role
from moderation.wellbeing import preference_choose
from tests import factories

Browser = Callable[[Account | None], Client]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("policy")]


def _page(client: Client, case: Case) -> str:
    return client.get(reverse("console:case", args=[case.code])).content.decode()


def _beside(client: Client, case: Case, part: str) -> str:
    return client.get(reverse(f"console:{part}", args=[case.code])).content.decode()


def _decide(client: Client, case: Case, **fields: Any) -> Any:
    given = {"action": "remove", "rules": ["red-star"], "facts": "A red star.", **fields}
    return client.post(reverse("console:decide", args=[case.code]), given)


# --- The page -------------------------------------------------------------------------------


def test_a_case_says_what_the_rule_says_and_composes_the_message(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    page = _page(as_(mo), case)
    assert "What the rule says" in page
    assert 'data-sentence="Red stars' in page
    assert f'data-advice="{escape(Rule.objects.get(slug="red-star").advice)}"' in page
    assert "What would change this outcome" in page
    assert 'data-compose="A person looked at it' in page


def test_what_would_change_the_outcome_goes_along_and_can_be_put_in_other_words(
    as_: Browser, uma: Account, mo: Account
) -> None:
    advice = Rule.objects.get(slug="red-star").advice
    own = f"{advice}\r\n\r\nTake the second preview out."
    for said, adds in ((advice, 0), ("", 0), (own, 1)):
        case = factories.held(uma, rule="red-star")
        case_claim(case=case, actor=mo)
        refused = _decide(as_(mo), case, message=said, rules=[]).content.decode()
        assert ("Take the second preview out." in refused) is bool(adds)
        assert _decide(as_(mo), case, message=said).status_code == 302
        decision = Decision.objects.get(case=case)
        told = as_(uma).get(reverse("creator:decision", args=[decision.code])).content.decode()
        assert escape(advice) in told
        assert told.count("Take the second preview out.") == adds
        letter = Notice.objects.get(decision=decision).text
        assert letter.count("The moderator adds:") == adds


def test_everything_on_the_page_can_be_linked_to(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    page = _page(as_(mo), case)
    finding = case.version.findings.filter(concern="hold").get()
    for anchor in (
        f"finding-{finding.pk}",
        f"preview-{case.version.previews.get().code}",
        f"file-{case.version.files.get().code}",
    ):
        assert f'id="{anchor}"' in page
    event = case.version.events.order_by("sequence").first()
    assert event is not None
    history = reverse("console:history", args=[case.code])
    beside = _beside(as_(mo), case, "history")
    assert f'id="event-{event.sequence}"' in beside
    assert f'href="{history}#event-{event.sequence}"' in beside
    decided = factories.decided(uma, mo, title="Decided")
    report_file(version=factories.published(uma), text="A star.", actor=rui)
    report = Report.objects.get()
    for of, anchor in (
        (decided.case, f"decision-{decided.code}"),
        (report.case, f"report-{report.code}"),
    ):
        page = _page(as_(mo), of)
        assert f'id="{anchor}"' in page and f'href="#{anchor}"' in page


def test_a_preview_leads_to_each_of_its_findings(as_: Browser, uma: Account, mo: Account) -> None:
    case = factories.held(uma, rule="red-star")
    preview = case.version.previews.get()
    found = case.version.findings.get(concern="hold")
    case.version.findings.filter(pk=found.pk).update(preview=preview)
    other = Finding.objects.get(pk=found.pk)
    other.pk, other.key, other.score = None, "another", 0.6
    other.rule = Rule.objects.get(policy__is_active=True, slug="purple-heart")
    other.save()
    weaker = Finding.objects.get(pk=found.pk)
    weaker.pk, weaker.key, weaker.score = None, "weaker", 0.7
    weaker.save()
    page = _page(as_(mo), case)
    shot = page.partition(f'id="preview-{preview.code}"')[2].partition("</li>")[0]
    assert f'href="#finding-{found.pk}"' in shot and f'href="#finding-{other.pk}"' in shot
    # Each can be asked where in the picture it was found.
    for finding in (found, other, weaker):
        assert f'id="heatmap-{finding.pk}"' in page


def test_the_same_bytes_elsewhere_are_named_with_how_they_stand(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    other = factories.published(rui, title="Earlier one")
    case = factories.held(uma)
    page = _beside(as_(mo), case, "related")
    assert str(other) in page
    assert "the same file, by rui. Published" in page


def test_a_description_of_three_megabytes_and_script_in_every_field_do_no_harm(
    as_: Browser, uma: Account, mo: Account
) -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    case = factories.held(uma, title=evil[:110], tags=[evil], trigger_words=[evil])
    page_row = case.version.uploaded_model
    page_row.description = evil + "long " * 600_000
    page_row.save()
    ModelVersion.objects.filter(pk=case.version_id).update(trigger_words=[evil])
    Finding.objects.filter(version=case.version).update(reason=evil, evidence={"what": evil})
    page = _page(as_(mo), case)
    assert "<script>alert" not in page
    assert "onerror=alert" not in re.sub(r"&lt;.*?&gt;", "", page)


def test_what_its_creator_takes_down_under_review_stays_there_as_evidence(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star", title="Gone")
    ModelVersion.objects.filter(pk=case.version_id).update(visibility="published")
    case.version.refresh_from_db()
    report_file(version=case.version, text="It is a star.", actor=rui)
    case_claim(case=case, actor=mo)
    client, preview = as_(mo), case.version.previews.get()
    own = as_(uma).get(reverse("creator:version", args=[case.version.code])).content.decode()
    withdraw = reverse("creator:withdraw", args=[case.version.code])
    assert withdraw in own
    assert as_(uma).post(withdraw).status_code == 302
    picture = reverse("preview", args=[preview.code])
    assert as_(None).get(picture).status_code == 404
    page = _page(client, case)
    for evidence in (
        f'src="{picture}"',
        "A finding made for a test.",
        case.version.files.get().sha256,
        "It is a star.",
        "Now: taken down",
    ):
        assert evidence in page
    assert client.get(picture).status_code == 200
    assert "took the version down" in _beside(client, case, "history")
    assert _decide(client, case, reports_seen="1").status_code == 302
    case.refresh_from_db()
    assert case.state == "decided"
    assert _decide(client, case, facts="Once more.").status_code == 409
    # The creator is told, and can appeal, as about anything else.
    decision = Decision.objects.get()
    told = as_(uma).get(reverse("creator:decision", args=[decision.code]))
    assert "A red star." in told.content.decode()


def test_a_description_of_three_megabytes_is_refused_at_the_door_with_a_sentence(
    as_: Browser, uma: Account
) -> None:
    draft = factories.draft(uma)
    given = {"title": "Long", "description": "long " * 600_000, "tags": "kept"}
    refused = as_(uma).post(reverse("creator:edit", args=[draft.code]), given)
    assert refused.status_code == 422
    page = refused.content.decode()
    assert "The description is 3,000,000 characters long; 20,000 are the most." in page
    assert 'value="kept"' in page
    assert page.count("long long") > 1000


def test_a_finding_says_how_far_its_score_is_from_the_thresholds(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    assert "0.10 above hold" in _page(as_(mo), case)
    case.version.findings.update(score=0.6)
    assert "0.10 above review, 0.25 below hold" in _page(as_(mo), case)


# --- Verdicts -------------------------------------------------------------------------------


def test_a_verdict_is_kept_and_a_later_one_replaces_it(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    finding = case.version.findings.filter(concern="hold").get()
    address = reverse("console:verdict", args=[finding.pk])
    client = as_(mo)
    assert client.post(address, {"answer": "right"}).status_code == 302
    fragment = client.post(address, {"answer": "wrong"}, headers={"HX-Request": "true"})
    assert 'value="wrong" class="small" data-key="wrong" aria-pressed="true"' in (
        fragment.content.decode()
    )
    assert list(Verdict.objects.order_by("pk").values_list("answer", flat=True)) == [
        "right",
        "wrong",
    ]


def test_a_verdict_is_never_changed_in_the_database(uma: Account, mo: Account) -> None:
    finding = factories.held(uma).version.findings.filter(concern="hold").get()
    Verdict.objects.create(
        finding=finding, answer="right", source="case", given_by=mo, given_at=timezone.now()
    )
    for change in (
        lambda: Verdict.objects.update(answer="wrong"),
        lambda: Verdict.objects.all()._raw_delete(connection.alias),  # type: ignore[attr-defined]
    ):
        with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
            change()


def test_a_verdict_is_refused_to_creators_strangers_and_on_what_did_not_score(
    as_: Browser, uma: Account, nobody: Account, mo: Account
) -> None:
    version = factories.triaged(uma, [factories.finding(None)])
    failed = version.findings.filter(outcome="failed").get()
    address = reverse("console:verdict", args=[failed.pk])
    assert as_(uma).post(address, {"answer": "right"}).status_code == 403
    assert as_(nobody).post(address, {"answer": "right"}).status_code == 403
    assert as_(mo).post(address, {"answer": "right"}).status_code == 422
    assert not Verdict.objects.exists()


# --- Keys -----------------------------------------------------------------------------------


def test_keys_are_shown_on_the_buttons_and_can_be_chosen(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    client = as_(mo)
    assert "<strong>Approve</strong> <kbd>a</kbd>" in _page(client, case)
    assert client.post(reverse("console:keys"), {"approve": "v"}).status_code == 302
    page = _page(client, case)
    assert "<strong>Approve</strong> <kbd>v</kbd>" in page
    assert "&quot;approve&quot;: &quot;v&quot;" in page
    client.post(reverse("console:keys"), {"usual": "yes"})
    assert "<strong>Approve</strong> <kbd>a</kbd>" in _page(client, case)


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"approve": "x"}, "would do two things"),
        ({"approve": "7"}, "no digit"),
        ({"approve": "ab"}, "one character"),
    ],
)
def test_a_key_that_cannot_be_is_refused_in_words(
    chosen: dict[str, str], says: str, as_: Browser, mo: Account
) -> None:
    answer = as_(mo).post(reverse("console:keys"), chosen | {"limit": "v"})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert says in page
    # What was typed, not what is stored.
    assert f'value="{chosen["approve"]}"' in page
    assert 'value="v"' in page


# --- The next case --------------------------------------------------------------------------


def test_the_next_case_is_drawn_without_being_taken(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case, following = factories.held(uma, title="One"), factories.held(uma, title="Two")
    case_claim(case=case, actor=mo)
    client = as_(mo)
    drawn = client.get(reverse("console:peek", args=[case.code]))
    assert drawn["X-Case"] == following.code
    assert "Submit and next" in drawn.content.decode()
    following.refresh_from_db()
    assert following.state == "queued"
    fetched = {"X-Fetched-Case": following.code, "X-Fetched-Stamp": drawn["X-Case-Stamp"]}
    answer = client.post(
        reverse("console:decide", args=[case.code]),
        {"action": "approve", "facts": "Fine.", "then": "next"},
        headers=fetched,
    )
    assert answer["X-Use-Fetched"] == reverse("console:case", args=[following.code])
    following.refresh_from_db()
    assert following.claimed_by == mo


def test_a_drawn_case_that_changed_or_was_taken_is_drawn_anew(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case, following = factories.held(uma, title="One"), factories.held(uma, title="Two")
    case_claim(case=case, actor=mo)
    client = as_(mo)
    drawn = client.get(reverse("console:peek", args=[case.code]))
    case_claim(case=following, actor=ada)
    third = factories.held(uma, title="Three")
    fetched = {"X-Fetched-Case": following.code, "X-Fetched-Stamp": drawn["X-Case-Stamp"]}
    answer = client.post(
        reverse("console:decide", args=[case.code]),
        {"action": "approve", "facts": "Fine.", "then": "next"},
        headers=fetched,
    )
    # Not by a redirect, which a fetch would follow and whose messages it would use up.
    assert answer.status_code == 204
    assert answer["X-Go"] == reverse("console:case", args=[third.code])


def test_a_case_decided_while_the_page_was_open_says_by_whom_and_keeps_the_text(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    Case.objects.filter(pk=case.pk).update(claimed_by=ada)
    assert _decide(as_(ada), case).status_code == 302
    late = _decide(as_(mo), case, facts="What I had typed.", private_note="And noted.")
    page = late.content.decode()
    assert late.status_code == 409
    assert "ada has decided this case already: Remove" in page
    assert "What I had typed." in page
    assert "And noted." in page
    assert Decision.objects.count() == 1


def test_a_decision_that_is_pressed_twice_is_made_once_and_leads_on_both_times(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    browser = as_(mo)
    first, second = _decide(browser, case), _decide(browser, case)
    assert (first.status_code, second.status_code) == (302, 302)
    assert first["Location"] == second["Location"]
    assert Decision.objects.count() == 1
    # Other words are another decision, and that comes too late.
    assert _decide(browser, case, facts="Something else.").status_code == 409


@pytest.mark.parametrize("action", ["strike", "law"])
def test_a_step_beside_the_case_that_is_pressed_twice_is_taken_once(
    action: str, as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = factories.held(uma, rule="red-star")
    browser = as_(mo)
    step = {"action": action, "facts": "The third one this week."}
    first, second = _decide(browser, case, **step), _decide(browser, case, **step)
    assert (first.status_code, second.status_code) == (302, 302)
    assert Decision.objects.count() == 1
    # What is said in other words is another one, and so is what comes later.
    assert _decide(browser, case, action=action, facts="And the fourth.").status_code == 302
    monkeypatch.setattr(decisions, "ONE_PRESS", timedelta())
    assert _decide(browser, case, **step).status_code == 302
    assert Decision.objects.count() == 3


def test_a_form_that_is_filled_in_wrongly_after_the_same_step_is_shown_again(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    browser = as_(mo)
    step = {"action": "mute", "facts": "The third one this week."}
    assert _decide(browser, case, days="3", **step).status_code == 302
    refused = _decide(browser, case, days="", **step)
    assert refused.status_code == 422
    assert "The third one this week." in refused.content.decode()


def test_a_claim_lost_over_lunch_loses_no_text(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    Case.objects.filter(pk=case.pk).update(claimed_by=ada)
    late = _decide(as_(mo), case, facts="What I had typed.")
    assert late.status_code == 409
    assert "ada has this case" in late.content.decode()
    assert "What I had typed." in late.content.decode()


def test_a_claim_lost_over_lunch_loses_nothing_that_was_typed(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    Case.objects.filter(pk=case.pk).update(claimed_by=ada)
    typed = {
        "facts": "What I had typed.",
        "message": "Another way.",
        "label": "Shows stars",
        "legal_ground": "Order 7 of a court",
        "days": "90",
    }
    page = _decide(as_(mo), case, **typed).content.decode()
    for words in typed.values():
        assert words in page


def test_a_decision_on_a_case_that_was_set_apart_meanwhile_loses_nothing_that_was_typed(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    ModelVersion.objects.filter(pk=case.version_id).update(isolated_at=timezone.now())
    typed = {"facts": "What I had typed.", "private_note": "And <noted>."}
    refused = _decide(as_(mo), case, **typed)
    page = refused.content.decode()
    assert refused.status_code == 403
    assert "This case is held apart for child safety." in page
    assert "What I had typed." in page
    assert "And &lt;noted&gt;." in page
    assert "What you wrote" not in as_(mo).get("/no-such-page/").content.decode()


@pytest.mark.parametrize(
    ("field", "longest"), [("facts", 5000), ("message", 5000), ("private_note", 5000)]
)
def test_a_text_that_is_too_long_is_refused_and_kept(
    field: str, longest: int, as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case_claim(case=case, actor=mo)
    refused = _decide(as_(mo), case, **{field: "n" * (longest + 1)})
    assert refused.status_code == 422
    assert f"{longest:,} are the most" in refused.content.decode()
    assert "n" * (longest + 1) in refused.content.decode()
    assert _decide(as_(mo), case, **{field: "n" * longest}).status_code == 302


def test_a_refused_form_beside_a_decision_keeps_what_was_typed_into_it(
    as_: Browser, uma: Account, mo: Account
) -> None:
    decision = factories.decided(uma, mo)
    lead = as_(factories.account("lena", role=Role.POLICY_LEAD))
    known = reverse("console:known-answer", args=[decision.code])
    assert lead.post(known, {"reason": "It is plain."}).status_code == 302
    again = lead.post(known, {"reason": "I had not seen the other one."})
    assert again.status_code == 409
    assert "a known answer already" in again.content.decode()
    assert "I had not seen the other one." in again.content.decode()
    bank = reverse("console:bank", args=[decision.code])
    refused = as_(mo).post(bank, {"name": "Not A Name"})
    assert refused.status_code == 422
    assert 'value="Not A Name"' in refused.content.decode()


def test_a_name_that_nobody_has_stays_in_the_field_it_was_typed_into(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    answer = as_(mo).post(reverse("console:assign", args=[case.code]), {"to": "adda"})
    assert answer.status_code == 422
    assert "No moderator is called “adda”." in answer.content.decode()
    assert 'value="adda"' in answer.content.decode()


@pytest.mark.parametrize("what", ["decide", "claim", "answer", "ask", "escalate", "release"])
def test_who_opens_what_only_takes_a_form_is_led_to_the_case(
    as_: Browser, uma: Account, mo: Account, what: str
) -> None:
    case = factories.held(uma)
    appeal = ["AAAAAAAAAA"] if what == "answer" else []
    address = reverse(f"console:{what}", args=[case.code, *appeal])
    opened = as_(mo).get(address, headers={"Accept": "text/html,*/*;q=0.8"})
    assert opened.status_code == 302
    assert opened["Location"] == reverse("console:case", args=[case.code])
    # A program is told what it did wrong.
    assert as_(mo).get(address).status_code == 405


@pytest.mark.parametrize(("header", "offered"), [("", 0), ("CF-IPCountry", 1)])
def test_restricting_by_country_is_offered_where_countries_can_be_told(
    as_: Browser, uma: Account, mo: Account, settings: Any, header: str, offered: int
) -> None:
    settings.COUNTRY_HEADER = header
    case = factories.held(uma)
    case_claim(case=case, actor=mo)
    page = _page(as_(mo), case)
    assert page.count('value="geo_restrict"') == offered
    assert page.count('name="countries"') == offered


# --- Together -------------------------------------------------------------------------------


def _together(client: Client, case: Case) -> tuple[str, str]:
    page = client.get(reverse("console:group", args=[case.code])).content.decode()
    shown = re.search(r'name="shown" value="([^"]+)"', page)
    assert shown
    return page, shown[1]


def test_cases_with_the_same_bytes_are_decided_together_each_on_its_own(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    cases = [factories.held(who, rule="red-star", title=f"{who} copy") for who in (uma, rui)]
    third = factories.held(uma, rule="red-star", title="Taken out")
    case_claim(case=cases[0], actor=mo)
    client = as_(mo)
    page, shown = _together(client, cases[0])
    assert "the same file" in page.lower()
    answer = client.post(
        reverse("console:group", args=[cases[0].code]),
        {
            "shown": shown,
            "members": [case.code for case in cases],
            "action": "remove",
            "rules": ["red-star"],
            "facts": "The same red star.",
        },
    )
    assert "2 decided" in answer.content.decode()
    assert sorted(Decision.objects.values_list("creator__username", flat=True)) == ["rui", "uma"]
    third.refresh_from_db()
    assert third.state == "queued"


def _unlike_any_other(case: Case, *, look: str) -> str:
    """Give a case bytes of its own, and a preview with this PDQ hash; return its preview's hash."""
    case.version.files.update(sha256=hashlib.sha256(case.code.encode()).hexdigest())
    preview = case.version.previews.get()
    preview.sha256 = hashlib.sha256(preview.code.encode()).hexdigest()
    preview.save()
    finding = case.version.findings.filter(concern="hold").get()
    finding.pk, finding.key, finding.concern = None, "banks:::", "none"
    finding.probe, finding.preview = "banks", preview
    finding.evidence = {"pdq": look, "pdq_matched": True}
    finding.save()
    return preview.sha256


def _embed(sha256: str, vector: list[float]) -> None:
    row = np.array(vector, "<f2")
    Embedding.objects.create(
        kind="picture", sha256=sha256, encoder="demo", revision="1", dim=len(row),
        vector=row.tobytes(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("look", "A preview that looks the same"),
        ("lineage", "Weights derived, cosine 0.930"),
        ("neighbourhood", "A preview that is much alike"),
    ],
)
def test_what_looks_alike_or_is_related_is_decided_together_and_any_member_taken_out(
    how: str, says: str, as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    mine, near, out, far = (
        factories.held(who, rule="red-star", title=title)
        for who, title in ((uma, "Mine"), (rui, "Near"), (uma, "Taken out"), (rui, "Far"))
    )
    # PDQ calls two pictures the same up to 31 of 256 bits.
    looks = ["00" * 32, "f0" * 7 + "00" * 25, "0f" * 7 + "00" * 25, "ff" * 4 + "00" * 28]
    if how != "look":
        looks = ["00" * 32, "ff" * 32, "f0" * 32, "0f" * 32]
    hashes = [
        _unlike_any_other(case, look=look)
        for case, look in zip((mine, near, out, far), looks, strict=True)
    ]
    if how == "lineage":
        for relative in (near, out):
            finding = relative.version.findings.filter(concern="hold").get()
            LineageEdge.objects.create(
                child=relative.version, parent=mine.version, finding=finding,
                relation="derived", cosine=0.93,
            )  # fmt: skip
    if how == "neighbourhood":
        for sha256, vector in zip(hashes, [[1, 0], [0.98, 0.2], [1, 0], [0.9, 0.43]], strict=True):
            _embed(sha256, vector)
    case_claim(case=mine, actor=mo)
    client = as_(mo)
    address = reverse("console:group", args=[mine.code])
    assert f'href="{address}"' in _page(client, mine)
    page, shown = _together(client, mine)
    assert "Decide 3 cases together" in page
    assert page.count(says) == 2
    assert far.code not in page
    for case in (mine, near, out):
        assert f'value="{case.code}" checked' in page
        assert case.version.previews.get().code in page
    given = {"shown": shown, "action": "remove", "rules": ["red-star"]}
    chosen = {"members": [mine.code, near.code]}
    unsaid = client.post(address, given | chosen).content.decode()
    # What was taken out stays out while one is told what is missing.
    assert f'value="{near.code}" checked' in unsaid
    assert f'value="{out.code}" checked' not in unsaid
    answer = client.post(address, given | chosen | {"facts": "The same red star."})
    assert "2 decided" in answer.content.decode()
    decided = Decision.objects.order_by("case__pk")
    assert [decision.case for decision in decided] == [mine, near]
    assert len({decision.bulk for decision in decided}) == 1
    out.refresh_from_db()
    assert out.state == "queued"


def test_a_group_longer_than_a_page_says_so_and_keeps_the_case_it_began_with(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MEMBERS", 2)
    first, second, mine = (factories.held(uma, title=title) for title in ("One", "Two", "Mine"))
    page, _ = _together(as_(mo), mine)
    assert f'value="{mine.code}"' in page
    assert f'value="{first.code}"' in page
    assert f'value="{second.code}"' not in page
    assert "There are more than 2" in page


def test_a_group_says_where_it_was_not_compared_by_look_with_every_open_case(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, _, mine = (factories.held(uma, title=title) for title in ("Older", "Newer", "Mine"))
    for case, look in ((older, "00" * 32), (mine, "00" * 32)):
        _unlike_any_other(case, look=look)
    page, _ = _together(as_(mo), mine)
    assert f'value="{older.code}"' in page
    assert "may be missing" not in page
    monkeypatch.setattr(groups, "COMPARED", 1)
    page, _ = _together(as_(mo), mine)
    assert f'value="{older.code}"' not in page
    assert "compared with the 1 newest open cases only" in page


def test_what_is_decided_together_is_shown_with_all_its_previews_findings_and_reports(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="The second one shows it.", rule="red-star", actor=rui)
    first = version.previews.get()
    second = version.previews.create(
        name="b.png", original=first.original, shown=first.shown, sha256="b" * 64, position=1,
        width=64, height=64,
    )  # fmt: skip
    found = factories.held(rui, rule="red-star", title="Found")
    client, case = as_(mo), version.cases.get()
    page, shown = _together(client, case)
    for part in (first.code, second.code, "The second one shows it.", "scored 0.95"):
        assert part in page
    report_file(version=version, text="And the third.", actor=None)
    given = {"shown": shown, "action": "remove", "rules": ["red-star"], "facts": "Red."}
    address = reverse("console:group", args=[case.code])
    answer = client.post(address, given | {"members": [case.code, found.code]}).content.decode()
    assert "1 decided, 1 not" in answer
    assert "And the third." in _together(client, case)[0]


def test_what_was_only_reported_under_a_rule_shows_no_picture_to_who_opted_out_of_it(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="A red star.", rule="red-star", actor=rui)
    preference_choose(account=mo, shows_sharp=False, shows_colour=False, opted_out=["red-star"])
    page, _ = _together(as_(mo), version.cases.get())
    assert "you opted out of what it is about" in page
    assert version.previews.get().code not in page


def test_only_what_was_shown_can_be_decided_together(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    client = as_(mo)
    _, shown = _together(client, case)
    unseen = factories.held(rui, rule="red-star", title="Came later")
    given = {"action": "remove", "rules": ["red-star"], "facts": "Red."}
    address = reverse("console:group", args=[case.code])
    for forged in (
        {"shown": shown, "members": [unseen.code]},
        {"shown": "x", "members": [case.code]},
    ):
        assert client.post(address, given | forged).status_code in {409, 422}
    other = as_(ada).post(address, given | {"shown": shown, "members": [case.code]})
    assert other.status_code == 422
    assert not Decision.objects.exists()


def test_what_somebody_else_holds_cannot_be_ticked_and_what_one_opted_out_of_is_not_ticked_yet(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma, rule="red-star", title="Mine")
    taken = factories.held(rui, rule="red-star", title="Theirs")
    case_claim(case=taken, actor=ada)
    preference, _ = ConsolePreference.objects.get_or_create(account=mo)
    ConsolePreference.objects.filter(pk=preference.pk).update(opted_out=["red-star"])
    page, _ = _together(as_(Account.objects.get(pk=mo.pk)), case)
    for code, state in ((case.code, []), (taken.code, ["disabled"])):
        box = re.search(rf'<input type="checkbox" name="members" value="{code}"([^>]*)>', page)
        assert box and box[1].split() == state
    assert "you opted out of what it is about" in page


def test_a_member_that_fails_is_named_and_undoes_no_other(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    case, taken = (
        factories.held(uma, rule="red-star", title="Mine"),
        factories.held(rui, rule="red-star", title="Somebody was faster"),
    )
    client = as_(mo)
    _, shown = _together(client, case)
    case_claim(case=taken, actor=ada)
    answer = client.post(
        reverse("console:group", args=[case.code]),
        {
            "shown": shown,
            "members": [case.code, taken.code],
            "action": "remove",
            "rules": ["red-star"],
            "facts": "Red.",
        },
    )
    page = answer.content.decode()
    assert "1 decided, 1 not" in page
    assert "ada has this case" in page
    assert Decision.objects.get().version == case.version


def test_what_is_wrong_for_all_is_said_once_and_nothing_is_decided_or_held(
    as_: Browser, uma: Account, mo: Account, policy: Policy
) -> None:
    case = factories.held(uma, rule="red-star")
    client = as_(mo)
    _, shown = _together(client, case)
    answer = client.post(
        reverse("console:group", args=[case.code]),
        {"shown": shown, "members": [case.code], "action": "remove", "rules": [], "facts": "Red."},
    )
    assert answer.status_code == 422
    case.refresh_from_db()
    assert (case.state, case.claimed_by) == ("queued", None)
