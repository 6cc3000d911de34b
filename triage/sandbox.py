"""Runs a function on a stranger's file in a child process that can be killed.

The child is forked from a small process of our own, the fork server (``sandbox_server.py``), which
starts with the first call and has imported what readers need. That process was started afresh, so
neither it nor its children share memory, an open file or a secret with this one, and calls work
from any thread, under any server. A child gets its limits before it calls anything
(``sandbox_child.py``), and answers in JSON: nothing that a captured child could send back is ever
unpickled. It runs as the same user: unless Linux (6.12) forbids it, a captured child can send
signals to this process, and to the fork server, whose end fails the calls under way and no later
ones. All children have the same layout of addresses, which a crash may tell its sender.

Not multiprocessing's forkserver: that keeps the environment of its parent with all secrets, and
listens at an address that a captured child could connect to.
"""

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triage.sandbox_server import HEAD, READY

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 16_000_000
MAX_REQUEST_BYTES = 16_000
# How long the fork server may take to start, on a machine that is very busy.
_START_SECONDS = 60.0
# How long it may be late in ending a call before it counts as lost.
_GRACE_SECONDS = 30.0
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from triage.sandbox_server import main; main()"
)
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

    Raises ``SandboxError`` with the code ``sandbox.start`` (it did not start, or the fork server
    was lost meanwhile), ``sandbox.time``, ``sandbox.memory``, ``sandbox.broke`` (an exception),
    ``sandbox.died`` (a crash) or ``sandbox.answer``; raises ``TypeError`` or ``ValueError`` where
    the call itself cannot be sent.
    """
    limits = limits or Limits()
    if function.__module__ == "__main__" or not function.__qualname__.isidentifier():
        raise TypeError(f"{function.__qualname__} cannot be imported by a child process.")
    request = json.dumps(
        {
            "path": _path(),
            "folder": _folder(),
            "module": function.__module__,
            "function": function.__qualname__,
            "arguments": arguments,
            "limits": asdict(limits),
        }
    ).encode()
    if len(request) > MAX_REQUEST_BYTES:
        raise ValueError("The arguments are too long; pass a path instead of data.")
    answer, ending = _ask(request, limits.seconds)
    return _result(answer, ending, limits)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a child ended, as the fork server says: memory in bytes resident at most."""

    status: int
    late: bool
    processor_seconds: float
    peak_memory: int


@dataclass(frozen=True, slots=True, eq=False)
class _ForkServer:
    """A running process that forks children for this one, and the socket it takes calls from."""

    process: subprocess.Popen[bytes]
    connection: socket.socket

    def begin(self, seconds: float, child: socket.socket, caller: socket.socket) -> None:
        """Have a child forked that gets ``child``; ``caller`` is told how it ends.

        Raises ``OSError`` where the fork server is gone.
        """
        numbers = [child.fileno(), caller.fileno()]
        socket.send_fds(self.connection, [HEAD.pack(seconds)], numbers)

    def stop(self) -> None:
        """End it, and with it whatever it has at work."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


class _ForkServers:
    """The fork server of this process, started with the first call and again when it is lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _ForkServer | None = None

    def begin(self, seconds: float, child: socket.socket, caller: socket.socket) -> _ForkServer:
        """Have a child forked, as above. Raises ``SandboxError`` (``sandbox.start``)."""
        with self._lock:
            if self._running:
                try:
                    self._running.begin(seconds, child, caller)
                    return self._running
                except OSError:
                    logger.warning("The sandbox's fork server is gone; another is started.")
                    self._running.stop()
                    self._running = None
            try:
                self._running = _started()
                self._running.begin(seconds, child, caller)
            except OSError as error:
                raise _not_started(error) from error
            return self._running

    def lose(self, server: _ForkServer) -> None:
        """Stop one that does not answer; the next call starts another."""
        with self._lock:
            if self._running is server:
                server.stop()
                self._running = None

    def leave(self) -> None:
        """Leave the fork server to the process that this one was forked from."""
        if self._running:
            self._running.connection.close()
        # Another thread may have held the lock, and that thread is not here.
        self._lock, self._running = threading.Lock(), None


_fork_servers = _ForkServers()
os.register_at_fork(after_in_child=_fork_servers.leave)


def _started() -> _ForkServer:
    """Start a fork server and wait until it is ready. Raises ``OSError``."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # Numerical libraries reserve address space for every thread that they start.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    connection, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            # Without the environment's paths, without site packages, without writing bytecode.
            [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, json.dumps(_path())],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    server = _ForkServer(process, connection)
    try:
        connection.settimeout(_START_SECONDS)
        if connection.recv(len(READY)) != READY:
            raise OSError("it ended before it was ready")
        connection.settimeout(_GRACE_SECONDS)
    except OSError:
        server.stop()
        raise
    return server


def _path() -> list[str]:
    return [entry or _folder() for entry in sys.path]


def _folder() -> str:
    """Return the working directory; the root where it was removed, as by an upgrade."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "/"


def _ask(request: bytes, seconds: float) -> tuple[bytes, _Ending]:
    """Have the request answered by a child; return what came back, and how the child ended."""
    ours, childs = socket.socketpair()
    watched, servers = socket.socketpair()
    with ours, watched:
        with childs, servers:
            server = _fork_servers.begin(seconds, childs, servers)
        lost_at = time.monotonic() + seconds + _GRACE_SECONDS
        answer = _talk(ours, watched, request, lost_at)
        ending = _hang_up(watched)
    if ending is None:
        _fork_servers.lose(server)
        raise SandboxError(
            "sandbox.start", "The process that starts those that read files was lost meanwhile."
        )
    return answer, ending


def _talk(child: socket.socket, watched: socket.socket, request: bytes, until: float) -> bytes:
    """Send the request and return what the child says before it, or the fork server, hangs up."""
    answer = bytearray()
    child.settimeout(max(0.0, until - time.monotonic()))
    try:
        child.sendall(request)
        child.shutdown(socket.SHUT_WR)
    except OSError:
        logger.warning("The sandbox's child ended before it was told what to do.")
    with selectors.DefaultSelector() as selector:
        for each in (child, watched):
            selector.register(each, selectors.EVENT_READ)
        while len(answer) <= MAX_ANSWER_BYTES:
            ready = [key.fileobj for key, _ in selector.select(max(0.0, until - time.monotonic()))]
            if child not in ready:
                break
            try:
                part = child.recv(1 << 16)
            except ConnectionError:
                break
            answer += part
            if not part or part.endswith(b"\n"):
                break
    return bytes(answer)


def _hang_up(watched: socket.socket) -> _Ending | None:
    """Have the child killed, if it is not yet; return how it ended, or None where nobody says."""
    message = b""
    watched.settimeout(_GRACE_SECONDS)
    with contextlib.suppress(OSError):  # macOS minds when the other side has closed
        watched.shutdown(socket.SHUT_WR)
    try:
        while part := watched.recv(4096):
            message += part
    except OSError:
        return None
    if not message:
        return None
    report = json.loads(message)
    if "error" in report:
        raise _not_started(report["error"])
    return _Ending(**report)


def _not_started(cause: object) -> SandboxError:
    return SandboxError(
        "sandbox.start", f"The process that should read the file did not start: {cause}."
    )


def _result(answer: bytes, ending: _Ending, limits: Limits) -> Any:
    status = ending.status
    if ending.late or status == -signal.SIGXCPU:
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
