"""Cut a third-party pretrained network into a feature extractor for a linear head."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from logitserve.adoption import graph_io, keras, normalizing, synthetic
from logitserve.adoption.graph_io import PictureInput
from logitserve.adoption.head_search import Ending
from logitserve.adoption.network import Network, open_graph
from logitserve.adoption.options import PRESETS, Layout
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
"""Operators that may follow the last linear layer."""
_LINEAR: Final = frozenset({"Gemm", "MatMul", "Conv"})
_CHANNELS_FIRST: Final = frozenset({"Conv", "GlobalAveragePool", "AveragePool", "MaxPool"})
"""Operators with channels-first input and output, whatever the layout of the picture."""
_SAME: Final = 1e-3
"""Tolerance for numerical noise, relative to the spread of the features."""
_KERAS_PRESETS: Final = {
    "EfficientNet": "raw", "ConvNeXt": "raw", "MobileNetV3": "raw",
    "MobileNet": "-1..1", "Inception": "-1..1", "Xception": "-1..1", "NASNet": "-1..1",
    "DenseNet": "imagenet", "VGG": "caffe",
}  # fmt: skip
"""Input of `keras.applications` models, by name prefix (see each model's `preprocess_input`)."""


@dataclass(frozen=True, slots=True)
class Features:
    """A feature extractor."""

    graph: onnx.ModelProto
    """`image`, uint8 `[batch, height, width, channels]` → float32 `[batch, features]`."""
    tensor: str
    """Name of the tensor in the original graph where it was cut."""
    preset: str
    """Preset of the normalization."""
    license: str | None
    """License named in the file."""
    size: tuple[int, int]
    """Height and width of the input."""


def read(
    source: str, *, tensor: str | None, preset: str | None, size: tuple[int, int] | None
) -> Features:
    """Read a backbone and cut it before its last linear layer.

    Args:
        source: an ONNX file, a saved Keras model, or `keras:NAME` of `keras.applications`, whose
            weights must be in Keras's cache.
        tensor: name of the feature tensor; None finds it.
        preset: a name of `PRESETS`; None uses the default of this kind of network.
        size: height and width of the input; None uses those of the graph.

    Raises:
        AdoptionError: the file cannot be read, or more options are needed.
    """
    model = keras.convert(source) if source.startswith("keras:") else graph_io.load(Path(source))
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
    images = np.stack([preprocessing.decode(one, spec) for one in synthetic.draw(spec)])
    inputs = preprocess(images, taken, normalization)
    whole = Network(tidy, taken, [found])
    whole.alone(inputs[:1])
    rank = len(whole.value_info(found).type.tensor_type.shape.dim)
    pooled = _pooled(tidy, found, rank, taken.layout)
    part = normalizing.pruned(tidy, pooled)
    network = Network(part, taken, [pooled])
    (values,) = network.alone(inputs)
    if values is None:
        raise AdoptionError(f"{found!r} is not one feature vector per picture: see --features")
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
    """Return the graph's input; another size is written into the graph."""
    told = {"height": None, "width": None, "channels": None}
    shape = tidy.graph.input[0].type.tensor_type.shape if tidy.graph.input else None
    if size is None or shape is None or len(shape.dim) != 4:
        return graph_io.picture_input(tidy, layout=None, told=told)
    at = (2, 3) if shape.dim[1].dim_value in (1, 3) else (1, 2)
    for axis, side in zip(at, size, strict=True):
        shape.dim[axis].dim_value = side
    del tidy.graph.value_info[:]
    return graph_io.picture_input(tidy, layout=None, told=told)


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
        f"{source} takes floats, and their range is unknown: give --preset ({', '.join(PRESETS)})"
    )


def _before_last_linear(model: onnx.ModelProto) -> str:
    """Return the input tensor of the last linear layer, or the output if there is none."""
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
    """Return the tensors that depend on the picture."""
    found = {entry.name for entry in model.graph.input}
    for node in model.graph.node:
        if found & normalizing.reads(node):
            found |= set(node.output)
    return found


def _require_tensor(model: onnx.ModelProto, tensor: str) -> None:
    known = normalizing.producers(model)
    if tensor not in known:
        near = difflib.get_close_matches(tensor, known, 3, 0.3) or list(known)[-3:]
        raise AdoptionError(f"--features {tensor}: not in the graph; similar: {', '.join(near)}")


def _pooled(model: onnx.ModelProto, tensor: str, rank: int, layout: Layout) -> str:
    """Add nodes for the mean over positions or tokens, if the tensor has any; return its name."""
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
    """Name the feature tensor; check that batched and single features are equal."""
    graph.graph.node[-1].output[0] = graph.graph.output[0].name = "features"
    try:
        (found,) = open_graph(graph).run(["features"], {INPUT: images})
    # onnxruntime's run-time errors have no other common base class.
    except RuntimeError as error:
        raise AdoptionError(
            f"the backbone does not run on {images.shape[1]}×{images.shape[2]} pixels, several at "
            f"a time ({str(error).splitlines()[0]}): leave --image-size out, and export it with a "
            "dynamic batch"
        ) from error
    if not np.abs(found - expected).max() <= _SAME * max(1.0, float(np.ptp(expected))):
        raise AdoptionError(
            "the backbone's features in a batch differ from those of single pictures: export it "
            "with a dynamic batch"
        )
