"""The tasks of triage: lease a job, run the probes on plain data, hand the findings in."""

import logging
from base64 import b64decode
from collections.abc import Iterable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

from celery import shared_task
from django.conf import settings
from structlog.contextvars import bind_contextvars

from moderation.embeddings import EmbeddingIn
from moderation.findings import FileFacts, FindingIn, attempt_failed, findings_record
from moderation.heat_maps import heat_map_keep
from moderation.jobs import job_lease_in_turn, lease_give_back, lease_kept
from moderation.selectors.heat_maps import heat_map_sample
from moderation.selectors.workers import triage_sample
from moderation.stored import STORAGE_ERRORS
from moderation.waiting import written_down
from triage import known_texts, pipeline
from triage.encoders.base import EncoderError
from triage.explain import NoPlaceError, draw
from triage.known_index import KnownIndex
from triage.pictures import PictureError
from triage.probes.previews import PreviewsProbe
from triage.sample import (
    Concept,
    ConceptVector,
    ConceptVectors,
    Consent,
    Embedding,
    Finding,
    LearnedHead,
    Person,
    Policy,
    Preview,
    Probe,
    PromptsAlone,
    Rule,
    Sample,
    Stage,
    TermCondition,
    TermGroup,
    WeightFile,
)

logger = logging.getLogger(__name__)
# Before a job is tried again whose files could not be had.
STORAGE_PAUSE = timedelta(seconds=30)


@shared_task(name="triage.files")
def files(job_id: int) -> None:
    """Weigh the files of one version."""
    _work(job_id, Stage.FILES)


@shared_task(name="triage.previews")
def previews(job_id: int) -> None:
    """Weigh the previews of one version."""
    _work(job_id, Stage.PREVIEWS)


@shared_task(name="triage.heat_map")
def heat_map(heat_map_id: int) -> None:
    """Draw where in a preview the concept of a finding is."""
    try:
        data = heat_map_sample(heat_map_id=heat_map_id)
        if data is None:
            return
        png = draw(
            Path(data["path"]),
            policy=policy_from(data["policy"]),
            rule=data["rule"],
            concept=data["concept"],
            encoder=known_texts.load(settings.ENCODER),
        )
    except FileNotFoundError:
        heat_map_keep(heat_map_id=heat_map_id, error="The stored picture is gone.")
    except (PictureError, EncoderError, NoPlaceError) as error:
        heat_map_keep(heat_map_id=heat_map_id, error=str(error))
    else:
        heat_map_keep(heat_map_id=heat_map_id, png=png)


@cache
def _probes() -> tuple[Probe, ...]:
    index = KnownIndex()
    return pipeline.probes(
        encoder=settings.ENCODER,
        known=index.current,
        banked=index.banked,
        load=known_texts.load,
    )


def _work(job_id: int, stage: Stage) -> None:
    lease = job_lease_in_turn(job_id=job_id)
    if lease is None:
        return
    # Every line that is logged from here to the end of the task says which job it is about.
    bind_contextvars(job_id=lease.job_id)
    seconds: dict[str, float] = {}
    embedded: list[Embedding] = []
    with lease_kept(lease):
        try:
            sample = sample_from(triage_sample(job_id=lease.job_id))
        except FileNotFoundError as error:
            attempt_failed(lease=lease, error=f"A stored file is missing: {error}")
            return
        except STORAGE_ERRORS as error:
            # A fault of the house and not of this upload, which must not die of it.
            logger.warning("The storage does not answer: %s", error)
            lease_give_back(lease, pause=STORAGE_PAUSE)
            return
        found = pipeline.run(
            sample, stage=stage, among=_probes(), seconds=seconds, embedded=embedded
        )
        hand_in = partial(
            findings_record,
            lease=lease,
            findings=[finding_in(finding) for finding in found],
            facts=file_facts(found),
            embeddings=[embedding_in(one) for one in embedded],
            seconds=seconds,
            scorer=scorer_of(found),
        )
        # The token makes a second try harmless; longer than the lease it would be for nothing.
        written_down(hand_in, seconds=settings.LEASE_SECONDS)


