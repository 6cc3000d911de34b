"""Django's admin: configuration leaves events behind, everything else can only be looked at."""

from collections.abc import Callable

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from moderation.appeals import appeal_file
from moderation.audit import chain_verify
from moderation.decisions import decision_make
from moderation.likeness import likeness_request
from moderation.models import (
    Account,
    Appeal,
    Case,
    Decision,
    Effect,
    Event,
    Finding,
    LikenessRequest,
    ModelFile,
    ModelVersion,
    Notice,
    Person,
    PreviewImage,
    Report,
    StatementOfReasons,
    TriageJob,
    TrustedFlagger,
    UploadedModel,
)
from moderation.queue import case_claim
from moderation.reports import Words, report_file
from moderation.states import Action, Track
from tests import factories
from tests.test_queue_page import copies

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]
CONFIGURED = {"Account", "Person", "Consent", "Bank", "BankEntry", "TrustedFlagger"}
# Shown in the place apart, and nowhere else.
# Held apart, or theirs alone to read.
APART = {"ChildSafetyRecord", "ConsolePreference", "Exposure", "SecondReview"}
TABLES = [
    model for model in apps.get_app_config("moderation").get_models()
    if model.__name__ not in CONFIGURED | APART
]  # fmt: skip


@pytest.fixture
def root(db: None) -> Account:
    """Return the person who may enter the admin."""
    return Account.objects.create_superuser("root", "root@example.org", factories.PASSWORD)


def address(model: type, what: str, *args: object) -> str:
    return reverse(f"admin:moderation_{model.__name__.lower()}_{what}", args=args)


def test_every_table_is_there_but_what_is_held_apart(root: Account) -> None:
    missing = set(apps.get_app_config("moderation").get_models()) - set(admin.site._registry)
    assert {model.__name__ for model in missing} == APART


def test_nobody_else_enters(as_: Browser, mo: Account, ada: Account, uma: Account) -> None:
    for person in (mo, ada, uma, None):
        assert as_(person).get(address(Case, "changelist")).status_code == 302


def test_every_moderation_table_is_shown_and_refuses_to_be_changed(
    as_: Browser, root: Account, uma: Account, mo: Account, rui: Account
) -> None:
    decision = factories.decided(uma, mo)
    version = factories.published(uma)
    report_file(version=version, text="No good.", actor=rui)
    client = as_(root)
    for model in TABLES:
        assert client.get(address(model, "changelist")).status_code == 200, model
        assert client.get(address(model, "add")).status_code == 403, model
        row = model.objects.first()  # type: ignore[attr-defined]
        if row is None:
            continue
        change = address(model, "change", row.pk)
        assert client.get(change).status_code == 200, model
        assert client.post(change, {"state": "closed"}).status_code == 403, model
        assert client.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    page = client.get(address(type(decision), "changelist")).content.decode()
    assert f'href="/console/cases/{decision.case.code}/"' in page


def test_whatever_belongs_to_a_case_leads_to_it(
    as_: Browser, root: Account, uma: Account, mo: Account, ada: Account
) -> None:
    decision = factories.decided(uma, mo)
    appeal = appeal_file(decision=decision, text="A leaf.", actor=uma)
    client = as_(root)
    link = f'href="/console/cases/{decision.case.code}/"'
    of_the_case = (
        *(Case, Decision, Effect, StatementOfReasons, Appeal, Notice, Event),
        *(Finding, TriageJob, ModelVersion, ModelFile, PreviewImage, UploadedModel),
    )
    for model in of_the_case:
        row = model.objects.order_by("pk").last()  # type: ignore[attr-defined]
        assert row is not None, model
        for page in (address(model, "changelist"), address(model, "change", row.pk)):
            assert link in client.get(page).content.decode(), page
    assert appeal.case == decision.case


def test_the_account_of_a_creator_is_suspended_by_a_decision_and_not_switched_off(
    as_: Browser, root: Account, uma: Account, mo: Account
) -> None:
    for account in (uma, mo):
        fields = {"username": account.username, "email": account.email, "role": account.role}
        dates = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
        answer = as_(root).post(address(Account, "change", account.pk), fields | dates)
        assert answer.status_code == 302, answer.content.decode()
        account.refresh_from_db()
    assert uma.is_active, "without a reason and a way back nothing is taken from a creator"
    assert not mo.is_active, "who works for the house may lose the key"


def test_what_lets_somebody_act_for_another_is_not_shown(
    as_: Browser, root: Account, uma: Account, rui: Account
) -> None:
    report_file(version=factories.published(uma), text="No good.", actor=rui)
    report = Report.objects.get()
    client = as_(root)
    for page in (address(Report, "changelist"), address(Report, "change", report.pk)):
        assert report.token not in client.get(page).content.decode()


