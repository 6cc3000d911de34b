"""Holds an upload's weights against every model seen before.

A copy of a removed model comes back under another name, in another file format or as an
ingredient of a merge; the weights give it away whatever the page says. Sketches find the nearest
of all known models, and those whose files are still there are then compared exactly.
"""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from triage import lineage, sandbox
from triage.compare import Relation, relation_of
from triage.known import Known, KnownModel, Neighbour
from triage.sample import Finding, Outcome, Rule, Sample, Stage, Subject, WeightFile
from triage.weights.reading import Kind
from triage.weights.sketches import unpack

REMOVED: Final = "lineage.removed"
COPY: Final = "lineage.copy"

# A removed model must not come back; that part of it did is certain, not probable.
REMOVED_SCORE: Final = 1.0
# A relative of somebody else's published model may well be licensed: a person asks.
COPY_SCORE: Final = 0.7

# The sketch's error has a standard deviation of 0.022. Five times that is what the nearest of a
# few hundred thousand unrelated sketches reach by chance.
_LOWEST_COSINE: Final = 0.05
_LOWEST_WITHOUT_FILE: Final = 0.15
_NEIGHBOURS: Final = 20

# Room for the largest adapters, about 2 GB in single precision, and time for a full model.
_LIMITS: Final = sandbox.Limits(memory_mb=6144, seconds=300.0)

_Standing = Literal["removed", "copy", "own"]
_SIGNALS: Final[Mapping[str, str]] = {"removed": REMOVED, "copy": COPY}
_SCORES: Final[Mapping[str, float]] = {"removed": REMOVED_SCORE, "copy": COPY_SCORE}
_EMPTY: Final[Mapping[str, object]] = {}


@dataclass(frozen=True, slots=True)
class _Relative:
    """A known model that a file is related to. ``exact`` is empty when only sketches spoke."""

    model: KnownModel
    standing: _Standing
    relation: str
    cosine: float
    sketch_cosine: float
    exact: Mapping[str, Any]
    share: float | None = None  # its coefficient, where the file was explained as a merge

    def evidence(self) -> dict[str, object]:
        return {
            "model": self.model.key,
            "version": self.model.version,
            "title": self.model.title,
            "state": self.model.state,
            "standing": self.standing,
            "removed_under": self.model.rule,
            "relation": self.relation,
            "cosine": self.cosine,
            "sketch_cosine": self.sketch_cosine,
            "compared_exactly": "relation" in self.exact,
            "share": self.share,
            "comparison": dict(self.exact),
        }

    def sentence(self) -> str:
        """Say in one sentence what the relation is."""
        is_what = "the same as" if self.relation == Relation.SAME else "derived from"
        owner = {
            "removed": f"“{self.model.title}”, which was removed",
            "copy": f"“{self.model.title}”, published by another creator",
            "own": f"“{self.model.title}” by the same creator",
        }[self.standing]
        how = "" if "relation" in self.exact else ", estimated from its sketch, its file is gone"
        share = "" if self.share is None else f", share in the merge {self.share:.2f}"
        return f"The weights are {is_what} {owner} (cosine {self.cosine:.3f}{share}{how})."


