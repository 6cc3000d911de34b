"""Weighs files on disk without a database, for whoever wants to know before uploading.

Runs every probe that needs nothing but the file and the policy. Lineage and banks need what a
house has seen before, and are left out.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from moderation.findings import concern_of
from moderation.states import Concern
from triage import pipeline
from triage.containers.sniff import sniff
from triage.sample import Finding, Policy, Preview, Probe, Sample, Stage, WeightFile
from triage.tasks import finding_in

Verdict = Literal["clean", "review", "block"]
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif"})


@dataclass(frozen=True)
class ScannedFinding:
    """A finding, as far as a reader at a terminal needs it."""

    probe: str
    rule: str
    outcome: str
    score: float | None
    reason: str


@dataclass(frozen=True)
class Scanned:
    """What was found in one file: what asks for a person, and what was looked at besides."""

    path: str
    sha256: str
    format: str
    verdict: Verdict
    findings: list[ScannedFinding]
    nothing_found: list[ScannedFinding]

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self)


def files_below(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files that are meant: a file itself, and every file below a folder."""
    for path in paths:
        if path.is_dir():
            yield from sorted(entry for entry in path.rglob("*") if entry.is_file())
        else:
            yield path


def scan(
    path: Path, *, policy: Policy, previews: Sequence[Path], among: Sequence[Probe]
) -> Scanned:
    """Weigh one file and the previews that belong to it. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        form = sniff(file).value
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    sample = Sample(
        key=path.name,
        policy=policy,
        files=(WeightFile("file", path.name, path, path.stat().st_size, sha256),),
        previews=tuple(
            Preview(f"preview{number}", preview.name, preview, "")
            for number, preview in enumerate(previews)
        ),
    )
    stages = [Stage.FILES, Stage.PREVIEWS] if previews else [Stage.FILES]
    found = [
        finding for stage in stages for finding in pipeline.run(sample, stage=stage, among=among)
    ]
    concerns, none = [concern_of(finding_in(finding)) for finding in found], Concern.NONE
    return Scanned(
        path=str(path),
        sha256=sha256,
        format=form,
        verdict=_verdict(concerns),
        findings=[_scanned(one) for one, what in zip(found, concerns, strict=True) if what != none],
        nothing_found=[
            _scanned(one) for one, what in zip(found, concerns, strict=True) if what == none
        ],
    )


def _scanned(finding: Finding) -> ScannedFinding:
    return ScannedFinding(
        finding.probe, finding.rule, finding.outcome.value, finding.score, finding.reason
    )


def _verdict(concerns: Sequence[Concern]) -> Verdict:
    if Concern.HOLD in concerns:
        return "block"
    return "review" if Concern.REVIEW in concerns else "clean"
