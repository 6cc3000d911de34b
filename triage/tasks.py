"""The tasks of triage: lease a job, run the probes on plain data, hand the findings in."""

from functools import cache
from pathlib import Path
from typing import Any

from celery import shared_task
from django.conf import settings

from moderation.findings import FindingIn, attempt_failed, findings_record
from moderation.jobs import job_lease, lease_kept
from moderation.selectors import triage_sample
from triage import pipeline
from triage.sample import (
    Concept,
    Finding,
    Policy,
    Preview,
    Probe,
    Rule,
    Sample,
    Stage,
    WeightFile,
)


@shared_task(name="triage.files")
def files(job_id: int) -> None:
    """Weigh the files of one version."""
    _work(job_id, Stage.FILES)


@shared_task(name="triage.previews")
def previews(job_id: int) -> None:
    """Weigh the previews of one version."""
    _work(job_id, Stage.PREVIEWS)


@cache
def _probes() -> tuple[Probe, ...]:
    return pipeline.probes(encoder=settings.ENCODER)


def _work(job_id: int, stage: Stage) -> None:
    lease = job_lease(job_id=job_id)
    if lease is None:
        return
    with lease_kept(lease):
        try:
            sample = sample_from(triage_sample(job_id=job_id))
        except FileNotFoundError as error:
            attempt_failed(lease=lease, error=f"A stored file is missing: {error}")
            return
        found = pipeline.run(sample, stage=stage, among=_probes())
    findings_record(lease=lease, findings=[finding_in(finding) for finding in found])


def sample_from(data: dict[str, Any]) -> Sample:
    """Turn the plain data of the domain into a ``Sample``."""
    policy = data["policy"]
    rules = tuple(
        Rule(
            **{**rule, "signals": tuple(rule["signals"]), "terms": tuple(rule["terms"])}
            | {"concepts": tuple(Concept(**concept) for concept in rule["concepts"])}
        )
        for rule in policy["rules"]
    )
    return Sample(
        key=data["key"],
        policy=Policy(
            name=policy["name"],
            version=policy["version"],
            rules=rules,
            neutral=tuple(policy["neutral"]),
            templates=tuple(policy["templates"]),
        ),
        title=data["title"],
        description=data["description"],
        base_model=data["base_model"],
        tags=tuple(data["tags"]),
        trigger_words=tuple(data["trigger_words"]),
        files=tuple(WeightFile(**{**row, "path": Path(row["path"])}) for row in data["files"]),
        previews=tuple(Preview(**{**row, "path": Path(row["path"])}) for row in data["previews"]),
    )


def finding_in(finding: Finding) -> FindingIn:
    """Turn a probe's finding into what the domain accepts."""
    return FindingIn(
        probe=finding.probe,
        outcome=finding.outcome,
        subject_kind=finding.subject.kind,
        subject_key=finding.subject.key,
        code=finding.code,
        reason=finding.reason,
        rule=finding.rule,
        score=finding.score,
        review=finding.review,
        hold=finding.hold,
        evidence=finding.evidence,
        versions=finding.versions,
    )
