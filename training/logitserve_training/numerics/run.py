"""Run all experiments in the order of the page."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.console import Console

from logitserve_training import plots
from logitserve_training.datasets import mnist
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import (
    activations,
    crossentropy,
    decay,
    descent,
    gradients,
    layers,
    loop,
    losses,
    multilabel,
    output_layers,
    prior,
)
from logitserve_training.numerics.loop import Effort
from logitserve_training.numerics.section import Numbers, Section, finite, render
from logitserve_training.progress import Reporter

TEMPLATE: Final = Path(__file__).with_name("page.md")
PAGE: Final = "numerics.md"
FOLDER: Final = "numerics"
"""Folder beside the page: plots, and `NUMBERS`."""
NUMBERS: Final = "numbers.json"

EXACT: Final[dict[str, Callable[[], Section]]] = {
    "roundoff": activations.roundoff,
    "activations": activations.measure,
    "crossentropy": crossentropy.measure,
    "losses": losses.measure,
    "gradients": gradients.measure,
    "prior": prior.measure,
}
"""Experiments without data."""


TRAINED: Final[dict[str, tuple[Callable[[Dataset, Effort], Section], Effort]]] = {
    "endings": (output_layers.measure, Effort(6_000, 6)),
    "descent": (descent.measure, Effort(6_000, 6)),
    "decay": (decay.measure, Effort(3_000, 6)),
    "multilabel": (multilabel.measure, Effort(6_000, 6)),
    "layers": (layers.measure, Effort(4_000, 6)),
}
"""Experiments that train networks, with the effort of a full run."""
_QUICK: Final = Effort(500, 1, seeds=1)


def run(
    *, output: Path, folder: Path | None = None, quick: bool = False, console: Console | None = None
) -> Path:
    """Run the experiments; write the page into `output`, plots and numbers into `numerics` there.

    MNIST is read from `folder`, or downloaded; a quick run uses drawn digits and few epochs.

    Raises:
        DataError: the data set cannot be used.
    """
    reporter, begun = Reporter(console), time.monotonic()
    dataset = loop.drawn() if quick else mnist.load(folder, reporter)
    pictures = output / FOLDER
    pictures.mkdir(parents=True, exist_ok=True)
    numbers: Numbers = {"context": finite(_context(dataset, quick=quick))}
    for name, exact in EXACT.items():
        numbers[name] = _written(exact(), pictures)
    for name, (measure, full) in TRAINED.items():
        reporter.line(f"{name}: training networks")
        effort = _QUICK if quick else full
        lesson = measure(loop.first(dataset, effort.pictures), effort)
        numbers[name] = _written(lesson, pictures) | asdict(effort)

    document = json.dumps(numbers, indent=1, allow_nan=False, ensure_ascii=False)
    (pictures / NUMBERS).write_text(document + "\n", encoding="utf-8")
    path = output / PAGE
    path.write_text(render(numbers, TEMPLATE.read_text("utf-8")), encoding="utf-8")
    reporter.line(f"{path}, after {time.monotonic() - begun:.0f} s")
    return path


def _written(lesson: Section, pictures: Path) -> Numbers:
    for name, figure in lesson.figures.items():
        plots.save(figure, pictures / f"{name}.png")
    return {name: finite(value) for name, value in lesson.numbers.items()}


def _context(dataset: Dataset, *, quick: bool) -> Numbers:
    banner = "**This is a quick look with little training; the text describes the full run.** "
    return {
        "banner": banner if quick else "",
        "tensorflow": version("tensorflow"),
        "keras": version("keras"),
        "data": dataset.name,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
    }
