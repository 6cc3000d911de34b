"""Limits of people: warnings, categories one is spared, breaks, and deciding without looking."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.models import (
    Account,
    Case,
    CaseFacet,
    Exposure,
    HeatMap,
    ModelVersion,
    Policy,
    Rule,
)
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import Visibility
from tests import factories

Browser = Callable[[Account | None], Client]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("policy")]


@pytest.fixture
def severe(policy: Policy, uma: Account) -> Case:
    """Return a case under a rule that is severe."""
    Rule.objects.filter(slug="red-star").update(is_severe=True)
    return factories.held(uma, rule="red-star")


@pytest.fixture
def pictures(severe: Case, rui: Account) -> list[str]:
    """Give the severe case a drawn heat-map and a reporter's picture; return their addresses."""
    finding = severe.version.findings.get(concern="hold")
    finding.preview = severe.version.previews.get()
    finding.save()
    HeatMap.objects.create(
        finding=finding,
        png=factories.picture_bytes(),
        woken_at=timezone.now(),
        ended_at=timezone.now(),
    )
    ModelVersion.objects.filter(pk=severe.version_id).update(visibility=Visibility.PUBLISHED)
    severe.version.refresh_from_db()
    report = report_file(
        version=severe.version,
        text="A red star.",
        rule="red-star",
        pictures=[factories.preview_upload()],
        actor=rui,
    )
    sent = report.evidence.get()
    return [
        reverse("console:heatmap-png", args=[severe.code, finding.pk]),
        reverse("console:evidence", args=[sent.code]),
    ]


def _open(client: Client, case: Case, query: str = "") -> str:
    address = reverse("console:case", args=[case.code])
    return client.get(f"{address}{query}", follow=True).content.decode()


def test_a_severe_case_opens_only_after_a_warning(as_: Browser, severe: Case, mo: Account) -> None:
    client = as_(mo)
    page = _open(client, severe)
    assert "Before you open it" in page
    assert "<img" not in page
    assert not Exposure.objects.exists()
    assert "What was found" in _open(client, severe, "?open")
    assert "What was found" in _open(client, severe)
    assert Exposure.objects.get().rule == "red-star"


def test_a_case_can_be_decided_without_looking(
    as_: Browser, severe: Case, pictures: list[str], mo: Account
) -> None:
    case_claim(case=severe, actor=mo)
    page = _open(as_(mo), severe, "?without-pictures")
    assert "You are deciding without looking" in page
    assert "<img" not in page
    assert "Submit and next" in page
    assert not Exposure.objects.exists()


def test_heat_maps_and_pictures_of_reporters_are_shown_once_the_case_was_opened_and_count(
    as_: Browser, severe: Case, pictures: list[str], mo: Account, settings: Any
) -> None:
    client = as_(mo)
    heat_map = reverse(
        "console:heatmap", args=[severe.code, severe.version.findings.get(concern="hold").pk]
    )
    for address in (*pictures, heat_map):
        refused = client.get(address)
        assert refused.status_code == 403
        assert "You have not opened the pictures of this case." in refused.content.decode()
    assert not Exposure.objects.exists()
    client.get(reverse("console:case", args=[severe.code]), {"open": ""})
    for address in pictures:
        assert client.get(address).status_code == 200
        assert Exposure.objects.get().case == severe, "whichever way somebody comes to it"
        Exposure.objects.all().delete()
    page = _open(client, severe)
    assert page.count("<img") == 3
    assert all(address in page for address in pictures)
    settings.SEVERE_AN_HOUR = 1
    for address in (*pictures, heat_map):
        assert client.get(address).status_code == 403, "reading along, after too much of it"
    settings.SEVERE_AN_HOUR = 0
    case_claim(case=severe, actor=mo)
    settings.SEVERE_AN_HOUR = 1
    for address in (*pictures, heat_map):
        assert client.get(address).status_code == 200, "what is held can be finished"


