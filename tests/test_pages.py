"""The pages: who sees what, in which words; nothing inline, nothing of a stranger's unescaped."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from moderation import spans
from moderation.appeals import appeal_file
from moderation.decisions import decision_make
from moderation.findings import FindingIn, findings_record
from moderation.hearings import appeal_answer
from moderation.jobs import job_lease, jobs_create
from moderation.models import (
    Account,
    Case,
    Decision,
    Event,
    ModelFile,
    ModelVersion,
    Notice,
    Policy,
    PreviewImage,
    Report,
    TriageJob,
    UploadedModel,
)
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import Action, AppealState, JobState, Role, Visibility
from moderation.templatetags import evidence, text
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("policy")]
Browser = Callable[[Account | None], Client]

TEMPLATES = sorted(
    path
    for path in (django_settings.BASE_DIR / "templates").rglob("*.html")
    if "notices" not in path.relative_to(django_settings.BASE_DIR / "templates").parts[:-1]
)


# --- Rows, without files on the disk: no page opens one -------------------------------------


def draft(creator: Account, title: str = "Ink wash", **texts: Any) -> ModelVersion:
    words = texts.pop("trigger_words", [])
    name, prompt = texts.pop("name", "file"), texts.pop("prompt", "")
    page = UploadedModel.objects.create(creator=creator, title=title, **texts)
    version = ModelVersion.objects.create(uploaded_model=page, trigger_words=words)
    ModelFile.objects.create(
        version=version, name=name, content="x", size=1, sha256="a" * 64, format="safetensors"
    )
    PreviewImage.objects.create(
        version=version, name=name, original="x", shown="x", sha256="b" * 64, width=64, height=64,
        prompt=prompt,
    )  # fmt: skip
    return version


def submitted(creator: Account, title: str = "Ink wash", **texts: Any) -> ModelVersion:
    version = draft(creator, title, **texts)
    version.visibility = Visibility.QUARANTINED
    version.submitted_at = timezone.now()
    version.save()
    jobs_create(version=version, policy=Policy.objects.get(is_active=True))
    return version


def weighed(
    creator: Account, title: str, findings: Sequence[FindingIn] = (), **texts: Any
) -> ModelVersion:
    version = submitted(creator, title, **texts)
    for job in version.jobs.all():
        lease = job_lease(job_id=job.pk)
        assert lease is not None
        given = findings if job.stage == "previews" and findings else [factories.finding()]
        assert findings_record(lease=lease, findings=list(given))
    version.refresh_from_db()
    return version


def held(creator: Account, title: str, **fields: Any) -> Case:
    texts = fields.pop("texts", {})
    found = factories.finding(0.95, rule="red-star", **fields)
    return weighed(creator, title, [found], **texts).cases.get()


def removed(creator: Account, moderator: Account, title: str, **texts: Any) -> Decision:
    case = held(creator, title, texts=texts)
    case_claim(case=case, actor=moderator)
    return decision_make(
        case=case,
        action=Action.REMOVE,
        rules=["red-star"],
        facts="A red star in the corner.",
        private_note="the third this week",
        actor=moderator,
    )


@dataclass
class World:
    """One row of every state, and every page with somebody who may open it."""

    pages: list[tuple[Account | None, str]]
    draft: ModelVersion
    weighing: ModelVersion
    published: ModelVersion
    waiting: Case
    held: Case
    decision: Decision
    report: Report


@pytest.fixture
def world(uma: Account, rui: Account, mo: Account, ada: Account) -> World:
    unfinished, weighing = draft(uma, "Draft"), submitted(uma, "Weighing")
    published = weighed(uma, "Published", base_model="SD 1.5", tags=["ink"])
    aged = weighed(uma, "For adults")
    ModelVersion.objects.filter(pk=aged.pk).update(visibility=Visibility.AGE_RESTRICTED)
    limited = weighed(uma, "Limited")
    ModelVersion.objects.filter(pk=limited.pk).update(visibility=Visibility.LIMITED)
    waiting, mine = held(uma, "Waiting"), held(uma, "With Mo")
    case_claim(case=mine, actor=mo)
    broken = submitted(uma, "Broken")
    TriageJob.objects.filter(version=broken).update(state=JobState.DEAD, error="It fell over.")
    incomplete = weighed(
        uma, "Failed", [factories.finding(None, reason="The picture ends early.")]
    ).cases.get()
    report = report_file(version=published, text="It is mine.", actor=None)
    decision = removed(uma, mo, "Removed")
    late = removed(uma, mo, "Late")
    appealed, hearing, lost, won = (removed(uma, mo, title) for title in "ABCD")
    for each in (appealed, hearing, lost, won):
        appeal_file(decision=each, text="Look again.", actor=uma)
    # One at a time: nobody holds two cases.
    for each, outcome in ((lost, AppealState.UPHELD), (won, AppealState.OVERTURNED)):
        case_claim(case=Case.objects.get(pk=each.case_id), actor=ada)
        appeal_answer(
            appeal=each.appeals.get(), outcome=outcome, answer="I looked again.", actor=ada
        )
    case_claim(case=Case.objects.get(pk=hearing.case_id), actor=ada)
    cases = [waiting, mine, incomplete, *(each.case for each in (decision, appealed, hearing, won))]
    versions = [unfinished, weighing, broken, published, waiting.version, decision.version]
    decisions = [decision, late, appealed, hearing, lost, won]
    public = ["/", "/policy/", "/sign-up/", "/log-in/", f"/reports/{report.token}/"]
    public += [f"/models/{version.code}/" for version in (published, aged, limited)]
    public += [f"/models/{published.code}/report/"]
    studio = ["/", "/studio/", "/studio/new/", "/studio/notices/", "/studio/notices/?page=2"]
    studio += [f"/studio/{version.code}/" for version in versions]
    studio += [f"/models/{version.code}/" for version in versions]
    studio += [f"/studio/decisions/{each.code}/" for each in decisions]
    console = ["/console/", "/console/?state=appealed", "/console/?rule=red-star"]
    console += [f"/console/cases/{case.code}/" for case in cases]
    lead = factories.account("petra", role=Role.POLICY_LEAD)
    pages: list[tuple[Account | None, str]] = [(None, path) for path in public]
    pages += [(uma, path) for path in studio]
    pages += [(person, path) for person in (mo, ada, lead) for path in console]
    pages += [(rui, "/studio/"), (rui, "/studio/notices/")]
    return World(pages, unfinished, weighing, published, waiting, mine, decision, report)


# --- Reading a page as a browser does -------------------------------------------------------


class Reading(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(response.content.decode())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            given
            for name, given in self.elements
            if name == tag and all(given.get(key) == value for key, value in wanted.items())
        ]


def read(client: Client, path: str, status: int = 200) -> Reading:
    response = client.get(path)
    assert response.status_code == status, path
    return Reading(response)


# --- Every page -----------------------------------------------------------------------------


def test_every_page_has_one_heading_a_title_and_nothing_inline(world: World, as_: Browser) -> None:
    browsers: dict[int | None, Client] = {}
    for person, path in world.pages:
        client = browsers.setdefault(person.pk if person else None, as_(person))
        page = read(client, path)
        where = f"{path} for {person}"
        assert len(page.all("h1")) == 1, where
        assert len(page.all("title")) == 1, where
        assert len(page.all("main", id="main")) == 1, where
        assert not page.all("style"), where
        assert all(script.get("src") for script in page.all("script")), where
        for tag, attributes in page.elements:
            wrong = [name for name in attributes if name == "style" or name.startswith("on")]
            assert not wrong, f"{where}: {tag} has {wrong}"
        ids = [each for _, attributes in page.elements if (each := attributes.get("id"))]
        assert len(ids) == len(set(ids)), f"{where}: an id stands there twice"
        for form in page.all("form", method="post"):
            assert page.all("input", name="csrfmiddlewaretoken"), f"{where}: {form}"
        labelled = {label.get("for") for label in page.all("label")}
        fields = [*page.all("textarea"), *page.all("input", type="text")]
        fields += [*page.all("input", type="file"), *page.all("input", type="password")]
        for field in fields:
            assert field.get("id") in labelled, f"{where}: {field} has no label"


def test_no_template_holds_inline_style_script_or_handlers() -> None:
    inline = re.compile(
        r"<style|\sstyle\s*=|\son[a-z]+\s*=|hx-on|javascript:|<script(?![^>]*\ssrc=)"
    )
    found = {
        str(path): match.group()
        for path in TEMPLATES
        if (match := inline.search(path.read_text(encoding="utf-8")))
    }
    assert len(TEMPLATES) > 25
    assert found == {}


def test_every_answer_carries_the_strict_content_security_policy(as_: Browser) -> None:
    policy = as_(None).get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


HOSTILE = '<script>alert(1)</script><b hx-get="/x" onclick="x()">"\'&{{ 7 }}'


def test_what_strangers_write_is_escaped_everywhere(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account
) -> None:
    texts: dict[str, Any] = {
        "description": HOSTILE + "\n\n[a](javascript:alert(1)) <img src=x onerror=alert(1)>",
        "tags": [HOSTILE],
        "trigger_words": [HOSTILE],
        "base_model": HOSTILE,
        "licence": HOSTILE,
        "name": HOSTILE,
        "prompt": HOSTILE,
    }
    Account.objects.filter(pk=uma.pk).update(username=HOSTILE)
    uma.refresh_from_db()
    unfinished = draft(uma, HOSTILE, **texts)
    published = weighed(uma, HOSTILE, **texts)
    report = report_file(version=published, text=HOSTILE, actor=None)
    case = held(
        uma,
        HOSTILE,
        texts=texts,
        reason=HOSTILE,
        evidence={HOSTILE: HOSTILE, "matches": [{"field": HOSTILE, "excerpt": HOSTILE}]},
        versions={HOSTILE: HOSTILE},
    )
    case_claim(case=case, actor=mo)
    decision = decision_make(
        case=case,
        action=Action.LIMIT,
        rules=["red-star"],
        facts=HOSTILE,
        private_note=HOSTILE,
        actor=mo,
    )
    appeal = appeal_file(decision=decision, text=HOSTILE, actor=uma)
    case_claim(case=Case.objects.get(pk=case.pk), actor=ada)
    appeal_answer(appeal=appeal, outcome=AppealState.UPHELD, answer=HOSTILE, actor=ada)
    pages = [
        (None, "/"),
        (None, f"/models/{published.code}/"),
        (None, f"/models/{published.code}/report/"),
        (None, f"/reports/{report.token}/"),
        (uma, "/studio/"),
        (uma, "/studio/notices/"),
        (uma, f"/studio/{unfinished.code}/"),
        (uma, f"/studio/{case.version.code}/"),
        (uma, f"/studio/decisions/{decision.code}/"),
        (mo, "/console/"),
        (mo, f"/console/cases/{case.code}/"),
    ]
    for person, path in pages:
        response = as_(person).get(path)
        content = response.content.decode()
        page = Reading(response)
        assert "&lt;script&gt;alert(1)" in content, f"{path} shows nothing of it at all"
        assert "<script>alert" not in content, path
        assert not page.all("b"), path
        assert all(script.get("src") for script in page.all("script")), path
        assert not any(link.get("href", "") == "javascript:alert(1)" for link in page.all("a"))
        for tag, attributes in page.elements:
            assert attributes.get("hx-get") != "/x", f"{path}: {tag}"
            assert not any(name.startswith("on") for name in attributes), f"{path}: {tag}"


@pytest.mark.parametrize(
    ("template", "words"),
    [("404.html", "nothing here"), ("403.html", "not for you"), ("500.html", "on our side")],
)
def test_error_pages_stand_without_a_request(template: str, words: str) -> None:
    assert words in render_to_string(template)


def test_an_unknown_address_a_hidden_model_and_an_old_form_answer_in_the_same_look(
    world: World, as_: Browser
) -> None:
    client = as_(None)
    for path in ("/nowhere/", f"/models/{world.draft.code}/"):
        page = read(client, path, 404)
        assert "There is nothing here" in page.text
        assert page.all("main", id="main")
    strict = Client(enforce_csrf_checks=True)
    refused = strict.post("/adult/", {"adult": "yes"})
    assert refused.status_code == 403
    assert "too old to be sent" in Reading(refused).text


# --- The frame ------------------------------------------------------------------------------


def test_the_way_around_depends_on_who_one_is(as_: Browser, uma: Account, mo: Account) -> None:
    links = {
        name: {link.get("href") for link in read(as_(person), "/").all("a")}
        for name, person in (("visitor", None), ("creator", uma), ("moderator", mo))
    }
    assert {"/policy/", "/log-in/", "/sign-up/"} <= links["visitor"]
    assert not {"/studio/", "/console/"} & links["visitor"]
    assert {"/policy/", "/studio/", "/studio/notices/"} <= links["creator"]
    assert "/console/" not in links["creator"]
    assert {"/studio/", "/console/"} <= links["moderator"]


def test_unread_notices_are_counted_until_they_are_read(
    world: World, as_: Browser, uma: Account
) -> None:
    unread = Notice.objects.filter(recipient=uma).count()
    client = as_(uma)
    assert f"Notices {unread}" in read(client, "/").text
    read(client, "/studio/notices/")
    assert f"Notices {unread}" in read(client, "/").text, "a list opens nothing"
    code = Notice.objects.filter(recipient=uma).latest("pk").code
    read(client, f"/studio/notices/{code}/")
    assert unread > 1
    assert f"Notices {unread - 1}" in read(client, "/").text, "what was opened is read"
    client.post("/studio/notices/read/")
    assert "Notices 1" not in read(client, "/").text


def test_the_demo_says_so_on_every_page_and_nothing_else_does(as_: Browser, settings: Any) -> None:
    assert "This is a demo." in read(as_(None), "/log-in/").text
    settings.ENCODER = "/models/some-encoder"
    assert "This is a demo." not in read(as_(None), "/log-in/").text


# --- Public ---------------------------------------------------------------------------------


def test_age_restricted_previews_and_files_show_only_after_a_visitor_says_they_are_an_adult(
    as_: Browser, uma: Account
) -> None:
    version = weighed(uma, "For adults")
    ModelVersion.objects.filter(pk=version.pk).update(visibility=Visibility.AGE_RESTRICTED)
    client, path = as_(None), f"/models/{version.code}/"
    before = read(client, path)
    assert not before.all("img")
    assert not any("/files/" in (link.get("href") or "") for link in before.all("a"))
    assert "For adults" not in read(client, "/").text
    assert client.post("/adult/", {"adult": "yes", "next": path}).headers["Location"] == path
    after = read(client, path)
    assert after.all("img")
    assert any("/files/" in (link.get("href") or "") for link in after.all("a"))
    assert "For adults" in read(client, "/").text


def test_a_refused_report_keeps_what_was_typed_and_says_what_is_wrong_beside_the_field(
    world: World, as_: Browser
) -> None:
    answer = as_(None).post(
        f"/models/{world.published.code}/report/",
        {"rule": "yellow-ring", "text": "A ring, & a star", "email": "nobody"},
    )
    assert answer.status_code == 422
    page = Reading(answer)
    assert page.all("div", role="alert")
    assert page.all("input", id="email", value="nobody", **{"aria-invalid": "true"})
    assert page.all("p", id="email-error")
    assert "checked" in page.all("input", name="rule", value="yellow-ring")[0]
    assert "A ring, & a star" in page.text


def test_a_refused_sign_up_keeps_name_and_address_and_never_the_password(as_: Browser) -> None:
    answer = as_(None).post(
        "/sign-up/", {"username": "zoe", "email": "zoe@example.org", "password": "password"}
    )
    page = Reading(answer)
    assert answer.status_code == 422
    assert page.all("input", id="username", value="zoe")
    assert page.all("input", id="email", value="zoe@example.org")
    assert page.all("input", id="password", value="")


def test_a_visitor_is_asked_for_an_address_and_an_account_is_not(
    world: World, as_: Browser, rui: Account
) -> None:
    path = f"/models/{world.published.code}/report/"
    assert read(as_(None), path).all("input", id="email")
    assert not read(as_(rui), path).all("input", id="email")


def test_the_policy_says_each_rule_with_examples_and_what_can_follow(as_: Browser) -> None:
    page = read(as_(None), "/policy/")
    policy = Policy.objects.get(is_active=True)
    assert "This is the demo policy." in page.text
    for rule in policy.rules.all():
        assert page.all("article", id=rule.slug)
        assert rule.title in page.text
        for example in [*rule.permitted_examples, *rule.prohibited_examples]:
            assert example in page.text


def test_no_policy_no_models_and_nothing_in_the_queue_are_said_in_words(
    as_: Browser, nobody: Account, mo: Account
) -> None:
    assert "No model has been published yet" in read(as_(None), "/").text
    assert "You have no models yet" in read(as_(nobody), "/studio/").text
    assert "Nothing yet" in read(as_(nobody), "/studio/notices/").text
    assert "The queue is empty" in read(as_(mo), "/console/").text
    assert "Nothing matches" in read(as_(mo), "/console/?state=hearing").text
    Policy.objects.update(is_active=False)
    assert "No policy is in force" in read(as_(None), "/policy/").text


# --- Creators -------------------------------------------------------------------------------


def test_a_version_asks_every_two_seconds_while_it_is_weighed_and_then_stops(
    as_: Browser, uma: Account
) -> None:
    version = submitted(uma)
    client, path = as_(uma), f"/studio/{version.code}/"
    fragment = client.get(path, headers={"HX-Request": "true"})
    page = Reading(fragment)
    assert not page.all("html")
    assert page.all("section", **{"hx-get": path, "hx-trigger": "every 2s"})
    assert "wait for a worker" in page.text
    TriageJob.objects.filter(version=version).update(state=JobState.DONE)
    ModelVersion.objects.filter(pk=version.pk).update(
        visibility=Visibility.PUBLISHED, triaged_at=timezone.now(), published_at=timezone.now()
    )
    done = Reading(client.get(path, headers={"HX-Request": "true"}))
    assert not done.all("section", **{"hx-trigger": "every 2s"})
    assert "Everybody can see and download it" in done.text


def test_a_creator_reads_how_many_cases_come_first(
    as_: Browser, uma: Account, rui: Account
) -> None:
    held(rui, "First")
    second = held(uma, "Second")
    page = read(as_(uma), f"/studio/{second.version.code}/")
    assert "1 case comes first" in page.text
    assert not page.all("section", **{"hx-trigger": "every 2s"})


def test_a_refused_draft_keeps_every_text(world: World, as_: Browser, uma: Account) -> None:
    typed = {"title": "t" * 130, "description": "D", "tags": "a, b", "licence": "L"}
    answer = as_(uma).post(f"/studio/{world.draft.code}/edit/", typed)
    page = Reading(answer)
    assert answer.status_code == 422
    assert page.all("input", id="title", value="t" * 130, **{"aria-invalid": "true"})
    assert page.all("input", id="tags", value="a, b")
    assert page.all("input", id="licence", value="L")


def test_a_refused_file_says_so_beside_the_field_and_what_came_with_it_is_not_denied(
    as_: Browser, uma: Account
) -> None:
    version = draft(uma)
    answer = as_(uma).post(
        f"/studio/{version.code}/add/", {"file": SimpleUploadedFile("a.safetensors", b"")}
    )
    page = Reading(answer)
    assert answer.status_code == 422
    assert page.all("input", id="file", **{"aria-invalid": "true"})
    assert "Not everything was added. “a.safetensors” is empty." in page.text


def test_a_decision_says_reasons_and_way_back_and_neither_note_nor_name(
    world: World, as_: Browser, uma: Account
) -> None:
    page = read(as_(uma), f"/studio/decisions/{world.decision.code}/")
    rule = world.decision.clauses[0]
    for words in ("A red star in the corner.", rule["title"], rule["text"], rule["advice"]):
        assert words in page.text
    assert page.all("textarea", name="text")
    assert "184 days left" in page.text or "183 days left" in page.text
    assert "the third this week" not in page.text
    assert world.decision.decided_by.username not in re.findall(r"\w+", page.text)


def test_after_the_window_a_decision_names_the_other_ways(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = removed(uma, mo, "Removed")
    later = timezone.now() + timedelta(days=185)
    monkeypatch.setattr(timezone, "now", lambda: later)
    client = as_(uma)
    path = f"/studio/decisions/{decision.code}/"
    page = read(client, path)
    assert not page.all("textarea", name="text")
    assert "out-of-court dispute settlement body, or to a court" in page.text
    answer = client.post(path, {"text": "I was ill."})
    assert answer.status_code == 410
    assert "I was ill." in Reading(answer).text


# --- The console ----------------------------------------------------------------------------


def test_a_request_for_another_host_is_refused_and_is_no_fault(db: None) -> None:
    assert Client(headers={"host": "elsewhere.example.org"}).get("/").status_code == 400


def test_only_the_team_opens_the_console(
    world: World, as_: Browser, uma: Account, mo: Account
) -> None:
    for path in ("/console/", f"/console/cases/{world.waiting.code}/"):
        assert as_(None).get(path).headers["Location"].startswith("/log-in/")
        assert "for the moderation team" in read(as_(uma), path, 403).text
        answer = as_(mo).get(path)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"


def test_the_queue_says_why_a_case_is_there_and_asks_every_ten_seconds(
    world: World, as_: Browser, mo: Account
) -> None:
    page = Reading(as_(mo).get("/console/?rule=red-star", headers={"HX-Request": "true"}))
    assert not page.all("html")
    assert page.all("div", id="queue", **{"hx-trigger": "every 10s"})
    assert "rule=red-star" in (page.all("div", id="queue")[0].get("hx-get") or "")
    assert "Here because the page scored 0.95 (hold from 0.85)." in page.text
    assert "Here because the creator appeals and" in page.text
    assert page.all("a", id=f"case-{world.waiting.code}")


def test_a_case_shows_score_thresholds_and_the_prompts_that_met(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = held(
        uma,
        "Stars",
        evidence={
            "calibrated": False,
            "deciding": {
                "prompt": "a red star",
                "prompt_cosine": 0.2812,
                "contrast": "a red circle",
                "contrast_cosine": 0.2331,
            },
            "relatives": [
                {
                    "version": "abc",
                    "title": "Old",
                    "state": "removed",
                    "relation": "same",
                    "cosine": 1.0,
                    "share": None,
                }
            ],
            "something_new": {"a": [1, 2]},
        },
    )
    page = read(as_(mo), f"/console/cases/{case.code}/")
    assert page.all("rect", **{"class": "part", "width": "95.0%"})
    assert page.all("a", href="/models/abc/")
    for words in (
        "“a red star”, cosine 0.281",
        "“a red circle”, cosine 0.233",
        "has not been fitted",
        "“Old”, removed: same, cosine 1.000",
        "Something new A: 1, 2",
        "Hold 0.95",
    ):
        assert words in page.text


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"deciding": 7},
        {"readings": [[]]},
        {"matches": "x"},
        {"people": [None]},
        {"folders": {"name": None}},
        {"picture": []},
        {"relatives": [{"version": "no such thing", "cosine": "x", "share": True}]},
        {"problems": ["a", {"sentence": None}]},
        {"imports": {"a": None}},
        {"other": [[1, {"b": [None]}]]},
    ],
)
def test_evidence_of_an_unexpected_shape_is_shown_or_skipped_but_never_a_fault(
    as_: Browser, uma: Account, mo: Account, odd: dict[str, Any]
) -> None:
    case = held(uma, "Stars", evidence=odd)
    assert "A finding made for a test." in read(as_(mo), f"/console/cases/{case.code}/").text


def test_previews_of_a_case_are_hidden_until_somebody_asks_and_silence_is_no_pass(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = held(uma, "Looked at")
    path = f"/console/cases/{case.code}/"
    page = read(as_(mo), path)
    assert page.all("input", type="checkbox", **{"class": "sharp"})
    assert "1 . Not looked at" in page.text
    # The same case once a probe has looked at that preview.
    case.version.findings.filter(score=0).update(preview=case.version.previews.get())
    assert "1 . nothing found" in read(as_(mo), path).text


def test_a_look_that_did_not_apply_is_not_counted_as_one_that_found_nothing(
    as_: Browser, uma: Account, mo: Account
) -> None:
    abstained = factories.finding(
        None, probe="lineage", outcome="abstained", reason="Nothing to compare with."
    )
    found = factories.finding(0.9, rule="red-star")
    case = weighed(uma, "Stars", [found, abstained]).cases.get()
    page = read(as_(mo), f"/console/cases/{case.code}/")
    assert "1 look found nothing" in page.text
    assert "1 look did not apply" in page.text
    assert "Comparison with known models: Nothing to compare with." in page.text


def test_the_rules_with_findings_are_ticked_first_and_a_refused_decision_keeps_everything(
    world: World, as_: Browser, mo: Account
) -> None:
    client, path = as_(mo), f"/console/cases/{world.held.code}/"
    first = read(client, path)
    assert "checked" in first.all("input", name="rules", value="red-star")[0]
    assert "checked" not in first.all("input", name="rules", value="yellow-ring")[0]
    answer = client.post(
        path + "decide/",
        {"action": "limit", "rules": "yellow-ring", "facts": "", "private_note": "P", "then": ""},
    )
    page = Reading(answer)
    assert answer.status_code == 422
    assert page.all("textarea", id="facts", **{"aria-invalid": "true"})
    assert page.all("div", role="alert")
    assert "checked" in page.all("input", name="action", value="limit")[0]
    assert "checked" in page.all("input", name="rules", value="yellow-ring")[0]
    assert "checked" not in page.all("input", name="rules", value="red-star")[0]
    assert "P" in page.text.split()


def test_who_may_not_decide_reads_why_and_finds_no_form(
    world: World, as_: Browser, ada: Account, mo: Account
) -> None:
    other = read(as_(ada), f"/console/cases/{world.held.code}/")
    assert "mo has this case" in other.text
    assert not other.all("textarea", name="facts")
    own = held(ada, "Ada's own")
    hers = read(as_(ada), f"/console/cases/{own.code}/", status=403)
    assert "You cannot judge your own model." in hers.text
    lead = Account.objects.get(username="petra")
    reading = read(as_(lead), f"/console/cases/{world.waiting.code}/")
    assert "Only moderators decide" in reading.text
    appealed = Case.objects.filter(state="appealed").first()
    assert appealed is not None
    mine = read(as_(mo), f"/console/cases/{appealed.code}/")
    assert "another moderator answers the appeal" in mine.text
    assert "Take this appeal" not in mine.text
    assert "Take this appeal" not in reading.text


def test_a_decision_that_comes_too_late_gives_back_what_was_written(
    world: World, as_: Browser, ada: Account
) -> None:
    answer = as_(ada).post(
        f"/console/cases/{world.held.code}/decide/",
        {"action": "approve", "facts": "An hour of writing."},
    )
    page = Reading(answer)
    assert answer.status_code == 409
    assert "mo has this case. Nothing was decided." in page.text
    assert "An hour of writing." in page.text


def test_a_claim_is_renewed_every_minute_and_a_lost_one_says_so(
    world: World, as_: Browser, mo: Account, ada: Account
) -> None:
    path = f"/console/cases/{world.held.code}/renew/"
    kept = Reading(as_(mo).post(path, headers={"HX-Request": "true"}))
    assert kept.all("form", id="claim", **{"hx-post": path, "hx-trigger": "every 60s"})
    assert kept.all("input", name="csrfmiddlewaretoken")
    lost = Reading(as_(ada).post(path, headers={"HX-Request": "true"}))
    assert "You do not have this case any more. mo has it." in lost.text
    assert not lost.all("form")


# --- Query counts ---------------------------------------------------------------------------


def queries(client: Client, path: str) -> int:
    client.get(path)  # the session is loaded and saved once before
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def test_lists_ask_as_often_for_thirty_rows_as_for_one(
    as_: Browser, uma: Account, mo: Account
) -> None:
    lists = [
        (as_(None), "/"),
        (as_(uma), "/studio/"),
        (as_(uma), "/studio/notices/"),
        (as_(mo), "/console/"),
    ]

    def fill(number: int) -> None:
        weighed(uma, f"Published {number}")
        case = held(uma, f"Held {number}")
        Report.objects.create(case=case, version=case.version, text="x")
        if number % 10 == 0:
            removed(uma, mo, f"Removed {number}")

    fill(0)
    for_one = {path: queries(client, path) for client, path in lists}
    for number in range(1, 31):
        fill(number)
    assert {path: queries(client, path) for client, path in lists} == for_one


def test_a_case_asks_as_often_for_many_findings_as_for_one(
    as_: Browser, uma: Account, mo: Account
) -> None:
    one = held(uma, "One")
    many = weighed(
        uma,
        "Many",
        [factories.finding(0.9, rule="red-star", subject_key=str(number)) for number in range(30)],
    ).cases.get()
    client = as_(mo)
    few = queries(client, f"/console/cases/{one.code}/")
    assert queries(client, f"/console/cases/{many.code}/") == few


# --- Words ----------------------------------------------------------------------------------


def test_every_event_of_the_flow_is_said_in_words(world: World) -> None:
    events = Event.objects.filter(version__isnull=False)
    said = {event.action: text.in_words(event) for event in events}
    assert len(said) > 10
    for action, words in said.items():
        assert not re.search(r"[{}_]", words), f"{action}: {words}"
        assert words != action.replace(".", ": "), f"{action} has no words"


def test_markdown_keeps_its_headings_below_the_pages_own_and_loads_nothing() -> None:
    html = text.markdown("# One\n\n###### Six\n\n![x](https://example.org/x.png) <i>i</i>")
    assert "<h3>One</h3>" in html
    assert "<h6>Six</h6>" in html
    assert "<img" not in html
    assert "<i>" not in html


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(minutes=59), "59 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=2), "2 days"),
        (timedelta(hours=-3), "3 h"),
    ],
)
def test_spans_are_said_in_their_largest_unit(span: timedelta, words: str) -> None:
    assert spans.span(span) == words


def test_a_moment_is_written_in_utc_with_a_machine_readable_twin() -> None:
    moment = datetime(2026, 3, 1, 9, 5, tzinfo=UTC)
    assert text.when(moment) == (
        '<time datetime="2026-03-01T09:05:00+00:00">1 March 2026, 09:05 UTC</time>'
    )


def test_machine_names_become_words() -> None:
    assert evidence.in_plain_words("tensor_count") == "Tensor count"
