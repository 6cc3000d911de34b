"""The other side of ``sandbox.py``: started as a script, takes one call and answers it.

It imports next to nothing before its limits stand, because each import is paid for by every
file, and because nothing of ours should run without them.
"""

import json
import os
import sys
from types import TracebackType

MEGABYTE = 1 << 20
# Linux: sched.h and prctl.h.
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_SIGKILL = 9


def main() -> None:
    """Read a call from standard input, confine this process, and write the answer."""
    answer_to = os.dup(1)
    # Whatever a library prints must not reach the answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def reply(message: dict[str, object]) -> None:
        # JSON holds no line break of its own, so one tells the parent that this is all.
        line = json.dumps(message).encode() + b"\n"
        with os.fdopen(answer_to, "wb") as stream:
            stream.write(line)

    def report(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        reply({"error": "memory" if kind is MemoryError else f"{kind.__name__}: {error}"[:2000]})

    sys.excepthook = report
    call = json.loads(sys.stdin.buffer.read())
    leave_network()
    set_limits(call["limits"])
    sys.path[:] = call["path"]
    module = __import__(call["module"], fromlist=[call["function"]])
    result = getattr(module, call["function"])(*call["arguments"])
    reply({"result": result})


def leave_network() -> None:
    """Give up the network and new privileges, as far as the system lets an ordinary user."""
    if sys.platform != "linux":
        return
    import ctypes  # costs 10 ms and exists for this alone

    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if libc.unshare(_CLONE_NEWNET) != 0:
        # Many systems allow it inside a user namespace only, and containers often not at all.
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def set_limits(limits: dict[str, float]) -> None:
    """Limit memory, processor time, written files and open files, where the system has limits."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    seconds = int(limits["seconds"]) + 1
    for name, soft, hard in (
        ("RLIMIT_AS", int(limits["memory_mb"]) * MEGABYTE, None),
        ("RLIMIT_CPU", seconds, seconds + 1),
        ("RLIMIT_FSIZE", int(limits["file_mb"]) * MEGABYTE, None),
        ("RLIMIT_NOFILE", int(limits["open_files"]), None),
        ("RLIMIT_CORE", 0, None),
    ):
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        ceiling = resource.getrlimit(kind)[1]
        wanted = soft if hard is None else hard
        if ceiling != resource.RLIM_INFINITY:
            wanted = min(wanted, ceiling)
        try:
            resource.setrlimit(kind, (min(soft, wanted), wanted))
        except ValueError:  # macOS refuses some limits that it has
            continue


if __name__ == "__main__":
    main()
