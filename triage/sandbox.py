"""Runs a function on a stranger's file in a child process that can be killed.

The child is a fresh interpreter, so it works from any thread, under any server, and shares no
memory, no open file and no secret with its parent. It gets its limits before it imports anything
of ours (``sandbox_child.py``), and answers in JSON: nothing that a captured child could send
back is ever unpickled.
"""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 16_000_000
# Fits into a pipe, so that sending it never waits for the child.
MAX_REQUEST_BYTES = 16_000
_CHILD = Path(__file__).with_name("sandbox_child.py")
# What the interpreter itself may need to start; the rest of the environment may hold secrets.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "LANG")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use: address space, time, and the size of any file it writes."""

    memory_mb: int = 512
    seconds: float = 10.0  # on the clock, and of processor time
    file_mb: int = 0
    open_files: int = 64


class SandboxError(Exception):
    """The child gave no answer. ``code`` for machines, ``sentence`` for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def run(function: Callable[..., object], *arguments: object, limits: Limits | None = None) -> Any:
    """Call a function of a module in a child process and return what it returns.

    Arguments (short) and result are JSON-able plain data; the result is what the child claims,
    and no more to be trusted than the file it read. What the function raises is not passed on:
    it is expected to return its own refusals.

    Raises ``SandboxError`` with the code ``sandbox.start``, ``sandbox.time``, ``sandbox.memory``,
    ``sandbox.broke`` (an exception), ``sandbox.died`` (a crash) or ``sandbox.answer``; raises
    ``TypeError`` or ``ValueError`` where the call itself cannot be sent.
    """
    limits = limits or Limits()
    if function.__module__ == "__main__" or not function.__qualname__.isidentifier():
        raise TypeError(f"{function.__qualname__} cannot be imported by a child process.")
    request = json.dumps(
        {
            "path": [entry or str(Path.cwd()) for entry in sys.path],
            "module": function.__module__,
            "function": function.__qualname__,
            "arguments": arguments,
            "limits": asdict(limits),
        }
    ).encode()
    if len(request) > MAX_REQUEST_BYTES:
        raise ValueError("The arguments are too long; pass a path instead of data.")
    child = _start()
    try:
        answer, late = _talk(child, request, time.monotonic() + limits.seconds)
    finally:
        status = _end(child)
    return _result(answer, late, status, limits)


def _start() -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # Numerical libraries reserve address space for every thread that they start.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        return subprocess.Popen(
            # Without the environment's paths, without site packages, without writing bytecode.
            [sys.executable, "-I", "-S", "-B", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(
            "sandbox.start", f"The process that should read the file did not start: {error}."
        ) from error


def _talk(child: subprocess.Popen[bytes], request: bytes, deadline: float) -> tuple[bytes, bool]:
    """Send the request; return what came back and whether time ran out before the end of it."""
    if child.stdin is None or child.stdout is None:
        raise SandboxError("sandbox.start", "The process that should read the file has no pipes.")
    try:
        child.stdin.write(request)
        child.stdin.close()
    except BrokenPipeError:
        logger.warning("The sandbox's child died before it was told what to do.")
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(answer) <= MAX_ANSWER_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(answer), True
            if selector.select(left):
                part = os.read(child.stdout.fileno(), 1 << 16)
                answer += part
                if not part or part.endswith(b"\n"):
                    break
    return bytes(answer), False


def _end(child: subprocess.Popen[bytes]) -> int:
    """Kill the child and whatever it started, and return its exit status.

    A child that died without an answer keeps the status it died with.
    """
    try:
        # Its number cannot be another process's yet: nobody has waited for it.
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    return child.wait()


def _result(answer: bytes, late: bool, status: int, limits: Limits) -> Any:
    if late or status == -signal.SIGXCPU:
        raise SandboxError(
            "sandbox.time", f"Reading the file took longer than {limits.seconds:g} seconds."
        )
    if len(answer) > MAX_ANSWER_BYTES:
        raise SandboxError("sandbox.answer", "Reading the file gave a result that is too long.")
    if not answer:
        cause = f"signal {-status}" if status < 0 else f"status {status}"
        raise SandboxError("sandbox.died", f"The process that read the file crashed ({cause}).")
    try:
        message = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise SandboxError("sandbox.answer", "Reading the file gave no readable result.") from error
    if not isinstance(message, dict):
        raise SandboxError("sandbox.answer", "Reading the file gave no readable result.")
    if "result" in message:
        return message["result"]
    if message.get("error") == "memory":
        raise SandboxError(
            "sandbox.memory", f"Reading the file took more than {limits.memory_mb} MB of memory."
        )
    raise SandboxError(
        "sandbox.broke", f"Reading the file failed: {str(message.get('error'))[:500]}"
    )
