"""Is a file of weights whole, and is it only weights?

Looks at every file in the sandbox, by content, and never loads it. What it cannot vouch for, it
scores for a person to see; what it could not look at, it says it could not look at.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from triage.containers.check import check_file
from triage.containers.errors import Problem, Severity
from triage.sample import Finding, Outcome, Policy, Rule, Sample, Stage, Subject, WeightFile
from triage.sandbox import Limits, SandboxError, run

CODE = "container.code"
DAMAGED = "container.damaged"

# Scores say how sure we are, in steps; nothing here is a measured probability.
_SCORES: Mapping[Severity, float] = {
    Severity.DANGEROUS: 1.0,
    Severity.MALFORMED: 0.7,
    Severity.UNREADABLE: 0.7,
    Severity.UNVOUCHED: 0.6,
}
_SIGNALS: Mapping[Severity, str] = {
    Severity.DANGEROUS: CODE,
    Severity.UNVOUCHED: CODE,
    Severity.MALFORMED: DAMAGED,
    Severity.UNREADABLE: DAMAGED,
}


class ContainerProbe:
    """Looks for code and for damage in files of weights."""

    name: str = "container"
    version: str = "1"
    stage: Stage = Stage.FILES

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def examine(self, sample: Sample) -> Iterable[Finding]:
        """Yield one finding for each file, or one for each signal where it shows both."""
        for file in sample.files:
            yield from self._examine_file(file, sample.policy)

    def _examine_file(self, file: WeightFile, policy: Policy) -> Iterator[Finding]:
        try:
            report = run(check_file, str(file.path), limits=self.limits)
            problems = _problems(report)
        except SandboxError as error:
            yield self._failed(file, policy, error.code, error.sentence, {})
            return
        except (KeyError, TypeError, ValueError):
            sentence = "The process that read the file gave an answer that makes no sense."
            yield self._failed(file, policy, "sandbox.answer", sentence, {})
            return
        evidence = {"file": file.name, **report}
        if not problems:
            yield from self._sound(file, policy, evidence)
        for signal in (CODE, DAMAGED):
            found = [problem for problem in problems if _SIGNALS[problem.severity] == signal]
            if found:
                yield from self._found(file, policy, signal, found, evidence)

    def _sound(
        self, file: WeightFile, policy: Policy, evidence: dict[str, Any]
    ) -> Iterator[Finding]:
        rules = policy.rules_for(DAMAGED) + policy.rules_for(CODE)
        reason = "The file is whole and holds nothing but weights, as far as its structure tells."
        if rules:
            yield self._scored(file, policy, rules[0], 0.0, "container.sound", reason, evidence)
        else:
            yield self._uncovered(file, policy, f"{CODE} or {DAMAGED}", reason, evidence)

    def _found(
        self,
        file: WeightFile,
        policy: Policy,
        signal: str,
        found: list[Problem],
        evidence: dict[str, Any],
    ) -> Iterator[Finding]:
        worst = max(found, key=lambda problem: _SCORES[problem.severity])
        reason = worst.sentence
        if len(found) > 1:
            reason += f" ({len(found) - 1} more in the evidence.)"
        rules = policy.rules_for(signal)
        for rule in rules:
            score = _SCORES[worst.severity]
            yield self._scored(file, policy, rule, score, worst.code, reason, evidence)
        if not rules:
            yield self._uncovered(file, policy, signal, reason, evidence)

    def _scored(
        self,
        file: WeightFile,
        policy: Policy,
        rule: Rule,
        score: float,
        code: str,
        reason: str,
        evidence: dict[str, Any],
    ) -> Finding:
        return Finding(
            probe=self.name,
            subject=Subject("file", file.key),
            outcome=Outcome.SCORED,
            reason=reason,
            code=code,
            rule=rule.slug,
            score=score,
            review=rule.review,
            hold=rule.hold,
            evidence=evidence,
            versions=self._versions(policy),
        )

    def _uncovered(
        self,
        file: WeightFile,
        policy: Policy,
        signal: str,
        reason: str,
        evidence: dict[str, Any],
    ) -> Finding:
        sentence = f"No rule of the policy covers {signal}, so that this decides nothing: {reason}"
        return self._failed(file, policy, "container.no_rule", sentence, evidence)

    def _failed(
        self, file: WeightFile, policy: Policy, code: str, reason: str, evidence: dict[str, Any]
    ) -> Finding:
        return Finding(
            probe=self.name,
            subject=Subject("file", file.key),
            outcome=Outcome.FAILED,
            reason=reason,
            code=code,
            evidence={"file": file.name, **evidence},
            versions=self._versions(policy),
        )

    def _versions(self, policy: Policy) -> dict[str, str]:
        return {"probe": self.version, "policy": f"{policy.name} v{policy.version}"}


def _problems(report: Any) -> list[Problem]:
    """Read the child's list of problems. Raises where it is no such list."""
    return [
        Problem(str(item["code"]), str(item["sentence"]), Severity(item["severity"]))
        for item in report["problems"]
    ]
