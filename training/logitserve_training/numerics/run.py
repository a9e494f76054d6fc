"""All of it, in the order of the page."""

import json
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import (
    data,
    decay,
    descent,
    endings,
    gradients,
    layers,
    limits,
    losses,
    page,
    plots,
    roundoff,
)
from logitserve_training.numerics.roundoff import Numbers
from logitserve_training.progress import Reporter, Stopwatch

PAGE: Final = "numerics.md"
FOLDER: Final = "numerics"
"""Beside the page: the plots, and `NUMBERS`."""
NUMBERS: Final = "numbers.json"
SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Effort:
    """Pictures and epochs of each experiment."""

    endings: tuple[int, int]
    descent: tuple[int, int]
    decay: tuple[int, int]
    layers: tuple[int, int]
    strengths: tuple[float, ...]
    """Of weight decay."""


FULL: Final = Effort(
    endings=(12_000, 8),
    descent=(12_000, 8),
    decay=(3_000, 20),
    layers=(6_000, 8),
    strengths=(1e-3, 1e-2, 1e-1, 1.0),
)
QUICK: Final = Effort(
    endings=(500, 1), descent=(500, 1), decay=(100, 1), layers=(200, 1), strengths=(1e-2,)
)


def run(
    *, output: Path, folder: Path | None = None, quick: bool = False, console: Console | None = None
) -> Path:
    """Measure, draw and write.

    Args:
        output: is made; the page goes into it, plots and numbers into its folder `numerics`.
        folder: with MNIST; None downloads it. Not read for a quick look.
        quick: a look at it in seconds, with drawn digits and hardly any training.
        console: where progress is shown; standard error by default.

    Returns:
        the page.

    Raises:
        DataError: the data set cannot be used.
    """
    reporter, stopwatch = Reporter(console), Stopwatch()
    dataset = data.drawn() if quick else data.load(folder, reporter)
    pictures = output / FOLDER
    pictures.mkdir(parents=True, exist_ok=True)
    numbers = _context(dataset, quick=quick)
    numbers |= _exact(pictures, reporter)
    numbers |= _trained(dataset, QUICK if quick else FULL, pictures, reporter)

    numbers = finite(numbers)
    document = json.dumps(numbers, indent=1, allow_nan=False, ensure_ascii=False)
    (pictures / NUMBERS).write_text(document + "\n", encoding="utf-8")
    path = output / PAGE
    path.write_text(page.render(numbers), encoding="utf-8")
    reporter.line(f"{path}, after {stopwatch.seconds:.0f} s")
    return path


def finite(value: Any) -> Any:
    """The same with words for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return value


def _context(dataset: Dataset, *, quick: bool) -> Numbers:
    effort = QUICK if quick else FULL
    return {
        "provenance": {
            "banner": "**This is a quick look, barely trained: the text speaks of the full run.** "
            if quick
            else "",
            "seed": SEED,
            "tensorflow": version("tensorflow"),
            "keras": version("keras"),
        },
        "dataset": {
            "name": dataset.name,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
        },
        "sizes": {"endings": effort.endings[0], "descent": effort.descent[0]},
    }


def _exact(pictures: Path, reporter: Reporter) -> Numbers:
    """What needs no data."""
    reporter.line("1–3, 7, 8: round-off, losses, gradients, limits")
    sweeps = [losses.sweep_softmax(), losses.sweep_sigmoid()]
    plots.save(plots.loss_sweeps(sweeps), pictures / "losses.png")
    plots.save(plots.gradient_sweeps(sweeps), pictures / "gradients.png")
    checks = [gradients.check_softmax(SEED), gradients.check_sigmoid(SEED)]
    plots.save(plots.finite_differences(checks), pictures / "differences.png")
    cooled = limits.temperatures()
    plots.save(plots.temperatures(cooled), pictures / "temperature.png")
    return {
        "roundoff": roundoff.measure(),
        "losses": [row for sweep in sweeps for row in sweep.numbers],
        "gradients": [check.numbers for check in checks],
        "limits": cooled.numbers,
    }


def _trained(dataset: Dataset, effort: Effort, pictures: Path, reporter: Reporter) -> Numbers:
    """What trains networks."""

    def share(sizes: tuple[int, int]) -> dict[str, Any]:
        count, epochs = sizes
        return {"dataset": data.first(dataset, count), "epochs": epochs, "seed": SEED}

    reporter.line("4: endings of a network")
    settings = endings.compare(**share(effort.endings))
    plots.save(plots.training_endings(settings), pictures / "endings.png")
    reporter.line("5: gradient descent and Adam")
    descents = descent.measure(**share(effort.descent))
    plots.save(plots.descents(descents), pictures / "descent.png")
    reporter.line("6: weight decay")
    decayed = decay.measure(**share(effort.decay), strengths=effort.strengths)
    plots.save(plots.weight_decay(decayed), pictures / "weight_decay.png")
    reporter.line("9: dense and convolutional layers")
    contest = layers.measure(**share(effort.layers))
    plots.save(plots.contest(contest), pictures / "layers.png")
    return {
        "endings": [setting.numbers for setting in settings],
        "descent": descents.numbers,
        "decay": decayed.numbers,
        "layers": contest.numbers,
    }
