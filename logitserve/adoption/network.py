"""Run a graph in onnxruntime on single pictures, independent of the rest of a batch."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from logitserve.adoption.graph_io import PictureInput
from logitserve.adoption.normalizing import copy_of, pruned
from logitserve.errors import AdoptionError
from logitserve.inference import runtime
from logitserve.inference.errors import ModelFileError

if TYPE_CHECKING:
    import onnxruntime

Rows = npt.NDArray[np.float64]
"""`[n, k]`: k numbers for each of n pictures."""

QUANTIZED: Final = ("Quantize", "QLinear", "Integer")
"""Substrings of the names of quantized operators."""
DYNAMICALLY_QUANTIZED: Final = ("DynamicQuantize", "MatMulIntegerToFloat")
"""Substrings of operators whose quantization scale depends on the whole batch."""


def has_operator(model: onnx.ModelProto, parts: Sequence[str]) -> bool:
    """Return whether the name of any operator contains one of these substrings."""
    return any(part in node.op_type for node in model.graph.node for part in parts)


def is_half(model: onnx.ModelProto) -> bool:
    """Return whether the model computes in float16 or bfloat16."""
    halves = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    casts = (e.i for n in model.graph.node if n.op_type == "Cast" for e in n.attribute)
    return any(t.data_type in halves for t in model.graph.initializer) or any(
        dtype in halves for dtype in casts
    )


def open_graph(model: onnx.ModelProto, *, optimized: bool = True) -> "onnxruntime.InferenceSession":
    """Open a graph in onnxruntime.

    Raises:
        AdoptionError: it cannot be loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        try:
            onnx.save(model, path)
            return runtime.open_session(path, optimized=optimized)
        except (ModelFileError, ValueError, OSError) as error:
            raise AdoptionError(f"onnxruntime cannot load the graph: {error}") from error


class Network:
    """Some tensors of a graph, run as outputs."""

    def __init__(
        self,
        model: onnx.ModelProto,
        source: PictureInput,
        tensors: Sequence[str],
        *,
        optimized: bool = True,
    ) -> None:
        """Open the graph.

        Raises:
            AdoptionError: onnxruntime cannot load it.
        """
        exposed = copy_of(model)
        known = {output.name for output in exposed.graph.output}
        exposed.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in tensors if name not in known
        )
        self._model = model
        self._session = open_graph(exposed, optimized=optimized)
        self._source = source
        self._tensors = list(tensors)
        self._raw: dict[str, npt.NDArray[Any]] = {}

    def alone(self, inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any] | None]:
        """Return each tensor for each picture, run in a batch of copies of that picture.

        `inputs` and each result are `[n, …]`; a result is None without a batch dimension.

        Raises:
            AdoptionError: the graph does not run.
        """
        rows = [list(self._parts(one)) for one in inputs]
        return [
            None
            if any(part is None or part.shape != parts[0].shape for part in parts)
            else np.stack(parts)
            for parts in zip(*rows, strict=True)
        ]

    def _parts(self, one: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any] | None]:
        """Yield each tensor's part for the first picture, run in a batch of copies."""
        batch = self._source.batch or 1
        fed = np.stack([one] * batch) if self._source.has_batch else one
        outputs = self._run(fed)
        self._raw = dict(zip(self._tensors, outputs, strict=True))
        for found in outputs:
            if not isinstance(found, np.ndarray) or not found.size or found.size % batch:
                yield None
            elif found.ndim and found.shape[0] == batch:
                yield found[0]
            else:
                yield found.reshape(batch, -1)[0] if batch > 1 else found

    def value_info(self, tensor: str) -> onnx.ValueInfoProto:
        """Return type and rank of a tensor, without its size, which may contain a fixed batch."""
        found = self._raw[tensor]
        dtype = onnx.helper.np_dtype_to_tensor_dtype(found.dtype)
        return onnx.helper.make_tensor_value_info(tensor, dtype, [None] * found.ndim)

    def after(self, tensor: str, output: str, rows: Rows) -> Rows | None:
        """Return an output for given values of a tensor before it, `[n, …]`; both were run before.

        Returns:
            `[n, …]`; None if the output needs other tensors too.
        """
        like, batch = self._raw[tensor], self._source.batch or 1
        part = pruned(self._model, output, tensor)
        if len(part.graph.input) > 1:
            return None
        dtype = onnx.helper.np_dtype_to_tensor_dtype(like.dtype)
        value = onnx.helper.make_tensor_value_info(tensor, dtype, list(like.shape))
        part.graph.input[0].CopyFrom(value)
        session = open_graph(part)
        answers = []
        for row in rows.astype(like.dtype):
            (found,) = session.run([output], {tensor: np.tile(row, batch).reshape(like.shape)})
            answers.append(found.reshape(batch, -1)[0])
        return np.array(answers, np.float64)

    def _run(self, fed: npt.NDArray[Any]) -> list[Any]:
        try:
            return list(self._session.run(self._tensors, {self._source.name: fed}))
        # onnxruntime's exceptions have no other common base class.
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise AdoptionError(
                f"the graph does not run on an input of shape {list(fed.shape)}: {reason}"
            ) from error
