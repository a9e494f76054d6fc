"""The epochs of a training: their figures, the line about each, and the best one."""

import json
import math
import statistics
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


class EpochLog(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
    """Keeps each epoch's figures and writes a line about it."""

    def __init__(self, reporter: Reporter, total: int, checkpoint: Path) -> None:
        super().__init__()
        self._reporter, self._total, self._file = reporter, total, checkpoint / EPOCHS_FILE
        self._begun = time.monotonic()
        kept = json.loads(self._file.read_text()) if self._file.is_file() else []
        self.epochs = [Epoch(**epoch) for epoch in kept]
        """Of the network's training; also those before it was interrupted."""

    def on_epoch_begin(self, *_: Any) -> None:
        """Note when it begins."""
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep its figures, and say how long the others will take."""
        figures = Epoch(
            loss=logs["loss"],
            accuracy=logs["accuracy"],
            # absent when the epoch was ended early by a NaN
            validation_loss=logs.get("val_loss", math.nan),
            validation_accuracy=logs.get("val_accuracy", math.nan),
            seconds=time.monotonic() - self._begun,
        )
        self.epochs.append(figures)
        self._file.write_text(json.dumps([asdict(epoch) for epoch in self.epochs]))
        each = statistics.median(epoch.seconds for epoch in self.epochs)  # the first one compiles
        left = timedelta(seconds=round(each * (self._total - len(self.epochs))))
        self._reporter.line(
            f"epoch {epoch + 1}/{self._total}: loss {figures.loss:.4f}, "
            f"accuracy {figures.accuracy:.4f}, validation loss {figures.validation_loss:.4f}, "
            f"accuracy {figures.validation_accuracy:.4f}, {figures.seconds:.1f} s, "
            f"left {left}"
        )


class Best(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
    """Keeps the weights that validation was best with, and stops when better ones stay away."""

    def __init__(self, log: EpochLog, total: int, checkpoint: Path) -> None:
        super().__init__()
        self._log, self._file = log, checkpoint / _BEST
        self._patience = max(_LEAST_PATIENCE, math.ceil(total / 3))
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
            np.savez(self._file, *self.model.get_weights())
        elif epoch - self.number >= self._patience:
            self.is_stopped = self.model.stop_training = True

    def restore(self, reporter: Reporter) -> None:
        """Give the network the best weights, also of before an interruption."""
        reporter.line(f"the weights of epoch {self.number} are taken: the least validation loss")
        with np.load(self._file) as kept:
            self.model.set_weights([*kept.values()])
