"""What can be wrong with a stranger's file, for people and for machines."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """What a problem means for somebody who is about to trust the file."""

    UNREADABLE = "unreadable"  # cut short, or not the format at all
    MALFORMED = "malformed"  # can be read, but breaks the rules of its format
    UNVOUCHED = "unvouched"  # may carry code, and we cannot rule it out
    DANGEROUS = "dangerous"  # names code that is known to do harm


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: a code for machines and a sentence for people."""

    code: str
    sentence: str
    severity: Severity

    def as_dict(self) -> dict[str, str]:
        """Return the problem as JSON-able plain data."""
        return {"code": self.code, "sentence": self.sentence, "severity": self.severity.value}


# More than anybody would read; the worst are kept.
MAX_PROBLEMS = 20


class ProblemList(list[Problem]):
    """The problems of one file, each once."""

    def note(self, code: str, sentence: str, severity: Severity = Severity.UNVOUCHED) -> None:
        """Add a problem, unless it is known or there are enough."""
        self.add(Problem(code, sentence, severity))

    def add(self, problem: Problem) -> None:
        """Add a problem, unless it is known or there are enough."""
        if problem in self:
            return
        if len(self) < MAX_PROBLEMS:
            self.append(problem)
        elif problem.severity is Severity.DANGEROUS and self[-1].severity != Severity.DANGEROUS:
            self[-1] = problem


class ContainerError(Exception):
    """A file that is refused. ``severity`` tells "cut short" from "readable but strange"."""

    def __init__(self, code: str, sentence: str, severity: Severity = Severity.MALFORMED) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.severity = severity

    @property
    def problem(self) -> Problem:
        """The same as plain data."""
        return Problem(self.code, self.sentence, self.severity)