def sample_from(data: dict[str, Any]) -> Sample:
    """Turn the plain data of the domain into a ``Sample``."""
    return Sample(
        key=data["key"],
        creator=data["creator"],
        policy=policy_from(data["policy"]),
        title=data["title"],
        description=data["description"],
        base_model=data["base_model"],
        tags=tuple(data["tags"]),
        trigger_words=tuple(data["trigger_words"]),
        files=tuple(WeightFile(**{**row, "path": Path(row["path"])}) for row in data["files"]),
        previews=tuple(Preview(**{**row, "path": Path(row["path"])}) for row in data["previews"]),
        people=tuple(_person(person) for person in data["people"]),
        embeddings=tuple(Embedding(**row) for row in data["embeddings"]),
    )


def policy_from(data: dict[str, Any]) -> Policy:
    """Turn the plain data of a stored policy into a ``Policy``."""
    return Policy(
        name=data["name"],
        version=data["version"],
        rules=tuple(_rule(rule) for rule in data["rules"]),
        neutral=tuple(data["neutral"]),
        templates=tuple(data["templates"]),
    )


def _rule(data: dict[str, Any]) -> Rule:
    conditions = tuple(
        TermCondition(
            groups=tuple(
                TermGroup(group["name"], tuple(group["terms"])) for group in condition["groups"]
            ),
            within=condition["within"],
        )
        for condition in data["conditions"]
    )
    return Rule(
        **data
        | {
            "signals": tuple(data["signals"]),
            "terms": tuple(data["terms"]),
            "conditions": conditions,
            "concepts": tuple(_concept(concept) for concept in data["concepts"]),
        }
    )


def _concept(data: dict[str, Any]) -> Concept:
    heads = tuple(LearnedHead(**head) for head in data.get("heads", ()))
    alone = tuple(PromptsAlone(**each) for each in data.get("alone", ()))
    if "vectors" not in data:
        return Concept(**data | {"heads": heads, "alone": alone})
    made_for = data["vectors"]
    vectors = tuple(ConceptVector(**vector) for vector in made_for["vectors"])
    return Concept(
        data["slug"],
        vectors=ConceptVectors(made_for["encoder"], made_for["revision"], vectors),
        heads=heads,
        alone=alone,
    )


def _person(data: dict[str, Any]) -> Person:
    consents = (
        Consent(**consent | {"rules": tuple(consent["rules"])}) for consent in data["consents"]
    )
    return Person(data["name"], tuple(data["aliases"]), tuple(consents))


def scorer_of(findings: Iterable[Finding]) -> str:
    """Return what weighed the previews, or nothing where it did not look at all of them."""
    named = {
        finding.versions.get("scorer", "")
        for finding in findings
        if finding.probe == PreviewsProbe.name
    }
    return named.pop() if len(named) == 1 else ""


def file_facts(findings: Iterable[Finding]) -> list[FileFacts]:
    """Gather what is to be kept about each file, apart from the findings on it."""
    facts: dict[str, dict[str, str]] = {}
    for finding in findings:
        if finding.subject.kind == "file":
            for name in ("sketch", "data_sha256"):
                if finding.evidence.get(name):
                    facts.setdefault(finding.subject.key, {})[name] = str(finding.evidence[name])
    return [
        FileFacts(key, b64decode(known["sketch"]), known.get("data_sha256", ""))
        for key, known in facts.items()
        if "sketch" in known
    ]


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
        evidence={name: fact for name, fact in finding.evidence.items() if name != "sketch"},
        versions=finding.versions,
    )


def embedding_in(embedding: Embedding) -> EmbeddingIn:
    """Turn what was embedded into what the domain keeps."""
    return EmbeddingIn(
        embedding.sha256,
        embedding.encoder,
        embedding.revision,
        embedding.vector,
        embedding.kind,
    )
