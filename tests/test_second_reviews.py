"""Second reviews: blind answers to decided cases, known answers, and what they say together."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.models import (
    Account,
    ConsolePreference,
    Decision,
    Event,
    Exposure,
    Report,
    ReviewItem,
    Rule,
    SecondReview,
)
from moderation.states import Action, Role
from tests import factories

Browser = Callable[[Account | None], Client]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("policy")]


@pytest.fixture(autouse=True)
def _all_are_drawn(settings: Any) -> None:
    settings.SECOND_REVIEW_SHARE = 1.0


@pytest.fixture
def lead(db: None) -> Account:
    """Return Pol, who leads policy."""
    return factories.account("pol", role=Role.POLICY_LEAD)


def _answer(client: Client, item: ReviewItem, answer: str, *rules: str, note: str = "") -> Any:
    address = reverse("console:second-review", args=[item.code])
    return client.post(address, {"answer": answer, "rules": rules, "note": note})


def _next(client: Client) -> str:
    return client.get(reverse("console:second-reviews"), follow=True).content.decode()


def test_another_person_answers_without_seeing_the_first_answer(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo, title="Ink wash")
    page = _next(as_(ada))
    assert "Second review: Ink wash" in page
    for told in ("seen before", decision.facts, "mo</", "Removed", "Decisions so far"):
        assert told not in page
    item = ReviewItem.objects.get()
    response = _answer(as_(ada), item, "remove", "red-star", note="Plainly so.")
    assert response["Location"] == reverse("console:second-reviews")
    review = SecondReview.objects.get()
    assert (review.reviewer, review.agrees, review.rules) == (ada, True, ["red-star"])
    assert Decision.objects.count() == 1
    assert "None waits for you" in _next(as_(ada))


def test_whoever_decided_made_or_reported_it_is_not_asked(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo)
    reporter = factories.account("rae", role=Role.MODERATOR)
    Report.objects.create(
        case=decision.case, version=decision.version, reporter=reporter, text="It is a copy."
    )
    uma.role = Role.MODERATOR
    uma.save()
    item = ReviewItem.objects.get()
    for person in (mo, reporter, uma):
        assert "None waits for you" in _next(as_(person))
        assert _answer(as_(person), item, "allow").status_code == 404
    assert not SecondReview.objects.exists()


def test_whoever_confirmed_it_is_not_asked_either(
    as_: Browser, uma: Account, mo: Account, ada: Account, settings: Any
) -> None:
    settings.SECOND_PERSON_FOR = ["limit"]
    decision = factories.decided(uma, mo, action=Action.LIMIT)
    as_(ada).post(reverse("console:confirm", args=[decision.code]))
    item = ReviewItem.objects.get()
    assert "None waits for you" in _next(as_(ada))
    assert _answer(as_(ada), item, "allow").status_code == 404
    with pytest.raises(IntegrityError, match="confirmed"), transaction.atomic():
        SecondReview.objects.create(
            item=item, kind="drawn", decided_by=mo, reviewer=ada, answer="allow", agrees=False,
            given_at=timezone.now(),
        )  # fmt: skip
    other = factories.account("eve", role=Role.MODERATOR)
    assert _answer(as_(other), item, "allow").status_code == 302


def test_nothing_says_who_answered(as_: Browser, uma: Account, mo: Account, ada: Account) -> None:
    decision = factories.decided(uma, mo)
    _answer(as_(ada), ReviewItem.objects.get(), "allow")
    history = reverse("console:history", args=[decision.case.code])
    assert "ada" not in as_(mo).get(history).content.decode().partition("<main")[2]
    assert Event.objects.get(action="review.answered").actor is None
    Account.objects.filter(pk=mo.pk).update(is_staff=True, is_superuser=True)
    assert as_(mo).get("/admin/moderation/secondreview/").status_code == 404
    assert as_(mo).get("/admin/moderation/reviewitem/").status_code == 200


def test_the_database_refuses_a_second_review_by_who_decided_and_any_change_of_one(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    factories.decided(uma, mo)
    item = ReviewItem.objects.get()
    own: dict[str, Any] = {
        "item": item, "kind": "drawn", "decided_by": mo, "answer": "allow", "agrees": True,
        "given_at": timezone.now(),
    }  # fmt: skip
    with pytest.raises(IntegrityError), transaction.atomic():
        SecondReview.objects.create(reviewer=mo, **own)
    _answer(as_(ada), item, "allow")
    with pytest.raises(DatabaseError), transaction.atomic():
        SecondReview.objects.update(agrees=True)


def test_the_second_of_two_who_answer_at_once_is_told_so_and_counts_once(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    factories.decided(uma, mo)
    other = factories.account("eve", role=Role.MODERATOR)
    item = ReviewItem.objects.get()
    _answer(as_(ada), item, "allow")
    client = as_(other)
    response = _answer(client, item, "remove", "red-star")
    assert response.status_code == 302
    assert "answered in the meantime" in client.get(response["Location"]).content.decode()
    noted = _answer(client, item, "remove", "red-star", note="The star is red.")
    assert noted.status_code == 409
    assert "answered in the meantime" in noted.content.decode()
    assert "The star is red." in noted.content.decode()
    assert SecondReview.objects.count() == 1


def test_a_restriction_without_a_rule_is_refused_and_keeps_the_text(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    factories.decided(uma, mo)
    response = _answer(as_(ada), ReviewItem.objects.get(), "remove", note="Because of the star.")
    assert response.status_code == 422
    assert "Name the rule that it breaks." in response.content.decode()
    assert "Because of the star." in response.content.decode()


def test_about_two_per_cent_are_drawn_and_nobody_can_tell_which(
    settings: Any, uma: Account, mo: Account
) -> None:
    settings.SECOND_REVIEW_SHARE = 0.0
    factories.decided(uma, mo)
    assert not ReviewItem.objects.exists()
    from moderation.second_reviews import _is_drawn

    settings.SECOND_REVIEW_SHARE = 0.02
    drawn = sum(_is_drawn(f"code{number}") for number in range(20_000))
    assert 300 < drawn < 500  # six standard deviations around 400


def test_what_a_person_does_not_want_to_see_they_are_not_asked_about(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    factories.decided(uma, mo)
    ConsolePreference.objects.create(account=ada, opted_out=["red-star"])
    assert "None waits for you" in _next(as_(ada))


def test_a_severe_one_opens_after_a_warning_and_counts_as_seen(
    as_: Browser, uma: Account, mo: Account, ada: Account, settings: Any
) -> None:
    Rule.objects.filter(slug="red-star").update(is_severe=True)
    factories.decided(uma, mo)
    page = _next(as_(ada))
    assert "Before you open it" in page
    assert "<img" not in page
    address = reverse("console:second-review", args=[ReviewItem.objects.get().code])
    assert "What would you do?" in as_(ada).get(f"{address}?open").content.decode()
    assert Exposure.objects.filter(account=ada, is_severe=True).count() == 1
    settings.SEVERE_AN_HOUR = 1
    assert as_(ada).get(f"{address}?open").status_code == 403
    # What was written about it meanwhile is not lost.
    refused = _answer(as_(ada), ReviewItem.objects.get(), "remove", note="Plainly so.")
    assert refused.status_code == 422
    assert "Plainly so." in refused.content.decode()


def test_nobody_is_asked_about_a_decision_that_was_taken_back(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo)
    as_(ada).post(
        reverse("console:reverse", args=[decision.code]),
        {"facts": "It shows a red flower.", "message": "It shows a red flower."},
    )
    assert ReviewItem.objects.filter(decision=decision, ended_at__isnull=False).exists()


def test_a_known_answer_comes_among_the_others_and_teaches_who_missed_it(
    as_: Browser, uma: Account, mo: Account, ada: Account, lead: Account, settings: Any
) -> None:
    settings.SECOND_REVIEW_SHARE = 0.0
    decision = factories.decided(uma, mo)
    give = reverse("console:known-answer", args=[decision.code])
    assert as_(mo).post(give, {"reason": "A star it is."}).status_code == 403
    assert as_(lead).post(give, {"reason": "  "}).status_code == 422
    assert as_(lead).post(give, {"reason": "The star covers the flag."}).status_code == 302
    assert as_(lead).post(give, {"reason": "Once more."}).status_code == 409
    page = _next(as_(ada))
    assert "Second review" in page
    assert "known answer" not in page.lower()
    assert "The star covers the flag." not in page
    _answer(as_(ada), ReviewItem.objects.get(), "allow")
    own = as_(ada).get(reverse("console:me")).content.decode()
    assert "0 of 1 known answer" in own
    assert "The star covers the flag." in own
    team = as_(lead).get(reverse("console:team")).content.decode()
    assert "Known answers" in team


def test_only_moderators_are_asked(as_: Browser, uma: Account, mo: Account, lead: Account) -> None:
    factories.decided(uma, mo)
    address = reverse("console:second-review", args=[ReviewItem.objects.get().code])
    for person in (uma, lead):
        assert as_(person).get(reverse("console:second-reviews")).status_code == 403
        assert as_(person).get(address).status_code == 403
    assert as_(None).get(address).status_code == 302


def test_what_is_held_apart_is_asked_of_nobody(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo)
    type(decision.version).objects.filter(pk=decision.version_id).update(
        isolated_at=timezone.now() - timedelta(minutes=1)
    )
    assert "None waits for you" in _next(as_(ada))
    address = reverse("console:second-review", args=[ReviewItem.objects.get().code])
    assert as_(ada).get(address).status_code == 404


def test_an_approval_is_answered_too(as_: Browser, uma: Account, mo: Account, ada: Account) -> None:
    factories.decided(uma, mo, action=Action.APPROVE)
    _answer(as_(ada), ReviewItem.objects.get(), "allow")
    assert SecondReview.objects.get().agrees
