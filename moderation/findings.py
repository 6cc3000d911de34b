"""Where triage hands in: stores findings and draws what follows from them.

Reads thresholds, writes ``Finding`` and the visibility of a version that is clearly clean.
A failed or missing finding never publishes anything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from moderation.audit import event_record
from moderation.audits import audit_draw
from moderation.cases import case_open_weighed
from moderation.clearing import not_cleared
from moderation.counters import counter_add
from moderation.embeddings import EmbeddingIn, embeddings_record
from moderation.jobs import Lease, job_fail, job_finish
from moderation.likeness import upload_claimed
from moderation.lineages import lineage_record
from moderation.models import Case, Finding, ModelVersion, Rule, TriageJob, WeightSketch
from moderation.notices import notice_issue
from moderation.rescreening import version_reconsider
from moderation.states import UNFINISHED_JOBS, Concern, JobState, Outcome, Visibility


@dataclass(frozen=True, slots=True)
class FindingIn:
    """One finding as triage hands it in: plain data."""

    probe: str
    outcome: str
    subject_kind: str
    subject_key: str
    code: str
    reason: str
    rule: str = ""
    score: float | None = None
    review: float | None = None
    hold: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is kept about a file so that later uploads can be compared with it."""

    file: str
    sketch: bytes
    data_sha256: str = ""


@transaction.atomic
def findings_record(
    *,
    lease: Lease,
    findings: Sequence[FindingIn],
    facts: Sequence[FileFacts] = (),
    embeddings: Sequence[EmbeddingIn] = (),
    seconds: Mapping[str, float] | None = None,
    scorer: str = "",
) -> bool:
    """Finish a job with its findings, each stored exactly once.

    ``seconds`` is how long each probe took, ``scorer`` what weighed the previews, if all of them
    could be looked at.

    Returns False, and stores nothing but a count, if the lease was lost: then somebody else hands
    them in.
    """
    _version_lock(lease)
    if not job_finish(lease, seconds=seconds, scorer=scorer):
        counter_add(name="late_answers")
        return False
    job = TriageJob.objects.select_related("version").get(pk=lease.job_id)
    rules = dict(Rule.objects.filter(policy=job.policy_id).values_list("slug", "pk"))
    files = dict(job.version.files.values_list("code", "pk"))
    previews = dict(job.version.previews.values_list("code", "pk"))
    stored = Finding.objects.bulk_create(
        Finding(
            version=job.version,
            job=job,
            key=f"{given.probe}:{given.rule}:{given.subject_kind}:{given.subject_key}",
            rule_id=rules.get(given.rule),
            file_id=files.get(given.subject_key) if given.subject_kind == "file" else None,
            preview_id=previews.get(given.subject_key) if given.subject_kind == "preview" else None,
            probe=given.probe,
            outcome=given.outcome,
            concern=concern_of(given),
            score=given.score,
            review=given.review,
            hold=given.hold,
            code=given.code,
            reason=given.reason.replace("\0", "\ufffd"),
            evidence=_storable(given.evidence),
            versions=dict(given.versions),
        )
        for given in findings
    )
    lineage_record(version=job.version, findings=stored)
    for known in facts:
        WeightSketch.objects.update_or_create(
            file_id=files[known.file],
            defaults={"sketch": known.sketch, "data_sha256": known.data_sha256},
        )
    embeddings_record(embeddings=embeddings)
    if job.version.triaged_at is None:
        version_settle(version=job.version)
    else:
        version_reconsider(job=job)
    event_record(
        action="triage.answered",
        actor=None,
        version=job.version,
        data={"stage": job.stage, "attempt": job.attempts, "findings": len(findings)},
    )
    return True


def attempt_failed(*, lease: Lease, error: str) -> None:
    """Give a job back after a failed attempt; after the last one its case says so."""
    with transaction.atomic():
        _version_lock(lease)
        if job_fail(lease, error=error):
            version_settle(version=ModelVersion.objects.get(jobs__pk=lease.job_id))


def _version_lock(lease: Lease) -> None:
    """Lock the version of a job: first, as everywhere. The record's lock, for all, comes last."""
    locked = ModelVersion.objects.select_for_update(of=("self",), no_key=True)
    locked.filter(jobs__pk=lease.job_id).first()


def versions_settle() -> int:
    """Settle every version whose jobs have all ended, some of them by dying; return how many."""
    unfinished = TriageJob.objects.filter(version=OuterRef("pk"), state__in=UNFINISHED_JOBS)
    waiting = ModelVersion.objects.filter(
        visibility=Visibility.QUARANTINED, triaged_at__isnull=True
    ).exclude(Exists(unfinished))
    for version in waiting:
        version_settle(version=version)
    return len(waiting)


def concern_of(finding: FindingIn) -> Concern:
    """Compare a finding with the thresholds of its rule.

    What failed, or scored without a threshold to compare it with, goes to a person.
    """
    if finding.outcome == Outcome.ABSTAINED:
        return Concern.NONE
    if finding.outcome == Outcome.FAILED or finding.score is None:
        return Concern.REVIEW
    if finding.hold is None or finding.review is None:
        return Concern.REVIEW if finding.score > 0 else Concern.NONE
    if finding.score >= finding.hold:
        return Concern.HOLD
    if finding.score >= finding.review:
        return Concern.REVIEW
    return Concern.NONE


def _storable(evidence: Mapping[str, Any]) -> Any:
    """Return evidence without the one character that PostgreSQL cannot store in JSON."""
    written = json.dumps(dict(evidence))
    if "\\u0000" in written:
        return json.loads(written.replace("\\u0000", "\\ufffd"))
    return dict(evidence)


@transaction.atomic
def version_settle(*, version: ModelVersion) -> None:
    """Draw the conclusion once every triage job of a version has ended.

    1. While a job is queued or running, nothing happens.
    2. Anything at a threshold, failed or dead: a case for a person; quarantined until then.
    3. All clean and complete: published, and the creator is told.
    """
    version = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    states = set(version.jobs.values_list("state", flat=True))
    if version.triaged_at is not None or not states <= {JobState.DONE, JobState.DEAD}:
        return
    now = timezone.now()
    version.triaged_at = now
    version.save(update_fields=["triaged_at"])
    findings = version.findings.all()
    for_a_person = (
        JobState.DEAD in states
        or version.jobs.filter(findings__isnull=True).exists()
        or bool(not_cleared(version=version, findings=findings.exclude(concern=Concern.NONE)))
        # Nothing is published under a model that was removed as a whole.
        or version.uploaded_model.removed_at is not None
    )
    # A re-upload of what a depicted person has asked to be taken down waits for a person, too.
    for_a_person = upload_claimed(version=version) or for_a_person
    if for_a_person:
        notice_issue(kind="in_review", version=version, account=version.uploaded_model.creator)
        case_open_weighed(version=version, source=Case.Source.TRIAGE)
        return
    if version.visibility == Visibility.QUARANTINED:
        version.visibility = Visibility.PUBLISHED
        version.published_at = now
        version.save(update_fields=["visibility", "published_at"])
        audit_draw(version=version)
        notice_issue(kind="published", version=version, account=version.uploaded_model.creator)
        event_record(
            action="version.published",
            actor=None,
            version=version,
            data={"from": Visibility.QUARANTINED, "reason": "clean and complete"},
        )
