"""Somebody's trained network → its features, of bytes: what a linear head can be learned on."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from logitserve.adoption import foreign, keras, normalizing, specimens
from logitserve.adoption.endings import Ending
from logitserve.adoption.foreign import PictureInput
from logitserve.adoption.network import Network, open_graph
from logitserve.adoption.terms import PRESETS, Layout
from logitserve.adoption.wrapping import preprocess, wrap
from logitserve.errors import AdoptionError
from logitserve.inference import preprocessing
from logitserve.inference.card import Fit, Head, InputSpec
from logitserve.inference.predictor import INPUT

_ENDINGS: Final = frozenset(
    {"Softmax", "LogSoftmax", "Sigmoid", "Exp", "Log", "ReduceSum", "ReduceMax", "Identity", "Cast"}
    | {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Dropout", "Clip"}
    | {"Add", "Sub", "Mul", "Div", "Neg", "ArgMax"}
)
"""Operators that may stand between the last linear layer and the output."""
_LINEAR: Final = frozenset({"Gemm", "MatMul", "Conv"})
_CHANNELS_FIRST: Final = frozenset({"Conv", "GlobalAveragePool", "AveragePool", "MaxPool"})
"""Operators that take and make channels first, whatever the layout of the picture."""
_SAME: Final = 1e-3
"""Of the spread of the features: differences below it are of the arithmetic."""
_KERAS_PRESETS: Final = {
    "EfficientNet": "raw", "ConvNeXt": "raw", "MobileNetV3": "raw",
    "MobileNet": "-1..1", "Inception": "-1..1", "Xception": "-1..1", "NASNet": "-1..1",
    "DenseNet": "imagenet", "VGG": "caffe",
}  # fmt: skip
"""What `keras.applications` expects, by the beginning of the name (`preprocess_input` of each)."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a head is learned on."""

    graph: onnx.ModelProto
    """`image`, uint8 `[batch, height, width, channels]` → float32 `[batch, features]`."""
    tensor: str
    """Of the original, where it was cut off."""
    preset: str
    """Which numbers the bytes become."""
    license: str | None
    """As the file says."""
    size: tuple[int, int]
    """Height and width of a picture."""


def read(
    source: str, *, tensor: str | None, preset: str | None, size: tuple[int, int] | None
) -> Features:
    """Read a backbone and cut it before its last linear layer.

    Args:
        source: an ONNX file, what Keras saved, or `keras:NAME` of `keras.applications`, whose
            weights are where Keras keeps them.
        tensor: the features; None finds them.
        preset: a name of `PRESETS`; None takes what its kind of network is trained with.
        size: height and width of the pictures; None takes those of the graph.

    Raises:
        AdoptionError: it cannot be read, or not without being told more.
    """
    model = keras.convert(source) if source.startswith("keras:") else foreign.load(Path(source))
    tidy = normalizing.tidied(model)
    taken = _picture_input(tidy, size)
    preset = preset or _preset(source, taken)
    found = tensor or _before_last_linear(tidy)
    _require_tensor(tidy, found)
    normalization = PRESETS[preset]
    spec = InputSpec(
        height=taken.height, width=taken.width, channels=3 if taken.channels == 3 else 1,
        fit=Fit.STRETCH,
    )  # fmt: skip
    images = np.stack([preprocessing.decode(one, spec) for one in specimens.draw(spec)])
    inputs = preprocess(images, taken, normalization)
    whole = Network(tidy, taken, [found])
    whole.alone(inputs[:1])
    rank = len(whole.value_info(found).type.tensor_type.shape.dim)
    pooled = _pooled(tidy, found, rank, taken.layout)
    part = normalizing.pruned(tidy, pooled)
    network = Network(part, taken, [pooled])
    (values,) = network.alone(inputs)
    if values is None:
        raise AdoptionError(f"{found!r} has not one row of features a picture: see --features")
    expected = values.reshape(len(values), -1)
    part.graph.output[0].CopyFrom(network.value_info(pooled))
    ending = Ending(Head.SIGMOID, pooled, expected.shape[1], "features")
    graph = wrap(
        normalizing.free_batch(part, taken.batch or 1), taken, normalization, ending, batch=None
    )
    _require_same(graph, images, expected)
    licenses = [entry.value for entry in model.metadata_props if entry.key.lower() == "license"]
    return Features(
        graph, found, preset, licenses[0] if licenses else None, (taken.height, taken.width)
    )


