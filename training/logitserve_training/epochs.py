"""The epochs of a training: metrics, log line of each, and the best one."""

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
"""Minimum patience of early stopping, in epochs."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Metrics of one epoch."""

    loss: float
    """Mean over the training part, with the weights at each step; nats."""
    accuracy: float
    """As `loss`; a fraction."""
    validation_loss: float
    """With the weights after the epoch (their moving average, if the recipe has one)."""
    validation_accuracy: float
    seconds: float


class EpochLog(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
    """Stores each epoch's metrics and logs a line about it."""

    def __init__(self, reporter: Reporter, total: int, checkpoint: Path) -> None:
        super().__init__()
        self._reporter, self._total, self._file = reporter, total, checkpoint / EPOCHS_FILE
        self._begun = time.monotonic()
        kept = json.loads(self._file.read_text()) if self._file.is_file() else []
        self.epochs = [Epoch(**epoch) for epoch in kept]
        """All epochs, including those before an interruption."""

    def on_epoch_begin(self, *_: Any) -> None:
        """Note the start time."""
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Store the metrics, and estimate the remaining time."""
        figures = Epoch(
            loss=logs["loss"],
            accuracy=logs["accuracy"],
            # missing if a NaN ended the epoch early
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
    """Keeps the weights with the lowest validation loss, and stops early."""

    def __init__(self, log: EpochLog, total: int, checkpoint: Path) -> None:
        super().__init__()
        self._log, self._file = log, checkpoint / _BEST
        self._patience = max(_LEAST_PATIENCE, math.ceil(total / 3))
        losses = [epoch.validation_loss for epoch in log.epochs]
        self._least = min(losses, default=math.inf)
        self._total = total
        self.number = 1 + losses.index(self._least) if losses else 0
        """Number of the best epoch."""
        self.is_stopped = len(losses) - self.number >= self._patience

    @property
    def is_over(self) -> bool:
        """Whether no epochs remain."""
        return self.is_stopped or len(self._log.epochs) >= self._total

    def on_test_end(self, logs: Any = None) -> None:
        """Save the weights if the validation that ended is the best so far."""
        epoch = len(self._log.epochs) + 1
        if logs["loss"] < self._least:
            self._least, self.number = logs["loss"], epoch
            np.savez(self._file, *self.model.get_weights())
        elif epoch - self.number >= self._patience:
            self.is_stopped = self.model.stop_training = True

    def restore(self, reporter: Reporter) -> None:
        """Load the best weights into the network, including those before an interruption."""
        reporter.line(f"using the weights of epoch {self.number}, with the lowest validation loss")
        with np.load(self._file) as kept:
            self.model.set_weights([*kept.values()])
