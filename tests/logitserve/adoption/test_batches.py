"""Graphs that take a fixed batch, none at all, or mix the pictures of one."""

from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.e2e.process import running
from tests.logitserve.adoption.graphs import (
    GIVEN,
    TOLERANCE,
    adopt,
    adopted,
    assert_refused,
    graph,
    linear,
    logits,
    pictures,
    save,
    softmax,
    weights,
)
from tests.tiny_models import png


def spelled(batch: int, shape: Sequence[int | str], *, by: str = "Identity") -> onnx.ModelProto:
    """Its batch stands in a reshape, or in weights that no rewriting frees."""
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["z"]),
        helper.make_node(by, ["z", "bias"] if by == "Add" else ["z"], ["a"]),
        helper.make_node("Softmax", ["a"], ["y"], axis=-1),
    ]
    constants = {
        "flat": np.array([batch, 72]),
        "w": weights(72, 3),
        "bias": np.array([[0.5, 0, -0.5]] * batch, np.float32),
    }
    return graph(nodes, shape, constants)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (spelled(1, (1, 4, 6, 3)), None),
        (spelled(3, (3, 4, 6, 3)), None),
        (spelled(1, ("n", 4, 6, 3)), None),
        (spelled(2, (2, 4, 6, 3), by="Add"), 2),
        (spelled(1, (4, 6, 3)), 1),
    ],
    ids=["one", "three", "said-to-be-dynamic", "held-fast", "none"],
)
def test_any_number_of_pictures_is_answered(
    tmp_path: Path, model: onnx.ModelProto, batch: int | None
) -> None:
    predictor = adopted(save(model, tmp_path), tmp_path / "m", *GIVEN)
    assert predictor.card.batch == batch
    for count in (1, 2, 3, 7):
        images = pictures(count)
        found = predictor.predict(images).probabilities
        bias = [0.5, 0, -0.5] if batch == 2 else 0
        assert np.abs(found - softmax(logits(images) + bias)).max() < TOLERANCE


def quantized() -> list[NodeProto]:
    """Scaled by the largest number of the batch, as a dynamically quantized network is."""
    return [
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["q", "s", "o"]),
        helper.make_node("DequantizeLinear", ["q", "s", "o"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]


def test_a_dynamically_quantized_graph_says_the_same_of_a_picture_in_any_company(
    tmp_path: Path,
) -> None:
    predictor = adopted(save(linear(end=quantized()), tmp_path), tmp_path / "m", *GIVEN)
    assert predictor.card.batch == 1
    assert predictor.card.tolerance >= 5e-3
    images = pictures() // np.arange(1, 6, dtype=np.uint8)[:, None, None, None]
    together = predictor.run(images)
    assert (together == np.concatenate([predictor.run(image[None]) for image in images])).all()
    with (
        running("--models", str(tmp_path / "m")) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        files = [("file", png(image)) for image in images]
        alone = [client.post("/predict", files=[file]).raise_for_status().json() for file in files]
        sent = client.post("/predict", files=files).raise_for_status().json()["predictions"]
        assert [answer["predictions"][0]["probabilities"] for answer in alone] == [
            prediction["probabilities"] for prediction in sent
        ]


def test_a_normalization_over_the_batch_is_run_picture_by_picture(tmp_path: Path) -> None:
    end = [
        helper.make_node("ReduceMean", ["z", "axes"], ["m"], keepdims=1),
        helper.make_node("Mul", ["m", "half"], ["h"]),
        helper.make_node("Sub", ["z", "h"], ["y"]),
    ]
    constants = {"axes": np.array([0]), "half": np.array(0.5, np.float32)}
    predictor = adopted(
        save(linear(end=end, constants=constants), tmp_path), tmp_path / "m", *GIVEN
    )
    assert predictor.card.batch == 1
    expected = softmax(logits(pictures()) / 2)
    assert np.abs(predictor.predict(pictures()).probabilities - expected).max() < TOLERANCE


def test_a_fixed_batch_that_mixes_its_pictures_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "all"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node("Reshape", ["z", "rows"], ["y"]),
    ]
    constants = {"all": np.array([-1]), "w": weights(144, 6), "rows": np.array([2, 3])}
    file = save(graph(nodes, (2, 4, 6, 3), constants), tmp_path)
    assert_refused(adopt(file, tmp_path / "m", *GIVEN), "in a batch of 2", "batch of 1")


def test_a_graph_in_training_mode_is_refused(tmp_path: Path) -> None:
    norm = helper.make_node(
        "BatchNormalization", ["z", "o", "o", "o", "o"], ["y", "m", "v"], training_mode=1
    )
    drop = helper.make_node("Dropout", ["z", "rate", "yes"], ["y"])
    constants = {
        "o": np.ones(3, np.float32),
        "rate": np.array(0.5, np.float32),
        "yes": np.array(True),  # noqa: FBT003
    }
    for node in (norm, drop):
        file = save(linear(end=[node], constants=constants), tmp_path)
        done = adopt(file, tmp_path / "m", *GIVEN)
        assert_refused(done, "training mode", node.op_type, "model.eval()")


def test_a_map_of_places_is_refused(tmp_path: Path) -> None:
    model = graph([helper.make_node("Relu", ["x"], ["y"])], ("n", 4, 6, 3), {})
    assert_refused(adopt(save(model, tmp_path), tmp_path / "m", *GIVEN), "[4, 6, 3]", "classifiers")


def test_several_outputs(tmp_path: Path) -> None:
    end = [
        helper.make_node("Softmax", ["z"], ["y"]),
        helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0),
        helper.make_node("Identity", ["flat"], ["features"]),
        helper.make_node("Identity", ["z"], ["twin"]),
    ]
    floats = {"label": TensorProto.INT64, "features": TensorProto.FLOAT, "y": TensorProto.FLOAT}
    expected = softmax(logits(pictures()))
    for outputs, options in (
        (floats, ()),
        ({**floats, "twin": TensorProto.FLOAT}, ("--output", "y")),
        ({"label": TensorProto.INT64}, ()),
    ):
        file = save(linear(end=end, outputs=outputs), tmp_path)
        predictor = adopted(file, tmp_path / "m", *GIVEN, *options)
        assert np.abs(predictor.predict(pictures()).probabilities - expected).max() < TOLERANCE
    both = {**floats, "twin": TensorProto.FLOAT}
    done = adopt(save(linear(end=end, outputs=both), tmp_path), tmp_path / "m", *GIVEN)
    assert_refused(done, "--output", "twin: [3]", "features: [72]")
