"""What only Linux has to confine processes and to clean up after them; nothing elsewhere."""

import ctypes
import os
import signal
import sys
from pathlib import Path

# sched.h and prctl.h
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def close_memory() -> None:
    """Let no process of the same user trace this one or open its memory and files.

    It holds for what it forks, too. Whoever has the capability to trace others still may.
    """
    if _libc:
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of whatever its children leave behind."""
    if _libc:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Return the processes whose parent is this one, as far as the system tells."""
    number = os.getpid()
    try:
        return {int(n) for n in Path(f"/proc/{number}/task/{number}/children").read_text().split()}
    except OSError:
        return set()


def die_with_parent(parent: int) -> None:
    """Have this process killed when the one that forked it ends."""
    if _libc:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended a moment before
            os._exit(1)


def leave_network() -> None:
    """Give up the network and new privileges, as far as the system lets an ordinary user."""
    if _libc:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            # Many systems allow it inside a user namespace only, and containers often not at all.
            _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
