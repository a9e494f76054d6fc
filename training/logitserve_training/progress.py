"""Long work shown: a moving bar on a terminal, plain lines elsewhere."""

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
"""Told how many more units are done."""

_PLAIN_LINES = 4


class Reporter:
    """Tells the person at the console what is going on."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def line(self, text: str) -> None:
        """Write one line; above the bar, if one is moving."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def steps(self, title: str, total: int) -> Iterator[Advance]:
        """Show the steps of one piece of work; nothing is shown outside a terminal."""
        with self._bar(title, total, 0, MofNCompleteColumn()) as advance:
            yield advance

    @contextmanager
    def bytes(self, title: str, total: int, *, done: int = 0) -> Iterator[Advance]:
        """Show a transfer in bytes; outside a terminal, a line when it starts and each quarter."""
        if self._console.is_terminal:
            with self._bar(title, total, done, DownloadColumn(), TransferSpeedColumn()) as advance:
                yield advance
            return

        resumed = f", resumed at {done / total:.0%}" if done else ""
        self.line(f"{title}: {total / 1e6:.1f} MB{resumed}")

        def advance_plainly(count: int) -> None:
            nonlocal done
            shown = done * _PLAIN_LINES // total
            done += count
            if done * _PLAIN_LINES // total > shown:
                self.line(f"{title}: {done / total:.0%}")

        yield advance_plainly

    @contextmanager
    def _bar(
        self, title: str, total: int, done: int, *columns: ProgressColumn
    ) -> Iterator[Advance]:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as progress:
            task = progress.add_task(title, total=total, completed=done)
            yield lambda count: progress.advance(task, count)
