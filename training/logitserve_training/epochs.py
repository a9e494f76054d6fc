"""The epochs of a training: their figures, the line about each, and the best one."""

import json
import math
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from logitserve_training.backend import keras
from logitserve_training.progress import Reporter

EPOCHS_FILE: Final = "epochs.json"
_BEST: Final = "best.npz"
_LEAST_PATIENCE: Final = 10
"""Epochs without a better one after which training ends, at least."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training part gave."""

    loss: float
    """Mean over the training part, of the weights as they were at each step; nats."""
    accuracy: float
    """Likewise; a fraction."""
    validation_loss: float
    """Of the weights after the epoch (their moving average, if the recipe keeps one)."""
    validation_accuracy: float
    seconds: float


class EpochLog:
    """Keeps each epoch's figures and writes a line about it."""

    def __init__(self, reporter: Reporter, total: int, checkpoint: Path | None) -> None:
        self._file = None if checkpoint is None else checkpoint / EPOCHS_FILE
        self.epochs: list[Epoch] = []
        """Of the network's training; also those before it was interrupted."""
        if self._file is not None and self._file.is_file():
            self.epochs = [Epoch(**epoch) for epoch in json.loads(self._file.read_text())]
        self.callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self._begin(),  # noqa: ARG005 - Keras names them
            on_epoch_end=self._end,
            on_train_batch_end=self._step,
        )
        self._reporter = reporter
        self._total = total
        self._epoch = time.monotonic()
        self._compiled = time.monotonic()

    def _begin(self) -> None:
        self._epoch = time.monotonic()

    def _step(self, batch: int, logs: Any) -> None:  # noqa: ARG002 - Keras names it
        if batch == 0 and not self.epochs:
            self._compiled = time.monotonic()  # the first step compiles, and no other does

    def _left(self) -> timedelta:
        """The time of the epochs to come, without that of compiling."""
        later = [epoch.seconds for epoch in self.epochs[1:]]
        each = sum(later) / len(later) if later else time.monotonic() - self._compiled
        return timedelta(seconds=round(each * (self._total - len(self.epochs))))

    def _end(self, epoch: int, logs: dict[str, float]) -> None:
        figures = Epoch(
            loss=logs["loss"],
            accuracy=logs["accuracy"],
            # absent when the epoch was ended early by a NaN
            validation_loss=logs.get("val_loss", math.nan),
            validation_accuracy=logs.get("val_accuracy", math.nan),
            seconds=time.monotonic() - self._epoch,
        )
        self.epochs.append(figures)
        if self._file is not None:
            self._file.write_text(json.dumps([asdict(epoch) for epoch in self.epochs]))
        self._reporter.line(
            f"epoch {epoch + 1}/{self._total}: loss {figures.loss:.4f}, "
            f"accuracy {figures.accuracy:.4f}, validation loss {figures.validation_loss:.4f}, "
            f"accuracy {figures.validation_accuracy:.4f}, {figures.seconds:.1f} s, "
            f"left {self._left()}"
        )


class Best(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
    """Keeps the weights that validation was best with, and stops when better ones stay away."""

    def __init__(self, log: "EpochLog", total: int, checkpoint: Path | None) -> None:
        super().__init__()
        self._log, self._file = log, None if checkpoint is None else checkpoint / _BEST
        self._patience = max(_LEAST_PATIENCE, math.ceil(total / 3))
        self._weights: list[Any] = []
        losses = [epoch.validation_loss for epoch in log.epochs]
        self._least = min(losses, default=math.inf)
        self._total = total
        self.number = 1 + losses.index(self._least) if losses else 0
        """Of the best epoch."""
        self.is_stopped = len(losses) - self.number >= self._patience

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left to train."""
        return self.is_stopped or len(self._log.epochs) >= self._total

    def on_test_end(self, logs: Any = None) -> None:
        """Validation is over: these are the weights that it was run with."""
        epoch = len(self._log.epochs) + 1
        if logs["loss"] < self._least:
            self._least, self.number = logs["loss"], epoch
            self._weights = self.model.get_weights()
            if self._file is not None:
                np.savez(self._file, *self._weights)
        elif epoch - self.number >= self._patience:
            self.is_stopped = self.model.stop_training = True

    def restore(self, reporter: Reporter) -> None:
        """Give the network the best weights, also of before an interruption."""
        reporter.line(f"the weights of epoch {self.number} are taken: the least validation loss")
        if self._weights:
            self.model.set_weights(self._weights)
        elif self._file is not None and self._file.is_file():
            with np.load(self._file) as kept:
                self.model.set_weights([kept[f"arr_{i}"] for i in range(len(kept))])
