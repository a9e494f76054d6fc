"""A stranger's graph → one with the contract of a model file: bytes in, logits out.

What happens to the pixels is written twice, in numpy and in ONNX, so that one checks the other.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from logitserve.adoption.foreign import PictureInput, opset_of
from logitserve.adoption.terms import Layout, Normalization
from logitserve.inference.predictor import INPUT, OUTPUT

PREFIX: Final = "adopted/"
"""Before every name of the stranger's graph, so that none meets one of ours."""
LEAST: Final = np.finfo(np.float32).tiny
"""Probabilities below it count as it, so that their logarithms are finite."""


def preprocess(
    images: npt.NDArray[np.uint8], source: PictureInput, normalization: Normalization
) -> npt.NDArray[Any]:
    """The stranger's input for pictures, as its owner would compute it, in numpy.

    Args:
        images: uint8, `[n, height, width, channels]`.
        source: what the graph takes.
        normalization: which numbers the bytes become.

    Returns:
        `[n, *source.tensor]`, of the type that the graph takes.
    """
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    numbers = (images.astype(np.float64) / normalization.scale - mean) / std
    if source.layout is Layout.NCHW:
        numbers = np.moveaxis(numbers, 3, 1)
    shaped = numbers.reshape(len(images), *source.tensor)
    typed: npt.NDArray[Any] = shaped.astype(helper.tensor_dtype_to_np_dtype(source.dtype))
    return typed


def wrap(
    model: onnx.ModelProto,
    source: PictureInput,
    normalization: Normalization,
    *,
    logits: int,
    reshape: bool = False,
    column: int | None = None,
    log: bool = False,
) -> onnx.ModelProto:
    """Put the preprocessing before a graph and the output's form behind it.

    Args:
        model: one input, one output, dynamic batch.
        source: what it takes.
        normalization: which numbers the bytes become.
        logits: how many it gives.
        reshape: whether its output is not `[batch, logits]`.
        column: the one of its output's that counts, if it is one.
        log: whether the output holds probabilities, of which logarithms are taken.

    Returns:
        input `image`, uint8 `[batch, height, width, channels]`; output `logits`, float32
        `[batch, logits]`.
    """
    inner = compose.add_prefix(model, PREFIX)
    before = _Chain(INPUT, "before/")
    _add_preprocessing(before, source, normalization)
    before.add("Identity", output=inner.graph.input[0].name)
    after = _Chain(inner.graph.output[0].name, "after/")
    if inner.graph.output[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        after.add("Cast", to=TensorProto.FLOAT)
    if column is not None:
        after.add("Gather", np.array([column], np.int64), axis=1)
    if log:
        after.add("Max", np.float32(LEAST))
        after.add("Log")
    if reshape:
        after.add("Reshape", np.array([-1, logits], np.int64))
    after.add("Identity", output=OUTPUT)

    image = [source.height, source.width, source.channels]
    graph = helper.make_graph(
        [*before.nodes, *inner.graph.node, *after.nodes],
        "adopted",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", *image])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", logits])],
        [*before.constants, *inner.graph.initializer, *after.constants],
    )
    for node in graph.node:  # exporters note there what files they were called from
        node.ClearField("doc_string")
        del node.metadata_props[:]
    others = [entry for entry in inner.opset_import if entry.domain not in {"", "ai.onnx"}]
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset_of(model)), *others],
        ir_version=inner.ir_version,
        functions=inner.functions,
    )


class _Chain:
    """Nodes one after another, each with its constants."""

    def __init__(self, start: str, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._end = start
        self._prefix = prefix

    def add(
        self,
        operator: str,
        *constants: npt.NDArray[Any] | np.generic,
        output: str = "",
        **attributes: Any,
    ) -> None:
        """Apply an operator to the end of the chain and to constants."""
        name = f"{self._prefix}{len(self.nodes)}-{operator}"
        tensors = [
            numpy_helper.from_array(np.asarray(value), f"{name}-{index}")
            for index, value in enumerate(constants)
        ]
        inputs = [self._end, *(tensor.name for tensor in tensors)]
        self._end = output or name
        self.constants += tensors
        self.nodes.append(helper.make_node(operator, inputs, [self._end], **attributes))


def _add_preprocessing(chain: _Chain, source: PictureInput, normalization: Normalization) -> None:
    """The nodes for what `preprocess` does."""
    if source.layout is Layout.NCHW:
        chain.add("Transpose", perm=[0, 3, 1, 2])  # of bytes, a fourth of the floats
    if source.takes_floats:
        chain.add("Cast", to=TensorProto.FLOAT)
        divisor = normalization.scale * np.array(normalization.std)
        offset = normalization.scale * np.array(normalization.mean)
        if offset.any():
            chain.add("Sub", _for_channels(offset, source))
        if (divisor != 1).any():
            chain.add("Div", _for_channels(divisor, source))
    if len(source.tensor) != 3:
        chain.add("Reshape", np.array([-1, *source.tensor], np.int64))
    if source.dtype not in {TensorProto.FLOAT, TensorProto.UINT8}:
        chain.add("Cast", to=source.dtype)


def _for_channels(values: npt.NDArray[np.float64], source: PictureInput) -> npt.NDArray[np.float32]:
    """One number, or one a channel, in the shape that broadcasts fastest over a picture."""
    numbers = values.astype(np.float32)
    if numbers.size == 1:
        return numbers.reshape(())
    if source.layout is Layout.NCHW:
        return numbers.reshape(-1, 1, 1)
    # spelled out: onnxruntime repeats an inner dimension of three far more slowly
    return np.broadcast_to(numbers, (source.height, source.width, source.channels)).copy()
