"""A verified model file in an onnxruntime session: pixels → predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads, ink, preprocessing, runtime
from logitserve.inference.card import METADATA_KEY, Fit, ModelCard
from logitserve.inference.errors import (
    CardMismatchError,
    CardMissingError,
    GoldenMismatchError,
    ModelFileError,
)
from logitserve.inference.images import DEFAULT_MAX_PIXELS
from logitserve.inference.mnist.form import are_normalized
from logitserve.inference.model_file import Reading, read
from logitserve.inference.preprocessing import Prepared

if TYPE_CHECKING:
    import onnxruntime

INPUT = "image"
OUTPUT = "logits"
NOVELTY = "novelty"
"""Second output, `[batch, 1]`, of a network with a novelty on its card."""

# Another CPU or onnxruntime version sums in another order; over the shipped models that changes
# a logit by less than 1e-4. Damage changes it by far more.
LOGIT_TOLERANCE = 1e-3
# Tolerance of logits / the card's tolerance of probabilities, if that is larger.
LOGITS_TO_PROBABILITIES = 10


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions for a batch of images, one row each."""

    logits: npt.NDArray[np.float32]
    """`[batch, k]`, raw: before calibration."""
    probabilities: npt.NDArray[np.float64]
    """`[batch, classes]`, after calibration and head."""
    argmax: npt.NDArray[np.int64]
    """`[batch]`, index of the most probable class."""
    known: npt.NDArray[np.bool_] | None = None
    """`[batch]`, whether the image is in-distribution; None if the card cannot tell."""
    novelty: npt.NDArray[np.floating[Any]] | None = None
    """`[batch]`, out-of-distribution score: the network's own, or the energy."""

    @classmethod
    def of(
        cls,
        logits: npt.NDArray[np.float32],
        card: ModelCard,
        odd: npt.NDArray[np.bool_] | None = None,
    ) -> Self:
        """Apply a card's calibration, head and out-of-distribution threshold to raw logits.

        Args:
            logits: `[batch, k]`, or `[batch, k + 1]` with the novelty.
            card: card of the model.
            odd: `[batch]`, images that are unknown because of their ink; None: no image.

        Raises:
            NonFiniteLogitsError: a logit is NaN or infinite; it names the rows.
        """
        novelty: npt.NDArray[np.floating[Any]] | None = None
        known: npt.NDArray[np.bool_] | None = None
        if card.novelty is not None:
            logits, novelty = logits[:, :-1], logits[:, -1]
            known = np.asarray(novelty <= card.novelty.threshold)  # False for NaN
        calibrated = heads.calibrated(logits, card)
        argmax = heads.argmax(card.head, calibrated)
        if card.energy is None:
            probabilities = heads.probabilities(card.head, calibrated)
            if known is None and card.ink is not None:
                known = np.ones(len(logits), np.bool_)
        else:
            probabilities, log_sum = heads.softmax_with_log_sum(calibrated)
            novelty = -card.temperature * log_sum[:, 0]
            known = np.asarray(novelty <= card.energy.threshold)
        if known is not None and odd is not None:
            known &= ~odd
        return cls(logits, probabilities, argmax, known, novelty)

    def uncalibrated(self, card: ModelCard) -> Self:
        """Return these predictions with the head applied to raw logits; `known` is unchanged."""
        raw = self.logits.astype(np.float64)  # finite, as checked in `of`
        probabilities = heads.probabilities(card.head, raw)
        argmax = heads.argmax(card.head, raw)
        return type(self)(self.logits, probabilities, argmax, self.known, self.novelty)

    def __len__(self) -> int:
        return len(self.argmax)

    def __getitem__(self, rows: slice) -> "Predictions":
        return Predictions(
            self.logits[rows],
            self.probabilities[rows],
            self.argmax[rows],
            None if self.known is None else self.known[rows],
            None if self.novelty is None else self.novelty[rows],
        )

    @classmethod
    def concatenated(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Concatenate batches in their order."""
        if len(parts) == 1:
            return parts[0]

        def joined(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else np.concatenate(arrays)

        return cls(*(joined(field.name) for field in fields(cls)))


def card_of(session: "onnxruntime.InferenceSession") -> ModelCard:
    """Read the model card of a model file.

    Raises:
        CardMissingError: the file has no card.
        CardInvalidError: the card is not valid in this version.
    """
    card_json = runtime.session_metadata(session).get(METADATA_KEY)
    if card_json is None:
        raise CardMissingError(
            f"the file has no model card (metadata key {METADATA_KEY!r}); "
            "create the file with `logitserve train` or `logitserve adopt`"
        )
    return ModelCard.from_json(card_json)


class Predictor:
    """An onnxruntime session with its card. Thread-safe."""

    def __init__(
        self,
        card: ModelCard,
        session: "onnxruntime.InferenceSession",
        path: Path | None = None,
        sha256: str = "",
    ) -> None:
        self.card = card
        self.path = path
        """The ONNX file that was loaded."""
        self.sha256 = sha256
        """SHA-256 of the loaded bytes; empty without a file."""
        self._session = session
        self._outputs = [OUTPUT] if card.novelty is None else [OUTPUT, NOVELTY]

    @classmethod
    def load(cls, path: Path, *, threads: int = 1) -> Self:
        """Load a model file and check it on its goldens; `threads` per run.

        Raises:
            ModelFileError: as for `of`; the text begins with the path.
        """
        try:
            with read(path) as reading:
                return cls.of(reading, threads=threads, path=path)
        except ModelFileError as error:
            raise type(error)(f"{path}: {error}") from error

    @classmethod
    def of(cls, reading: Reading, *, threads: int = 1, path: Path | None = None) -> Self:
        """Load the bytes of a model file, and check them on its goldens.

        Raises:
            ModelFileError: onnxruntime cannot load the file.
            CardMissingError: the file has no card.
            CardInvalidError: the card is not valid in this version.
            CardMismatchError: the card contradicts the graph.
            GoldenMismatchError: the logits of the goldens differ from the recorded ones.
        """
        session = runtime.open_reading(reading, threads=threads)
        card = card_of(session)
        _check_graph(card, session)
        predictor = cls(card, session, path, reading.sha256)
        predictor._check_goldens()
        return predictor

    def decode(self, data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> preprocessing.Pixels:
        """Decode an image for this model's input; see `preprocessing.decode`."""
        return preprocessing.decode(data, self.card.input, max_pixels=max_pixels)

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return raw logits, `[batch, k]`, of images, `[batch, height, width, channels]`.

        If the model has a novelty, it is the last column: `[batch, k + 1]`.
        """
        if self.card.batch is not None and len(images) != self.card.batch:
            return self._run_in_parts(images, self.card.batch)
        found = self._session.run(self._outputs, {INPUT: images})
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def _run_in_parts(self, images: npt.NDArray[np.uint8], batch: int) -> npt.NDArray[np.float32]:
        """Run a graph with a fixed batch size; the last batch is padded with its last image."""
        parts = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            filled = np.concatenate([part, part[-1:].repeat(batch - len(part), axis=0)])
            found = self._session.run(self._outputs, {INPUT: filled})
            parts.append(np.concatenate(found, axis=1)[: len(part)])
        return np.concatenate(parts)

    def odd(self, prepared: Prepared, first_sent: int = 0) -> npt.NDArray[np.bool_] | None:
        """Return which images are unknown because of their ink; see `ink`.

        Images that were sent in MNIST's format are not checked.

        Args:
            prepared: the batch.
            first_sent: first row of unprepared images; rows before it that are not among `fitted`
                are in MNIST's format, if the model takes that.

        Returns:
            `[batch]`; None if no image is, or the card cannot tell.
        """
        images, fitted, empty = prepared
        within, spec = self.card.ink, self.card.input
        if within is None and not empty:
            return None
        odd = np.zeros(len(images), np.bool_)
        if empty:
            odd[list(empty)] = True
        if within is None:
            return odd
        rows: slice | npt.NDArray[np.int64] = slice(None)
        if spec.fit is Fit.DIGIT and len(fitted) < len(images):
            unfit = np.flatnonzero(~are_normalized(images[first_sent:, :, :, 0]))
            rows = np.concatenate([np.array(fitted, np.int64), first_sent + unfit])
            if not len(rows):
                return None
        odd[rows] |= ink.are_odd(images[rows], spec, within)
        return odd

    def predict(
        self, images: preprocessing.Pixels | Prepared, *, calibrated: bool = True
    ) -> Predictions:
        """Run the network and apply the head, after the card's calibration if `calibrated`.

        Args:
            images: `[batch, height, width, channels]`, unprepared, or `Prepared`.
            calibrated: whether the card's calibration is applied.

        Raises:
            NonFiniteLogitsError: a logit is NaN or infinite; it names the rows.
        """
        prepared = images if isinstance(images, Prepared) else Prepared(images)
        logits = self.run(prepared.images)
        predictions = Predictions.of(logits, self.card, self.odd(prepared))
        return predictions if calibrated else predictions.uncalibrated(self.card)

    def _check_goldens(self) -> None:
        images = np.stack([self.decode(golden.image) for golden in self.card.goldens])
        expected = np.array([golden.logits for golden in self.card.goldens])
        found = self.run(images)
        limit = max(LOGIT_TOLERANCE, LOGITS_TO_PROBABILITIES * self.card.tolerance)
        close = np.isclose(found, expected, rtol=limit, atol=limit)
        if close.all():  # non-finite values are not close
            was, now = (
                heads.probabilities(self.card.head, one[:, : self.card.logit_count])
                for one in (expected, found.astype(np.float64))
            )
            close = np.abs(was - now) <= self.card.tolerance
        if not close.all():
            worst = float(np.nanmax(np.abs(found - expected), initial=0.0))
            raise GoldenMismatchError(
                f"model {self.card.name!r} version {self.card.version} does not reproduce the "
                f"recorded logits ({int((~close.all(axis=1)).sum())} of "
                f"{len(expected)} golden images differ, by up to {worst:.3g}): the file is "
                "damaged, or this version of logitserve, onnxruntime or Pillow computes otherwise; "
                f"`logitserve calibrate {self.card.name}` measures it again, and publishes it"
            )


def _check_graph(card: ModelCard, session: "onnxruntime.InferenceSession") -> None:
    """Check that the graph has the input and outputs of the card."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    asked = {OUTPUT} if card.novelty is None else {OUTPUT, NOVELTY}
    if list(inputs) != [INPUT] or not asked <= outputs.keys():
        raise CardMismatchError(
            f"model {card.name!r}: the graph must have one input {INPUT!r} and "
            f"{' and '.join(map(repr, sorted(asked)))} as output; it has inputs {list(inputs)} and "
            f"outputs {list(outputs)}"
        )
    _check_tensor(card, INPUT, inputs[INPUT], "tensor(uint8)", card.input.shape)
    _check_tensor(card, OUTPUT, outputs[OUTPUT], "tensor(float)", (card.logit_count,))
    if card.novelty is not None:
        _check_tensor(card, NOVELTY, outputs[NOVELTY], "tensor(float)", (1,))


def _check_tensor(
    card: ModelCard,
    name: str,
    node: "onnxruntime.NodeArg",
    dtype: str,
    shape: tuple[int, ...],
) -> None:
    """Check one tensor of the graph: its type, batch size, and shape against the card."""
    found = list(node.shape)
    batch = found[0] if found and isinstance(found[0], int) else None
    if node.type != dtype or found[1:] != list(shape) or batch != card.batch:
        asked = "with a dynamic batch" if card.batch is None else "with its batch size"
        raise CardMismatchError(
            f"model {card.name!r}: {name!r} is {node.type} {found} in the graph, but the card "
            f"requires {dtype} {[card.batch or 'batch', *shape]} {asked}"
        )