def test_who_enters_the_admin_reads_nothing_about_models_of_their_own(
    as_: Browser, root: Account, uma: Account, rui: Account, mo: Account
) -> None:
    for creator in (root, uma):
        report_file(version=factories.published(creator), text="No good.", actor=rui)
    client = as_(root)
    for model in (Report, Case, Event, Notice, LikenessRequest):
        if model is LikenessRequest:
            likeness_request(
                models=" ".join(ModelVersion.objects.values_list("code", flat=True)),
                email="dana@example.org", signature="Dana", text="It is me.", agrees=True,
            )  # fmt: skip
        rows = admin.site._registry[model].get_queryset(client.get("/admin/").wsgi_request)
        own = {"version__uploaded_model__creator": root}
        if model is LikenessRequest:
            assert not rows.exists()
        else:
            assert not rows.filter(**own).exists(), model
            assert rows.exists(), model
    row = Report.objects.get(version__uploaded_model__creator=root)
    assert client.get(address(Report, "change", row.pk)).status_code == 302
    other = Report.objects.get(version__uploaded_model__creator=uma)
    assert client.get(address(Report, "change", other.pk)).status_code == 200


def test_what_is_edited_is_written_to_the_record_with_who_did_it(
    as_: Browser, root: Account, mo: Account
) -> None:
    client = as_(root)
    fields = {
        "username": "mo", "email": mo.email, "role": "senior_moderator", "is_active": "on",
        "last_login_0": "", "last_login_1": "", "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
    }  # fmt: skip
    answer = client.post(address(Account, "change", mo.pk), fields)
    assert answer.status_code == 302, answer.content.decode()
    mo.refresh_from_db()
    assert mo.role == "senior_moderator"
    event = Event.objects.get(action="configuration.changed")
    assert (event.actor, event.data["name"], event.data["role"]) == (root, "mo", "senior_moderator")
    assert "Role" in event.data["fields"]

    client.post(address(Person, "add"), {"name": "Ida Example", "aliases": "[]"})
    person = Person.objects.get()
    assert Event.objects.get(action="configuration.added").data["name"] == "Ida Example"
    client.post(
        address(Person, "changelist"),
        {"action": "delete_selected", "_selected_action": person.pk, "post": "yes"},
    )
    assert not Person.objects.exists()
    assert Event.objects.get(action="configuration.deleted").data["number"] == person.pk
    assert chain_verify().bad_sequence is None


def test_a_changed_password_is_recorded_but_not_what_to(
    as_: Browser, root: Account, mo: Account
) -> None:
    new = "quite another pass phrase"
    answer = as_(root).post(
        reverse("admin:auth_user_password_change", args=[mo.pk]),
        {"password1": new, "password2": new, "usable_password": "true"},
    )
    assert answer.status_code == 302
    event = Event.objects.get(action="configuration.changed")
    assert new not in str(event.data)


def test_a_list_takes_the_same_number_of_queries_for_a_few_rows_and_for_many(
    as_: Browser, root: Account, uma: Account
) -> None:
    case = factories.held(uma)
    client = as_(root)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(address(Case, "changelist"))
        return len(captured)

    few = queries()
    copies(case, 60)
    assert queries() == few


def test_a_trusted_flagger_is_registered_by_a_form_and_shown_with_its_accuracy(
    as_: Browser, root: Account, uma: Account, mo: Account, rui: Account
) -> None:
    client = as_(root)
    form = {"account": rui.pk, "organisation": "The hotline", "expertise": "Likeness"}
    assert client.post(address(TrustedFlagger, "add"), form).status_code == 302
    flagger = TrustedFlagger.objects.get()
    assert Event.objects.filter(action="configuration.added", actor=root).exists()
    case = report_filed_by(rui, factories.published(uma, title="One"))
    assert case.reports.get().track == "flagger"
    case_claim(case=case, actor=mo)
    decision_make(case=case, action=Action.REMOVE, rules=["red-star"], facts="Seen.", actor=mo)
    assert "1 of 1" in client.get(address(TrustedFlagger, "changelist")).content.decode()
    assert client.post(address(TrustedFlagger, "delete", flagger.pk)).status_code == 403
    ended = {"ended_at_0": "2026-01-01", "ended_at_1": "00:00:00"}
    changed = client.post(address(TrustedFlagger, "change", flagger.pk), {**form, **ended})
    assert changed.status_code == 302
    other = report_filed_by(rui, factories.published(uma, title="Two"))
    assert other.reports.get().track == "illegal", "a status that has ended is none"


def report_filed_by(account: Account, version: ModelVersion) -> Case:
    """Return the case of a notice that somebody files on a version."""
    words = Words(text="Look.", place="Its page", good_faith=True)
    report_file(version=version, text="", track=Track.ILLEGAL, words=words, actor=account)
    return version.cases.get()
