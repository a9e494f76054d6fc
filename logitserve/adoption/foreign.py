"""Somebody else's ONNX graph, read: what it takes, where its answer is, and what ends it.

Needs the extra `adopt`; only `logitserve adopt` imports it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto

from logitserve.adoption.terms import Layout
from logitserve.errors import AdoptionError
from logitserve.inference.card import Head

FLOATS: Final = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
INTEGERS: Final = (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)
MIN_OPSET: Final = 9
"""Below it, operators broadcast by other rules."""


@dataclass(frozen=True, slots=True)
class PictureInput:
    """What the graph takes."""

    name: str
    dtype: int
    """A number of `TensorProto.DataType`."""
    layout: Layout
    height: int
    width: int
    channels: int
    tensor: tuple[int, ...]
    """Shape behind the batch, as the graph wants it: 1, 2 or 3 numbers."""
    batch: int | None
    """The fixed size of the batch; None if it is dynamic."""

    @property
    def takes_floats(self) -> bool:
        """Whether somebody must say which numbers the bytes of a picture become."""
        return self.dtype in FLOATS


@dataclass(frozen=True, slots=True)
class Activation:
    """What turns logits into probabilities at the end of a graph."""

    operator: str
    """As a person would call it."""
    logits: str
    """The tensor before it."""
    heads: frozenset[Head]
    """Those that do the same outside of the graph."""
    is_log: bool = False
    """Whether the graph answers logarithms of probabilities."""
    column: int | None = None
    """Of `logits`, where only one counts."""
    classifier: str | None = None
    """First output of the LinearClassifier whose `post_transform` this is."""


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with the tensors that it keeps in other files.

    Raises:
        AdoptionError: it is not one, or its operators are too old.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise AdoptionError(f"{path} cannot be read: {error.strerror or error}") from error
    # Protobuf's and the checker's errors share no base but this.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AdoptionError(f"{path} is not a valid ONNX file: {reason}") from error
    opset = opset_of(model)
    if opset < MIN_OPSET:
        raise AdoptionError(
            f"{path} is of opset {opset}; export it with {MIN_OPSET} or later, or convert it with "
            "onnx.version_converter"
        )
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators; the first that is supported here if it has none."""
    versions = [entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}]
    return int(versions[0]) if versions else MIN_OPSET