def _picture_input(tidy: onnx.ModelProto, size: tuple[int, int] | None) -> PictureInput:
    """What the graph takes; another size is written into it."""
    told = {"height": None, "width": None, "channels": None}
    shape = tidy.graph.input[0].type.tensor_type.shape if tidy.graph.input else None
    if size is None or shape is None or len(shape.dim) != 4:
        return foreign.picture_input(tidy, layout=None, told=told)
    at = (2, 3) if shape.dim[1].dim_value in (1, 3) else (1, 2)
    for axis, side in zip(at, size, strict=True):
        shape.dim[axis].dim_value = side
    del tidy.graph.value_info[:]
    return foreign.picture_input(tidy, layout=None, told=told)


def _preset(source: str, taken: PictureInput) -> str:
    if not taken.takes_floats:
        return "raw"
    name = source.removeprefix("keras:")
    if name != source:
        if name.startswith("ResNet"):
            return "-1..1" if name.endswith("V2") else "caffe"
        fitting = [preset for start, preset in _KERAS_PRESETS.items() if name.startswith(start)]
        if fitting:
            return fitting[0]
    if taken.layout is Layout.NCHW:
        return "imagenet"
    raise AdoptionError(
        f"{source} takes floats, and does not say which numbers the bytes 0…255 become: give "
        f"--preset ({', '.join(PRESETS)})"
    )


def _before_last_linear(model: onnx.ModelProto) -> str:
    """The tensor that the last linear layer takes; the output itself where there is none."""
    output = str(model.graph.output[0].name)
    made_by, variable = normalizing.producers(model), _variable(model)
    waiting = [output]
    while waiting:
        node = made_by.get(waiting.pop(0))
        if node is None:
            continue
        inputs = [name for name in node.input if name in variable]
        if node.op_type in _LINEAR and len(inputs) == 1:
            return str(inputs[0])
        if node.op_type not in _ENDINGS:
            return output
        waiting += inputs[:1] if node.op_type in {"Reshape", "Unsqueeze", "Squeeze"} else inputs
    return output


def _variable(model: onnx.ModelProto) -> set[str]:
    """The tensors that depend on the picture."""
    found = {entry.name for entry in model.graph.input}
    for node in model.graph.node:
        if found & normalizing.reads(node):
            found |= set(node.output)
    return found


def _require_tensor(model: onnx.ModelProto, tensor: str) -> None:
    known = normalizing.producers(model)
    if tensor not in known:
        near = difflib.get_close_matches(tensor, known, 3, 0.3) or list(known)[-3:]
        raise AdoptionError(f"--features {tensor}: the graph has none; near it: {', '.join(near)}")


def _pooled(model: onnx.ModelProto, tensor: str, rank: int, layout: Layout) -> str:
    """The tensor with its mean over places or tokens, where it has them; nodes are added."""
    nodes: Sequence[onnx.NodeProto] = ()
    name = f"{tensor}/pooled"
    beside = {node.op_type for node in model.graph.node if tensor in (*node.input, *node.output)}
    if rank == 4 and (layout is Layout.NCHW or beside & _CHANNELS_FIRST):
        nodes = [helper.make_node("GlobalAveragePool", [tensor], [name])]
    elif rank in (3, 4):  # features last
        first = [0, rank - 1, *range(1, rank - 1)]
        nodes = [
            helper.make_node("Transpose", [tensor], [f"{tensor}/first"], perm=first),
            helper.make_node("GlobalAveragePool", [f"{tensor}/first"], [name]),
        ]
    model.graph.node.extend(nodes)
    return name if nodes else tensor


def _require_same(
    graph: onnx.ModelProto, images: npt.NDArray[np.uint8], expected: npt.NDArray[Any]
) -> None:
    """Give the features their name, and compare those of a batch with those of each alone."""
    graph.graph.node[-1].output[0] = graph.graph.output[0].name = "features"
    try:
        (found,) = open_graph(graph).run(["features"], {INPUT: images})
    # What onnxruntime raises while it runs shares no base but this.
    except RuntimeError as error:
        raise AdoptionError(
            f"the backbone does not run on {images.shape[1]}×{images.shape[2]} pixels, several at "
            f"a time ({str(error).splitlines()[0]}): leave --image-size out, and export it with a "
            "dynamic batch"
        ) from error
    if not np.abs(found - expected).max() <= _SAME * max(1.0, float(np.ptp(expected))):
        raise AdoptionError(
            "in a batch, the backbone's features are not those of each picture alone: export it "
            "with a dynamic batch"
        )
