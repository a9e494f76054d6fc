import io
import re

from rich.console import Console

from logitserve_training.progress import Reporter


def test_elsewhere_than_on_a_terminal_there_are_plain_lines() -> None:
    log = io.StringIO()
    reporter = Reporter(Console(file=log, width=40))
    with reporter.steps("fit", 10) as advance:
        for _ in range(10):
            advance(1)
        reporter.line("epoch [1/2] " + "and so on " * 10)
    with reporter.bytes("file.gz", 1_000_000) as advance:
        for _ in range(100):
            advance(10_000)
    assert log.getvalue().splitlines() == [
        "epoch [1/2] " + "and so on " * 10,
        "file.gz: 1.0 MB",
    ]


def test_on_a_terminal_a_bar_moves() -> None:
    log = io.StringIO()
    reporter = Reporter(Console(file=log, width=100, force_terminal=True))
    with reporter.steps("fit", 10) as advance:
        advance(10)
        reporter.line("epoch 1/1")
    with reporter.bytes("file.gz", 1_000_000) as advance:
        advance(1_000_000)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", log.getvalue())
    assert "10/10" in shown
    assert "epoch 1/1" in shown
    assert "1.0/1.0 MB" in shown
