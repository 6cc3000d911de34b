"""From a moderator's word to a head in place: labels, learning, guarantee, audit and rollback."""

import hashlib
import io
import json
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import numpy as np
import pytest
from celery import current_app
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation import intake
from moderation.heads import Place, head_record
from moderation.models import (
    Account,
    AuditItem,
    ConceptHead,
    ConceptThreshold,
    Embedding,
    Exposure,
    Finding,
    HeadPlacement,
    ModelVersion,
    Policy,
    PreviewImage,
    Rule,
    Verdict,
)
from moderation.policy import policy_import
from moderation.policy_file import PolicyFile, VectorsFile
from moderation.reports import report_file
from moderation.selectors import learning
from moderation.selectors.learning import labels_of
from moderation.selectors.policies import stored_rules
from moderation.selectors.workers import policy_data
from moderation.states import Role, Visibility
from moderation.verdicts import verdict_give
from tests import factories
from triage import encoders
from triage.demo_encoder.scenes import compose, draw
from triage.tasks import previews

Browser = Callable[[Account | None], Client]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("policy")]


@pytest.fixture
def lena(db: None) -> Account:
    """Return Lena, who leads the policy."""
    return factories.account("lena", role=Role.POLICY_LEAD)


def _picture(shape: str, colour: str, seed: int) -> bytes:
    scene = compose(
        [(colour, shape)], np.random.default_rng(seed), background="white", pattern="plain"
    )
    stream = io.BytesIO()
    draw(scene, 96).save(stream, "PNG")
    return stream.getvalue()


def _draft(uma: Account, shape: str, colour: str, seed: int) -> ModelVersion:
    version = factories.draft(uma, title=f"{colour} {shape} {seed}")
    content = _picture(shape, colour, seed)
    stored = default_storage.save(f"quarantine/{uuid.uuid4().hex}", ContentFile(content))
    version.previews.update(
        original=stored, shown=stored, sha256=hashlib.sha256(content).hexdigest()
    )
    return version


def _uploaded(uma: Account, shape: str, colour: str, seed: int) -> ModelVersion:
    """Return a version with one drawing, weighed by all probes."""
    version = intake.version_submit(version=_draft(uma, shape, colour, seed), actor=uma)
    version.refresh_from_db()
    return version


def _seen(uma: Account, shape: str, colour: str, seed: int) -> Finding:
    """Return what the real encoder says of a drawing; no other probe is run."""
    current_app.conf.task_always_eager = False
    try:
        version = intake.version_submit(version=_draft(uma, shape, colour, seed), actor=uma)
    finally:
        current_app.conf.task_always_eager = True
    previews(version.jobs.get(stage="previews").pk)
    return _finding(version)


def _finding(version: ModelVersion, rule: str = "red-star") -> Finding:
    return version.findings.get(probe="previews", rule__slug=rule, preview__isnull=False)


def _say(finding: Finding, shows: bool, who: Account) -> None:
    flagged = finding.concern != "none"
    verdict_give(finding=finding, answer="right" if shows == flagged else "wrong", actor=who)


def _learn(*options: str) -> list[dict[str, Any]]:
    out = StringIO()
    call_command("learn", "--json", *options, stdout=out)
    return list(json.loads(out.getvalue()))


def _concept(finding: Finding) -> str:
    return str(finding.evidence["deciding"]["concept"])


@pytest.fixture
def in_force(demo_policy: PolicyFile) -> Callable[..., Policy]:
    """Return what puts a further version in force, with changes to the rule about red stars."""
    version = demo_policy.version

    def put(*, prompts: list[str] | None = None, alpha: float | None = None) -> Policy:
        nonlocal version
        version += 1
        content = demo_policy.model_copy(deep=True, update={"version": version})
        rule = next(rule for rule in content.rules if rule.slug == "red-star")
        rule.alpha = alpha
        rule.concepts[0].prohibited = prompts or rule.concepts[0].prohibited
        return policy_import(content=content, activate=True, actor=None)

    return put


@pytest.fixture
def judged(uma: Account, mo: Account) -> str:
    """Judge twenty pictures against the prompts: what counts is the blue circles.

    The prompts speak of red stars, so that only what is learnt can get it right.
    """
    for seed in range(10):
        _say(_seen(uma, "circle", "blue", seed), True, mo)
        _say(_seen(uma, "square", "green", 100 + seed), False, mo)
    return _concept(Finding.objects.filter(probe="previews", rule__slug="red-star")[0])


