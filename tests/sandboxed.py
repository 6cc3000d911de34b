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


def imported_by(module: str, function: str, *arguments: object) -> list[str]:
    """Call a function and return the modules that were not there before."""
    before = set(sys.modules)
    getattr(__import__(module, fromlist=[function]), function)(*arguments)
    return sorted(set(sys.modules) - before)


def look_around() -> dict[str, object]:
    """Say what this process and the one above it can be seen to hold."""
    above = os.getppid()
    parent = Path(f"/proc/{above}/status").read_text()
    return {
        "server": above,
        "threads": int(parent.partition("Threads:")[2].split()[0]),
        "open": {n: _leads_to(n) for n in range(200) if _is_open(n)},
        "environment": Path("/proc/self/environ").read_text(),
        "group": os.getpgrp() == os.getsid(0) == os.getpid(),
    }


def _leads_to(number: int) -> str:
    return str(Path(f"/proc/self/fd/{number}").readlink()).partition(":")[0]


def open_of_others() -> list[str]:
    """Try to open memory and descriptors of the fork server and of its other children."""
    above, opened = os.getppid(), []
    for process in {above, *_children_of(above)} - {os.getpid()}:
        for path in (f"/proc/{process}/mem", f"/proc/{process}/fd/0", f"/proc/{process}/environ"):
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError:
                continue
            opened.append(path)
    return opened


def _children_of(process: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def write_number_and_sleep(path: str, seconds: float) -> None:
    """Tell who this process and its parent are, and then do nothing."""
    Path(path).write_text(f"{os.getpid()} {os.getppid()}")
    time.sleep(seconds)


def leave_the_group(path: str) -> int:
    """Start a process that leaves group and session, and let go of it at once."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            time.sleep(1)
            Path(path).write_text("still here")
            time.sleep(60)
        os._exit(0)
    return int(os.read(read, 20))


def kill_the_server() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def stop_the_server() -> None:
    os.kill(os.getppid(), signal.SIGSTOP)


def close_everything() -> str:
    os.closerange(0, 200)
    return "never heard"


def answer_by_itself(line: str) -> None:
    """Write into every descriptor there is, and then answer as well."""
    for number in range(200):
        try:
            os.write(number, line.encode())
        except OSError:
            continue


def ignore_the_polite() -> int:
    return os.getppid()
