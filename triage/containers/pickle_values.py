"""What the pickle machine keeps in place of values, and what it reports."""

from dataclasses import dataclass, field

from triage.containers.errors import ProblemList, Severity
from triage.containers.pickle_imports import STORAGE_BYTES
from triage.containers.pickle_opcodes import OPAQUE

# A checkpoint of 2,500 tensors takes about 100,000 instructions, three times that with the
# optimizer's state. Half a million are followed in a second.
MAX_OPCODES = 500_000
MAX_IMPORTS = 1000  # real weights import ten names in all


@dataclass(frozen=True, slots=True)
class Import:
    """A module's name, as a pickle asks for it."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        """Module and name, as the lists of imports hold them."""
        return self.module, self.name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:200]


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """The result of calling an import."""

    by: Import


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers that lies outside the pickle, as torch refers to it."""

    kind: str
    key: str
    elements: int

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.elements * STORAGE_BYTES[self.kind]


@dataclass(slots=True, eq=False)
class Sequence:
    """A list being filled."""

    items: list[object] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Table:
    """A dict being filled, as pairs."""

    pairs: list[tuple[object, object]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Collection:
    """A set being filled; what is in it does not matter."""


@dataclass(slots=True)
class Budget:
    """How many more instructions are followed in one file, over all pickles in it."""

    opcodes: int = MAX_OPCODES


@dataclass(slots=True)
class PickleReport:
    """What a pickle would import, call and refer to.

    ``value`` describes the loaded object and is meaningful only while ``complete``: the pickle
    was read up to its STOP.
    """

    imports: dict[Import, None] = field(default_factory=dict)  # a set that keeps its order
    storages: dict[str, Storage] = field(default_factory=dict)
    tensors: int = 0
    problems: ProblemList = field(default_factory=ProblemList)
    complete: bool = False
    value: object = OPAQUE

    def add(self, code: str, sentence: str, severity: Severity = Severity.UNVOUCHED) -> None:
        """Note a problem."""
        self.problems.note(f"pickle.{code}", sentence, severity)