def test_what_moderators_say_becomes_a_head_and_scores_the_next_upload(
    judged: str, uma: Account, as_: Browser, mo: Account
) -> None:
    learnt = _learn("--concept", f"red-star/{judged}")[0]
    assert (learnt["labels"], learnt["positives"]) == (20, 10)
    assert learnt["outcome"] == "put in place", learnt["sentence"]
    head = ConceptHead.objects.get()
    assert head.parameters["kind"] == "anchored"
    blue = _seen(uma, "circle", "blue", 900)
    green = _seen(uma, "square", "green", 901)
    assert blue.score is not None
    assert green.score is not None
    assert blue.score > 0.5 > green.score
    assert blue.evidence["calibrated"] is True
    deciding = blue.evidence["deciding"]
    assert (deciding["head"], deciding["labels"]) == (head.code, 20)
    assert deciding["zero_shot"] < 0
    changed = PreviewImage.objects.get(sha256=head.comparison["changes"][0]["digest"]).version
    changed.visibility = Visibility.PUBLISHED
    changed.save()
    report = report_file(version=changed, text="Look at this.", actor=factories.account("rui"))
    page = as_(mo).get(reverse("console:concept", args=["red-star", judged])).content.decode()
    assert "Head 1, anchored, learnt from 20 labels" in page
    assert "Reliability curve" in page
    told = page.partition('<details class="report">')[2].partition("</details>")[0]
    assert "20 labels, calibration error" in told
    assert "What it sees differently from what was in place" in told
    assert f'href="{reverse("console:case", args=[report.case.code])}"' in told


def test_learning_again_from_the_same_labels_changes_nothing(judged: str) -> None:
    place = f"red-star/{judged}"
    _learn("--concept", place)
    assert _learn("--concept", place)[0]["outcome"] == "unchanged"
    assert ConceptHead.objects.count() == 1


@pytest.mark.parametrize("library", ["scipy", "sklearn"])
def test_without_the_extra_the_command_names_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(CommandError, match="needs the extra “learning”"):
        _learn()


def test_a_dry_run_stores_nothing(judged: str) -> None:
    assert _learn("--concept", f"red-star/{judged}", "--dry-run")[0]["outcome"] == "put in place"
    assert not ConceptHead.objects.exists()
    assert not HeadPlacement.objects.exists()


def test_a_head_that_is_worse_is_kept_with_its_report_and_not_put_in_place(
    uma: Account, mo: Account
) -> None:
    # The prompts are sure of these, and right; what eight labels teach is less sure.
    for seed in range(4):
        star = _seen(uma, "star", "red", seed)
        _say(star, True, mo)
        _say(_seen(uma, "square", "green", 100 + seed), False, mo)
    place = f"red-star/{_concept(star)}"
    learnt = _learn("--concept", place)[0]
    assert learnt["outcome"] == "refused", learnt["sentence"]
    assert ConceptHead.objects.get().comparison["goes_live"] is False
    assert not HeadPlacement.objects.exists()
    assert "head" not in _seen(uma, "star", "red", 900).evidence["deciding"]
    # Nor is it fitted again from the same labels.
    assert _learn("--concept", place)[0]["outcome"] == "unchanged"
    assert ConceptHead.objects.count() == 1


def test_too_few_labels_leave_the_prompts_alone(uma: Account, mo: Account) -> None:
    finding = _seen(uma, "circle", "blue", 1)
    _say(finding, True, mo)
    learnt = _learn("--concept", f"red-star/{_concept(finding)}")[0]
    assert learnt["outcome"] == "without a head"
    assert "needs at least 8" in learnt["sentence"]


def test_contradictory_words_are_settled_by_majority_and_a_tie_says_nothing(
    uma: Account, mo: Account, ada: Account
) -> None:
    finding = _seen(uma, "circle", "blue", 1)
    rule_and_concept = ("red-star", _concept(finding))
    _say(finding, True, mo)
    _say(finding, False, ada)
    assert sorted(label.shows for label in labels_of(*rule_and_concept).labels) == [False, True]
    _say(finding, True, ada)
    assert [label.shows for label in labels_of(*rule_and_concept).labels] == [True, True]
    verdict_give(finding=finding, answer="unsure", actor=ada)
    assert [label.shows for label in labels_of(*rule_and_concept).labels] == [True]


