"""What ``make faults`` stands on: its counts see what is lost or there twice."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from tests.faults import counting
from tests.faults.asking import Answer
from tests.faults.load import Ledger

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
