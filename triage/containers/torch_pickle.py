"""The stack machine that reads a PyTorch checkpoint's pickle as data.

It follows the instructions that dictionaries and lists of tensors need and refuses all others.
What it builds is plain Python: dict, list, tuple, text, numbers and ``TorchTensor``. Names of
modules and functions stay names; the three that a checkpoint of tensors calls are understood
here, and a call of any other is refused. Nothing is imported and nothing is called.

Source: the opcode table of ``pickletools`` in Python's library, and ``torch/_utils.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, NoReturn

from triage.containers.errors import ContainerError, Severity
from triage.containers.pickle_opcodes import OPAQUE, read_opcodes

# Far above anything seen: a full checkpoint of 2,500 tensors takes 100,000 instructions.
_MOST_INSTRUCTIONS: Final = 5_000_000
_MOST_VALUES: Final = 250_000
_DEEPEST: Final = 32
_MOST_DIMENSIONS: Final = 64  # numpy's own limit
_LIMIT: Final = 2**63

_CONSTANTS: Final[Mapping[str, object]] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENTS: Final = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}

Values = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class TorchTensor:
    """Where a tensor lies in its storage. Offset and strides count elements, as PyTorch does."""

    storage: str
    storage_type: str  # the class name, such as "FloatStorage"
    storage_size: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    """Something referred to by module and name, and left alone."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    type: str
    size: int


class _Mark:
    """Where a run of values on the stack begins."""


def read_pickle(file: BinaryIO) -> object:
    """Read one pickle as data, leaving ``file`` right behind it.

    Raises ``ContainerError`` for anything but tensors, texts and numbers in plain containers.
    """
    machine = _Machine()
    for count, (name, argument, _) in enumerate(read_opcodes(file)):
        if count > _MOST_INSTRUCTIONS:
            _refuse("The pickle is implausibly long.")
        if name == "STOP":
            break
        machine.step(name, argument)
    return machine.pop()


def flatten(content: object) -> tuple[dict[str, TorchTensor], Values]:
    """Return tensors, and texts and numbers, by their path through the containers.

    Raises ``ContainerError`` when two paths read the same, and when the content nests
    implausibly deep or wide, as one that contains itself does.
    """
    tensors: dict[str, TorchTensor] = {}
    values: dict[str, str | int | float | bool] = {}
    pending: list[tuple[tuple[str, ...], object]] = [((), content)]
    visited = 0
    while pending:
        path, item = pending.pop()
        visited += 1
        if visited > _MOST_VALUES or len(path) > _DEEPEST:
            _refuse("The checkpoint nests implausibly deep or wide.")
        if isinstance(item, dict):
            pending += [((*path, str(key)), child) for key, child in reversed(item.items())]
            continue
        if isinstance(item, list | tuple):
            pending += [((*path, str(i)), child) for i, child in reversed(list(enumerate(item)))]
            continue
        name = ".".join(path)
        if name in tensors or name in values:
            raise ContainerError(
                "torch.ambiguous", f"The name {name[:100]!r} stands for two values."
            )
        if isinstance(item, TorchTensor):
            tensors[name] = item
        elif isinstance(item, str | int | float):
            values[name] = item
    return tensors, values


def _refuse(sentence: str) -> NoReturn:
    raise ContainerError("torch.not_plain_tensors", sentence, Severity.UNVOUCHED)


