"""Progress of long tasks: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[int], None]
"""Called with the number of newly completed units."""


class Reporter:
    """Reports progress on the console."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def line(self, text: str) -> None:
        """Write one line, above the bar if there is one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def steps(self, title: str, total: int) -> Iterator[Advance]:
        """Show the progress of a task; only on a terminal."""
        with self._bar(title, total, MofNCompleteColumn()) as advance:
            yield advance

    @contextmanager
    def bytes(self, title: str, total: int) -> Iterator[Advance]:
        """Show a transfer in bytes; outside a terminal, one line at the start."""
        if not self._console.is_terminal:
            self.line(f"{title}: {total / 1e6:.1f} MB")
        with self._bar(title, total, DownloadColumn(), TransferSpeedColumn()) as advance:
            yield advance

    @contextmanager
    def _bar(self, title: str, total: int, *columns: ProgressColumn) -> Iterator[Advance]:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as progress:
            task = progress.add_task(title, total=total)
            yield lambda count: progress.advance(task, count)
