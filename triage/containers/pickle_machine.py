"""A stack machine that follows a pickle's instructions and builds nothing.

It keeps what an unpickler would keep (stack, marks, memo) with descriptions in place of values:
strings and numbers as themselves, imports by name, everything else as "made by this call" or as
unknown. So an import whose name was put together on the stack is still known by name, and a call
of something that is no name at all is seen.
"""

from collections.abc import Callable, Iterator

from triage.containers.errors import ContainerError, Severity
from triage.containers.pickle_imports import (
    ALLOWED,
    ALLOWED_CALLS,
    ALLOWED_VALUES,
    BUILDABLE,
    MAPPINGS,
    NUMPY_DTYPE,
    ORDERED_DICT,
    REBUILD_TENSOR,
    is_harmful,
)
from triage.containers.pickle_opcodes import OPAQUE, BrokenPickleError, Opcode
from triage.containers.pickle_usage import (
    arguments_are_usual,
    attributes_are_plain,
    describe,
    dtype_state_is_plain,
    storage_of,
)
from triage.containers.pickle_values import (
    MAX_IMPORTS,
    MAX_OPCODES,
    Budget,
    Collection,
    Import,
    Made,
    PickleReport,
    Sequence,
    Table,
)


def follow(opcodes: Iterator[Opcode], report: PickleReport, budget: Budget) -> None:
    """Follow one pickle to its STOP or its first break, noting everything in ``report``."""
    machine = _Machine(report)
    try:
        for name, argument, _ in opcodes:
            budget.opcodes -= 1
            if budget.opcodes < 0:
                raise BrokenPickleError(
                    f"The file's pickles take more than {MAX_OPCODES} instructions;"
                    " the rest was not read.",
                    "pickle.too_long",
                )
            machine.step(name, argument)
    except ContainerError as error:
        report.problems.add(error.problem)


