"""After a change of the policy, what was uploaded before is weighed again from memory."""

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.test import Client

from moderation.models import Account, Case, Embedding, Event, Policy, TriageJob
from moderation.policy import policy_import, policy_read
from moderation.rescreening import rescreenings_settle
from moderation.states import CaseState, JobState, Visibility
from tests.test_embeddings import asked, upload  # noqa: F401
from tests.test_flow import drawing
from triage import encoders, known_texts, scoring
from triage.encoders.base import Array

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("policy")]
Browser = Callable[[Account | None], Client]


def change_policy(*, prohibited: Sequence[str], activate: bool = True, version: int = 2) -> Policy:
    """Store another version of the demo policy, in which the rule on red stars is on this."""
    content = policy_read(django_settings.BASE_DIR / "moderation" / "policies" / "demo.yaml")
    first, *others = content.rules
    concept = first.concepts[0].model_copy(
        update={"prohibited": list(prohibited), "contrast": ["a green square", "a yellow star"]}
    )
    rules = [first.model_copy(update={"concepts": [concept]}), *others]
    changed = content.model_copy(update={"version": version, "rules": rules})
    return policy_import(content=changed, activate=activate, actor=None)


def rescreen(*options: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("rescreen", "--json", *options, stdout=out)
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def test_a_published_version_that_the_new_policy_prohibits_comes_before_a_person(
    as_: Browser,
    uma: Account,
    asked: list[int],  # noqa: F811
) -> None:
    circle = upload(as_(uma), "Circle", drawing(("blue", "circle")))
    square = upload(as_(uma), "Square", drawing(("green", "square")))
    assert {circle.visibility, square.visibility} == {Visibility.PUBLISHED}
    change_policy(prohibited=["a blue circle"])
    asked.clear()

    report = rescreen()

    assert report["rules"] == {"red-star": {"held": 1}}
    assert report["changes"] == [
        {"version": circle.code, "rule": "red-star", "before": "none", "after": "hold"}
    ]
    assert (report["versions"], report["pictures"], report["queued"]) == (2, 2, 1)
    case = Case.objects.get()
    assert (case.version, case.state) == (circle, CaseState.QUEUED)
    finding = circle.findings.get(job__policy__version=2, rule__slug="red-star")
    assert (finding.concern, finding.versions["policy"]) == ("hold", "demo v2")
    circle.refresh_from_db()
    assert circle.visibility == Visibility.PUBLISHED, "only a person takes down what is published"
    assert asked == [], "a picture was embedded again"


def test_the_report_comes_before_anything_is_done(as_: Browser, uma: Account) -> None:
    upload(as_(uma), "Circle", drawing(("blue", "circle")))
    change_policy(prohibited=["a blue circle"])
    before = (TriageJob.objects.count(), Event.objects.count())
    report = rescreen("--dry-run")
    assert (report["rules"], report["queued"]) == ({"red-star": {"held": 1}}, 0)
    assert (TriageJob.objects.count(), Event.objects.count()) == before
    assert not Case.objects.exists()


def test_running_it_again_changes_nothing(as_: Browser, uma: Account) -> None:
    version = upload(as_(uma), "Circle", drawing(("blue", "circle")))
    change_policy(prohibited=["a blue circle"])
    rescreen()
    before = (TriageJob.objects.count(), version.findings.count(), Case.objects.count())
    report = rescreen()
    assert (report["already_weighed"], report["queued"], report["changes"]) == (1, 0, [])
    assert before == (TriageJob.objects.count(), version.findings.count(), Case.objects.count())


def test_a_run_that_was_cut_short_is_gone_on_with(
    as_: Browser, uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for title, seed in (("One", 1), ("Two", 2)):
        upload(as_(uma), title, drawing(("blue", "circle"), seed=seed))
    change_policy(prohibited=["a blue circle"])
    from triage.management.commands import rescreen as command

    real = command.version_rescreen
    done: list[int] = []

    def dying(**given: Any) -> bool:
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(**given)

    monkeypatch.setattr(command, "version_rescreen", dying)
    with pytest.raises(KeyboardInterrupt):
        rescreen()
    monkeypatch.setattr(command, "version_rescreen", real)
    report = rescreen()
    assert (report["already_weighed"], report["queued"]) == (1, 1)
    assert Case.objects.count() == 2


def test_pictures_of_which_nothing_is_remembered_are_counted_and_looked_at(
    as_: Browser,
    uma: Account,
    asked: list[int],  # noqa: F811
) -> None:
    upload(as_(uma), "Circle", drawing(("blue", "circle")))
    Embedding.objects.filter(kind="picture").delete()
    change_policy(prohibited=["a blue circle"])
    asked.clear()
    report = rescreen()
    assert (report["pictures_without_embedding"], report["versions_without_embedding"]) == (1, 1)
    assert (report["queued"], asked) == (1, [1])
    assert Embedding.objects.filter(kind="picture").count() == 1
    assert Case.objects.count() == 1


def test_what_the_new_policy_permits_stays_with_the_person_who_has_it(
    as_: Browser, uma: Account
) -> None:
    star = upload(as_(uma), "Star", drawing(("red", "star"), ("red", "star")))
    assert star.visibility == Visibility.QUARANTINED
    change_policy(prohibited=["a blue circle"])
    report = rescreen()
    assert report["rules"] == {"red-star": {"cleared": 1}}
    assert report["queued"] == 0
    star.refresh_from_db()
    assert star.visibility == Visibility.QUARANTINED
    assert star.cases.get().state == CaseState.QUEUED


def test_a_person_is_not_asked_again_about_what_has_not_changed(as_: Browser, uma: Account) -> None:
    upload(as_(uma), "Star", drawing(("red", "star"), ("red", "star")))
    Case.objects.update(state=CaseState.CLOSED)
    change_policy(prohibited=["a red star"])
    assert rescreen()["queued"] == 0
    assert Case.objects.count() == 1


def test_a_policy_that_is_not_in_force_can_only_be_tried(as_: Browser, uma: Account) -> None:
    upload(as_(uma), "Circle", drawing(("blue", "circle")))
    change_policy(prohibited=["a blue circle"], activate=False)
    assert rescreen("--policy", "demo:2", "--dry-run")["rules"] == {"red-star": {"held": 1}}
    with pytest.raises(CommandError, match="not in force"):
        rescreen("--policy", "demo:2")
    with pytest.raises(CommandError, match="no policy “demo:9”"):
        rescreen("--policy", "demo:9")


def test_what_is_removed_and_what_is_being_weighed_is_left_alone(
    as_: Browser, uma: Account, asleep: None
) -> None:
    from tests import factories

    removed = factories.published(uma)
    removed.visibility = Visibility.REMOVED
    removed.save()
    waiting = factories.submitted(uma, title="Waiting")
    assert waiting.triaged_at is None
    change_policy(prohibited=["a blue circle"])
    assert rescreen()["versions"] == 0


def test_weighing_again_that_died_comes_before_a_person_once(
    as_: Browser, uma: Account, asleep: None
) -> None:
    from django.utils import timezone

    from tests import factories

    version = factories.published(uma)
    policy = change_policy(prohibited=["a blue circle"])
    assert rescreen()["queued"] == 1
    job = version.jobs.get(policy=policy)
    TriageJob.objects.filter(pk=job.pk).update(
        state=JobState.DEAD, finished_at=timezone.now(), attempts=3
    )
    assert rescreenings_settle() == 1
    case = version.cases.get()
    assert case.is_incomplete
    Case.objects.filter(pk=case.pk).update(state=CaseState.CLOSED)
    assert rescreenings_settle() == 0


def test_prompts_are_embedded_once_for_all_processes(
    as_: Browser, uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_process() -> None:
        scoring._banks.clear()
        known_texts._loaded.clear()

    another_process()
    upload(as_(uma), "Circle", drawing(("blue", "circle")))
    assert Embedding.objects.filter(kind="text").exists()

    def refusing(texts: Sequence[str]) -> Array:
        raise AssertionError(f"embedded again: {texts[:3]}")

    another_process()
    monkeypatch.setattr(encoders.load("demo"), "embed_texts", refusing)
    version = upload(as_(uma), "Square", drawing(("green", "square")))
    assert set(version.findings.values_list("outcome", flat=True)) <= {"scored", "abstained"}


def test_the_command_says_it_in_words(as_: Browser, uma: Account) -> None:
    upload(as_(uma), "Circle", drawing(("blue", "circle")))
    change_policy(prohibited=["a blue circle"])
    out = io.StringIO()
    call_command("rescreen", "--dry-run", stdout=out)
    assert "red-star: 1 newly held" in out.getvalue()
    assert "Nothing was changed." in out.getvalue()
