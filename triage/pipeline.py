"""The probes, in the order they run, and the isolation of their failures."""

import logging
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import replace
from time import perf_counter

from triage import encoders
from triage.encoders.base import Encoder
from triage.known import Known
from triage.probes.banks import FileBanksProbe, PreviewBanksProbe
from triage.probes.claims import ClaimsProbe
from triage.probes.container import ContainerProbe
from triage.probes.lineage import LineageProbe
from triage.probes.previews import PreviewsProbe
from triage.probes.text_space import TextSpaceProbe
from triage.probes.thumbnails import ThumbnailsProbe
from triage.sample import Embedding, Finding, Outcome, Probe, Sample, Stage, Subject

logger = logging.getLogger(__name__)


def probes(
    *,
    encoder: str,
    known: Callable[[], Known],
    banked: Callable[[], Known] | None = None,
    load: Callable[[str], Encoder] = encoders.load,
) -> tuple[Probe, ...]:
    """Return every probe.

    ``encoder`` is the setting that chooses one, and ``load`` gives it; ``known`` returns what
    uploads are compared with, and ``banked`` the banks of it where they can be had alone.
    """
    return (
        *probes_of_files(encoder=encoder, load=load),
        FileBanksProbe(known),
        LineageProbe(known),
        PreviewBanksProbe(banked or known),
    )


def probes_of_files(
    *, encoder: str, load: Callable[[str], Encoder] = encoders.load
) -> tuple[Probe, ...]:
    """Return the probes that need nothing but the upload and the policy."""
    return (
        ContainerProbe(),
        ClaimsProbe(),
        TextSpaceProbe(lambda: encoders.load_text_tower(encoder)),
        PreviewsProbe(lambda: load(encoder)),
        ThumbnailsProbe(lambda: load(encoder)),
    )


def run(
    sample: Sample,
    *,
    stage: Stage,
    among: Iterable[Probe],
    seconds: MutableMapping[str, float] | None = None,
    embedded: list[Embedding] | None = None,
) -> list[Finding]:
    """Run the probes of one stage on a sample.

    A probe that breaks becomes a finding “failed” with the reason; the others go on. How long
    each took is noted in ``seconds``, under its name; what was newly embedded goes to ``embedded``.
    """
    findings: list[Finding] = []
    for probe in among:
        if probe.stage is not stage:
            continue
        began = perf_counter()
        findings.extend(_examine(probe, sample, [] if embedded is None else embedded))
        if seconds is not None:
            seconds[probe.name] = round(perf_counter() - began, 4)
    return findings


def _examine(probe: Probe, sample: Sample, embedded: list[Embedding]) -> list[Finding]:
    versions = {"probe": probe.version, "policy": f"{sample.policy.name} v{sample.policy.version}"}
    subject = Subject("version", sample.key)
    found: list[Finding] = []
    try:
        for answer in probe.examine(sample):
            if isinstance(answer, Embedding):
                embedded.append(answer)
            else:
                found.append(answer)
    # The one place that catches everything: a probe meets strangers' files, and whatever
    # breaks in it must become a finding that a person sees, never a lost job.
    except Exception as error:  # noqa: BLE001
        logger.exception("The probe %s broke on %s", probe.name, sample.key)
        reason = f"The probe “{probe.name}” broke: {type(error).__name__}: {error}"[:2000]
        found = [Finding(probe.name, subject, Outcome.FAILED, reason, "probe.broke")]
    if not found:
        reason = f"The probe “{probe.name}” gave no answer."
        found = [Finding(probe.name, subject, Outcome.FAILED, reason, "probe.silent")]
    return [replace(finding, versions={**versions, **finding.versions}) for finding in found]
