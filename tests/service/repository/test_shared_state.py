"""Workers that agree through files; other workers are real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from logitserve_service.repository.shared_state import DesiredState, SharedState

WORKER = """
import sys
from pathlib import Path
from logitserve_service.repository.shared_state import SharedState

worker = SharedState(Path(sys.argv[1]))
for generation in map(int, sys.stdin):
    worker.done(generation)
    print(generation, flush=True)
"""


class Worker:
    """Another process that reaches generations when it is told to."""

    def __init__(self, shared: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(shared)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def done(self, generation: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{generation}\n")
        self.process.stdin.flush()
        assert int(self.process.stdout.readline()) == generation

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_change_waits_for_the_living_and_not_for_the_dead(tmp_path: Path) -> None:
    own = SharedState(tmp_path)
    own.initialize(DesiredState(default="digits"))
    own.done(0)
    others = [Worker(tmp_path) for _ in range(2)]
    for other in others:
        other.done(0)
    state = own.update(lambda state: state.with_unload("digits"))
    assert (state.generation, state.default, state.unloaded) == (1, "digits", ("digits",))
    assert own.pending(1) == 3
    own.done(1)
    others[0].done(1)
    assert own.pending(1) == 1
    others[1].kill()
    assert own.pending(1) == 0
    others[0].kill()
    own.leave()
    assert own.pending(1) == 0


def test_a_worker_that_starts_later_reads_the_state(tmp_path: Path) -> None:
    assert SharedState(tmp_path).desired() is None
    own = SharedState(tmp_path)
    own.initialize(DesiredState(default="digits"))
    own.update(lambda state: state.with_unload("zero"))
    SharedState(tmp_path).initialize(
        DesiredState(default="zero")
    )  # a worker that started at the same time
    own.update(lambda state: state.with_unload("digits"))
    own.update(lambda state: state.with_load("zero"))
    assert SharedState(tmp_path).desired() == DesiredState(3, "digits", ("digits",), {"zero": 3})


@pytest.mark.parametrize("rounds", [5])
def test_changes_of_several_workers_are_all_kept(tmp_path: Path, rounds: int) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from logitserve_service.repository.shared_state import SharedState\n"
        "for n in range(int(sys.argv[3])):\n"
        "    name = f'm{sys.argv[2]}-{n}'\n"
        "    SharedState(Path(sys.argv[1])).update(lambda state: state.with_unload(name))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(worker), str(rounds)])
        for worker in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    state = SharedState(tmp_path).desired()
    assert state is not None
    assert (state.generation, len(state.unloaded)) == (3 * rounds, 3 * rounds)


def test_what_was_logged_is_not_logged_again(tmp_path: Path) -> None:
    first, second = SharedState(tmp_path), SharedState(tmp_path)
    assert first.first_to_log("refused: a")
    assert not second.first_to_log("refused: a")
    assert second.first_to_log("refused: b")
