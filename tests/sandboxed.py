"""Functions that tests run in the sandbox, each misbehaving in its own way."""

import mmap
import os
import signal
import socket
import subprocess
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


def open_descriptors() -> dict[int, str]:
    """Return what is open and, roughly, what it leads to."""
    return {
        number: str(Path(f"/proc/self/fd/{number}").readlink()).partition(":")[0]
        for number in range(200)
        if _is_open(number)
    }


def leads_its_group_and_session() -> bool:
    return os.getpgrp() == os.getsid(0) == os.getpid()


def memory_of_others() -> list[int]:
    """Return which of the fork server and its other children let their memory be opened."""
    server, opened = os.getppid(), []
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    for process in {server, *map(int, children)} - {os.getpid()}:
        try:
            os.close(os.open(f"/proc/{process}/mem", os.O_RDONLY))
        except OSError:
            continue
        opened.append(process)
    return opened


def kill_the_server() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def start_a_program() -> int:
    return subprocess.run(["true"], check=True).returncode


def remove(path: str) -> None:
    Path(path).unlink()


def size(path: str) -> int:
    return Path(path).stat().st_size


def allocate(megabytes: int) -> int:
    return len(bytearray(megabytes << 20)) >> 20


def map_memory(megabytes: int) -> None:
    """Ask the kernel itself, which answers with an ``OSError``."""
    mmap.mmap(-1, megabytes << 20)


def fail_with_memory_full() -> None:
    """Take all there is, and then fail of something else, as a library that hides the cause."""
    kept = []
    size = 1 << 26
    while size >= mmap.PAGESIZE:
        try:
            kept.append(mmap.mmap(-1, size))
        except OSError:
            size //= 2
    raise LookupError("the drawer is empty")


def say_who(path: str) -> None:
    """Write down who this process and its parent are, and do nothing for a minute."""
    whole = Path(path).with_suffix(".part")
    whole.write_text(f"{os.getpid()} {os.getppid()}")
    whole.rename(path)
    time.sleep(60)


def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return "seen"


def leave_the_group() -> int:
    """Start a process that leaves group and session, let go of it, and return its number."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            time.sleep(60)
        os._exit(0)
    return int(os.read(read, 20))


def close_everything() -> str:
    os.closerange(0, 200)
    return "not heard"


def write_everywhere(line: str) -> None:
    """Write into every descriptor there is, and wait to be killed."""
    for number in range(200):
        try:
            os.write(number, line.encode())
        except OSError:
            continue
    time.sleep(60)