@pytest.mark.parametrize(("code", "shown"), [("banks.sha256", 0), ("banks.pdq", 1)])
def test_what_is_known_byte_for_byte_shows_no_picture_before_it_is_asked_for(
    code: str, shown: int, as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    case.version.findings.filter(concern="hold").update(probe="banks", code=code)
    case_claim(case=case, actor=mo)
    client = as_(mo)
    page = _open(client, case)
    assert page.count("<img") == Exposure.objects.count() == shown
    assert ("matches banked material exactly" in page) is not bool(shown)
    assert "Submit and next" in page
    assert _open(client, case, "?open").count("<img") == 1
    assert Exposure.objects.count() == 1


def test_a_severe_case_is_not_drawn_ahead(
    as_: Browser, severe: Case, uma: Account, mo: Account
) -> None:
    other = factories.held(uma, title="Harmless")
    case_claim(case=other, actor=mo)
    Case.objects.filter(pk=severe.pk).update(turn_at=timezone.now() - timedelta(days=9))
    peeked = as_(mo).get(reverse("console:peek", args=[other.code]))
    assert peeked.status_code == 204


def test_a_category_that_somebody_opted_out_of_is_not_given_to_them(
    as_: Browser, severe: Case, mo: Account, ada: Account
) -> None:
    client = as_(mo)
    client.post(reverse("console:me"), {"out": ["red-star", "no-such-rule"]})
    assert client.post(reverse("console:next")).url == reverse("console:queue")
    assert as_(ada).post(reverse("console:next")).url == reverse("console:case", args=[severe.code])
    mine, theirs = (
        as_(account).get(reverse("console:me")).content.decode() for account in (mo, ada)
    )
    assert 'value="red-star" checked' in mine
    assert "checked" not in theirs


def test_a_case_that_nobody_has_weighed_yet_is_kept_from_whoever_opted_out_by_its_findings(
    as_: Browser, severe: Case, mo: Account
) -> None:
    # As one that was opened for an appeal just now.
    CaseFacet.objects.filter(case=severe).delete()
    client = as_(mo)
    client.post(reverse("console:me"), {"out": ["red-star"]})
    assert client.post(reverse("console:next")).url == reverse("console:queue")


def test_what_people_alone_said_is_of_a_category_is_not_given_to_whoever_opted_out_of_it(
    as_: Browser, uma: Account, mo: Account, rui: Account, ada: Account
) -> None:
    version = factories.published(uma)
    report = report_file(version=version, text="A red star.", rule="red-star", actor=rui)
    client = as_(mo)
    client.post(reverse("console:me"), {"out": ["red-star"]})
    assert client.post(reverse("console:next")).url == reverse("console:queue")
    mine = reverse("console:case", args=[report.case.code])
    assert as_(ada).post(reverse("console:next")).url == mine


def test_what_somebody_opted_out_of_is_assigned_to_them_by_nobody_else(
    as_: Browser, severe: Case, uma: Account, mo: Account, ada: Account
) -> None:
    other = factories.held(uma, rule="yellow-ring", title="Another")
    senior, moderator = as_(ada), as_(mo)
    for case in (severe, other):
        address = reverse("console:assign", args=[case.code])
        assert senior.post(address, {"to": "mo"}).status_code == 302
    page = moderator.post(reverse("console:me"), {"out": ["red-star"]}, follow=True)
    assert "1 that had been assigned to you went back to the queue" in page.content.decode()
    assert list(Case.objects.filter(assigned_to=mo)) == [other]
    assign = reverse("console:assign", args=[severe.code])
    refused = senior.post(assign, {"to": "mo"})
    assert refused.status_code == 403
    page = refused.content.decode()
    # Nobody is told why.
    assert "mo cannot be given this case. Choose somebody else." in page
    assert "opted" not in page
    assert Case.objects.get(pk=severe.pk).assigned_to is None
    # They themselves may still take it on.
    assert moderator.post(assign, {"to": "mo"}).status_code == 302
    assert Case.objects.get(pk=severe.pk).assigned_to == mo


def test_how_pictures_are_shown_is_remembered(as_: Browser, uma: Account, mo: Account) -> None:
    case = factories.held(uma)
    client = as_(mo)
    assert 'class="sharp" checked' not in _open(client, case)
    client.post(reverse("console:me"), {"sharp": "on"})
    page = _open(client, case)
    assert 'class="sharp" checked' in page
    assert 'class="colour" checked' not in page
    # So are those of single questions.
    case.version.findings.filter(concern="hold").update(
        rule=Rule.objects.get(slug="red-star", policy__is_active=True),
        preview=case.version.previews.get(),
        evidence={"deciding": {"concept": "red-star"}},
        score=0.6,
    )
    questions = client.get(reverse("console:questions", args=["red-star", "red-star"]))
    assert "<img" in questions.content.decode()
    assert 'class="sharp" checked' in questions.content.decode()
    assert 'class="colour" checked' not in questions.content.decode()


def test_after_too_much_of_the_worst_a_break_is_asked_for_and_what_is_held_can_be_finished(
    as_: Browser, severe: Case, uma: Account, mo: Account, ada: Account, settings: Any
) -> None:
    settings.SEVERE_AN_HOUR = 1
    client = as_(mo)
    client.post(reverse("console:next"))
    _open(client, severe, "?open")
    another = factories.held(uma, title="Another")
    theirs = factories.held(uma, title="Theirs")
    case_claim(case=theirs, actor=ada)
    for refused in (
        client.post(reverse("console:claim", args=[another.code])),
        client.post(reverse("console:take-over", args=[theirs.code]), {"holder": "ada"}),
    ):
        assert refused.status_code == 403
        assert "Take a break from the worst" in refused.content.decode()
    given = {"action": "remove", "rules": ["red-star"], "facts": "A red star."}
    decided = client.post(reverse("console:decide", args=[severe.code]), given)
    assert decided.status_code == 302
    long_ago = timezone.now() - timedelta(hours=2)
    Exposure.objects.update(seen_at=long_ago, looked_until=long_ago)
    assert client.post(reverse("console:claim", args=[another.code])).status_code == 302


def test_a_severe_case_that_was_first_opened_yesterday_counts_again_today(
    as_: Browser, severe: Case, uma: Account, mo: Account, settings: Any
) -> None:
    settings.SEVERE_A_DAY = 1
    client = as_(mo)
    client.post(reverse("console:next"))
    _open(client, severe, "?open")
    yesterday = timezone.now() - timedelta(hours=25)
    Exposure.objects.update(seen_at=yesterday, looked_until=yesterday)
    another = factories.held(uma, title="Another")
    claim = reverse("console:claim", args=[another.code])
    # Not before it is looked at again.
    assert client.post(claim).status_code == 302
    client.post(reverse("console:release", args=[another.code]))
    _open(client, severe)
    assert "enough of the worst for a day" in client.post(claim).content.decode()
    # Looked at on two days, it is one case.
    title = Rule.objects.get(slug="red-star", policy__is_active=True).title
    mine = client.get(reverse("console:me")).content.decode()
    assert f'{title} <span class="soft">severe</span></th><td>1</td><td>1</td>' in mine


def test_of_a_severe_case_that_has_been_open_for_long_the_last_hour_counts(
    as_: Browser, severe: Case, uma: Account, mo: Account, settings: Any
) -> None:
    settings.SEVERE_MINUTES_AN_HOUR, settings.SEVERE_MINUTES_A_DAY = 60, 0
    client = as_(mo)
    client.post(reverse("console:next"))
    _open(client, severe, "?open")
    claim = reverse("console:claim", args=[factories.held(uma, title="Another").code])
    now = timezone.now()
    Exposure.objects.update(
        seen_at=now - timedelta(minutes=61),
        looked_for=timedelta(minutes=61),
        looked_until=now - timedelta(seconds=1),
    )
    assert client.post(claim).status_code == 302
    client.post(claim.replace("claim", "release"))
    settings.SEVERE_MINUTES_AN_HOUR = 59
    assert client.post(reverse("console:renew", args=[severe.code])).status_code == 200
    assert "looked at severe cases for 60 minutes" in client.post(claim).content.decode()


def test_after_too_much_of_the_worst_no_other_severe_case_shows_its_pictures_to_who_reads_along(
    as_: Browser, severe: Case, uma: Account, mo: Account, settings: Any
) -> None:
    settings.SEVERE_AN_HOUR = 1
    client = as_(mo)
    client.post(reverse("console:next"))
    assert "<img" in _open(client, severe, "?open")
    another = factories.held(uma, rule="red-star", title="Another")
    page = _open(client, another, "?open")
    assert "<img" not in page
    assert "Take a break from the worst" in page
    # What one holds can be finished, and seen.
    assert "<img" in _open(client, severe)
    assert Exposure.objects.get().case == severe


def test_what_was_seen_is_counted_once_and_shown_to_the_person_alone(
    as_: Browser, uma: Account, mo: Account, ada: Account, nobody: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    client = as_(mo)
    _open(client, case)
    _open(client, case)
    assert Exposure.objects.count() == 1
    title = Rule.objects.get(slug="red-star", policy__is_active=True).title
    mine = client.get(reverse("console:me")).content.decode()
    assert f'<th scope="row">{title}</th><td>1</td><td>1</td>' in mine
    theirs = as_(ada).get(reverse("console:me")).content.decode()
    assert '<th scope="row">' not in theirs
    assert as_(nobody).get(reverse("console:me")).status_code == 403


def test_a_case_that_was_drawn_ahead_counts_once_it_is_shown(
    as_: Browser, uma: Account, mo: Account
) -> None:
    first, second = factories.held(uma), factories.held(uma, rule="red-star", title="Second")
    case_claim(case=first, actor=mo)
    client = as_(mo)
    drawn = client.get(reverse("console:peek", args=[first.code]))
    assert not Exposure.objects.exists()
    answer = client.post(
        reverse("console:decide", args=[first.code]),
        {"action": "approve", "facts": "Fine.", "then": "next"},
        headers={"X-Fetched-Case": drawn["X-Case"], "X-Fetched-Stamp": drawn["X-Case-Stamp"]},
    )
    assert answer["X-Use-Fetched"] == reverse("console:case", args=[second.code])
    seen = Exposure.objects.get()
    assert (seen.account, seen.case, seen.rule) == (mo, second, "red-star")


def test_pictures_served_to_moderators_are_not_kept_by_the_browser(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    preview = case.version.previews.get()
    answer = as_(mo).get(reverse("preview", args=[preview.code]))
    assert answer["Cache-Control"] == "no-store"


def test_a_refused_decision_opens_nothing(as_: Browser, severe: Case, mo: Account) -> None:
    case_claim(case=severe, actor=mo)
    given = {"action": "remove", "rules": ["red-star"], "facts": ""}
    refused = as_(mo).post(reverse("console:decide", args=[severe.code]), given)
    assert refused.status_code == 422
    assert "<img" not in refused.content.decode()
    assert not Exposure.objects.exists()


@pytest.mark.parametrize("table", ["exposure", "consolepreference"])
def test_what_somebody_was_shown_or_opted_out_of_is_not_in_the_admin(
    table: str, as_: Browser, ada: Account
) -> None:
    Account.objects.filter(pk=ada.pk).update(is_staff=True, is_superuser=True)
    assert as_(ada).get(f"/admin/moderation/{table}/").status_code == 404
    assert as_(ada).get("/admin/moderation/verdict/").status_code == 200


def test_minutes_with_severe_pictures_open_count_and_end_in_a_break(
    as_: Browser, severe: Case, uma: Account, mo: Account, settings: Any
) -> None:
    settings.SEVERE_MINUTES_AN_HOUR = 2
    client = as_(mo)
    client.post(reverse("console:next"))
    _open(client, severe, "?open")
    renew = reverse("console:renew", args=[severe.code])
    another = factories.held(uma, title="Another")
    for minute in range(2):
        # A minute later the page says that it is still open.
        ago = timezone.now() - timedelta(seconds=60)
        Exposure.objects.update(looked_until=ago)
        assert client.post(renew).status_code == 200
        spent = client.get(reverse("console:me")).content.decode()
        assert f"today it was {minute + 1} min" in spent
    client.post(reverse("console:release", args=[severe.code]))
    refused = client.post(reverse("console:claim", args=[another.code]))
    assert refused.status_code == 403
    assert "you have looked at severe cases for 2 minutes" in refused.content.decode()
    # A page that was closed for half an hour does not count as half an hour.
    ago = timezone.now() - timedelta(minutes=30)
    Exposure.objects.update(looked_for=timedelta(), looked_until=ago)
    client.post(renew)
    assert Exposure.objects.get().looked_for == timedelta(seconds=90)
    assert client.post(reverse("console:claim", args=[another.code])).status_code == 302
    client.post(reverse("console:release", args=[another.code]))
    # Nor as anything over night, when nobody knows whether it shows pictures any more.
    Exposure.objects.update(looked_until=timezone.now() - timedelta(hours=14))
    client.post(renew)
    assert Exposure.objects.get().looked_for == timedelta(seconds=90)


def test_together_a_severe_member_shows_its_picture_once_its_own_case_was_opened(
    as_: Browser, severe: Case, rui: Account, mo: Account
) -> None:
    other = factories.held(rui, rule="red-star", title="The same elsewhere")
    client = as_(mo)
    together = reverse("console:group", args=[severe.code])
    page = client.get(together).content.decode()
    assert "Decide 2 cases together" in page
    assert "<img" not in page
    assert page.count("you have not opened it") == 2
    # Nothing that one has not seen is decided without a thought.
    assert f'value="{other.code}" checked' not in page
    assert not Exposure.objects.exists()
    _open(client, other, "?open")
    page = client.get(together).content.decode()
    assert reverse("preview", args=[other.version.previews.get().code]) in page
    assert page.count("<img") == 1
    assert f'value="{other.code}" checked' in page
    assert f'value="{severe.code}" checked' not in page
    assert Exposure.objects.get().case == other


def test_what_is_shown_together_is_counted_once_for_each_member(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    cases = [factories.held(who, rule="red-star", title=f"{who} copy") for who in (uma, rui)]
    client = as_(mo)
    for _ in range(2):
        page = client.get(reverse("console:group", args=[cases[0].code])).content.decode()
        assert page.count("<img") == 2
    _open(client, cases[1])
    seen = Exposure.objects.order_by("case").values_list("case", "rule", "account")
    assert list(seen) == [(case.pk, "red-star", mo.pk) for case in cases]
