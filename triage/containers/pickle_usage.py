"""What a call or a reference in a pickle of weights usually looks like."""

from triage.containers.pickle_imports import (
    ALLOWED_VALUES,
    CODECS_ENCODE,
    DEFAULT_DICT,
    NUMPY_DTYPE,
    RECONSTRUCT,
    STORAGE_BYTES,
    STORAGE_MODULES,
)
from triage.containers.pickle_opcodes import Opaque
from triage.containers.pickle_values import Import, Made, Storage, Table


def describe(value: object) -> str:
    """Name a value in a sentence."""
    match value:
        case Import():
            return f"{value}"
        case Made():
            return f"the result of {value.by}"
        case Opaque():
            return "something unknown"
        case _:
            return f"a value ({type(value).__name__.lower()})"


def storage_of(reference: object) -> Storage | None:
    """Read torch's persistent id (torch/serialization.py, ``persistent_id``).

    Files written before torch 1.6 add a sixth member that describes a view.
    """
    if not isinstance(reference, tuple) or len(reference) not in (5, 6):
        return None
    word, kind, key, location, elements = reference[:5]
    if word != "storage" or not isinstance(kind, Import) or kind.module not in STORAGE_MODULES:
        return None
    if kind.name not in STORAGE_BYTES or not isinstance(key, str) or not isinstance(location, str):
        return None
    if type(elements) is not int or not 0 <= elements < 2**60:
        return None
    return Storage(kind.name, key, elements)


def arguments_are_usual(function: Import, arguments: tuple[object, ...]) -> bool:
    """Check the few functions whose arguments decide whether they are harmless."""
    if function.key == CODECS_ENCODE:
        # The encoding's name picks a module; numpy only ever asks for this one.
        return len(arguments) == 2 and arguments[1] in ("latin1", "latin-1")
    if function.key in RECONSTRUCT:
        return bool(arguments) and arguments[0] == Import("numpy", "ndarray")
    if function.key == NUMPY_DTYPE:
        return bool(arguments) and _dtype_is_plain(arguments[0])
    if function.key == DEFAULT_DICT:
        factory = arguments[0] if arguments else None
        return factory is None or (isinstance(factory, Import) and factory.key in ALLOWED_VALUES)
    if function.name in ("bytes", "bytearray"):
        # Protocols before 3 write bytes as an encoded string; a number would reserve memory.
        return not any(isinstance(argument, int) for argument in arguments[:1])
    return True


def _dtype_is_plain(name: object) -> bool:
    """Tell whether a numpy dtype holds numbers or text; "O" holds Python objects."""
    if not isinstance(name, str):
        return False
    kind = name.lstrip("<>|=")
    return kind[:1] in tuple("biufcSUmM?") and (kind[1:].isdigit() or not kind[1:])


def dtype_state_is_plain(state: object) -> bool:
    """Check numpy's (version, order, subdtype, names, fields, size, alignment, flags, ...).

    Flag 1 says "holds objects" and 8 "needs the interpreter" (numpy, ``ndarraytypes.h``); text
    has 8 alone.
    """
    return (
        isinstance(state, tuple)
        and len(state) >= 8
        and state[1] in ("<", ">", "|", "=")
        and state[2:5] == (None, None, None)
        and state[7] in (0, 8)
    )


def attributes_are_plain(state: object) -> bool:
    """Check what is set on a dict, such as torch's ``_metadata``: names without a meaning.

    ``__setstate__`` would be called with the next state, whatever the rules for calls say.
    """
    return isinstance(state, Table) and all(
        isinstance(name, str) and not name.startswith("__") for name, _ in state.pairs
    )
