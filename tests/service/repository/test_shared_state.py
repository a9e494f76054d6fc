"""Workers that agree through memory; other workers are real processes."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from logitserve.inference.errors import FileChangedError, ModelFileError
from logitserve.inference.model_file import Signature, in_memory
from logitserve_service.repository.shared_state import DesiredState, SharedState

FORK = multiprocessing.get_context("fork")
FILE = "tiny/3 of 2031 bytes"


def fits() -> str:
    return ""


class Worker:
    """Another process, which reaches generations and begins loads when it is told to."""

    def __init__(self, shared: SharedState) -> None:
        self._orders, orders = FORK.Pipe()
        self.process = FORK.Process(target=self._work, args=(shared, orders))
        self.process.start()
        orders.close()

    @staticmethod
    def _work(shared: SharedState, orders: Connection) -> None:
        while (order := orders.recv()) is not None:
            if isinstance(order, int):
                shared.done(order)
                orders.send(order)
            else:
                with shared.loading(order, 0, fits):
                    orders.send(order)
                    orders.recv()

    def do(self, order: int | str) -> None:
        self._orders.send(order)
        assert self._orders.recv() == order

    def kill(self) -> int:
        self.process.kill()
        self.process.join()
        return self.process.pid or 0


def test_a_change_waits_for_the_living_and_not_for_the_dead() -> None:
    own = SharedState()
    own.initialize(DesiredState(default="digits"))
    own.done(0)
    others = [Worker(own) for _ in range(2)]
    for other in others:
        other.do(0)
    state = own.update(lambda state: state.with_unload("digits"))
    assert (state.generation, state.default, state.unloaded) == (1, "digits", ("digits",))
    assert own.pending(1) == 3
    own.done(1)
    others[0].do(1)
    assert own.pending(1) == 1
    assert not own.ended(others[1].kill(), "SIGKILL")
    assert own.pending(1) == 0
    others[0].kill()
    own.leave()
    assert own.pending(1) == 0


def in_other_process(call: Callable[[], None]) -> None:
    process = FORK.Process(target=call)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_worker_that_starts_later_reads_the_state() -> None:
    own = SharedState()
    assert own.desired() is None
    own.initialize(DesiredState(default="digits"))
    assert own.desired() == DesiredState(default="digits")
    own.update(lambda state: state.with_unload("zero"))
    # A worker that started at the same time:
    in_other_process(lambda: own.initialize(DesiredState(default="zero")))
    own.update(lambda state: state.with_unload("digits"))
    own.update(lambda state: state.with_load("zero"))
    expected = DesiredState(3, "digits", ("digits",), {"zero": 3})

    def read() -> None:
        assert own.desired() == expected

    in_other_process(read)


@pytest.mark.parametrize("rounds", [20])
def test_changes_of_several_workers_are_all_kept(rounds: int) -> None:
    own = SharedState()

    def change(worker: int) -> None:
        for number in range(rounds):
            name = f"m{worker}-{number}"
            own.update(lambda state, name=name: state.with_unload(name))  # type: ignore[misc]

    running = [FORK.Process(target=change, args=(worker,)) for worker in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0, 0]
    state = own.desired()
    assert state is not None
    assert (state.generation, len(state.unloaded)) == (3 * rounds, 3 * rounds)


def test_a_worker_may_be_killed_while_it_changes_the_state() -> None:
    own = SharedState()

    def change() -> None:
        while True:
            own.update(lambda state: state.with_load("m" * 60))

    for _ in range(20):
        process = FORK.Process(target=change)
        process.start()
        before = own.desired()
        while own.desired() == before:
            pass
        process.kill()
        process.join()
        state = own.desired()
        assert state is not None
        assert own.update(lambda state: state.with_load("x")).generation == state.generation + 1


def test_what_was_logged_is_not_logged_again() -> None:
    own = SharedState()
    in_other_process(lambda: own.done(int(own.first_to_log("refused: a"))))
    assert (own.pending(2), own.pending(1)) == (1, 0)  # it was the first
    assert not own.first_to_log("refused: a")
    assert own.first_to_log("refused: b")


def test_a_version_that_ended_its_worker_is_refused() -> None:
    own = SharedState()
    worker = Worker(own)
    worker.do(FILE)
    assert own.ended(worker.kill(), "SIGKILL")
    for attempt in (0, 1):
        with (
            pytest.raises(ModelFileError, match=r"ended the process that loaded it \(SIGKILL\)"),
            own.loading(FILE, attempt, fits),
        ):
            pytest.fail("it is loaded")
    with own.loading(f"{FILE}, another", 0, fits):
        pass


def test_a_version_that_another_worker_has_loaded_has_more_chances() -> None:
    own = SharedState()
    with own.loading(FILE, 0, fits):
        pass
    for _ in range(3):
        worker = Worker(own)
        worker.do(FILE)
        assert own.ended(worker.kill(), "SIGKILL")
    with pytest.raises(ModelFileError), own.loading(FILE, 0, fits):
        pytest.fail("it is loaded")


def kept_bytes(state: SharedState) -> int:
    return os.fstat(state._store._file).st_blocks * 512


def keep(state: SharedState, version: str, content: bytes) -> None:
    file = Signature(1, 2, len(content), 3, 4)
    with in_memory([content]) as reading:
        state.keep(version, "tiny", version, file, reading)


def test_bytes_are_kept_once_and_for_as_long_as_a_worker_serves_them() -> None:
    own, size = SharedState(), 5_000_000
    first, second = (bytes([number]) * size for number in (1, 2))
    keep(own, "1", first)
    keep(own, "2", second)
    keep(own, "3", first)
    assert own.reading("4") is None
    for version, content in (("1", first), ("2", second), ("3", first)):
        with own.reading(version) or pytest.fail("it is not kept") as reading:
            assert reading.path.read_bytes() == content
    assert 2 * size <= kept_bytes(own) < 2.1 * size
    late = own.reading("2") or pytest.fail("it is not kept")
    in_other_process(lambda: own.serve(["3"]))
    assert [each.version for each in own.kept()] == ["1", "2", "3"]
    own.serve(["1"])
    assert [each.version for each in own.kept()] == ["1", "3"]
    assert size <= kept_bytes(own) < 1.1 * size
    with pytest.raises(FileChangedError, match="no longer served"), late:
        pytest.fail("it is read")


def test_what_the_last_worker_served_is_kept_until_another_one_serves() -> None:
    own = SharedState()
    keep(own, "1", b"first")
    keep(own, "2", b"second")
    own.serve(["1", "2"])
    own.ended(os.getpid(), "SIGKILL")
    in_other_process(lambda: keep(own, "1", b"first"))
    assert [each.version for each in own.kept()] == ["1", "2"]
    in_other_process(lambda: own.serve(["1"]))
    assert [each.version for each in own.kept()] == ["1"]


def test_workers_weigh_a_version_alike() -> None:
    own = SharedState()
    with (
        pytest.raises(ModelFileError, match="too large"),
        own.loading(FILE, 0, lambda: "too large"),
    ):
        pytest.fail("it is loaded")
    with pytest.raises(ModelFileError, match="too large"), own.loading(FILE, 0, fits):
        pytest.fail("another worker has refused it")
    with own.loading(FILE, 1, fits):
        pass  # asked for anew
    with own.loading(FILE, 2, lambda: "too large"):
        pass  # it was loaded before
