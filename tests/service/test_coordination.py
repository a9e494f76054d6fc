"""Workers that agree through files; other workers are real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from logitserve_service.repository.shared_state import Coordination, Wanted

WORKER = """
import sys
from pathlib import Path
from logitserve_service.repository.shared_state import Coordination

worker = Coordination(Path(sys.argv[1]))
for order in map(int, sys.stdin):
    worker.done(order)
    print(order, flush=True)
"""


class Worker:
    """Another process that carries out orders when it is told to."""

    def __init__(self, shared: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(shared)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def done(self, order: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        assert int(self.process.stdout.readline()) == order

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_an_order_waits_for_the_living_and_not_for_the_dead(tmp_path: Path) -> None:
    own = Coordination(tmp_path)
    own.begin(Wanted(default="digits"))
    own.done(0)
    others = [Worker(tmp_path) for _ in range(2)]
    for other in others:
        other.done(0)
    wanted = own.order(lambda wanted: wanted.with_unload("digits"))
    assert (wanted.order, wanted.default, wanted.unloaded) == (1, "digits", ("digits",))
    assert own.pending(1) == 3
    own.done(1)
    others[0].done(1)
    assert own.pending(1) == 1
    others[1].kill()
    assert own.pending(1) == 0
    others[0].kill()
    own.leave()
    assert own.pending(1) == 0


def test_who_starts_later_reads_what_was_ordered(tmp_path: Path) -> None:
    assert Coordination(tmp_path).wanted() is None
    own = Coordination(tmp_path)
    own.begin(Wanted(default="digits"))
    own.order(lambda wanted: wanted.with_unload("zero"))
    Coordination(tmp_path).begin(Wanted(default="zero"))  # a worker that started at the same time
    own.order(lambda wanted: wanted.with_unload("digits"))
    own.order(lambda wanted: wanted.with_load("zero"))
    assert Coordination(tmp_path).wanted() == Wanted(3, "digits", ("digits",), {"zero": 3})


@pytest.mark.parametrize("rounds", [5])
def test_orders_of_several_workers_are_all_kept(tmp_path: Path, rounds: int) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from logitserve_service.repository.shared_state import Coordination\n"
        "for n in range(int(sys.argv[3])):\n"
        "    name = f'm{sys.argv[2]}-{n}'\n"
        "    Coordination(Path(sys.argv[1])).order(lambda wanted: wanted.with_unload(name))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(worker), str(rounds)])
        for worker in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    wanted = Coordination(tmp_path).wanted()
    assert wanted is not None
    assert (wanted.order, len(wanted.unloaded)) == (3 * rounds, 3 * rounds)


def test_what_was_said_is_not_said_again(tmp_path: Path) -> None:
    first, second = Coordination(tmp_path), Coordination(tmp_path)
    assert first.is_first("refused: a")
    assert not second.is_first("refused: a")
    assert second.is_first("refused: b")
