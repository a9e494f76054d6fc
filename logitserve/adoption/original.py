"""The third-party graph as received: the reference for the published file."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from logitserve.adoption import head_search, normalizing
from logitserve.adoption.graph_io import PictureInput, score_outputs
from logitserve.adoption.network import (
    DYNAMICALLY_QUANTIZED,
    QUANTIZED,
    Network,
    Rows,
    has_operator,
    is_half,
)
from logitserve.adoption.options import PRESETS, AdoptOptions, Color, Normalization
from logitserve.adoption.wrapping import preprocess, wrap
from logitserve.errors import AdoptionError
from logitserve.inference import heads
from logitserve.inference.predictor import Predictor

FLOAT_TOLERANCE: Final = 1e-5
"""Largest difference of a probability between the original and the published file."""
NARROW_TOLERANCE: Final = 5e-3
"""The tolerance for float16 (11 significant bits) and 8-bit quantization."""
SAFETY: Final = 4
"""Minimum of tolerance / difference measured on this machine."""
MIXED: Final = (
    "the graph's answer for a picture in a batch of {batch} differs from that for the picture "
    "alone: export it with a dynamic batch or a batch of 1"
)

Images = npt.NDArray[np.uint8]


class Original:
    """The third-party graph, run on pixels prepared in numpy."""

    def __init__(
        self,
        tidy: onnx.ModelProto,
        source: PictureInput,
        terms: AdoptOptions,
        images: Images,
        *,
        labels: int | None,
    ) -> None:
        """Run a tidied graph on distinct pictures, and find its logits.

        Raises:
            AdoptionError: the graph does not run, or its answers contradict the terms.
        """
        self._source = source
        self._normalization = normalization_of(terms, source)
        inputs = self._prepared(images)
        outputs = score_outputs(tidy, terms.output)
        reference, found = _first_that_runs(tidy, source, outputs, inputs)
        output, answers = _chosen(dict(zip(outputs, found, strict=True)), labels)
        self._reference = Network(reference, source, [output])
        is_narrow = is_half(tidy) or has_operator(tidy, QUANTIZED)
        floor = NARROW_TOLERANCE if is_narrow else FLOAT_TOLERANCE
        graph, network, tensors = _same_answers(
            tidy, source, inputs, output=output, answers=answers, tolerance=floor
        )
        answers = tensors.pop(output)  # of this run: fused, quantized operators round differently
        self.ending = head_search.find(
            answers,
            list(tensors.items()),
            lambda tensor, rows: network.after(tensor, output, rows),
            output=output,
            head=terms.head,
            told=terms.answers,
            tolerance=floor,
        )
        self._part = normalizing.pruned(graph, self.ending.tensor)
        runs = [
            Network(self._part, source, [self.ending.tensor], optimized=o) for o in (True, False)
        ]
        self.logits, plain = (self.ending.logits(_rows(*run.alone(inputs))) for run in runs)
        self._part.graph.output[0].CopyFrom(runs[0].value_info(self.ending.tensor))
        moved = float(np.abs(self._head(plain) - self._head(self.logits)).max())
        self._limits = floor, max(floor, moved)  # between batch sizes, and between graphs
        self.tolerance = max(floor, SAFETY * moved)
        """Absolute tolerances of a probability, for the arithmetic of other machines."""

    def probabilities(self, images: Images, normalization: Normalization | None = None) -> Rows:
        """Return the original's probabilities for each picture alone, `[n, labels]`."""
        (answers,) = map(_rows, self._reference.alone(self._prepared(images, normalization)))
        return self.ending.probabilities(answers)

    def wrapped(self) -> Iterator[tuple[int | None, onnx.ModelProto]]:
        """Yield candidate graphs with a model file's contract and their batch sizes, best first."""
        fixed = self._source.batch
        if self._source.has_batch and not has_operator(self._part, DYNAMICALLY_QUANTIZED):
            if fixed is None:
                yield None, self._wrap(self._part, None)
            yield None, self._wrap(normalizing.free_batch(self._part, fixed or 1), None)
        yield fixed or 1, self._wrap(self._part, fixed or 1)

    def compare(self, published: Predictor, images: Images) -> float:
        """Return the largest difference of a probability, in batches and for single pictures.

        Raises:
            AdoptionError: the difference is above the tolerance.
        """
        expected = self.probabilities(images)
        alone = [published.predict(image[None], calibrated=False).probabilities for image in images]
        together = published.predict(images, calibrated=False).probabilities
        worst = float(np.abs(np.concatenate(alone) - expected).max())
        mixed = float(np.abs(together - np.concatenate(alone)).max())
        of_batches, of_graphs = self._limits
        if not worst <= of_graphs:
            raise AdoptionError(
                f"the wrapped graph's probabilities differ from the original's by up to "
                f"{worst:.2g}, more than {of_graphs:.2g}; nothing is published"
            )
        if not mixed <= of_batches:
            raise AdoptionError(MIXED.format(batch=self._source.batch or "several"))
        return max(worst, mixed)

    def _wrap(self, part: onnx.ModelProto, batch: int | None) -> onnx.ModelProto:
        return wrap(part, self._source, self._normalization, self.ending, batch=batch)

    def _head(self, logits: Rows) -> Rows:
        return heads.probabilities(self.ending.head, logits)

    def _prepared(
        self, images: Images, normalization: Normalization | None = None
    ) -> npt.NDArray[Any]:
        return preprocess(images, self._source, normalization or self._normalization)


