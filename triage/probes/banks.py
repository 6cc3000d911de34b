"""Looks uploads up in banks of material that is already known to be prohibited.

A bank is a list of digests and perceptual hashes that an operator, or a partner, vouches for.
Files of weights are looked up by the SHA-256 of the file and of the bytes after a safetensors
header, which editing the metadata does not change; previews by their SHA-256 and by PDQ, in all
eight flips and rotations.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

from triage import perceptual
from triage.containers.digests import digests
from triage.known import BankMatch, EntryKind, Known
from triage.perceptual import (
    MINIMUM_QUALITY,
    ORIENTATIONS,
    Pdq,
    dihedral_bytes,
    dihedral_from,
    pdq_dihedral,
)
from triage.pictures import PictureError
from triage.sample import Embedding, Finding, Outcome, Preview, Sample, Stage, Subject, WeightFile

NAME: Final = "banks"
VERSION: Final = "1"
# Hashes are remembered beside embeddings, under this name of what made them.
PDQ: Final[Literal["pdq"]] = "pdq"
MATCH_SCORE: Final = 1.0

_SHOWN: Final = 10
_KIND_NAMES: Final[Mapping[str, str]] = {
    "sha256": "the same file, byte for byte",
    "data_sha256": "the same weights under other metadata",
    "pdq": "the same picture to the eye",
}


class FileBanksProbe:
    """Looks files of weights up; one finding for each file and each rule that it matches under."""

    name = NAME
    version = VERSION
    stage = Stage.FILES

    def __init__(self, known: Callable[[], Known]) -> None:
        self._known = known

    def examine(self, sample: Sample) -> Iterator[Finding]:
        """Yield the findings on all files of one version."""
        known = self._known()
        kinds: tuple[EntryKind, ...] = ("sha256", "data_sha256")
        if nothing := _nothing_to_do(sample, known, kinds, sample.files, "files"):
            yield nothing
            return
        for file in sample.files:
            yield from self._examine_file(sample, file, known)

    def _examine_file(self, sample: Sample, file: WeightFile, known: Known) -> Iterator[Finding]:
        subject = Subject("file", file.key)
        matches = [(match, "") for match in known.match("sha256", file.sha256)]
        evidence: dict[str, object] = {"sha256": file.sha256}
        try:
            whole, data = digests(file.path)
        except OSError as error:
            if matches:
                yield from _matched(sample, subject, matches, evidence)
                return
            reason = f"The stored file cannot be read: {error.strerror or error}."
            yield _failed(subject, "banks.unreadable", reason, evidence)
            return
        if whole != file.sha256.lower():
            evidence["sha256_found"] = whole
            matches += [(match, "") for match in known.match("sha256", whole)]
        if data is not None:
            evidence["data_sha256"] = data
            matches += [(match, "") for match in known.match("data_sha256", data)]
        if matches:
            yield from _matched(sample, subject, matches, evidence)
        elif "sha256_found" in evidence:
            reason = "The stored file is not the one that was uploaded: its SHA-256 has changed."
            yield _failed(subject, "banks.changed", reason, evidence)
        else:
            yield _clean(subject, known, evidence)


class PreviewBanksProbe:
    """Looks previews up; one finding for each preview and each rule that it matches under."""

    name = NAME
    version = VERSION
    stage = Stage.PREVIEWS

    def __init__(self, known: Callable[[], Known]) -> None:
        self._known = known

    def examine(self, sample: Sample) -> Iterator[Finding | Embedding]:
        """Yield the findings on all previews of one version.

        A picture whose hashes the sample remembers is not decoded again.
        """
        known = self._known()
        kinds: tuple[EntryKind, ...] = ("sha256", "pdq")
        if nothing := _nothing_to_do(sample, known, kinds, sample.previews, "previews"):
            yield nothing
            return
        for preview in sample.previews:
            yield from self._examine_preview(sample, preview, known)

    def _examine_preview(
        self, sample: Sample, preview: Preview, known: Known
    ) -> Iterator[Finding | Embedding]:
        subject = Subject("preview", preview.key)
        matches = [(match, "") for match in known.match("sha256", preview.sha256)]
        evidence: dict[str, object] = {"sha256": preview.sha256}
        variants = _remembered(sample, preview)
        if not variants:
            try:
                variants = pdq_dihedral(sample.pictures.open(preview.path).image)
            except PictureError as error:
                if matches:
                    yield from _matched(sample, subject, matches, evidence)
                else:
                    yield _failed(subject, error.code, str(error), evidence)
                return
            if preview.sha256:
                hashes = dihedral_bytes(variants)
                yield Embedding(preview.sha256, PDQ, perceptual.REVISION, hashes, kind=PDQ)
        quality = variants[0].quality
        evidence |= {
            "pdq": variants[0].hash.hex(),
            "pdq_quality": quality,
            "pdq_matched": quality >= MINIMUM_QUALITY,
        }
        if quality < MINIMUM_QUALITY:
            evidence["note"] = (
                f"The picture has too little structure to be told from others (quality {quality},"
                f" at least {MINIMUM_QUALITY} is needed); only its exact bytes were looked up."
            )
        else:
            matches += _nearest_orientations(known, [variant.hash.hex() for variant in variants])
        if matches:
            yield from _matched(sample, subject, matches, evidence)
        else:
            yield _clean(subject, known, evidence)


def _remembered(sample: Sample, preview: Preview) -> tuple[Pdq, ...]:
    """Return the hashes of a picture that was seen before, or nothing."""
    for one in sample.embeddings:
        made_of, made_by = (one.kind, one.sha256), (one.encoder, one.revision)
        if (made_of, made_by) == ((PDQ, preview.sha256), (PDQ, perceptual.REVISION)):
            return dihedral_from(one.vector)
    return ()


_Match = tuple[BankMatch, str]  # with the orientation in which a picture matched


def _nearest_orientations(known: Known, hashes: Sequence[str]) -> list[_Match]:
    """Look a picture up in each orientation and keep the nearest for each entry."""
    nearest: dict[tuple[str, str, str], _Match] = {}
    for orientation, value in zip(ORIENTATIONS, hashes, strict=True):
        for match in known.match("pdq", value):
            entry = (match.entry.bank, match.entry.rule, match.entry.value)
            if entry not in nearest or match.distance < nearest[entry][0].distance:
                nearest[entry] = (match, orientation)
    return sorted(nearest.values(), key=lambda found: found[0].distance)


def _nothing_to_do(
    sample: Sample,
    known: Known,
    kinds: Sequence[EntryKind],
    subjects: Sequence[object],
    what: str,
) -> Finding | None:
    if not subjects:
        code, reason = f"banks.no_{what}", f"There are no {what} to look up."
    elif not any(known.entry_count(kind) for kind in kinds):
        code, reason = "banks.empty", f"No bank holds anything that {what} can be looked up in."
    else:
        return None
    subject = Subject("version", sample.key)
    return Finding(NAME, subject, Outcome.ABSTAINED, reason, code, versions={"probe": VERSION})


def _matched(
    sample: Sample,
    subject: Subject,
    matches: Sequence[_Match],
    evidence: Mapping[str, object],
) -> Iterator[Finding]:
    """Yield one finding for each rule of the entries, failed where the policy lacks the rule."""
    rules = {rule.slug: rule for rule in sample.policy.rules}
    under: dict[str, list[_Match]] = {}
    for match in matches:
        slug = match[0].entry.rule
        under.setdefault(slug if slug in rules else "", []).append(match)
    for slug, of_rule in under.items():
        entry = of_rule[0][0].entry
        sentence = f"Bank “{entry.bank}” knows this {subject.kind}: {_KIND_NAMES[entry.kind]}."
        listed = {**evidence, "matches": [_listed(match) for match in of_rule[:_SHOWN]]}
        if not slug:
            # Dropping it would turn a hit into a pass.
            reason = f"{sentence} The policy has no rule “{entry.rule}” that it could fall under."
            yield _failed(subject, "banks.no_rule", reason, listed)
            continue
        yield Finding(
            probe=NAME,
            subject=subject,
            outcome=Outcome.SCORED,
            reason=sentence,
            code=f"banks.{entry.kind}",
            rule=slug,
            score=MATCH_SCORE,
            review=rules[slug].review,
            hold=rules[slug].hold,
            evidence=listed,
            versions={"probe": VERSION},
        )


def _listed(match: _Match) -> dict[str, object]:
    found, orientation = match
    entry = found.entry
    listed: dict[str, object] = {"bank": entry.bank, "kind": entry.kind, "value": entry.value}
    if entry.kind == "pdq":
        listed |= {"distance": found.distance, "orientation": orientation}
    return listed


def _clean(subject: Subject, known: Known, evidence: Mapping[str, object]) -> Finding:
    kinds: tuple[EntryKind, ...] = ("sha256", "data_sha256", "pdq")
    total = sum(known.entry_count(kind) for kind in kinds)
    reason = f"None of {total} entries of the banks matches."
    return Finding(
        probe=NAME,
        subject=subject,
        outcome=Outcome.SCORED,
        reason=" ".join(filter(None, (reason, str(evidence.get("note", ""))))),
        code="banks.none",
        score=0.0,
        evidence=evidence,
        versions={"probe": VERSION},
    )


def _failed(subject: Subject, code: str, reason: str, evidence: Mapping[str, object]) -> Finding:
    return Finding(
        NAME,
        subject,
        Outcome.FAILED,
        reason,
        code,
        evidence=evidence,
        versions={"probe": VERSION},
    )