def picture_input(
    model: onnx.ModelProto, *, layout: Layout | None, told: Mapping[str, int | None]
) -> PictureInput:
    """What the graph takes, by its own word and that of its owner.

    Args:
        model: as loaded.
        layout: where the graph does not show it.
        told: `height`, `width` and `channels`, each where the graph does not say it.

    Raises:
        AdoptionError: it takes no picture, or the two words contradict or leave something open.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs)
        raise AdoptionError(
            f"the graph has {len(inputs)} inputs ({names}); it must have one, the picture: "
            "export it with the others made constant"
        )
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in FLOATS + INTEGERS:
        raise AdoptionError(
            f"input {inputs[0].name!r} is of type {TensorProto.DataType.Name(tensor.elem_type)}; "
            "pictures go into float, double, float16, uint8, int32 or int64"
        )
    batch, *dims = [dim.dim_value or None for dim in tensor.shape.dim] or [None]
    chosen = layout or _layout_of(dims)
    size = _size(dims, chosen, told)
    return PictureInput(
        name=inputs[0].name,
        dtype=tensor.elem_type,
        layout=chosen,
        **size,
        tensor=_tensor(len(dims), chosen, **size),
        batch=batch,
    )


def _layout_of(dims: list[int | None]) -> Layout:
    """Where the channels stand, as the shape behind the batch shows."""
    if len(dims) != 3:
        return Layout.NHWC
    first, last = dims[0] in {1, 3}, dims[2] in {1, 3}
    if first == last:
        raise AdoptionError(
            f"the graph's input [batch, {', '.join(str(dim or '?') for dim in dims)}] does not "
            "show where its channels stand: say it with --layout nchw or --layout nhwc"
        )
    return Layout.NCHW if first else Layout.NHWC


def _size(dims: list[int | None], layout: Layout, told: Mapping[str, int | None]) -> dict[str, int]:
    """Height, width and channels."""
    match dims:
        case [first, second, third]:
            is_nchw = layout is Layout.NCHW
            found = (second, third, first) if is_nchw else (first, second, third)
        case [height, width]:
            found = (height, width, 1)
        case [features]:
            found = (told["height"], told["width"], _channels(features, told))
        case _:
            raise AdoptionError(
                f"the graph's input has {len(dims) + 1} dimensions; a picture has [batch, "
                "features], [batch, height, width] or those with channels"
            )
    size = {}
    for name, by_graph in zip(("height", "width", "channels"), found, strict=True):
        by_owner = told[name]
        if by_graph is None and by_owner is None:
            raise AdoptionError(f"the graph does not say the picture's {name}: give --{name}")
        if by_graph is not None and by_owner is not None and by_graph != by_owner:
            raise AdoptionError(
                f"--{name} {by_owner} does not fit: the graph's input is "
                f"[batch, {', '.join(str(dim or '?') for dim in dims)}]"
            )
        size[name] = by_owner if by_graph is None else by_graph
    if size["channels"] not in {1, 3}:
        raise AdoptionError(
            f"the graph takes {size['channels']} channels; pictures have 1 (luminance) or 3 (RGB)"
        )
    return size  # type: ignore[return-value]


def _channels(features: int | None, told: Mapping[str, int | None]) -> int | None:
    """Of a flat input, from the number of its features."""
    height, width = told["height"], told["width"]
    if height is None or width is None:
        raise AdoptionError(
            f"the graph takes {features or 'flat'} features, not a picture's shape: "
            "give --height and --width"
        )
    if features is None:
        return told["channels"]
    if features % (height * width):
        raise AdoptionError(
            f"--height {height} and --width {width} do not fit: the graph takes {features} features"
        )
    return features // (height * width)


def _tensor(
    rank: int, layout: Layout, *, height: int, width: int, channels: int
) -> tuple[int, ...]:
    if rank == 1:
        return (height * width * channels,)
    if rank == 2:
        return height, width
    return (channels, height, width) if layout is Layout.NCHW else (height, width, channels)


def answer_output(model: onnx.ModelProto, wanted: str | None) -> str:
    """The output that holds scores or probabilities, not labels.

    Raises:
        AdoptionError: there is none, or several, or none of the wanted name.
    """
    if wanted is not None:
        candidates = [wanted] if wanted in {output.name for output in model.graph.output} else []
    else:
        candidates = [
            output.name
            for output in model.graph.output
            if output.type.tensor_type.elem_type in FLOATS or output.type.HasField("sequence_type")
        ]
    if len(candidates) != 1:
        names = ", ".join(output.name for output in model.graph.output)
        raise AdoptionError(
            f"which output holds the answer? Say it with --output; the graph has {names}"
        )
    return str(candidates[0])


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Tensor → the node that makes it."""
    return {name: node for node in model.graph.node for name in node.output}


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """An attribute's value, None if it is not there."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return None


def labels_of(model: onnx.ModelProto) -> tuple[str, ...] | None:
    """The labels that a classifier of scikit-learn carries in its graph."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in reversed(
        model.graph.node
    ):  # those before are of parts, such as one against the rest
        for name in ("classlabels_strings", "classlabels_int64s", "classlabels_ints"):
            if values := attribute(node, name):
                return tuple(map(_text, values))
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
            return tuple(map(_text, onnx.numpy_helper.to_array(constants[node.input[0]]).flat))
    return None


def _text(label: object) -> str:
    return label.decode() if isinstance(label, bytes) else str(label)


def walk_back(model: onnx.ModelProto, tensor: str) -> Iterator[onnx.NodeProto]:
    """The nodes before a tensor, nearest first, each time along the first input."""
    made_by = producers(model)
    while node := made_by.get(tensor):
        yield node
        if not node.input:
            return
        tensor = node.input[0]
