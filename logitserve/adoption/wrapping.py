"""Wrap a third-party graph into one with a model file's contract: bytes in, logits out.

The preprocessing is written both in numpy and in ONNX, so that each checks the other.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from logitserve.adoption.graph_io import PictureInput
from logitserve.adoption.head_search import Ending, Link
from logitserve.adoption.normalizing import STANDARD, opset_of
from logitserve.adoption.options import Color, Layout, Normalization
from logitserve.inference.predictor import INPUT, OUTPUT

PREFIX: Final = "adopted/"
"""Prefix of every name of the third-party graph; avoids collisions."""
LEAST: Final = np.finfo(np.float32).tiny
"""Lower limit of a probability, so that its logarithm is finite."""


def preprocess(
    images: npt.NDArray[np.uint8], source: PictureInput, normalization: Normalization
) -> npt.NDArray[Any]:
    """Return the graph's input for pictures, computed in numpy as its owner would.

    The result is `[n, *source.tensor]`, of the graph's input type.
    """
    shown = images
    if normalization.color is Color.BGR:
        shown = images[..., ::-1]
    elif normalization.color is Color.GRAY:
        shown = images.repeat(source.channels, axis=3)
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    numbers = (shown.astype(np.float64) / normalization.scale - mean) / std
    if source.layout is Layout.NCHW:
        numbers = np.moveaxis(numbers, 3, 1)
    shaped = numbers.reshape(len(images), *source.tensor)
    typed: npt.NDArray[Any] = shaped.astype(helper.tensor_dtype_to_np_dtype(source.dtype))
    return typed


def wrap(
    model: onnx.ModelProto,
    source: PictureInput,
    normalization: Normalization,
    ending: Ending,
    *,
    batch: int | None,
) -> onnx.ModelProto:
    """Add the preprocessing before a graph and the head's form after it.

    The graph has one input and one output; `batch=None` is a dynamic batch.

    Returns:
        input `image`, uint8 `[batch, height, width, channels]`; output `logits`, float32
        `[batch, logits]`.
    """
    inner = compose.add_prefix(model, PREFIX)
    before = _Chain(INPUT, "before/")
    _add_preprocessing(before, source, normalization)
    before.add("Identity", output=inner.graph.input[0].name)
    after = _Chain(inner.graph.output[0].name, "after/")
    _add_ending(after, ending, inner.graph.output[0].type.tensor_type)

    rows = "batch" if batch is None else batch
    channels = 1 if normalization.color is Color.GRAY else source.channels
    image = [rows, source.height, source.width, channels]
    graph = helper.make_graph(
        [*before.nodes, *inner.graph.node, *after.nodes],
        "adopted",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, image)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [rows, ending.count])],
        [*before.constants, *inner.graph.initializer, *after.constants],
    )
    graph.sparse_initializer.extend(inner.graph.sparse_initializer)
    for node in graph.node:  # exporters write file paths into doc strings
        node.ClearField("doc_string")
        del node.metadata_props[:]
    others = [entry for entry in inner.opset_import if entry.domain not in STANDARD]
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset_of(model)), *others],
        ir_version=inner.ir_version,
        functions=inner.functions,
    )


def _add_ending(after: "_Chain", ending: Ending, output: onnx.TypeProto.Tensor) -> None:
    if output.elem_type != TensorProto.FLOAT:
        after.add("Cast", to=TensorProto.FLOAT)
    if len(output.shape.dim) != 2:
        count = 2 if ending.column is not None else ending.count
        after.add("Reshape", np.array([-1, count], np.int64))
    if ending.column is not None:
        after.add("Gather", np.array([ending.column], np.int64), axis=1)
    if ending.link is not Link.NONE:
        probabilities = after.end
        after.add("Max", np.float32(LEAST))
        logarithms = after.add("Log")
        if ending.link is Link.LOGIT:
            after.end = probabilities
            after.add("Neg")
            after.add("Add", np.float32(1))
            after.add("Max", np.float32(LEAST))
            complements = after.add("Log")
            after.join("Sub", logarithms, complements)
    after.add("Identity", output=OUTPUT)


class _Chain:
    """A chain of nodes, each with its constants."""

    def __init__(self, start: str, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.end = start
        self._prefix = prefix

    def add(
        self,
        operator: str,
        *constants: npt.NDArray[Any] | np.generic,
        output: str = "",
        **attributes: Any,
    ) -> str:
        """Apply an operator to the end of the chain and to constants; return the new end."""
        name = f"{self._prefix}{len(self.nodes)}-{operator}"
        tensors = [
            numpy_helper.from_array(np.asarray(value), f"{name}-{index}")
            for index, value in enumerate(constants)
        ]
        inputs = [self.end, *(tensor.name for tensor in tensors)]
        self.end = output or name
        self.constants += tensors
        self.nodes.append(helper.make_node(operator, inputs, [self.end], **attributes))
        return self.end

    def join(self, operator: str, *ends: str) -> None:
        """Apply an operator to tensors of the chain."""
        self.end = f"{self._prefix}{len(self.nodes)}-{operator}"
        self.nodes.append(helper.make_node(operator, ends, [self.end]))


def _add_preprocessing(chain: _Chain, source: PictureInput, normalization: Normalization) -> None:
    """Add the nodes that compute the same as `preprocess`."""
    if normalization.color is Color.BGR:
        chain.add("Gather", np.array([2, 1, 0], np.int64), axis=3)
    elif normalization.color is Color.GRAY and source.channels == 3:
        chain.add("Expand", np.array([1, 1, 1, 3], np.int64))
    if source.layout is Layout.NCHW:
        chain.add("Transpose", perm=[0, 3, 1, 2])  # on bytes: a fourth of the memory of floats
    divisor = normalization.scale * np.array(normalization.std)
    offset = normalization.scale * np.array(normalization.mean)
    dtype = TensorProto.UINT8
    if source.takes_floats or offset.any():
        dtype = TensorProto.FLOAT
        chain.add("Cast", to=dtype)
        if offset.any():
            chain.add("Sub", _for_channels(offset, source))
        if (divisor != 1).any():
            chain.add("Div", _for_channels(divisor, source))
    if len(source.tensor) != 3:
        chain.add("Reshape", np.array([-1, *source.tensor], np.int64))
    if source.dtype != dtype:
        chain.add("Cast", to=source.dtype)
    if not source.has_batch:
        chain.add("Reshape", np.array(source.tensor, np.int64))


def _for_channels(values: npt.NDArray[np.float64], source: PictureInput) -> npt.NDArray[np.float32]:
    """Return one number, or one per channel, in the shape that broadcasts fastest."""
    numbers = values.astype(np.float32)
    if numbers.size == 1:
        return numbers.reshape(())
    if source.layout is Layout.NCHW:
        return numbers.reshape(-1, 1, 1)
    # not broadcast: onnxruntime repeats an inner dimension of three far more slowly
    return np.broadcast_to(numbers, (source.height, source.width, source.channels)).copy()