def test_decisions_are_labels_where_they_say_which_preview_was_meant(
    uma: Account, mo: Account, as_: Browser, settings: Any
) -> None:
    from moderation.decisions import decision_make
    from moderation.queue import case_claim
    from moderation.states import Action

    settings.UNDO_SECONDS = 0
    removed, approved = (_uploaded(uma, "star", "red", seed) for seed in (1, 2))
    for version, action in ((removed, Action.REMOVE), (approved, Action.APPROVE)):
        case = case_claim(case=version.cases.get(), actor=mo)
        decision_make(
            case=case,
            action=action,
            rules=["red-star"] if action == Action.REMOVE else [],
            facts="Looked at.",
            actor=mo,
        )
    from moderation.tasks import sweep

    sweep()
    labels = {
        label.sha256: label.shows
        for label in labels_of("red-star", _concept(_finding(removed))).labels
    }
    assert labels == {removed.previews.get().sha256: True, approved.previews.get().sha256: False}


def test_what_the_newest_words_say_counts_and_what_is_left_out_is_counted(
    uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [_seen(uma, "circle", "blue", seed) for seed in range(4)]
    for finding in found:
        _say(finding, True, mo)
    monkeypatch.setattr(learning, "LABELS", 3)
    concept = _concept(found[0])
    labels = labels_of("red-star", concept)
    newest = [finding.preview.sha256 for finding in found[:0:-1] if finding.preview]
    assert [label.sha256 for label in labels.labels] == newest
    assert labels.left_out == 1
    assert "1 older ones are left out" in _learn("--concept", f"red-star/{concept}")[0]["left_out"]


def test_labels_that_the_encoder_has_not_embedded_are_counted_and_the_encoder_is_named(
    judged: str, as_: Browser, mo: Account
) -> None:
    Embedding.objects.filter(kind="picture").update(revision="of another device")
    learnt = _learn("--concept", f"red-star/{judged}")[0]
    assert learnt["outcome"] == "without a head"
    encoder = encoders.load("demo")
    said = "20 labels are left out: nothing is remembered of their pictures by the encoder"
    assert learnt["left_out"].startswith(f"{said} {encoder.name} {encoder.revision}.")
    page = as_(mo).get(reverse("console:concept", args=["red-star", judged])).content.decode()
    assert said in page


def test_a_concept_whose_vectors_are_of_another_encoder_is_named_and_the_others_are_learnt(
    judged: str, demo_policy: PolicyFile
) -> None:
    content = demo_policy.model_copy(deep=True, update={"version": demo_policy.version + 1})
    concept = next(rule for rule in content.rules if rule.slug == "red-star").concepts[0]
    concept.prohibited, concept.contrast = [], []
    concept.vectors = VectorsFile(
        encoder="other", revision="1", dim=2, names=["red"], values=[[1.0, 0.0]], thresholds=[0.2]
    )
    policy_import(content=content, activate=True, actor=None)
    outcomes = {each["rule"]: each for each in _learn()}
    assert outcomes["red-star"]["outcome"] == "cannot be scored"
    assert "were made for the encoder “other 1”" in outcomes["red-star"]["sentence"]
    assert outcomes["purple-heart"]["outcome"] == "without a head"


# --- The guarantee --------------------------------------------------------------------------


def test_the_guarantee_needs_enough_positives_and_then_sets_the_threshold(
    judged: str, in_force: Callable[..., Policy], uma: Account
) -> None:
    in_force(alpha=0.05)
    learnt = _learn("--concept", f"red-star/{judged}")[0]
    assert learnt["outcome"] == "put in place"
    assert "No guarantee yet: a miss rate of 0.05 takes 19 pictures" in learnt["threshold"]
    assert _seen(uma, "circle", "blue", 900).review == 0.5
    in_force(alpha=0.2)
    learnt = _learn("--concept", f"red-star/{judged}")[0]
    assert learnt["outcome"] == "unchanged"
    assert "On average at most 20.0%" in learnt["threshold"]
    computed = ConceptThreshold.objects.order_by("pk").last()
    assert computed is not None
    assert (computed.head, computed.positives) == (ConceptHead.objects.get(), 10)
    assert computed.value is not None
    blue = _seen(uma, "circle", "blue", 901)
    assert blue.hold is not None
    assert blue.review == min(computed.value, blue.hold)


def test_another_wanted_miss_rate_ends_the_guarantee_until_it_is_computed_again(
    judged: str, in_force: Callable[..., Policy], as_: Browser, lena: Account, uma: Account
) -> None:
    def reviewed(seed: int) -> float | None:
        return _seen(uma, "circle", "blue", seed).review

    in_force(alpha=0.2)
    _learn("--concept", f"red-star/{judged}")
    assert reviewed(900) != 0.5
    in_force(alpha=0.1)
    page = as_(lena).get(reverse("console:concept", args=["red-star", judged])).content.decode()
    assert "No guarantee yet" in page
    assert "On average at most" not in page
    assert reviewed(901) == 0.5
    _learn("--concept", f"red-star/{judged}")
    strict, loose = (
        ConceptThreshold.objects.filter(alpha=alpha).get().value for alpha in (0.1, 0.2)
    )
    assert strict is not None
    assert loose is not None
    assert strict <= loose
    assert reviewed(902) == min(strict, 0.85)
    in_force()
    assert reviewed(903) == 0.5


def test_the_prompts_alone_hold_a_wanted_miss_rate_too(
    in_force: Callable[..., Policy], uma: Account, mo: Account
) -> None:
    in_force(alpha=0.2)
    found = [_seen(uma, "circle", "blue", seed) for seed in range(4)]
    for finding in found:
        _say(finding, True, mo)
    concept = _concept(found[0])
    learnt = _learn("--concept", f"red-star/{concept}")[0]
    assert learnt["outcome"] == "without a head"
    assert "resemble the 4 that people found" in learnt["threshold"]
    lowest = min(finding.score or 0 for finding in found)
    again = _seen(uma, "circle", "blue", 900)
    assert again.review == pytest.approx(lowest, rel=1e-3)
    assert again.evidence["calibrated"] is False
    # What is computed from the same is not stored twice.
    _learn("--concept", f"red-star/{concept}")
    assert ConceptThreshold.objects.count() == 1


# --- In place -------------------------------------------------------------------------------


def test_a_policy_lead_puts_the_prompts_back_and_says_why(
    judged: str, as_: Browser, lena: Account, mo: Account, uma: Account
) -> None:
    _learn("--concept", f"red-star/{judged}")
    address = reverse("console:place-head", args=["red-star", judged])
    assert as_(mo).post(address, {"head": "", "reason": "No."}).status_code == 403
    assert as_(lena).post(address, {"head": "", "reason": ""}).status_code == 422
    assert as_(lena).post(address, {"head": "", "reason": "It drifted."}).status_code == 302
    blue = _seen(uma, "circle", "blue", 900)
    assert "head" not in blue.evidence["deciding"]
    head = ConceptHead.objects.get()
    as_(lena).post(address, {"head": head.code, "reason": "It had not."})
    blue = _seen(uma, "circle", "blue", 901)
    assert blue.evidence["deciding"]["head"] == head.code


def test_what_a_person_put_in_place_stays_until_a_person_says_otherwise(
    judged: str, as_: Browser, lena: Account, uma: Account, mo: Account
) -> None:
    place = f"red-star/{judged}"
    _learn("--concept", place)
    address = reverse("console:place-head", args=["red-star", judged])
    as_(lena).post(address, {"head": "", "reason": "It drifted."})
    assert _learn("--concept", place)[0]["outcome"] == "unchanged"
    assert ConceptHead.objects.count() == 1
    _say(_seen(uma, "circle", "blue", 300), True, mo)
    learnt = _learn("--concept", place)[0]
    assert learnt["outcome"] == "kept back"
    assert "lena put the prompts alone in place" in learnt["sentence"]
    assert ConceptHead.objects.count() == 2
    assert "head" not in _seen(uma, "circle", "blue", 900).evidence["deciding"]
    may = {"head": "", "reason": "Let us see.", "may_be_replaced": "on"}
    as_(lena).post(address, may)
    assert _learn("--concept", place)[0]["outcome"] == "unchanged"
    _say(_seen(uma, "circle", "blue", 301), True, mo)
    assert _learn("--concept", place)[0]["outcome"] == "put in place"
    last = ConceptHead.objects.order_by("pk").last()
    assert last is not None
    assert _seen(uma, "circle", "blue", 901).evidence["deciding"]["head"] == last.code


def test_a_head_is_not_applied_beside_other_prompts_than_it_was_learnt_beside(
    judged: str,
    policy: Policy,
    demo_policy: PolicyFile,
    in_force: Callable[..., Policy],
    as_: Browser,
    lena: Account,
    uma: Account,
) -> None:
    place = f"red-star/{judged}"
    _learn("--concept", place)
    first = ConceptHead.objects.get()
    in_force(prompts=["a star", "stars"])
    deciding = _seen(uma, "circle", "blue", 900).evidence["deciding"]
    assert "head" not in deciding
    assert deciding["head_left_out"] == first.code
    address = reverse("console:concept", args=["red-star", judged])
    assert "Head 1 is not applied" in as_(lena).get(address).content.decode()
    back = {"head": first.code, "reason": "It was good."}
    refused = as_(lena).post(reverse("console:place-head", args=["red-star", judged]), back)
    assert refused.status_code == 422
    assert "beside other prompts" in refused.content.decode()
    assert _learn("--concept", place)[0]["outcome"] == "put in place"
    second = ConceptHead.objects.order_by("pk").last()
    assert second != first
    found = _seen(uma, "circle", "blue", 901).evidence["deciding"]["head"]
    assert found == second.code if second else False
    # The prompts of before are back, and so is what was learnt beside them.
    policy_import(content=demo_policy, activate=True, actor=None)
    assert _learn("--concept", place)[0]["outcome"] == "put in place"
    assert ConceptHead.objects.count() == 2
    assert _seen(uma, "circle", "blue", 902).evidence["deciding"]["head"] == first.code


def test_workers_are_sent_none_of_the_labels_that_a_head_was_learnt_from(
    judged: str, policy: Policy
) -> None:
    _learn("--concept", f"red-star/{judged}")
    sent = json.dumps(policy_data(policy))
    assert ConceptHead.objects.get().code in sent
    assert not [row.sha256 for row in PreviewImage.objects.all() if row.sha256 in sent]


def test_what_was_learnt_is_never_changed_in_the_database(
    judged: str, in_force: Callable[..., Policy]
) -> None:
    in_force(alpha=0.2)
    _learn("--concept", f"red-star/{judged}")
    for change in (
        lambda: ConceptHead.objects.update(labels=0),
        lambda: HeadPlacement.objects.update(reason="other"),
        lambda: ConceptThreshold.objects.update(value=0.1),
    ):
        with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
            change()


def test_a_concept_that_there_is_not_is_named(policy: Policy) -> None:
    with pytest.raises(CommandError, match="has no concept"):
        _learn("--concept", "red-star/nothing")


# --- Questions ------------------------------------------------------------------------------


@pytest.fixture
def near(uma: Account) -> Finding:
    """Return a finding that just missed the threshold."""
    finding = _seen(uma, "circle", "blue", 5)
    Finding.objects.filter(pk=finding.pk).update(score=0.4, review=0.5)
    finding.refresh_from_db()
    return finding


def test_near_misses_are_asked_about_one_by_one_with_one_key_each(
    near: Finding, as_: Browser, mo: Account
) -> None:
    address = reverse("console:questions", args=["red-star", _concept(near)])
    client = as_(mo)
    page = client.get(address).content.decode()
    assert f'action="{reverse("console:judge", args=[near.pk])}"' in page
    assert 'data-key="right"' in page
    answered = client.post(reverse("console:judge", args=[near.pk]), {"answer": "yes"})
    assert answered.status_code == 302
    verdict = Verdict.objects.get()
    assert (verdict.answer, verdict.source) == ("wrong", "question")
    after = client.get(answered["Location"]).content.decode()
    assert "None left" in after
    assert "The last one again" in after
    client.post(reverse("console:judge", args=[near.pk]), {"answer": "no"})
    assert [label.shows for label in labels_of("red-star", _concept(near)).labels] == [False]


def test_questions_are_not_for_creators_nor_about_ones_own(
    near: Finding, as_: Browser, uma: Account, nobody: Account
) -> None:
    address = reverse("console:questions", args=["red-star", _concept(near)])
    assert as_(nobody).get(address).status_code == 403
    judge = reverse("console:judge", args=[near.pk])
    assert as_(nobody).post(judge, {"answer": "yes"}).status_code == 403
    Account.objects.filter(pk=uma.pk).update(role=Role.MODERATOR)
    uma.refresh_from_db()
    assert "None left" in as_(uma).get(address).content.decode()
    assert as_(uma).post(judge, {"answer": "yes"}).status_code == 403
    assert not Verdict.objects.exists()


def test_a_question_about_one_of_several_concepts_asks_about_that_alone(
    near: Finding, as_: Browser, mo: Account
) -> None:
    deciding = {**near.evidence["deciding"], "concept": "pointed"}
    Finding.objects.filter(pk=near.pk).update(evidence={**near.evidence, "deciding": deciding})
    assert near.rule is not None
    for kind, words in (("prohibited", "a shape with points"), ("contrast", "a round shape")):
        near.rule.prompts.create(concept="pointed", kind=kind, text=words)
    address = reverse("console:questions", args=["red-star", "pointed"])
    page = as_(mo).get(address).content.decode()
    assert "Does it show this: pointed?" in page
    assert "This alone, whether or not the picture breaks the rule" in page
    assert "a shape with points" in page
    assert "a round shape" not in page


def test_what_is_held_apart_for_child_safety_is_asked_of_nobody(
    near: Finding, as_: Browser, mo: Account
) -> None:
    asked = _seen(near.version.uploaded_model.creator, "circle", "blue", 6)
    Finding.objects.filter(pk=asked.pk).update(score=0.4, review=0.5)
    ModelVersion.objects.filter(pk=near.version_id).update(isolated_at=timezone.now())
    client = as_(mo)
    page = client.get(reverse("console:questions", args=["red-star", _concept(near)]))
    assert "1 left" in page.content.decode()
    assert reverse("console:judge", args=[asked.pk]) in page.content.decode()
    assert "1 to judge" in client.get(reverse("console:concepts")).content.decode()
    judged = client.post(reverse("console:judge", args=[near.pk]), {"answer": "yes"})
    assert judged.status_code == 404


def test_what_another_probe_says_of_a_picture_is_no_question(
    near: Finding, as_: Browser, mo: Account
) -> None:
    Finding.objects.filter(pk=near.pk).update(probe="banks", evidence={})
    judged = as_(mo).post(reverse("console:judge", args=[near.pk]), {"answer": "yes"})
    assert judged.status_code == 404
    assert not Verdict.objects.exists()


def test_questions_under_a_severe_rule_come_after_a_warning_and_count_for_the_day(
    near: Finding, uma: Account, as_: Browser, mo: Account, settings: Any
) -> None:
    settings.SEVERE_A_DAY = 1
    second = _seen(uma, "circle", "blue", 6)
    Finding.objects.filter(pk=second.pk).update(score=0.4, review=0.5)
    Rule.objects.filter(slug="red-star").update(is_severe=True)
    address = reverse("console:questions", args=["red-star", _concept(near)])
    client = as_(mo)
    warned = client.get(address).content.decode()
    assert "Before you open it" in warned
    assert "<img" not in warned
    assert not Exposure.objects.exists()
    for _ in range(2):
        # What is shown already can be looked at again, and is counted once.
        page = client.get(f"{address}?open", follow=True).content.decode()
        assert page.count("<img") == 1
    shown = Exposure.objects.get()
    assert (shown.account, shown.rule, shown.is_severe) == (mo, "red-star", True)
    Exposure.objects.update(looked_until=timezone.now() - timedelta(seconds=30))
    client.post(reverse("console:judge", args=[shown.finding_id]), {"answer": "no"})
    assert Exposure.objects.get().looked_for >= timedelta(seconds=30)
    refused = client.get(address)
    assert refused.status_code == 403
    assert "That is enough of the worst for a day" in refused.content.decode()
    assert "<img" not in refused.content.decode()
    assert Exposure.objects.count() == 1


# --- The blind audit ------------------------------------------------------------------------


def test_what_passes_is_drawn_and_asked_about_without_saying_so(
    uma: Account, as_: Browser, mo: Account, settings: Any
) -> None:
    settings.AUDIT_SHARE = 1.0
    version = _uploaded(uma, "square", "green", 3)
    assert version.visibility == "published"
    finding = _finding(version)
    assert AuditItem.objects.get().preview == version.previews.get()
    concept = _concept(finding)
    client = as_(mo)
    page = client.get(reverse("console:questions", args=["red-star", concept])).content.decode()
    assert f'action="{reverse("console:judge", args=[finding.pk])}"' in page
    assert "audit" not in page.lower()
    client.post(reverse("console:judge", args=[finding.pk]), {"answer": "yes"})
    assert Verdict.objects.get().source == "audit"
    version.refresh_from_db()
    assert version.visibility == "published"
    learnt = _learn("--concept", f"red-star/{concept}")[0]
    assert "1 found in a blind audit of 1" in learnt["audit"]


def test_the_estimate_of_what_is_missed_counts_pictures_and_what_the_audit_drew_from(
    uma: Account, mo: Account, ada: Account, as_: Browser, settings: Any
) -> None:
    settings.AUDIT_SHARE = 1.0
    passed = _uploaded(uma, "square", "green", 3)
    again = _uploaded(uma, "square", "green", 3)
    flagged = _uploaded(uma, "star", "red", 4)
    held_for_another_rule = _uploaded(uma, "heart", "purple", 5)
    settings.AUDIT_SHARE = 0.0
    not_drawn = _uploaded(uma, "circle", "blue", 6)
    assert [
        version.visibility for version in (passed, again, flagged, held_for_another_rule, not_drawn)
    ] == ["published", "published", "quarantined", "quarantined", "published"]
    for person in (mo, ada):
        _say(_finding(flagged), True, person)
        judge = reverse("console:judge", args=[_finding(passed).pk])
        assert as_(person).post(judge, {"answer": "yes"}).status_code == 302
    # One that passed, and was found by a question: nobody would have looked at it else.
    as_(mo).post(reverse("console:judge", args=[_finding(not_drawn).pk]), {"answer": "yes"})
    learnt = _learn("--concept", f"red-star/{_concept(_finding(passed))}")[0]
    assert (
        "1 found in a blind audit of 1 out of 2 that passed, beside 1 that were flagged"
        in learnt["audit"]
    )


def test_the_draw_is_about_one_in_a_hundred_and_always_the_same(settings: Any) -> None:
    from moderation.audits import _is_drawn

    settings.SECRET_KEY = "of this test"
    drawn = [number for number in range(20_000) if _is_drawn(f"{number:064x}")]
    assert 150 < len(drawn) < 250
    assert drawn == [number for number in range(20_000) if _is_drawn(f"{number:064x}")]
    settings.SECRET_KEY = "of another"
    assert drawn != [number for number in range(20_000) if _is_drawn(f"{number:064x}")]
    assert not PreviewImage.objects.exists()


def test_heads_of_an_encoder_that_is_not_in_use_are_not_shown_as_what_scores(
    uma: Account, policy: Policy, as_: Browser, lena: Account
) -> None:
    concept = _concept(_seen(uma, "circle", "blue", 1))
    head = head_record(
        place=Place("red-star", concept, "old", "1"),
        prompts=stored_rules(policy).prompts["red-star", concept],
        parameters={"kind": "anchored"},
        held_out={},
        labels=20,
        positives=10,
        comparison={"sentence": "The new head is better."},
    )
    client = as_(lena)
    back = {"head": head.code, "reason": "It was good."}
    address = reverse("console:place-head", args=["red-star", concept])
    page = client.post(address, back, follow=True).content.decode()
    assert "Done for the encoder old 1" in page
    assert "Uploads from now on" not in page
    assert "No head: the prompts alone" in page
    assert "what is in place for old 1 scores nothing" in page
    assert "in place for an encoder that is not in use" in page
    assert "head 1" not in client.get(reverse("console:concepts")).content.decode()


def test_the_list_of_concepts_is_for_the_team(
    as_: Browser, mo: Account, lena: Account, nobody: Account
) -> None:
    address = reverse("console:concepts")
    assert as_(nobody).get(address).status_code == 403
    for account in (mo, lena):
        assert "the prompts alone" in as_(account).get(address).content.decode()
