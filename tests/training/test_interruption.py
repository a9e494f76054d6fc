"""Ctrl-C that a library drops."""

import signal
import threading

import pytest

from logitserve_training.interruption import remembered

pytestmark = pytest.mark.usefixtures("_interruptible")


class Interrupting:
    """Is interrupted while it is destroyed."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_dropped_is_raised_by_the_next_check() -> None:
    before = signal.getsignal(signal.SIGINT)
    with remembered() as check:
        check()
        made = Interrupting()
        del made  # Python says so on standard error, and goes on
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_not_dropped_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), remembered():
        signal.raise_signal(signal.SIGINT)


def test_elsewhere_than_in_the_main_thread_nothing_is_changed() -> None:
    before, done = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with remembered() as check:
            check()
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [before]
