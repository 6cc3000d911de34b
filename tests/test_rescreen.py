"""After a change of the policy, what was uploaded before is weighed again from memory."""

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.heads import Place, head_place, head_record, head_win, threshold_record
from moderation.models import Account, Case, ConceptHead, Embedding, Event, Policy, TriageJob
from moderation.policy import policy_import, policy_read
from moderation.rescreening import rescreenings_settle
from moderation.selectors.policies import stored_rules
from moderation.states import CaseState, JobState, Role, Visibility
from tests import factories
from tests.test_embeddings import asked, draft_with, spoil, upload  # noqa: F401
from tests.test_flow import drawing
from triage import encoders, known_texts, scoring
from triage.encoders.base import Array, EncoderError
from triage.learning.heads import Head, Platt
from triage.tasks import previews

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
    """Return the report, and as “queued” how many jobs there are more than before."""
    out = io.StringIO()
    before = TriageJob.objects.count()
    call_command("rescreen", "--json", *options, stdout=out, stderr=io.StringIO())
    answer: dict[str, Any] = json.loads(out.getvalue())
    return {**answer, "queued": TriageJob.objects.count() - before}


def put_in_place(odds: float, review: float | None = None) -> ConceptHead:
    """Put a head in place that says the same odds of every picture under the rule on red stars."""
    encoder = encoders.load("demo")
    head = Head("red-star", "logistic", "1", (0.0,) * encoder.dim, 0.0, odds, Platt())
    place = Place("red-star", "red-star", encoder.name, encoder.revision)
    parameters = head.as_dict()
    row = head_record(
        place=place,
        prompts=_prompts(),
        held_out=parameters.pop("held_out"),
        parameters=parameters,
        labels=60,
        positives=30,
        comparison={},
    )
    head_win(place=place, head=row, reason="A head made for a test.")
    if review is not None:
        threshold_record(
            place=place,
            prompts=_prompts(),
            head=row,
            alpha=0.05,
            positives=30,
            value=review,
            sentence="A threshold made for a test.",
        )
    return row


def _prompts() -> str:
    return stored_rules(Policy.objects.get(is_active=True)).prompts["red-star", "red-star"]


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


def test_a_new_head_and_one_that_is_put_back_reach_what_was_uploaded_before(
    as_: Browser,
    uma: Account,
    asked: list[int],  # noqa: F811
) -> None:
    circle = upload(as_(uma), "Circle", drawing(("blue", "circle")))
    report = rescreen()
    assert (report["already_weighed"], report["versions"]) == (1, 0), "it has just been weighed"
    asked.clear()

    put_in_place(odds=4.0)
    report = rescreen()

    assert report["changes"] == [
        {"version": circle.code, "rule": "red-star", "before": "none", "after": "hold"}
    ]
    assert (report["queued"], Case.objects.get().version) == (1, circle)
    assert asked == [], "a picture was embedded again"
    assert rescreen()["already_weighed"] == 1
    lead = factories.account("lena", role=Role.POLICY_LEAD)
    head = ConceptHead.objects.get()
    place = Place(head.rule, head.concept, head.encoder, head.revision)
    put = partial(head_place, place=place, prompts=_prompts(), may_be_replaced=False, actor=lead)
    put(head=None, reason="Too many.")
    assert rescreen("--dry-run")["rules"] == {"red-star": {"cleared": 1}}
    put(head=head, reason="Not too many.")
    assert rescreen()["already_weighed"] == 1


def test_another_encoder_looks_at_what_was_uploaded_before(
    as_: Browser,
    uma: Account,
    asked: list[int],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(as_(uma), "Circle", drawing(("blue", "circle")))
    monkeypatch.setattr(known_texts.load("demo"), "revision", "another")
    asked.clear()
    report = rescreen()
    assert (report["pictures_without_embedding"], report["queued"], asked) == (1, 1, [1])
    assert rescreen()["already_weighed"] == 1


def test_what_nobody_can_read_is_not_queued_for_ever_and_what_an_encoder_could_not_is(
    as_: Browser, uma: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = as_(uma)
    broken = draft_with(client, "Broken", drawing(("blue", "circle")))
    spoil(broken)
    client.post(reverse("creator:submit", args=[broken.code]))
    assert rescreen()["already_weighed"] == 1

    def failing(images: Sequence[Any]) -> Array:
        raise EncoderError("The card is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(encoders.load("demo"), "embed_images", failing)
        upload(client, "Square", drawing(("green", "square")))
    report = rescreen()
    assert (report["already_weighed"], report["queued"]) == (1, 1)
    assert rescreen()["already_weighed"] == 2


def test_a_head_that_was_put_in_place_while_a_job_waited_is_not_forgotten(
    as_: Browser, uma: Account, asleep: None
) -> None:
    version = factories.published(uma)
    assert rescreen()["queued"] == 1, "nothing is remembered of its picture"
    put_in_place(odds=-4.0)
    assert rescreen()["being_weighed"] == 1
    previews(version.jobs.get(state=JobState.QUEUED).pk)
    assert rescreen()["already_weighed"] == 1
    put_in_place(odds=-5.0)
    assert rescreen()["versions"] == 1


def test_jobs_that_were_queued_twice_are_left_once_by_the_migration(
    as_: Browser, uma: Account, asleep: None
) -> None:
    version = factories.submitted(uma)
    (constraint,) = [
        each for each in TriageJob._meta.constraints if each.name == "job_one_at_a_time"
    ]
    with connection.schema_editor() as editor:
        editor.remove_constraint(TriageJob, constraint)
    try:
        first = version.jobs.get(stage="previews")
        later = change_policy(prohibited=["a blue circle"])
        now = timezone.now()
        TriageJob.objects.create(version=version, policy=later, stage="previews", not_before=now)
        migration = import_module("moderation.migrations.0030_jobs_of_scorers")
        migration.leave_the_newest(apps, None)
        assert version.jobs.get(stage="previews").policy == later
        assert version.jobs.filter(stage="files").exists()
        assert not TriageJob.objects.filter(pk=first.pk).exists()
    finally:
        with connection.schema_editor() as editor:
            editor.add_constraint(TriageJob, constraint)


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
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        call_command("rescreen", "--json", stdout=out)
    assert json.loads(out.getvalue())["to_queue"] == 2, "the report came before the queueing"
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
