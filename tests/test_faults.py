"""What ``make faults`` stands on: its counts see what is lost or there twice."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.conf import settings as configured
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend

from moderation import tasks
from moderation.models import Account, Decision, ModelVersion, Notice, Policy, TriageJob
from moderation.reports import report_file
from moderation.tasks import sweep
from moderation.throttle import turn_end, turn_take
from tests import factories
from tests.faults import counting, running
from tests.faults.asking import Answer, Marketplace, Post
from tests.faults.load import Course, Ledger, Load, Outcome

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("policy", "asleep")]


@pytest.fixture
def version(uma: Account) -> ModelVersion:
    return factories.published(uma, title="Upload 00001")


def _accepted(version: ModelVersion) -> Ledger:
    ledger = Ledger()
    ledger.sent["uploads"] = 1
    codes = (version.code, version.files.get().code, version.previews.get().code)
    ledger.uploads["Upload 00001"] = codes
    return ledger


def _broken(lines: Any) -> set[str]:
    return {line.promise for line in lines if line.broken}


def test_an_upload_that_is_whole_keeps_every_promise(version: ModelVersion) -> None:
    assert not _broken(counting._uploads(_accepted(version)))
    assert not _broken(counting._everything())


@pytest.mark.parametrize(
    ("harm", "promise"),
    [
        (lambda version: version.files.all().delete(), "is there with its file and preview"),
        (lambda version: version.jobs.update(state="queued"), "its jobs have all ended"),
        (lambda version: _update(version, published_at=None), "or a person has its case"),
        (lambda version: _update(version, code="another"), "is there with its file"),
        (
            lambda version: factories.draft(
                version.uploaded_model.creator, title=version.uploaded_model.title
            ),
            "no upload is there twice",
        ),
    ],
)
def test_an_upload_that_was_harmed_is_seen(
    harm: Callable[[ModelVersion], Any], promise: str, version: ModelVersion
) -> None:
    ledger = _accepted(version)
    harm(version)
    assert any(promise in said for said in _broken(counting._uploads(ledger)))


def _update(version: ModelVersion, **fields: Any) -> None:
    ModelVersion.objects.filter(pk=version.pk).update(**fields)


def test_a_lost_report_a_second_one_and_a_missing_receipt_are_seen(
    version: ModelVersion, rui: Account, nobody: Account
) -> None:
    ledger = Ledger()
    filed = report_file(version=version, text="Report 00001: red.", actor=rui)
    ledger.reports |= {filed.text: filed.code}
    assert not _broken(counting._reports(ledger))
    ledger.reports["Report 00002: red."] = "no-such-code"
    assert any("is there, on a case" in said for said in _broken(counting._reports(ledger)))
    report_file(version=version, text=filed.text, actor=nobody)
    assert any("no report is there twice" in said for said in _broken(counting._reports(ledger)))
    Notice.objects.filter(report=filed).delete()
    assert any("one receipt" in said for said in _broken(counting._reports(ledger)))


def test_a_decision_whose_notice_came_twice_or_that_is_lost_is_seen(
    uma: Account, mo: Account
) -> None:
    decision = factories.decided(uma, mo)
    ledger = Ledger(decisions={decision.facts: "remove"})
    assert not _broken(counting._decisions(ledger))
    notice = Notice.objects.get(decision=decision)
    notice.pk, notice.code = None, "again"
    notice.save(force_insert=True)
    assert any("one notice" in said for said in _broken(counting._decisions(ledger)))
    assert any("no notice" in said for said in _broken(counting._everything()))
    ledger.decisions["Decision 00009"] = "approve"
    assert any("in force" in said for said in _broken(counting._decisions(ledger)))
    assert Decision.objects.count() == 1


def test_a_letter_that_was_handed_over_twice_is_seen(version: ModelVersion, tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    folder.mkdir()
    notice = Notice.objects.get(kind="published")
    Notice.objects.filter(pk=notice.pk).update(state="sent", attempts=1)

    def hand_over() -> None:
        headers = {"Message-ID": f"<{notice.code}@weighhouse>"}
        EmailBackend(file_path=str(folder)).send_messages(
            [EmailMessage("A subject", "Words.", to=["uma@example.org"], headers=headers)]
        )

    assert any("sent as a letter" in said for said in _broken(counting._letters(folder)))
    hand_over()
    assert not _broken(counting._letters(folder))
    hand_over()
    assert any("handed over twice" in said for said in _broken(counting._letters(folder)))
    # A second attempt after one that was cut off is no fault, and is counted.
    Notice.objects.filter(pk=notice.pk).update(attempts=2)
    assert not _broken(counting._letters(folder))
    assert counting.letters_repeated(folder) == 1


def test_a_poisoned_job_has_to_be_dead_and_in_sight(uma: Account) -> None:
    version = factories.submitted(uma)
    assert counting._poison([version.code]).broken
    TriageJob.objects.filter(version=version).update(state="dead", attempts=3)
    assert counting._poison([version.code]).broken
    sweep()
    assert not counting._poison([version.code]).broken


@pytest.mark.parametrize(
    ("answer", "is_clean"),
    [
        (Answer(200), True),
        (Answer(302), True),
        (Answer(409), True),
        (Answer(500, body=b"Something broke"), False),
        (Answer(503, body=b"upstream"), False),
        (Answer(503, {"retry-after": "5"}, b"Traceback"), False),
        (Answer(503, {"retry-after": "5"}, b"We will be back in a moment"), True),
        (Answer(0, error="timed out"), False),
        (Answer(400), False),
    ],
)
def test_only_a_503_that_says_when_and_why_is_clean(answer: Answer, is_clean: bool) -> None:
    assert answer.is_clean == is_clean


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(Answer(503, {"retry-after": "5"}), 5), (Answer(503, {"retry-after": "soon"}), 1)],
)
def test_a_sender_comes_back_when_it_is_told_to(answer: Answer, seconds: float) -> None:
    assert answer.wait_seconds == seconds


class _Busy(BaseHTTPRequestHandler):
    """Says “not now” to the first six, and acknowledges what comes then."""

    keys: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.keys.append(self.headers["Idempotency-Key"])
        is_busy = len(self.keys) <= 6
        body = b'{"code": "overloaded"}' if is_busy else b'{"code": "abc"}'
        self.send_response(503 if is_busy else 201)
        self.send_header("Content-Type", "application/problem+json" if is_busy else "json")
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_what_is_refused_for_now_is_sent_again_three_times_at_once_with_the_same_key() -> None:
    _Busy.keys.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Busy) as server:
        threading.Thread(target=server.serve_forever).start()
        post = Post(server.server_port)
        answer = Marketplace(post, "wh_key").create("/models", {"title": "Ink"})
        post.close()
        server.shutdown()
    assert answer is not None
    assert answer.json() == {"code": "abc"}
    assert len(_Busy.keys) == 9
    assert len(set(_Busy.keys)) == 1
    assert (post.statuses, post.unclean) == ({503: 6, 201: 3}, [])


def _load() -> Load:
    rates = {"uploads": 5.0, "reports": 5.0, "decisions": 2.0}
    people = {"targets": ["t"], "reporters": ["r"], "moderators": ["m"]}
    return Load(Post(0), key="k", rates=rates, seconds=2, patience_seconds=0, **people)


def _went(
    load: Load, kind: str, *, late: float = 0.0, outcome: Outcome = Outcome.ACKNOWLEDGED
) -> None:
    for number in range(round(load.seconds * load.rates[kind])):
        due = number / load.rates[kind]
        begun = due + late
        load.ledger.courses.append(Course(kind, number, due, begun, begun + 0.5, outcome))


def test_a_load_that_was_really_sent_and_answered_keeps_its_promises() -> None:
    load = _load()
    for kind in load.rates:
        _went(load, kind)
    assert not _broken(running._of_the_rates(load))
    figures = load.figures("uploads")
    assert (figures["asked"], figures["sent_on_time"], figures["acknowledged"]) == (10, 10, 10)
    # Two were acknowledged when the two seconds were over.
    assert figures["acknowledged_during_the_load"] == 8
    assert figures["seconds"]["median"] == 0.5


@pytest.mark.parametrize(
    ("harm", "promise"),
    [
        ({"late": 1.5}, "really sent, on time"),
        ({"outcome": Outcome.NO_CASE}, "really sent, on time"),
        ({"outcome": Outcome.GIVEN_UP}, "acknowledged or refused in the end"),
    ],
)
def test_a_load_that_falls_short_is_seen(harm: dict[str, Any], promise: str) -> None:
    load = _load()
    _went(load, "uploads")
    _went(load, "reports")
    _went(load, "decisions", **harm)
    broken = list(running._of_the_rates(load))
    assert [line.broken for line in broken if promise in line.promise] != [[]]
    assert all("decisions" in said for line in broken for said in line.broken)


def test_one_sweep_at_a_time(settings: Any) -> None:
    assert turn_take(name="broom", seconds=60)
    assert not turn_take(name="broom", seconds=60)
    turn_end(name="broom", pause=60)
    assert not turn_take(name="broom", seconds=60)
    turn_end(name="broom", pause=0)
    assert turn_take(name="broom", seconds=60)


def test_a_turn_of_who_died_with_it_ends_by_itself() -> None:
    assert turn_take(name="broom", seconds=0)
    assert turn_take(name="broom", seconds=60)


def test_a_sweep_that_is_queued_behind_another_does_nothing(
    uma: Account, settings: Any, policy: Policy
) -> None:
    settings.SWEEP_SECONDS = 600
    sweep()
    TriageJob.objects.filter(version=factories.submitted(uma)).update(state="dead")
    sweep()
    assert not ModelVersion.objects.filter(triaged_at__isnull=False).exists()
    turn_end(name="sweep", pause=0)
    sweep()
    assert ModelVersion.objects.filter(triaged_at__isnull=False).exists()


def test_a_step_of_the_sweep_that_fails_keeps_the_others_from_nothing(
    uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble() -> None:
        raise ZeroDivisionError

    TriageJob.objects.filter(version=factories.submitted(uma)).update(state="dead")
    monkeypatch.setattr("moderation.tasks.STEPS", (stumble, *tasks.STEPS))
    with pytest.raises(ZeroDivisionError):
        sweep()
    assert ModelVersion.objects.filter(triaged_at__isnull=False).exists()


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments],
        cwd=configured.BASE_DIR,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_the_servers_programs_it_says_so_and_fails_only_in_ci(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    skipped = _run(CI="false")
    assert skipped.stdout.startswith("Skipped: ")
    assert skipped.returncode == 0
    assert _run(CI="true").returncode == 1


def test_it_teaches() -> None:
    said = _run("--help").stdout
    assert "free ports" in said
    assert "--json" in said
