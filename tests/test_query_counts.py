"""Every page of the console asks the database at most twelve things, however much there is.

Each page is opened when its tables hold one row of everything and when they hold many, and asks
exactly as often both times.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.account.internal.userkit import user_id_to_str
from allauth.mfa.models import Authenticator
from django.core.files.base import ContentFile
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from moderation.appeals import appeal_file, appeal_write
from moderation.decisions import decision_make
from moderation.models import (
    Account,
    Appeal,
    AppealFile,
    Case,
    ChildSafetyRecord,
    Embedding,
    Exposure,
    LineageEdge,
    ModelVersion,
    Notice,
    Report,
    ReportEvidence,
    ReportingMeasure,
    ReviewItem,
    TriageJob,
    Verdict,
)
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import Action, MeasureState, NoticeState, Role, Visibility
from tests import factories

Browser = Callable[[Account], Client]
MOST = 12

pytestmark = pytest.mark.usefixtures("policy")
numbers = count(1)


@pytest.fixture
def chris(db: None) -> Account:
    """Return somebody who may open every page of the console."""
    return factories.account("chris", role=Role.CHILD_SAFETY)


@pytest.fixture
def case(uma: Account, chris: Account) -> Case:
    """Return a case in the hands of Chris."""
    found = factories.held(uma, rule="red-star", title="Looked at")
    # Something that others may report.
    ModelVersion.objects.filter(pk=found.version_id).update(visibility=Visibility.PUBLISHED)
    found.refresh_from_db()
    return case_claim(case=found, actor=chris)


def one_more_of_everything(case: Case, uma: Account, mo: Account, chris: Account) -> None:
    """Add one of everything that a page of the console could ask for."""
    number = next(numbers)
    version = case.version
    preview, file = version.previews.first(), version.files.first()
    assert preview is not None and file is not None
    reporter = factories.account(f"reporter{number}")
    report = report_file(version=version, text=f"Number {number}.", actor=reporter)
    ReportEvidence.objects.create(report=report, name="a.png", content="x")
    Notice.objects.create(
        kind="published", recipient=chris, email="a@example.org", subject="s", text="t", html="h",
        state=NoticeState.DEAD, not_before=timezone.now(),
    )  # fmt: skip
    Report.objects.filter(pk=report.pk).update(unfounded_at=timezone.now(), state="no_action")
    ReportingMeasure.objects.create(
        account=reporter, measure="warning", state=MeasureState.PROPOSED,
        figures={"unfounded": 3, "answered": 4, "gravity": 2}, proposed_at=timezone.now(),
    )  # fmt: skip
    # A copy of it by the same creator: the same bytes, the same look, related weights, decided.
    other = factories.held(uma, rule="red-star", title=f"Copy {number}")
    finding = other.version.findings.first()
    assert finding is not None
    relative = {"version": version.code, "relation": "derived", "cosine": 0.9}
    LineageEdge.objects.create(
        child=other.version, parent=version, finding=finding, relation="derived", cosine=0.9
    )
    finding.pk, finding.key, finding.version = None, f"lineage{number}", version
    finding.job = version.jobs.first()
    finding.probe, finding.preview, finding.evidence = "lineage", preview, {"relatives": [relative]}
    finding.save()
    Verdict.objects.create(
        finding=finding, answer="right", source="case", given_by=chris, given_at=timezone.now()
    )
    decided = factories.held(uma, rule="red-star", title=f"Decided {number}")
    with override_settings(SECOND_REVIEW_SHARE=1.0):
        decision = decision_make(
            case=case_claim(case=decided, actor=mo), action=Action.REMOVE, rules=["red-star"],
            facts="Seen.", actor=mo,
        )  # fmt: skip
    Embedding.objects.get_or_create(
        kind=Embedding.Kind.PICTURE, sha256=preview.sha256, encoder="demo", revision="1",
        defaults={"dim": 2, "vector": b"\0\x3c\0\x3c"},
    )  # fmt: skip
    # Said against an earlier decision on the same case, which goes on.
    appeal = appeal_file(decision=decision, text="No.", actor=uma)
    Appeal.objects.filter(pk=appeal.pk).update(case=case)
    appeal_write(appeal=appeal, text="Why?", actor=uma, from_team=False)
    AppealFile.objects.create(
        appeal=appeal, name="a.txt", content="x", kind="text/plain", size=1, sha256="0" * 64
    )
    case.inquiries.create(
        text="Whose is it?", asked_by=chris, asked_at=timezone.now(), answer="Mine.",
        answer_until=timezone.now() + timedelta(days=1), closed_at=timezone.now(),
    )  # fmt: skip
    job = version.jobs.order_by("pk").first()
    assert job is not None
    TriageJob.objects.filter(pk=job.pk).update(state="dead")
    # Reported before it was decided, and asked about again, blind.
    reviewed = ReviewItem.objects.order_by("pk").first()
    assert reviewed is not None
    report = Report.objects.create(
        case=reviewed.decision.case, version=reviewed.decision.version, reporter=reporter, text="A."
    )
    Report.objects.filter(pk=report.pk).update(created_at=reviewed.decision.decided_at)
    # Something else that its creator appeals against, about what is held apart.
    apart = ChildSafetyRecord.objects.get()
    strike = decision_make(
        case=apart.decision.case, action=Action.STRIKE, rules=["red-star"], facts=f"No. {number}.",
        actor=mo,
    )  # fmt: skip
    appeal = appeal_file(decision=strike, text="No.", actor=uma)
    appeal_write(appeal=appeal, text="Why?", actor=uma, from_team=False)
    held = factories.held(
        factories.account(f"maker{number}"), rule="red-star", title=f"Held {number}"
    )
    ModelVersion.objects.filter(pk=held.version_id).update(downloads=10**6)
    with override_settings(SECOND_PERSON_FOR=["popular"]):
        decision_make(
            case=case_claim(case=held, actor=mo), action=Action.REMOVE, rules=["red-star"],
            facts="Seen.", actor=mo,
        )  # fmt: skip


def asked(client: Client, address: str) -> list[str]:
    """Return what a page asks the database, after it was opened once."""
    client.get(address)
    # What was shown is shown anew, and noted.
    Exposure.objects.update(looked_until=timezone.now() - timedelta(hours=1))
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(address)
    assert answer.status_code == 200, (address, answer.status_code)
    return [query["sql"] for query in captured]


# Session and account are asked for by each; the count of unread notices, too, but by fragments.
PAGES = {
    # Rules, rows, counters, own cases, saved views, held case.
    "": 9,
    # The case, what is small around it, findings, reports and their senders' records, decisions,
    # the appeal, the creator's strikes; and that it was seen is noted.
    "cases/{case}/": 12,
    # The case, whether it is severe; own previews, encoder, decided previews, vectors, decisions.
    "cases/{case}/look-alikes/": 10,
    # The case; edges with both sides, what shares bytes, and those versions.
    "cases/{case}/related/": 7,
    # The case; the record, versions, decisions, number of reports.
    "cases/{case}/history/": 8,
    # The case; questions, appeals, their files, messages and authors.
    "cases/{case}/conversation/": 10,
    # The case, rules, bytes, open versions, hashes, previews, embeddings, members; and that they
    # were seen is noted.
    "cases/{case}/together/": 12,
    "held/": 4,
    "team/": 12,
    "letters/": 5,
    "misuse/": 5,
    "concepts/": 10,
    "concepts/red-star/red-star/": 12,
    "questions/red-star/red-star/": 6,
    "me/": 10,
    "keys/": 3,
    "child-safety/": 4,
    # The record, files, previews; appeals, their files, messages and authors; what was taken back,
    # what stands.
    "child-safety/{record}/": 12,
    # What is asked, conflicts; findings, rules, reports, previews; that it was seen is noted, if
    # it was not just now. The limits of people are asked for where a rule is severe.
    "second-reviews/{review}/": 11,
    "cases/{theirs}/take-over/": 4,
    # The picture, its case, whether it is severe, its rules; and that it was seen is noted.
    "evidence/{evidence}/": 8,
}


def test_every_page_asks_as_often_for_one_row_as_for_many(
    as_: Browser, case: Case, uma: Account, mo: Account, chris: Account, settings: Any
) -> None:
    client = as_(chris)
    # As in production: a second factor is asked for, and was shown.
    settings.REQUIRE_MFA = True
    Authenticator.objects.create(user=chris, type=Authenticator.Type.TOTP, data={})
    session = client.session
    session[AUTHENTICATION_METHODS_SESSION_KEY] = [{"method": "mfa", "at": time.time()}]
    session[f"{AUTHENTICATION_METHODS_SESSION_KEY}_user"] = user_id_to_str(chris)
    session.save()
    with override_settings(SECOND_REVIEW_SHARE=1.0):
        reviewed = factories.decided(uma, mo)
    factories.decided(uma, mo, action=Action.CHILD_SAFETY)
    report = Report.objects.create(case=case, version=case.version, text="Seen.")
    picture = ReportEvidence.objects.create(
        report=report, name="a.png", content=ContentFile(factories.picture_bytes(), "a.png")
    )
    codes = {
        "case": case.code,
        "theirs": case_claim(case=factories.held(uma), actor=mo).code,
        "review": ReviewItem.objects.get(decision=reviewed).code,
        "record": ChildSafetyRecord.objects.get().code,
        "evidence": picture.code,
    }
    addresses = {page: "/console/" + page.format(**codes) for page in PAGES}
    one_more_of_everything(case, uma, mo, chris)
    few = {page: asked(client, address) for page, address in addresses.items()}
    for _ in range(3):
        one_more_of_everything(case, uma, mo, chris)
    many = {page: asked(client, address) for page, address in addresses.items()}
    assert {page: len(queries) for page, queries in few.items()} == PAGES
    assert {page: len(queries) for page, queries in many.items()} == PAGES
    assert max(PAGES.values()) <= MOST
