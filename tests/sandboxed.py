"""Functions that tests run in the sandbox, each misbehaving in its own way."""

import os
import signal
import socket
import sys
import time
from pathlib import Path


def add(left: int, right: int) -> int:
    return left + right


def echo(value: object) -> object:
    return value


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def spin() -> None:
    while True:
        pass


def sleep_deaf() -> None:
    """Ignore every signal that can be ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    time.sleep(600)


def eat_memory() -> int:
    return len(bytearray(2 << 30))


def eat_memory_slowly() -> int:
    kept = []
    while True:
        kept.append(bytearray(1 << 20))


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


def fail() -> None:
    raise LookupError("the drawer is empty")


def leave(status: int) -> None:
    os._exit(status)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def print_noise() -> str:
    print("noise that is no answer")  # noqa: T201
    sys.stdout.flush()
    os.write(1, b"more noise")
    return "answer"


def answer_at_length(size: int) -> str:
    return "x" * size


def answer_not_json() -> object:
    return {1, 2, 3}


def write_file(path: str, size: int) -> int:
    return Path(path).write_bytes(bytes(size))


def open_many(count: int) -> int:
    return len([os.open("/dev/null", os.O_RDONLY) for _ in range(count)])


def environment() -> dict[str, str]:
    return dict(os.environ)


def file_descriptors() -> list[int]:
    return [number for number in range(3, 200) if _is_open(number)]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def connect(port: int) -> str:
    with socket.socket() as client:
        client.settimeout(2)
        client.connect(("127.0.0.1", port))
        return "connected"


def leave_a_child_behind(path: str) -> int:
    """Start a process that writes a file after a second, and answer at once."""
    number = os.fork()
    if number == 0:
        time.sleep(1)
        Path(path).write_text("still here")
        os._exit(0)
    return number


def modules_for_checking(path: str) -> list[str]:
    __import__("triage.containers.check", fromlist=["check_file"]).check_file(path)
    return sorted(sys.modules)