def _first_that_runs(
    tidy: onnx.ModelProto, source: PictureInput, outputs: Sequence[str], inputs: npt.NDArray[Any]
) -> tuple[onnx.ModelProto, list[npt.NDArray[Any] | None]]:
    """Return the graph, or one with converted operators if onnxruntime cannot run it."""
    try:
        return tidy, Network(tidy, source, outputs).alone(inputs)
    except AdoptionError as error:
        for graph in normalizing.modernized(tidy):
            try:
                return graph, Network(graph, source, outputs).alone(inputs)
            except AdoptionError:
                continue
        raise error from None


def _same_answers(
    tidy: onnx.ModelProto,
    source: PictureInput,
    inputs: npt.NDArray[Any],
    *,
    output: str,
    answers: Rows,
    tolerance: float,
) -> tuple[onnx.ModelProto, Network, dict[str, Rows]]:
    """Return the first conversion with the original's answers, and the tensors near the output."""
    failure = AdoptionError("the graph's operators could not be converted")
    for graph in normalizing.modernized(tidy):
        names = [output, *head_search.near(graph, output)]
        try:
            network = Network(graph, source, names)
            found = zip(names, network.alone(inputs), strict=True)
        except AdoptionError as error:
            failure = error
            continue
        rows = {name: _rows(values) for name, values in found if _is_row(values)}
        if graph is tidy or np.allclose(rows[output], answers, rtol=tolerance, atol=tolerance):
            return graph, network, rows
    raise failure


def _is_row(values: npt.NDArray[Any] | None) -> bool:
    """Check for one row of numbers per picture: `[n, …]` with one dimension larger than 1."""
    if values is None or values.dtype.kind != "f":
        return False
    return len([size for size in values.shape[1:] if size > 1]) <= 1


def _rows(values: npt.NDArray[Any] | None) -> Rows:
    if values is None:
        raise AdoptionError("the graph does not return one row per picture")
    return values.reshape(len(values), -1).astype(np.float64)


def _chosen(found: Mapping[str, npt.NDArray[Any] | None], labels: int | None) -> tuple[str, Rows]:
    """Return the output that holds one score per label, by its shape."""
    rows = {name: _rows(values) for name, values in found.items() if _is_row(values)}
    shapes = "; ".join(
        f"{name}: {'?' if values is None else list(values.shape[1:])}"
        for name, values in found.items()
    )
    if not rows:
        raise AdoptionError(
            f"no output of the graph is one row of scores per picture ({shapes} per picture): it "
            "may be a detector or a sequence model; logitserve serves classifiers"
        )
    fitting = [
        name
        for name, values in rows.items()
        if labels is None or values.shape[1] == labels or (values.shape[1], labels) == (1, 2)
    ]
    wide = [name for name in fitting if rows[name].shape[1] > 1]
    for names in (list(rows), fitting, wide):
        if len(names) == 1:
            return names[0], rows[names[0]]
    raise AdoptionError(
        f"several outputs may hold the scores: choose one with --output ({shapes} per picture)"
    )


def normalization_of(terms: AdoptOptions, source: PictureInput) -> Normalization:
    """Return the normalization, from the owner's options or from the graph's type.

    Raises:
        AdoptionError: it was not given, or it contradicts the graph.
    """
    given = terms.normalization
    if not source.takes_floats:
        if given is not None and (given.scale, given.mean, given.std) != (1.0, (0.0,), (1.0,)):
            raise AdoptionError(
                "the graph takes integers, so it scales them itself: omit --preset, --scale, "
                "--mean and --std"
            )
        is_signed = source.dtype == onnx.TensorProto.INT8
        color = Color.RGB if given is None else given.color
        return Normalization(mean=(128.0 if is_signed else 0.0,), color=color)
    if given is None:
        raise AdoptionError(
            "the graph takes floats: give their normalization with --preset "
            f"({', '.join(PRESETS)}) or --scale, --mean and --std; or find it from samples, "
            "with --sample and --expect"
        )
    for option, values in (("--mean", given.mean), ("--std", given.std)):
        if len(values) not in {1, source.channels}:
            raise AdoptionError(
                f"{option} has {len(values)} numbers; the graph takes {source.channels} channels"
            )
    if given.color is Color.BGR and source.channels == 1:
        raise AdoptionError("--color bgr does not fit: the graph takes 1 channel")
    return given