class LineageProbe:
    """One finding for each file and each rule that listens to lineage.

    ``known`` is called when there is something to compare, never before. A model is the uploader's
    own where ``KnownModel.creator`` equals ``Sample.creator``.
    """

    name = "lineage"
    version = "1"
    stage = Stage.FILES

    def __init__(self, known: Callable[[], Known], limits: sandbox.Limits = _LIMITS) -> None:
        self._known = known
        self._limits = limits

    def examine(self, sample: Sample) -> Iterator[Finding]:
        """Yield the findings on all files of one version."""
        if not sample.files:
            subject = Subject("version", sample.key)
            yield self._abstained(subject, "lineage.no_files", "There are no files to compare.")
            return
        known = self._known()
        for file in sample.files:
            yield from self._examine_file(sample, file, known)

    def _examine_file(self, sample: Sample, file: WeightFile, known: Known) -> Iterator[Finding]:
        subject = Subject("file", file.key)
        try:
            described = self._ask(lineage.describe, str(file.path))
            sketch = unpack(base64.b64decode(described["sketch"], validate=True))
            kind = Kind(described["kind"])
        except _CannotLookError as error:
            yield self._failed(subject, error.code, f"The weights could not be compared: {error}")
            return
        except (KeyError, TypeError, ValueError):
            yield self._failed(
                subject, "lineage.answer", "The weights could not be compared: no readable sketch."
            )
            return
        shown = {key: described.get(key) for key in ("kind", "family", "layers", "remarks")}
        evidence = {**shown, "sketch": described["sketch"]}
        if described.get("is_null"):
            reason = "The file changes nothing: all of its updates are zero."
            yield self._abstained(subject, "lineage.null", reason, evidence)
        elif known.model_count() == 0:
            reason = "No other model is known yet to compare with."
            yield self._abstained(subject, "lineage.nothing_known", reason, evidence)
        else:
            neighbours = [
                neighbour
                for neighbour in known.nearest(sketch, _NEIGHBOURS)
                if neighbour.model.version != sample.key and abs(neighbour.cosine) >= _LOWEST_COSINE
            ]
            try:
                relatives, unexplained = self._relatives(file, kind, neighbours, sample.creator)
            except _CannotLookError as error:
                reason = f"The weights could not be compared with their neighbours: {error}"
                yield self._failed(subject, error.code, reason, evidence)
                return
            evidence |= {
                "compared_with": known.model_count(),
                "unexplained": unexplained,
                "relatives": [relative.evidence() for relative in relatives],
            }
            yield from self._judge(sample, subject, relatives, evidence)

    def _relatives(
        self, file: WeightFile, kind: Kind, neighbours: Sequence[Neighbour], creator: str
    ) -> tuple[list[_Relative], float | None]:
        """Return the models that a file is related to, and what of it none of them explains.

        Raises ``_CannotLookError`` when nothing was found because nothing could be compared.
        """
        paths = {n.model.key: str(n.model.path) for n in neighbours if n.model.path is not None}
        answer: Mapping[str, Any] = {}
        trouble: _CannotLookError | None = None
        if paths:
            try:
                answer = self._ask(lineage.compare_with, str(file.path), paths)
            except _CannotLookError as error:
                trouble = error  # the sketches may still say enough
        comparisons = answer.get("comparisons", {})
        merge = answer.get("merge", {})
        relatives = []
        for neighbour in neighbours:
            model = neighbour.model
            exact = comparisons.get(model.key, {})
            if "relation" in exact:
                relation, cosine = str(exact["relation"]), exact.get("cosine") or 0.0
            else:
                cosine = neighbour.cosine
                relation = relation_of(kind, cosine, cosine)
                if abs(cosine) < _LOWEST_WITHOUT_FILE:
                    relation = Relation.UNRELATED
            # All full models that grew from one base are alike; only the same one tells anything.
            related = (
                (Relation.SAME,) if kind is Kind.CHECKPOINT else (Relation.SAME, Relation.DERIVED)
            )
            if relation in related:
                share = merge.get("coefficients", {}).get(model.key)
                standing = _standing(model, creator)
                relatives.append(
                    _Relative(model, standing, relation, cosine, neighbour.cosine, exact, share)
                )
        if trouble is not None and not relatives:
            raise trouble
        relatives.sort(key=lambda relative: -abs(relative.cosine))
        return relatives, merge.get("unexplained")

    def _judge(
        self,
        sample: Sample,
        subject: Subject,
        relatives: Sequence[_Relative],
        evidence: Mapping[str, object],
    ) -> Iterator[Finding]:
        """Yield one finding for each rule concerned, by the worst that falls under it."""
        rules = {rule.slug: rule for rule in sample.policy.rules}
        under: dict[str, list[_Relative]] = {
            rule.slug: []
            for signal in _SIGNALS.values()
            for rule in sample.policy.rules_for(signal)
        }
        without_rule = []
        for relative in relatives:
            if relative.standing == "own":
                continue
            slugs = [r.slug for r in sample.policy.rules_for(_SIGNALS[relative.standing])]
            if not slugs and relative.model.rule in rules:
                slugs = [relative.model.rule]  # what was removed under a rule comes back under it
            for slug in slugs:
                under.setdefault(slug, []).append(relative)
            if not slugs:
                without_rule.append(relative)
        for slug, of_rule in under.items():
            yield self._scored(subject, rules[slug], of_rule, relatives, evidence)
        if without_rule:
            # Dropping it would turn a hit into a pass.
            sentence = without_rule[0].sentence()
            reason = f"{sentence} No rule of the policy says what follows from that."
            yield self._failed(subject, "lineage.no_rule", reason, evidence)
        elif not under:
            reason = "No rule of the policy is about lineage, and no relative was found."
            yield self._abstained(subject, "lineage.no_rules", reason, evidence)

    def _scored(
        self,
        subject: Subject,
        rule: Rule,
        of_rule: Sequence[_Relative],
        relatives: Sequence[_Relative],
        evidence: Mapping[str, object],
    ) -> Finding:
        worst = max(of_rule, key=lambda relative: _SCORES[relative.standing], default=None)
        own = next((relative for relative in relatives if relative.standing == "own"), None)
        if worst is not None:
            score, code, reason = (
                _SCORES[worst.standing],
                _SIGNALS[worst.standing],
                worst.sentence(),
            )
        elif own is not None:
            score, code, reason = 0.0, "lineage.own", own.sentence()
        else:
            score, code = 0.0, "lineage.none"
            reason = f"None of {evidence['compared_with']} known files is a relative."
        return Finding(
            probe=self.name,
            subject=subject,
            outcome=Outcome.SCORED,
            reason=reason,
            code=code,
            rule=rule.slug,
            score=score,
            review=rule.review,
            hold=rule.hold,
            evidence=evidence,
            versions={"probe": self.version},
        )

    def _ask(self, function: Callable[..., object], *arguments: object) -> Mapping[str, Any]:
        """Run a reading of the file in the sandbox. Raises ``_CannotLookError``."""
        try:
            answer = sandbox.run(function, *arguments, limits=self._limits)
        except sandbox.SandboxError as error:
            raise _CannotLookError(error.code, error.sentence) from error
        if not isinstance(answer, dict):
            raise _CannotLookError("lineage.answer", "Reading it gave no readable answer.")
        refusal = answer.get("error")
        if isinstance(refusal, dict):
            raise _CannotLookError(str(refusal.get("code")), str(refusal.get("sentence")))
        return answer

    def _abstained(
        self, subject: Subject, code: str, reason: str, evidence: Mapping[str, object] = _EMPTY
    ) -> Finding:
        versions = {"probe": self.version}
        return Finding(
            self.name,
            subject,
            Outcome.ABSTAINED,
            reason,
            code,
            evidence=evidence,
            versions=versions,
        )

    def _failed(
        self, subject: Subject, code: str, reason: str, evidence: Mapping[str, object] = _EMPTY
    ) -> Finding:
        versions = {"probe": self.version}
        return Finding(
            self.name, subject, Outcome.FAILED, reason, code, evidence=evidence, versions=versions
        )


class _CannotLookError(Exception):
    """A file of which nothing can be said, with a code for machines."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def _standing(model: KnownModel, creator: str) -> _Standing:
    if model.state == "removed":
        return "removed"
    # Nobody's model is not the own model of an uploader of whom nothing is known.
    return "own" if creator and model.creator == creator else "copy"