class _Machine:
    """A stack and a memo. Every method refuses what a dictionary of tensors would not do."""

    def __init__(self) -> None:
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def pop(self) -> object:
        """Take the topmost value."""
        if not self._stack or isinstance(self._stack[-1], _Mark):
            _refuse("The pickle takes a value that is not there.")
        return self._stack.pop()

    def step(self, name: str, argument: object) -> None:
        """Follow one instruction."""
        if name in ("PROTO", "FRAME"):
            return
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _ARGUMENTS:
            self._stack.append(_scalar(argument))
        elif name == "MARK":
            self._stack.append(_Mark())
        elif name == "EMPTY_DICT":
            self._stack.append({})
        elif name == "EMPTY_LIST":
            self._stack.append([])
        elif name == "EMPTY_TUPLE":
            self._stack.append(())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self._stack.append(tuple([self.pop() for _ in range(int(name[5]))][::-1]))
        elif name == "TUPLE":
            self._stack.append(tuple(self._pop_to_mark()))
        elif name == "LIST":
            self._stack.append(self._pop_to_mark())
        elif name == "DICT":
            self._stack.append(_pairs(self._pop_to_mark()))
        elif name == "POP":
            self.pop()
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[_count(argument)] = self._top()
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                _refuse("The pickle refers to a value that it did not store.")
            self._stack.append(self._memo[_count(argument)])
        else:
            self._step_structure(name, argument)

    def _step_structure(self, name: str, argument: object) -> None:
        """Follow an instruction that changes a container or names something outside."""
        if name == "SETITEM":
            value, key = self.pop(), self.pop()
            self._update(_pairs([key, value]))
        elif name == "SETITEMS":
            self._update(_pairs(self._pop_to_mark()))
        elif name == "APPEND":
            self._extend([self.pop()])
        elif name == "APPENDS":
            self._extend(self._pop_to_mark())
        elif name == "GLOBAL" and isinstance(argument, tuple):
            self._stack.append(_Name(*argument))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            if not isinstance(module, str) or not isinstance(attribute, str):
                _refuse("The pickle imports something without naming it.")
            self._stack.append(_Name(module, attribute))
        elif name == "BINPERSID":
            self._stack.append(_storage(self.pop()))
        elif name == "REDUCE":
            arguments, function = self.pop(), self.pop()
            self._stack.append(_call(function, arguments))
        elif name == "BUILD":
            # PyTorch hangs "_metadata" (version numbers of modules) on a state's OrderedDict.
            state = self.pop()
            if not isinstance(self._top(), dict) or not isinstance(state, dict):
                _refuse("The pickle sets the state of something that is no dictionary.")
        else:
            _refuse(
                f"The pickle uses the instruction {name}, which no dictionary of tensors needs."
            )

    def _top(self) -> object:
        value = self.pop()
        self._stack.append(value)
        return value

    def _pop_to_mark(self) -> list[object]:
        values: list[object] = []
        while self._stack:
            value = self._stack.pop()
            if isinstance(value, _Mark):
                return values[::-1]
            values.append(value)
        _refuse("The pickle ends a run of values that it did not begin.")

    def _update(self, pairs: dict[str | int, object]) -> None:
        target = self._top()
        if not isinstance(target, dict):
            _refuse("The pickle sets an item of something that is no dictionary.")
        if not pairs.keys().isdisjoint(target):
            raise ContainerError("torch.ambiguous", "The pickle sets an item twice.")
        target.update(pairs)

    def _extend(self, values: list[object]) -> None:
        target = self._top()
        if not isinstance(target, list):
            _refuse("The pickle appends to something that is no list.")
        target.extend(values)


def _scalar(argument: object) -> object:
    # 80 bits: the magic number that opens the older layout is the largest with a meaning.
    if isinstance(argument, int) and argument.bit_length() > 80:
        return OPAQUE
    return argument if isinstance(argument, str | int | float) else OPAQUE


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        _refuse("The pickle has something else where a count belongs.")
    return value


def _counts(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > _MOST_DIMENSIONS:
        _refuse("The pickle has something else where a shape belongs.")
    return tuple(_count(item) for item in value)


def _pairs(values: list[object]) -> dict[str | int, object]:
    if len(values) % 2:
        _refuse("The pickle has a key without a value.")
    pairs: dict[str | int, object] = {}
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, str | int):
            _refuse("The pickle has a dictionary whose keys are neither texts nor numbers.")
        if key in pairs:
            raise ContainerError("torch.ambiguous", "The pickle sets an item twice.")
        pairs[key] = value
    return pairs


def _storage(identity: object) -> _Storage:
    """Read ``("storage", class, key, device, size)``; older files add a ``None`` at the end."""
    match identity:
        case ("storage", _Name("torch", kind), str(key), str(), size) | (
            "storage", _Name("torch", kind), str(key), str(), size, None
        ):  # fmt: skip
            return _Storage(key, kind, _count(size))
        case _:
            _refuse("The pickle refers to something outside that is no storage of a tensor.")


def _call(function: object, arguments: object) -> object:
    """Do what one of the three known functions would do. Source: ``torch/_utils.py``."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        _refuse("The pickle calls something without naming it.")
    match (function.module, function.name), arguments:
        case (("collections", "OrderedDict"), () | ([],)):
            return {}
        case (("collections", "OrderedDict"), (list(items),)):
            if not all(isinstance(item, list | tuple) and len(item) == 2 for item in items):
                _refuse("The pickle makes an OrderedDict of something else than pairs.")
            return _pairs([part for item in items for part in item])
        case (("torch._utils", "_rebuild_parameter"), (TorchTensor() as tensor, *_)):
            return tensor
        case (
            ("torch._utils", "_rebuild_tensor_v2"),
            (_Storage() as storage, offset, size, stride, *_),
        ):
            shape, strides = _counts(size), _counts(stride)
            if len(shape) != len(strides):
                _refuse("The pickle gives a tensor's shape and strides in different lengths.")
            return TorchTensor(
                storage.key, storage.type, storage.size, _count(offset), shape, strides
            )
        case _:
            _refuse(
                f"The pickle calls '{function.module}.{function.name}'"[:200]
                + ", which no dictionary of tensors needs."
            )
