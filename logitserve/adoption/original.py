"""The stranger's graph as it came: the reference that the published file is compared with."""

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from logitserve.adoption import activations, foreign
from logitserve.adoption.foreign import Activation, PictureInput
from logitserve.adoption.terms import PRESETS, Normalization, Terms
from logitserve.adoption.wrapping import LEAST, preprocess, wrap
from logitserve.errors import AdoptionError
from logitserve.inference import heads, runtime
from logitserve.inference.card import Head
from logitserve.inference.errors import ModelFileError
from logitserve.inference.predictor import Predictor

TOLERANCE: Final = 1e-5
"""Largest difference of a probability between the original and the published file."""
HALF_TOLERANCE: Final = 5e-3
"""The same where the original takes float16: its inputs have eleven bits."""


class Original:
    """The stranger's graph as it came, run on pixels that numpy prepared."""

    def __init__(self, model: onnx.ModelProto, source: PictureInput, terms: Terms) -> None:
        self._source = source
        self._terms = terms
        self._normalization = _normalization(terms, source)
        answer = foreign.answer_output(model, terms.output)
        found = None if terms.log_probabilities else activations.find(model, answer)
        self.cut = _to_cut(terms, found)
        self._network = _Network(model, source, answer, batch=source.batch)
        self._part = activations.up_to(model, source, answer, self.cut)
        if source.batch is not None:
            activations.free_batch(self._part, source.batch)
        self._ends_in_logits = found is None and not terms.log_probabilities
        self._is_log = found is not None and found.is_log
        self._rank = 2

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """What the network says before any activation, `[n, k]`, float32.

        Raises:
            AdoptionError: the graph does not run, or the answer is not one row a picture, or it
                is probabilities where logits were expected.
        """
        self._check(self._answers(images))
        output = self._part.graph.output[0].name
        try:
            raw = _Network(self._part, self._source, output).run(self._prepared(images))
        except AdoptionError as error:
            raise self._fixed_batch() or error from error
        self._rank = raw.ndim
        if len(raw) != len(images):
            raise self._fixed_batch() or AdoptionError(
                f"the graph answers {len(raw)} rows for {len(images)} pictures"
            )
        rows = raw.reshape(len(images), -1).astype(np.float32)
        if self.cut is not None and self.cut.column is not None:
            rows = rows[:, [self.cut.column]]
        if self._terms.log_probabilities:
            rows = np.log(np.maximum(rows, LEAST))
        return rows

    def wrapped(self, logits: int) -> onnx.ModelProto:
        """The graph with a model file's contract."""
        return wrap(
            self._part,
            self._source,
            self._normalization,
            logits=logits,
            reshape=self._rank != 2,
            column=None if self.cut is None else self.cut.column,
            log=self._terms.log_probabilities,
        )

    def compare(self, published: Predictor, images: npt.NDArray[np.uint8]) -> float:
        """The largest difference of a probability, in one batch and one by one.

        Raises:
            AdoptionError: it is above the tolerance.
        """
        together = published.predict(images, calibrated=False).probabilities
        alone = [published.predict(image[None], calibrated=False).probabilities for image in images]
        expected = self._probabilities(self._answers(images), together.shape[1])
        worst = float(np.abs(np.stack([together, np.concatenate(alone)]) - expected).max())
        is_half = self._source.dtype == onnx.TensorProto.FLOAT16
        tolerance = HALF_TOLERANCE if is_half else TOLERANCE
        if not worst <= tolerance:
            raise self._fixed_batch() or AdoptionError(
                f"the wrapped graph's probabilities differ from the original's by up to "
                f"{worst:.2g}, more than {tolerance:g}; nothing is published"
            )
        return worst

    def _answers(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        answers = self._network.run(self._prepared(images))
        return answers.reshape(len(images), -1).astype(np.float64)

    def _prepared(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        return preprocess(images, self._source, self._normalization)

    def _probabilities(
        self, answers: npt.NDArray[np.float64], classes: int
    ) -> npt.NDArray[np.float64]:
        """`[n, classes]`, from whatever the original answers."""
        if self._ends_in_logits:
            return heads.probabilities(self._terms.head, answers)
        values = np.exp(answers) if self._is_log else answers
        if self._terms.head is Head.BINARY:
            return np.concatenate([1 - values[:, -1:], values[:, -1:]], axis=1)
        return values[:, -classes:]  # skl2onnx puts the complements of many labels before them

    def _check(self, answers: npt.NDArray[np.float64]) -> None:
        """What is called probabilities are some; what is called logits are none."""
        in_range = ((answers >= 0) & (answers <= 1)).all()
        sums_to_one = answers.shape[1] > 1 and np.allclose(answers.sum(axis=1), 1, atol=1e-3)
        are_probabilities = in_range and sums_to_one
        if self._ends_in_logits and are_probabilities:
            raise AdoptionError(
                "the graph answers probabilities, by operators that cannot be cut off: add "
                "--log-probabilities, or export it up to its logits"
            )
        if self._terms.log_probabilities and not are_probabilities:
            raise AdoptionError(
                "--log-probabilities does not fit: the graph's answers are not between 0 and 1 "
                "with a sum of 1; leave it out"
            )

    def _fixed_batch(self) -> AdoptionError | None:
        if self._source.batch is None:
            return None
        return AdoptionError(
            f"the graph has a fixed batch of {self._source.batch} that could not be made dynamic: "
            "export it with a dynamic one (torch.onnx.export: dynamic_shapes; tf2onnx: None)"
        )


class _Network:
    """A graph in onnxruntime."""

    def __init__(
        self, model: onnx.ModelProto, source: PictureInput, output: str, batch: int | None = None
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "original.onnx"
            onnx.save(model, path)
            try:
                self._session = runtime.open_session(path)
            except ModelFileError as error:
                raise AdoptionError(f"onnxruntime cannot load the graph: {error}") from error
        self._input = source.name
        self._output = output
        self._batch = batch

    def run(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Its output for any number of inputs, filled up where the batch is fixed.

        Raises:
            AdoptionError: it does not run.
        """
        batch = self._batch or len(inputs)
        parts = []
        for start in range(0, len(inputs), batch):
            rows = inputs[start : start + batch]
            filled = np.concatenate([rows, inputs[:1].repeat(batch - len(rows), axis=0)])
            parts.append(self._run(filled)[: len(rows)])
        return np.concatenate(parts)

    def _run(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            (found,) = self._session.run([self._output], {self._input: inputs})
        # onnxruntime's exceptions share no base but this.
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise AdoptionError(
                f"the graph does not run on an input of shape {list(inputs.shape)}: {reason}"
            ) from error
        # ZipMap makes a list of dictionaries, label → probability.
        rows = [list(row.values()) for row in found] if isinstance(found, list) else found
        return np.asarray(rows)


def _to_cut(terms: Terms, found: Activation | None) -> Activation | None:
    """The activation to leave out, as the owner allows it."""
    if terms.log_probabilities and terms.head is not Head.SOFTMAX:
        raise AdoptionError("--log-probabilities are logits of a softmax only: use --head softmax")
    if terms.log_probabilities and terms.strip_activation:
        raise AdoptionError("give --strip-activation or --log-probabilities, not both")
    if found is None:
        if terms.strip_activation:
            raise AdoptionError(
                "there is nothing to cut: the graph ends in no activation that is known here; "
                "leave --strip-activation out, or use --log-probabilities if it ends in some other"
            )
        return None
    if terms.head not in found.heads:
        fitting = " or ".join(sorted(found.heads))
        raise AdoptionError(
            f"the graph ends in {found.operator}, which is --head {fitting}, not {terms.head}"
        )
    if found.is_log and not terms.strip_activation:
        return None  # logarithms of probabilities are logits
    if not terms.strip_activation:
        raise AdoptionError(
            f"the graph ends in {found.operator}, but a model file ends in logits: add "
            "--strip-activation to cut it off"
        )
    return found


def _normalization(terms: Terms, source: PictureInput) -> Normalization:
    given = terms.normalization
    if not source.takes_floats:
        if given is not None and not given.is_none:
            raise AdoptionError(
                "the graph takes whole numbers, so that it scales them itself: leave --preset, "
                "--scale, --mean and --std out"
            )
        return Normalization()
    if given is None:
        raise AdoptionError(
            "the graph takes floats: say what the bytes 0…255 become, with --preset "
            f"({', '.join(PRESETS)}) or --scale, --mean and --std"
        )
    for option, values in (("--mean", given.mean), ("--std", given.std)):
        if len(values) not in {1, source.channels}:
            raise AdoptionError(
                f"{option} has {len(values)} numbers; the graph takes {source.channels} channels"
            )
    return given
