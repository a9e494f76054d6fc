"""Third-party graphs made in milliseconds: one linear layer, and whatever stands around it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from logitserve.cli.main import main
from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository

Pictures = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float64]

TOLERANCE = 1e-5
SHAPE = ("n", 4, 6, 3)
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
LABELS = ("--labels", "a,b,c")
UNIT = ("--preset", "0-1")
GIVEN = (*LABELS, *UNIT)


def adopt(file: Path, models: Path, *options: str, name: str = "adopted") -> Result:
    fixed = ["--name", name, "--models", str(models)]
    return CliRunner().invoke(main, ["adopt", str(file), *fixed, *options])


def adopted(file: Path, models: Path, *options: str) -> Predictor:
    done = adopt(file, models, *options)
    assert done.exit_code == 0, done.output
    return Predictor.load(ModelRepository(models).model_file("adopted"))


def assert_refused(done: Result, *words: str) -> None:
    assert done.exit_code == 1, done.output
    assert len(done.output.splitlines()) == 1, done.output
    assert ".staging" not in done.output
    assert "Value error" not in done.output
    for word in words:
        assert word in done.output


def card_of(models: Path) -> ModelCard:
    return Predictor.load(ModelRepository(models).model_file("adopted")).card


def graph(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str | None],
    constants: Mapping[str, npt.NDArray[Any]],
    *,
    dtype: int = TensorProto.FLOAT,
    outputs: Mapping[str, int] | None = None,
    inputs: Sequence[str] = ("x",),
    opset: int = 18,
    ir_version: int = 10,
) -> onnx.ModelProto:
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph(
            nodes,
            "strange",
            [helper.make_tensor_value_info(name, dtype, shape) for name in inputs],
            [
                helper.make_tensor_value_info(name, kind, None)
                for name, kind in (outputs or {"y": TensorProto.FLOAT}).items()
            ],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)],
        ir_version=ir_version,
    )
    return model


def weights(features: int, classes: int, dtype: Any = np.float32) -> npt.NDArray[Any]:
    return np.random.default_rng(0).normal(0, 0.3, (features, classes)).astype(dtype)


def features_of(shape: Sequence[int | str | None]) -> int:
    return int(np.prod([size for size in shape[1:] if isinstance(size, int)]))


def linear(
    shape: Sequence[int | str | None] = SHAPE,
    *,
    classes: int = 3,
    dtype: int = TensorProto.FLOAT,
    end: Sequence[onnx.NodeProto] | str = "Identity",
    constants: Mapping[str, npt.NDArray[Any]] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """Flatten `x`, multiply to `z`, and nodes to end in, the last of which gives `y`."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    is_float = dtype in FLOATS
    last = [helper.make_node(end, ["z"], ["y"])] if isinstance(end, str) else end
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["cast"], to=dtype if is_float else TensorProto.FLOAT),
        helper.make_node("MatMul", ["cast", "w"], ["z"]),
        *last,
    ]
    matrix = weights(features_of(shape), classes, kind if is_float else np.float32)
    out = dtype if is_float else TensorProto.FLOAT
    told = {"outputs": {"y": out}, **options}
    return graph(nodes, shape, {"w": matrix, **(constants or {})}, dtype=dtype, **told)


def save(model: onnx.ModelProto, folder: Path, name: str = "strange.onnx") -> Path:
    onnx.save(model, folder / name)
    return folder / name


def pictures(count: int = 5, shape: tuple[int, ...] = (4, 6, 3)) -> Pictures:
    return np.random.default_rng(1).integers(0, 256, (count, *shape), dtype=np.uint8)


def logits(images: Pictures, classes: int = 3) -> Rows:
    """Of `linear`, whose bytes became 0…1, in float64."""
    flat = images.reshape(len(images), -1) / 255
    found: Rows = flat @ weights(flat.shape[1], classes).astype(np.float64)
    return found


def softmax(z: Rows) -> Rows:
    exponentials = np.exp(z)
    normalized: Rows = exponentials / exponentials.sum(axis=1, keepdims=True)
    return normalized


def sigmoid(z: Rows) -> Rows:
    return 1 / (1 + np.exp(-z))
