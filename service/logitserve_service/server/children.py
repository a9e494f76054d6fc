"""Fork a child process of the supervisor."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
HANDLED = (*STOPS, *IGNORED, signal.SIGHUP)

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_fork = multiprocessing.get_context("fork")


def forked(run: Callable[[], None], oom_score: int) -> ForkProcess:
    """Start a child process that runs a function, and gets SIGTERM when this process exits.

    Until the function handles them, `STOPS` end the child, and other signals are ignored.

    Args:
        run: the function.
        oom_score: added to the `oom_score_adj` of the child (thousandths of the memory): if memory
            runs out, the kernel kills the process with the highest score.
    """
    # Signals are blocked until the child has installed its own handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    process = _fork.Process(target=_child, args=(run, oom_score, os.getpid()))
    process.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    return process


def _child(run: Callable[[], None], oom_score: int, parent: int) -> None:
    signal.set_wakeup_fd(-1)
    for stop in STOPS:
        signal.signal(stop, lambda *_: os._exit(0))
    for other in (signal.SIGHUP, *IGNORED):
        signal.signal(other, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    with contextlib.suppress(OSError):  # kernels without the file
        adjustment = int(_OOM_SCORE.read_text())
        _OOM_SCORE.write_text(str(min(1000, adjustment + oom_score)))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:
        run()
