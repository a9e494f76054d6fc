"""Read a third-party ONNX file: its input, and the outputs that may hold the scores.

Needs the extra `adopt`; only `logitserve adopt` imports it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto

from logitserve.adoption import formats, keras
from logitserve.adoption.normalizing import producers
from logitserve.adoption.options import Layout
from logitserve.errors import AdoptionError
from logitserve.inference.images import DEFAULT_MAX_PIXELS

FLOATS: Final = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
)
INTEGERS: Final = (
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.UINT16,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
)


@dataclass(frozen=True, slots=True)
class PictureInput:
    """The graph's input."""

    name: str
    dtype: int
    """A value of `TensorProto.DataType`."""
    layout: Layout
    height: int
    width: int
    channels: int
    tensor: tuple[int, ...]
    """Shape without the batch dimension: 1, 2 or 3 numbers."""
    batch: int | None
    """The fixed batch size; None if it is dynamic."""
    has_batch: bool = True
    """Whether there is a batch dimension; if not, `batch` is 1."""

    @property
    def takes_floats(self) -> bool:
        """Whether the input is float, so that the normalization must be known."""
        return self.dtype in FLOATS


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external tensors, or a saved Keras model.

    Raises:
        AdoptionError: the file is neither; the text names its format and how to export it.
    """
    try:
        if formats.is_keras(path):
            return keras.convert(path)
        formats.check(path)
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise AdoptionError(f"{path} cannot be read: {error.strerror or error}") from error
    # Protobuf's errors have no other common base class.
    except Exception as error:
        if isinstance(error, AdoptionError):
            raise
        raise _no_onnx(path) from error
    if not model.graph.node:
        raise _no_onnx(path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        missing = sorted(
            {
                e.value
                for t in model.graph.initializer
                for e in t.external_data
                if e.key == "location"
            }
        )
        raise AdoptionError(
            f"{path} keeps its weights in other files ({', '.join(missing[:3])}), which are "
            f"missing or incomplete: put them into {path.parent}, or save the model as one file"
        ) from error
    return model


def _no_onnx(path: Path) -> AdoptionError:
    return AdoptionError(
        f"{path} is not a valid ONNX file, or is truncated ({path.stat().st_size} bytes): "
        "download or export it again"
    )


def picture_input(
    model: onnx.ModelProto, *, layout: Layout | None, told: Mapping[str, int | None]
) -> PictureInput:
    """Return the graph's input, from the file and the owner's options.

    The options give height, width and channels that the graph leaves open.

    Raises:
        AdoptionError: the input is not a picture, or file and options contradict or are incomplete.
    """
    inputs = model.graph.input
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs)
        raise AdoptionError(
            f"the graph has {len(inputs)} inputs ({names}); it must have one, the picture: "
            "export it with the others as constants"
        )
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in FLOATS + INTEGERS:
        raise AdoptionError(
            f"input {inputs[0].name!r} is of type {TensorProto.DataType.Name(tensor.elem_type)}; "
            "it must be of a float or integer type"
        )
    shape = [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim]
    has_batch = not _is_one_picture(shape, told)
    batch, *dims = (shape or [None]) if has_batch else [1, *shape]
    chosen = layout or _layout_of(dims)
    size = _size(dims, chosen, told)
    return PictureInput(
        name=inputs[0].name,
        dtype=tensor.elem_type,
        layout=chosen,
        **size,
        tensor=_tensor(len(dims), chosen, **size),
        batch=batch,
        has_batch=has_batch,
    )


def _is_one_picture(shape: list[int | None], told: Mapping[str, int | None]) -> bool:
    """Return whether a shape is that of one picture without a batch dimension."""
    if len(shape) == 3 and None not in shape:
        return (shape[0] == 3) != (shape[2] in {1, 3})
    size = (told["height"], told["width"])
    return len(shape) == 2 and None not in size and tuple(shape) == size


def _layout_of(dims: list[int | None]) -> Layout:
    """Return the layout that the shape without the batch dimension shows."""
    if len(dims) != 3:
        return Layout.NHWC
    if dims == [None, None, None]:
        raise AdoptionError(
            "the layout of the graph's input is unknown: give --layout, --height, --width and "
            "--channels"
        )
    first, last = dims[0] in {1, 3}, dims[2] in {1, 3}
    if first == last:
        raise AdoptionError(
            f"the graph's input [batch, {', '.join(str(dim or '?') for dim in dims)}] has an "
            "ambiguous layout: give --layout nchw or --layout nhwc"
        )
    return Layout.NCHW if first else Layout.NHWC


def _size(dims: list[int | None], layout: Layout, told: Mapping[str, int | None]) -> dict[str, int]:
    """Return height, width and channels."""
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
                f"the graph's input has {len(dims) + 1} dimensions; it must be [batch, features], "
                "[batch, height, width] or the latter with channels"
            )
    size = {}
    for name, by_graph in zip(("height", "width", "channels"), found, strict=True):
        by_owner = told[name]
        if by_graph is None and by_owner is None:
            raise AdoptionError(f"the picture's {name} is not in the graph: give --{name}")
        if by_graph is not None and by_owner is not None and by_graph != by_owner:
            raise AdoptionError(
                f"--{name} {by_owner} does not fit: the graph's input is "
                f"[batch, {', '.join(str(dim or '?') for dim in dims)}]"
            )
        size[name] = by_owner if by_graph is None else by_graph
    if (size["height"] or 1) * (size["width"] or 1) > DEFAULT_MAX_PIXELS:
        raise AdoptionError(
            f"the graph takes {size['height']}×{size['width']} pixels; the limit is "
            f"{DEFAULT_MAX_PIXELS} pixels"
        )
    if size["channels"] not in {1, 3}:
        raise AdoptionError(
            f"the graph takes {size['channels']} channels; it must take 1 (luminance) or 3 (RGB)"
        )
    return size  # type: ignore[return-value]


def _channels(features: int | None, told: Mapping[str, int | None]) -> int | None:
    """Return the channels of a flat input, from the number of its features."""
    height, width = told["height"], told["width"]
    if height is None or width is None:
        raise AdoptionError(
            f"the graph takes {features or 'flat'} features without a picture's shape: "
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


def score_outputs(model: onnx.ModelProto, wanted: str | None) -> list[str]:
    """Return the outputs that may hold scores or probabilities: floats, not labels.

    If the only output is the label of an ArgMax, the ArgMax's input becomes an output.

    Raises:
        AdoptionError: there is no such output, or none has the wanted name.
    """
    names = [output.name for output in model.graph.output]
    if wanted is not None:
        if wanted not in names:
            raise AdoptionError(f"--output {wanted} is not one of the outputs: {', '.join(names)}")
        return [wanted]
    found = [
        output.name
        for output in model.graph.output
        if output.type.tensor_type.elem_type in (*FLOATS, TensorProto.UNDEFINED)
    ]
    made_by = producers(model)
    for name in names if not found else ():
        if name in made_by and made_by[name].op_type == "ArgMax":
            found.append(made_by[name].input[0])
            model.graph.output.append(onnx.ValueInfoProto(name=found[-1]))
    if not found:
        raise AdoptionError(f"none of the graph's outputs ({', '.join(names)}) holds scores")
    return found
