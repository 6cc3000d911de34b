"""What each action does to what the public can see, and what follows for the account."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import enforcement, intake
from moderation.appeals import appeal_file
from moderation.banks import bank_add_decided
from moderation.decisions import decision_make, decision_reverse
from moderation.enforcement import decisions_expire
from moderation.errors import Conflict, Invalid
from moderation.hearings import appeal_answer
from moderation.models import Account, BankEntry, Case, Decision, ModelVersion, Strike
from moderation.queue import case_claim
from moderation.reasons import Terms
from moderation.reports import report_file
from moderation.states import Action, AppealState
from moderation.strikes import standing_of_account, weight_of
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]


def _decide(
    version: ModelVersion, mo: Account, action: Action, rule: str = "red-star", **terms: Any
) -> Decision:
    version.refresh_from_db()
    report_file(version=version, text="A red star.", actor=None)
    case = case_claim(case=version.cases.get(state="queued"), actor=mo)
    return decision_make(
        case=case, action=action, rules=[rule], facts="Seen.", terms=Terms(**terms), actor=mo
    )


def test_a_label_is_shown_on_the_page_and_gone_when_it_is_taken_back(
    as_: Browser, uma: Account, mo: Account
) -> None:
    version = factories.published(uma)
    decision = _decide(version, mo, Action.LABEL, label="Made with <someone's> art")
    address = reverse("model", args=[version.code])
    page = as_(None).get(address).content.decode()
    assert "Made with &lt;someone&#x27;s&gt; art" in page
    decision_reverse(decision=decision, facts="It was not.", actor=mo)
    assert "Made with" not in as_(None).get(address).content.decode()


def test_a_country_is_kept_out_of_page_list_preview_and_file_and_others_are_not(
    as_: Browser, settings: Any, uma: Account, mo: Account
) -> None:
    settings.COUNTRY_HEADER = "CF-IPCountry"
    version = factories.published(uma, title="Somewhere")
    _decide(version, mo, Action.GEO_RESTRICT, countries=["de", "AU"])
    client = as_(None)
    for address in (
        reverse("model", args=[version.code]),
        reverse("preview", args=[version.previews.get().code]),
        reverse("download", args=[version.code, version.files.get().code]),
    ):
        for country in ("DE", "AU", "XX", ""):
            assert client.get(address, headers={"CF-IPCountry": country}).status_code == 451
        assert client.get(address, headers={"CF-IPCountry": "FR"}).status_code in {200, 302}
        assert as_(uma).get(address, headers={"CF-IPCountry": "DE"}).status_code in {200, 302}
    german = client.get(reverse("home"), headers={"CF-IPCountry": "DE"}).content.decode()
    french = client.get(reverse("home"), headers={"CF-IPCountry": "FR"}).content.decode()
    assert "Somewhere" not in german
    assert "Somewhere" in french


def test_nothing_is_restricted_by_country_where_the_house_knows_none(
    uma: Account, mo: Account
) -> None:
    with pytest.raises(Invalid, match="COUNTRY_HEADER"):
        _decide(factories.published(uma), mo, Action.GEO_RESTRICT, countries=["DE"])


def test_a_disabled_preview_is_served_to_nobody_but_the_creator_and_the_team(
    as_: Browser, uma: Account, mo: Account
) -> None:
    version = factories.published(uma)
    preview = version.previews.get()
    _decide(version, mo, Action.DISABLE_PREVIEW, preview=preview.code)
    address = reverse("preview", args=[preview.code])
    assert as_(None).get(address).status_code == 404
    assert as_(mo).get(address).status_code == 200
    page = as_(None).get(reverse("model", args=[version.code])).content.decode()
    assert address not in page


def test_a_removed_model_hides_every_version_and_refuses_new_ones_until_it_is_taken_back(
    as_: Browser, uma: Account, mo: Account
) -> None:
    first = factories.published(uma)
    second = intake.version_create(uploaded_model=first.uploaded_model, actor=uma)
    second.visibility, second.submitted_at = "limited", timezone.now()
    second.save()
    decision = _decide(first, mo, Action.REMOVE_MODEL)
    for version in (first, second):
        assert as_(None).get(reverse("model", args=[version.code])).status_code == 404
    answer = as_(uma).post(reverse("creator:next-version", args=[first.code]))
    assert answer.status_code == 409
    decision_reverse(decision=decision, facts="Only one was meant.", actor=mo)
    visible = dict(ModelVersion.objects.values_list("number", "visibility"))
    assert visible == {1: "published", 2: "limited"}
    first.uploaded_model.refresh_from_db()
    assert first.uploaded_model.removed_at is None


def test_the_pages_of_siblings_of_a_removed_model_lead_to_the_reason(
    as_: Browser, uma: Account, mo: Account
) -> None:
    first = factories.published(uma)
    second = intake.version_create(uploaded_model=first.uploaded_model, actor=uma)
    second.visibility, second.submitted_at = "published", timezone.now()
    second.save()
    other = factories.published(uma)
    removal = reverse("creator:decision", args=[_decide(first, mo, Action.REMOVE_MODEL).code])
    for version, is_concerned in ((first, True), (second, True), (other, False)):
        page = as_(uma).get(reverse("creator:version", args=[version.code])).content.decode()
        assert (removal in page) == is_concerned


def test_a_version_that_came_up_after_its_models_removal_was_taken_back_stays_as_it_is(
    as_: Browser, uma: Account, mo: Account
) -> None:
    first = factories.published(uma)
    draft = intake.version_create(uploaded_model=first.uploaded_model, actor=uma)
    removal = _decide(first, mo, Action.REMOVE_MODEL)
    decision_reverse(decision=removal, facts="Only one was meant.", actor=mo)
    ModelVersion.objects.filter(pk=draft.pk).update(
        visibility="published", submitted_at=timezone.now(), published_at=timezone.now()
    )
    _decide(first, mo, Action.LABEL, label="Draws stars")
    assert as_(None).get(reverse("model", args=[draft.code])).status_code == 200
    # And a second removal brings back what the second found.
    again = _decide(first, mo, Action.REMOVE_MODEL)
    assert as_(None).get(reverse("model", args=[draft.code])).status_code == 404
    decision_reverse(decision=again, facts="Only one was meant.", actor=mo)
    assert as_(None).get(reverse("model", args=[draft.code])).status_code == 200


def test_a_restriction_ends_when_its_time_is_over(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = factories.published(uma)
    until = timezone.now() + timedelta(days=3)
    _decide(version, mo, Action.LIMIT, until=until)
    assert decisions_expire() == 0
    monkeypatch.setattr(enforcement.timezone, "now", lambda: until + timedelta(seconds=1))
    assert decisions_expire() == 1
    version.refresh_from_db()
    assert version.visibility == "published"


def test_what_its_creator_took_down_stays_down_whatever_is_decided_or_taken_back(
    as_: Browser, uma: Account, mo: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text="A red star.", actor=None)
    assert as_(uma).post(reverse("creator:withdraw", args=[version.code])).status_code == 302
    assert as_(None).get(reverse("model", args=[version.code])).status_code == 404
    case = case_claim(case=version.cases.get(), actor=mo)
    decision = decision_make(
        case=case, action=Action.REMOVE, rules=["red-star"], facts="Seen.", actor=mo
    )
    version.refresh_from_db()
    assert version.visibility == "removed"
    decision_reverse(decision=decision, facts="Orange.", actor=mo)
    version.refresh_from_db()
    assert version.visibility == "withdrawn"


@pytest.mark.parametrize("action", ["strike", "mute", "suspend", "law"])
def test_what_is_decided_beside_a_case_publishes_nothing_that_waits_in_quarantine(
    action: str, as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    given = {"action": action, "rules": ["red-star"], "facts": "Seen.", "days": "3"}
    if action in {"strike", "law"}:
        del given["days"]
    assert as_(mo).post(reverse("console:decide", args=[case.code]), given).status_code == 302
    address = reverse("model", args=[case.version.code])
    assert as_(None).get(address).status_code == 404
    decision = Decision.objects.get()
    assert decision.effect.state == "in_force"
    if action != "law":
        decision_reverse(decision=decision, facts="It was not.", actor=mo)
    assert as_(None).get(address).status_code == 404
    case.version.refresh_from_db()
    assert case.version.visibility == "quarantined"
    # The case goes on, and only what is decided about it lets anybody see the model.
    case = case_claim(case=case, actor=mo)
    decision_make(case=case, action=Action.APPROVE, rules=[], facts="Orange.", actor=mo)
    assert as_(None).get(address).status_code == 200


def test_what_waits_in_quarantine_is_approved_or_restricted_and_not_dismissed(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = case_claim(case=factories.held(uma), actor=mo)
    client = as_(mo)
    page = client.get(reverse("console:case", args=[case.code])).content.decode()
    assert 'value="dismiss"' not in page and 'value="law"' in page
    given = {"action": "dismiss", "facts": "Nothing."}
    answer = client.post(reverse("console:decide", args=[case.code]), given)
    assert answer.status_code == 409
    assert "It is in quarantine" in answer.content.decode()
    assert not Decision.objects.exists()
    case.version.refresh_from_db()
    assert case.version.visibility == "quarantined"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"action": "label"}, "words of the label"),
        ({"action": "disable_preview"}, "Choose the preview"),
        ({"action": "disable_preview", "preview": "nosuch"}, "no such preview"),
        ({"action": "mute"}, "until when"),
        ({"action": "remove", "days": "3"}, "has no end"),
        ({"action": "remove", "source": "order"}, "Name the law"),
    ],
)
def test_an_action_without_what_it_needs_is_refused(
    fields: dict[str, str], words: str, as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    client = as_(mo)
    client.post(reverse("console:claim", args=[case.code]))
    given = {"rules": ["red-star"], "facts": "Seen.", **fields}
    answer = client.post(reverse("console:decide", args=[case.code]), given)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Decision.objects.exists()


def test_an_entry_that_two_decisions_put_into_a_bank_stays_while_one_stands(
    uma: Account, mo: Account
) -> None:
    first = _decide(factories.published(uma), mo, Action.REMOVE)
    second = _decide(factories.published(uma, title="Twin"), mo, Action.REMOVE)
    for decision in (first, second):
        bank_add_decided(name="removed", decision=decision, actor=mo)
    entries = BankEntry.objects.count()
    decision_reverse(decision=first, facts="Orange.", actor=mo)
    assert BankEntry.objects.count() == entries
    with pytest.raises(Conflict, match="overturned"):
        bank_add_decided(name="removed", decision=first, actor=mo)
    decision_reverse(decision=second, facts="Orange.", actor=mo)
    assert not BankEntry.objects.exists()


# --- Strikes --------------------------------------------------------------------------------


def test_a_first_strike_counts_half_and_the_second_in_full(
    as_: Browser, uma: Account, mo: Account
) -> None:
    _decide(factories.published(uma), mo, Action.REMOVE)
    _decide(factories.published(uma, title="Other"), mo, Action.REMOVE)
    assert list(Strike.objects.order_by("pk").values_list("points", "was_first")) == [
        (Decimal("0.50"), True),
        (Decimal("1.00"), False),
    ]
    standing = standing_of_account(uma)
    assert standing.points == Decimal("1.50")
    assert standing.step and standing.step.name == "a warning"
    assert standing.following and standing.following.points == 2
    page = as_(uma).get(reverse("creator:standing")).content.decode()
    assert "1.5 points" in page
    assert "muted for three days" in page


def test_a_strike_halves_in_thirty_days_and_is_gone_after_ninety(uma: Account, mo: Account) -> None:
    _decide(factories.published(uma), mo, Action.STRIKE)
    strike = Strike.objects.get()
    weights = [weight_of(strike, at=strike.given_at + timedelta(days=days)) for days in (0, 30, 89)]
    assert weights == [Decimal("1.00"), Decimal("0.50"), Decimal("0.13")]
    assert weight_of(strike, at=strike.given_at + timedelta(days=90)) == 0


def test_a_partly_won_appeal_leaves_the_strike_its_date(
    uma: Account, mo: Account, ada: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = _decide(factories.published(uma), mo, Action.REMOVE)
    _decide(factories.published(uma, title="Other"), mo, Action.REMOVE)
    first = Strike.objects.get(decision=decision)
    appeal = appeal_file(decision=decision, text="Too much.", actor=uma)
    later = timezone.now() + timedelta(days=40)
    monkeypatch.setattr(enforcement.timezone, "now", lambda: later)
    case_claim(case=appeal.case, actor=ada)
    appeal_answer(
        appeal=appeal,
        outcome=AppealState.MODIFIED,
        answer="Partly.",
        action=Action.LIMIT,
        actor=ada,
    )
    milder = Strike.objects.get(decision__action="limit")
    assert (milder.given_at, milder.expires_at) == (first.given_at, first.expires_at)
    # A first offence as before, though another came in between.
    assert (milder.points, milder.was_first) == (Decimal("0.25"), True)


def test_a_strike_is_voided_and_never_deleted_or_changed(uma: Account, mo: Account) -> None:
    decision = _decide(factories.published(uma), mo, Action.REMOVE)
    for change in ({"points": 9}, {"expires_at": timezone.now()}):
        with pytest.raises(IntegrityError, match="frozen"), transaction.atomic():
            Strike.objects.update(**change)
    decision_reverse(decision=decision, facts="Orange.", actor=mo)
    strike = Strike.objects.get()
    assert strike.voided_by == Decision.objects.get(action="reverse")
    assert standing_of_account(uma).points == 0
    with pytest.raises(IntegrityError, match="never deleted"), transaction.atomic():
        Strike.objects.all().delete()


def test_a_moderator_reads_what_the_ladder_proposes_beside_the_decision(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    def said(moderator: Account) -> str:
        case = case_claim(case=factories.held(uma, title="Next"), actor=moderator)
        page = as_(moderator).get(reverse("console:case", args=[case.code])).content.decode()
        return page.partition('id="ladder"')[2].partition("</p>")[0]

    assert "no points; the ladder proposes nothing" in said(mo)
    for number in range(3):
        _decide(factories.published(uma, title=f"Number {number}"), mo, Action.REMOVE)
    assert "The ladder proposes: muted for three days." in said(ada)
    assert "At 4 points: suspended for thirty days." in said(mo)
    # It is a proposal: nothing of it has happened.
    uma.refresh_from_db()
    assert not uma.is_muted and not uma.is_suspended


def test_nobody_else_sees_a_creators_standing(as_: Browser, uma: Account, mo: Account) -> None:
    _decide(factories.published(uma, title="Secret work"), mo, Action.REMOVE)
    page = as_(mo).get(reverse("creator:standing")).content.decode()
    assert "Secret work" not in page
    assert as_(None).get(reverse("creator:standing")).status_code == 302


def test_a_strike_needs_no_claim_and_ends_no_case(uma: Account, mo: Account, ada: Account) -> None:
    version = factories.published(uma)
    report_file(version=version, text="A red star.", actor=None)
    case = Case.objects.get()
    decision_make(case=case, action=Action.STRIKE, rules=["red-star"], facts="S.", actor=mo)
    case.refresh_from_db()
    assert case.state == "queued"
    assert case.reports.get().state == "open"