class _Machine:
    def __init__(self, report: PickleReport) -> None:
        self.report = report
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        """Do what one instruction does; raise ``BrokenPickleError`` where it cannot be done."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.put(argument)
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.get(argument)
        elif name == "PROTO":
            if not isinstance(argument, int) or argument > 5:
                raise BrokenPickleError("The pickle has a protocol that Python does not know.")
        elif name != "FRAME":
            handler = _HANDLERS.get(name)
            if handler is not None:
                handler(self)
            elif name in ("GLOBAL", "INST"):
                self.global_or_instance(name, argument)
            else:
                self.unusual(name)

    # The stack.

    def pop(self) -> object:
        if not self.stack:
            raise BrokenPickleError("The pickle takes a value from an empty stack.")
        return self.stack.pop()

    def top(self) -> object:
        if not self.stack:
            raise BrokenPickleError("The pickle needs a value where the stack is empty.")
        return self.stack[-1]

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[object]:
        if not self.marks:
            raise BrokenPickleError("The pickle closes a group that it never opened.")
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def pop_one(self) -> None:
        # POP also takes a mark away where nothing lies on it.
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def put(self, index: object) -> None:
        if not isinstance(index, int) or index < 0:
            raise BrokenPickleError("The pickle remembers a value under no number.")
        self.memo[index] = self.top()

    def get(self, index: object) -> None:
        if not isinstance(index, int) or index not in self.memo:
            raise BrokenPickleError("The pickle recalls a value that it never remembered.")
        self.stack.append(self.memo[index])

    # Containers.

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def append(self, items: list[object]) -> None:
        target = self.top()
        if isinstance(target, Sequence):
            target.items.extend(items)
        else:
            self.fills_strange(target)

    def set_items(self, items: list[object]) -> None:
        if len(items) % 2:
            raise BrokenPickleError("The pickle sets a key without a value.")
        target = self.top()
        if isinstance(target, Table):
            target.pairs.extend(zip(items[::2], items[1::2], strict=True))
        elif not isinstance(target, Made) or target.by.key not in MAPPINGS:
            self.fills_strange(target)

    def add_items(self, items: list[object]) -> None:
        if not isinstance(self.top(), Collection):
            self.fills_strange(self.top())

    def fills_strange(self, target: object) -> None:
        self.report.add("fills", f"The pickle fills {describe(target)}, which is no container.")

    # Imports and calls.

    def named(self, module: object, name: object) -> object:
        if not isinstance(module, str) or not isinstance(name, str):
            self.report.add(
                "unresolvable_import",
                "The pickle imports something whose name cannot be read without running it.",
            )
            return OPAQUE
        wanted = Import(module, name)
        if wanted not in self.report.imports:
            if len(self.report.imports) == MAX_IMPORTS:
                raise BrokenPickleError(
                    f"The pickle imports more than {MAX_IMPORTS} names; the rest was not read.",
                    "pickle.too_long",
                )
            self.report.imports[wanted] = None
            self.judge(wanted)
        return wanted

    def judge(self, wanted: Import) -> None:
        if wanted.key in ALLOWED:
            return
        if is_harmful(wanted.module, wanted.name):
            self.report.add(
                "dangerous_import",
                f"Loading the file imports {wanted}, which can run code or reach files and"
                " networks. Weights never need it.",
                Severity.DANGEROUS,
            )
        else:
            self.report.add(
                "unknown_import",
                f"Loading the file imports {wanted}, which is not among the names that weights"
                " need. Converting the file to safetensors avoids the question.",
            )

    def global_or_instance(self, opcode: str, argument: object) -> None:
        module, name = argument if isinstance(argument, tuple) else (None, None)
        wanted = self.named(module, name)
        if opcode == "GLOBAL":
            self.stack.append(wanted)
        else:
            self.call(wanted, tuple(self.pop_mark()))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(self.named(module, name))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.call(function, arguments)

    def new_object(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.call(function, arguments)

    def new_object_with_names(self) -> None:
        names, arguments, function = self.pop(), self.pop(), self.pop()
        if not isinstance(names, Table) or names.pairs:
            self.report.add("strange_call", "The pickle makes an object from named arguments.")
        self.call(function, arguments)

    def object_from_mark(self) -> None:
        items = self.pop_mark()
        if not items:
            raise BrokenPickleError("The pickle makes an object of no class.")
        self.call(items[0], tuple(items[1:]))

    def call(self, function: object, arguments: object) -> None:
        if not isinstance(function, Import):
            self.report.add("strange_call", f"The pickle calls {describe(function)}.")
            self.stack.append(OPAQUE)
            return
        if not isinstance(arguments, tuple):
            self.report.add("strange_call", f"The pickle calls {function} in a way not understood.")
        elif function.key in ALLOWED_VALUES:
            self.report.add("strange_call", f"The pickle calls {function}, which weights never do.")
        elif function.key in ALLOWED_CALLS:
            if not arguments_are_usual(function, arguments):
                self.report.add(
                    "strange_call", f"The pickle calls {function} with arguments not understood."
                )
            if function.key in REBUILD_TENSOR:
                self.report.tensors += 1
        # Any other import was reported when it was made.
        self.stack.append(Made(function))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Import):
            self.report.add(
                "changes_code",
                f"Loading the file changes {target} itself, for everything that uses it later.",
                Severity.DANGEROUS,
            )
        elif not isinstance(target, Made) or target.by.key not in BUILDABLE:
            if not (isinstance(target, Made) and target.by.key not in ALLOWED):
                self.report.add(
                    "strange_state", f"The pickle sets the state of {describe(target)}."
                )
        elif target.by.key == NUMPY_DTYPE and not dtype_state_is_plain(state):
            self.report.add("strange_state", "The pickle sets up a numpy dtype that is not plain.")
        elif target.by.key == ORDERED_DICT and not attributes_are_plain(state):
            self.report.add("strange_state", "The pickle gives a dict attributes of its own.")

    def persistent_id(self) -> None:
        """Take torch's reference to a storage: ("storage", class, key, location, elements)."""
        reference = self.pop()
        storage = storage_of(reference)
        if storage is None:
            self.report.add(
                "strange_reference",
                "The pickle refers to something outside itself that is no storage.",
            )
            self.stack.append(OPAQUE)
            return
        known = self.report.storages.setdefault(storage.key, storage)
        if known.size != storage.size:
            self.report.add("strange_reference", f"Storage {storage.key[:50]} has two sizes.")
        self.stack.append(storage)

    def stop(self) -> None:
        self.report.value = self.pop()
        if self.stack or self.marks:
            self.report.add("left_over", "The pickle leaves values on the stack when it stops.")
        self.report.complete = True

    def unusual(self, name: str) -> None:
        sentences = {
            "PERSID": "The pickle refers to something outside itself by text.",
            "NEXT_BUFFER": "The pickle refers to a buffer outside itself.",
        }
        if name == "READONLY_BUFFER":
            self.top()
            return
        if name in sentences:
            self.report.add("strange_reference", sentences[name])
        else:  # EXT1, EXT2, EXT4
            self.report.add(
                "extension", "The pickle imports by a number that only the loading program knows."
            )
        self.stack.append(OPAQUE)


_CONSTANTS: dict[str, object] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
}


def _pair(machine: _Machine) -> list[object]:
    value, key = machine.pop(), machine.pop()
    return [key, value]


def _dict(machine: _Machine) -> None:
    items = machine.pop_mark()
    machine.stack.append(Table())
    machine.set_items(items)


def _push_after_mark(machine: _Machine, make: Callable[[list[object]], object]) -> None:
    items = machine.pop_mark()
    machine.stack.append(make(items))


_HANDLERS: dict[str, Callable[[_Machine], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop_one,
    "POP_MARK": lambda machine: machine.pop_mark().clear(),
    "DUP": lambda machine: machine.stack.append(machine.top()),
    "MEMOIZE": lambda machine: machine.put(len(machine.memo)),
    "EMPTY_LIST": lambda machine: machine.stack.append(Sequence()),
    "EMPTY_DICT": lambda machine: machine.stack.append(Table()),
    "EMPTY_SET": lambda machine: machine.stack.append(Collection()),
    "FROZENSET": lambda machine: _push_after_mark(machine, lambda items: Collection()),
    "LIST": lambda machine: _push_after_mark(machine, Sequence),
    "TUPLE": lambda machine: _push_after_mark(machine, tuple),
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
    "DICT": _dict,
    "APPEND": lambda machine: machine.append([machine.pop()]),
    "APPENDS": lambda machine: machine.append(machine.pop_mark()),
    "SETITEM": lambda machine: machine.set_items(_pair(machine)),
    "SETITEMS": lambda machine: machine.set_items(machine.pop_mark()),
    "ADDITEMS": lambda machine: machine.add_items(machine.pop_mark()),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_with_names,
    "OBJ": _Machine.object_from_mark,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
    "STOP": _Machine.stop,
}
