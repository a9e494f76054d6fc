"""Real model files that are made in milliseconds: one linear layer over the picture's pixels."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from logitserve.inference.card import METADATA_KEY, Fit, Golden, Head, InputSpec, ModelCard
from logitserve.inference.repository import MODEL_FILE

OPSET = 18

DIGIT_LABELS = tuple("0123456789")
SPEC = InputSpec(height=28, width=28, channels=1, fit=Fit.STRETCH)


def png(pixels: npt.NDArray[np.uint8], **options: Any) -> bytes:
    """Encode `[h, w]`, `[h, w, 1]`, `[h, w, 3]` or `[h, w, 4]`."""
    if pixels.shape[2:] == (1,):
        pixels = pixels[:, :, 0]
    return encode(Image.fromarray(pixels), "PNG", **options)


def encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def random_picture(seed: int, spec: InputSpec = SPEC) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, spec.shape, dtype=np.uint8)


def weights(spec: InputSpec, outputs: int, seed: int) -> npt.NDArray[np.float32]:
    """`[pixels, outputs]`, scaled so that logits of random pictures lie within a few units."""
    pixels = int(np.prod(spec.shape))
    drawn = np.random.default_rng(seed).normal(0, 10 / np.sqrt(pixels), (pixels, outputs))
    return drawn.astype(np.float32)


def linear_logits(
    pictures: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """What the graph of `linear_graph` computes, in float64: an independent reference."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float64) / 255
    product: npt.NDArray[np.float64] = flat @ matrix.astype(np.float64)
    return product


def linear_graph(
    spec: InputSpec,
    matrix: npt.NDArray[np.float32],
    *,
    batch: str | int = "batch",
    novelty: bool = False,
) -> onnx.ModelProto:
    """image uint8 `[batch, h, w, c]` → /255 → `matrix` → logits float32 `[batch, outputs]`.

    With a novelty the last column is that.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("Div", ["flat", "white"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weights"], ["logits"]),
    ]
    widths = {"logits": matrix.shape[1]}
    parts = []
    if novelty:
        widths = {"logits": matrix.shape[1] - 1, "novelty": 1}
        parts = [numpy_helper.from_array(np.array(list(widths.values())), "widths")]
        nodes[-1].output[:] = ["all"]
        nodes.append(helper.make_node("Split", ["all", "widths"], list(widths), axis=1))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, *spec.shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width])
            for name, width in widths.items()
        ],
        [
            numpy_helper.from_array(np.float32(255).reshape(()), "white"),
            numpy_helper.from_array(matrix, "weights"),
            *parts,
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


ENDLESS = 2**62


def make_slow(path: Path, turns: int) -> None:
    """Let each run of a file count so far: 2**17 takes about 50 ms, `ENDLESS` never ends."""
    model = onnx.load(path)
    logits = next(node for node in model.graph.node if "logits" in node.output)
    logits.output[:] = ["once"]
    (output,) = model.graph.output
    given = [
        helper.make_tensor_value_info("count", TensorProto.INT64, []),
        helper.make_tensor_value_info("more", TensorProto.BOOL, []),
        helper.make_tensor_value_info("turn", TensorProto.FLOAT, None),
    ]
    taken = [
        helper.make_tensor_value_info("more_still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("turned", TensorProto.FLOAT, None),
    ]
    nodes = [
        helper.make_node("Identity", ["more"], ["more_still"]),
        helper.make_node("Identity", ["turn"], ["turned"]),
    ]
    body = helper.make_graph(nodes, "turns", given, taken)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(turns), "turns"),
            numpy_helper.from_array(np.ones((), bool), "for_ever"),
        ]
    )
    loop = helper.make_node("Loop", ["turns", "for_ever", "once"], [output.name], body=body)
    model.graph.node.append(loop)
    onnx.save(model, path)


def make_huge(path: Path, floats: int) -> None:
    """Let the network of a file need so many numbers, though the file stays small."""
    model = onnx.load(path)
    logits = next(node for node in model.graph.node if "logits" in node.output)
    logits.output[:] = ["small"]
    model.graph.initializer.append(numpy_helper.from_array(np.array([floats]), "shape"))
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Add", ["small", "zero"], ["logits"]),
        ]
    )
    onnx.save(model, path)


def card_for(
    matrix: npt.NDArray[np.float32],
    *,
    name: str = "tiny",
    version: str = "1",
    head: Head = Head.SOFTMAX,
    labels: tuple[str, ...] = DIGIT_LABELS,
    spec: InputSpec = SPEC,
    **fields: Any,
) -> ModelCard:
    golden = random_picture(99, spec)
    told = {"description": "A linear layer for tests.", "license": "Apache-2.0", **fields}
    return ModelCard(
        name=name,
        version=version,
        head=head,
        labels=labels,
        input=spec,
        goldens=(Golden(image=png(golden), logits=tuple(linear_logits(golden[None], matrix)[0])),),
        created=datetime(2026, 1, 1, tzinfo=UTC),
        **told,
    )


def with_card(graph: onnx.ModelProto, card_json: str) -> onnx.ModelProto:
    helper.set_model_props(graph, {METADATA_KEY: card_json})
    return graph


def publish(
    models: Path,
    *,
    name: str = "tiny",
    version: str = "1",
    head: Head = Head.SOFTMAX,
    labels: tuple[str, ...] = DIGIT_LABELS,
    spec: InputSpec = SPEC,
    seed: int = 0,
    matrix: npt.NDArray[np.float32] | None = None,
    **fields: Any,
) -> npt.NDArray[np.float32]:
    """Put a linear model into the folder of models; returns its weight matrix."""
    width = 1 if head is Head.BINARY else len(labels) + (fields.get("novelty") is not None)
    matrix = weights(spec, width, seed) if matrix is None else matrix
    card = card_for(
        matrix, name=name, version=version, head=head, labels=labels, spec=spec, **fields
    )
    path = models / name / version / MODEL_FILE
    path.parent.mkdir(parents=True)
    graph = linear_graph(spec, matrix, novelty=card.novelty is not None)
    onnx.save(with_card(graph, card.to_json()), path)
    return matrix
