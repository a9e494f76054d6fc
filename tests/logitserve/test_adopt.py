"""`logitserve adopt`, against the probabilities of the frameworks that made the files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier

from logitserve.cli.main import main
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from tests.e2e.process import run, running
from tests.tiny_models import png

DATA = Path(__file__).parents[1] / "data"
TOLERANCE = 1e-5
FLAT_8 = ("--height", "8", "--width", "8", "--preset", "unit")
TORCH = ("--head", "softmax", "--labels", "a,b,c,d,e", "--preset", "imagenet")
SOFTMAX = ("--head", "softmax")
BINARY = ("--head", "binary")
STRIP = ("--strip-activation",)
LOG = ("--log-probabilities",)

Pictures = npt.NDArray[np.uint8]


def adopt(file: Path, models: Path, *options: str, name: str = "adopted") -> Result:
    fixed = ["--name", name, "--models", str(models)]
    return CliRunner().invoke(main, ["adopt", str(file), *fixed, *options])


def served(models: Path, pictures: Pictures, name: str = "adopted") -> npt.NDArray[np.float64]:
    predictor = Predictor.load(ModelRepository(models).model_file(name))
    return predictor.predict(pictures).probabilities


def assert_refused(done: Result, *words: str) -> None:
    assert done.exit_code == 1, done.output
    assert len(done.output.splitlines()) == 1, done.output
    for word in words:
        assert word in done.output


@dataclass
class Digits:
    """scikit-learn's digits as bytes, and as the features that its classifiers are given."""

    pictures: Pictures
    features: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def digits() -> Digits:
    features, classes = load_digits(return_X_y=True)
    pictures = np.rint(features * 255 / 16).astype(np.uint8)
    return Digits(pictures.reshape(-1, 8, 8, 1)[:600], pictures[:600] / 255, classes[:600])


def export(classifier: Any, digits: Digits, path: Path, *, zipmap: bool) -> Path:
    options = None if zipmap else {"zipmap": False}
    proto = to_onnx(classifier, digits.features[:1].astype(np.float32), options=options)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize(
    ("classifier", "is_binary", "options"),
    [
        (LogisticRegression(), False, SOFTMAX + STRIP),
        (LogisticRegression(), True, BINARY + STRIP),
        (MLPClassifier((12,), max_iter=1000, tol=1e-2, random_state=0), False, SOFTMAX + STRIP),
        (MLPClassifier((12,), max_iter=1000, tol=1e-2, random_state=0), True, BINARY + STRIP),
        (LogisticRegression(), False, SOFTMAX + LOG),
        (RandomForestClassifier(5, random_state=0), False, SOFTMAX + LOG),
        (OneVsRestClassifier(LogisticRegression(max_iter=30, tol=1e-2)), False, SOFTMAX + LOG),
    ],
    ids=["linear", "linear-2", "mlp", "mlp-2", "linear-log", "forest-log", "one-vs-rest-log"],
)
def test_scikit_learn(
    tmp_path: Path,
    digits: Digits,
    classifier: Any,
    options: tuple[str, ...],
    *,
    is_binary: bool,
    zipmap: bool,
) -> None:
    classes = digits.classes == 0 if is_binary else digits.classes
    classifier.fit(digits.features[:400], classes[:400].astype(np.int64))
    file = export(classifier, digits, tmp_path / "own.onnx", zipmap=zipmap)
    done = adopt(file, tmp_path / "models", *FLAT_8, *options)
    assert done.exit_code == 0, done.output
    expected = classifier.predict_proba(digits.features[400:])
    found = served(tmp_path / "models", digits.pictures[400:])
    assert np.abs(found - expected).max() < TOLERANCE
    card = Predictor.load(tmp_path / "models/adopted/1/model.onnx").card
    assert "".join(card.labels) == ("01" if is_binary else "0123456789")
    assert card.input.shape == (8, 8, 1)


@pytest.mark.parametrize("name", ["torch_cnn", "torch_cnn_fixed_batch"])
def test_pytorch(tmp_path: Path, name: str) -> None:
    done = adopt(DATA / f"{name}.onnx", tmp_path, *TORCH, *STRIP)
    assert done.exit_code == 0, done.output
    assert "without its Softmax" in done.output
    with np.load(DATA / "torch_cnn.npz") as torch:
        found = served(tmp_path, torch["images"])
        assert np.abs(found - torch["probabilities"]).max() < TOLERANCE


def test_adopted_and_served_in_two_commands(tmp_path: Path, digits: Digits) -> None:
    classifier = LogisticRegression().fit(digits.features, digits.classes)
    own = export(classifier, digits, tmp_path / "own.onnx", zipmap=True)
    models = ("--models", str(tmp_path / "models"))
    linear_like = ("--name", "linear", *SOFTMAX, *STRIP, *FLAT_8, *models)
    assert run("adopt", str(own), *linear_like)[0] == 0
    torch_like = ("--name", "torch", *TORCH, *STRIP, *models)
    assert run("adopt", str(DATA / "torch_cnn.onnx"), *torch_like)[0] == 0
    with (
        np.load(DATA / "torch_cnn.npz") as torch,
        running(*models) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        expected: dict[str, tuple[Pictures, npt.NDArray[np.float64]]] = {
            "linear": (digits.pictures[:20], classifier.predict_proba(digits.features[:20])),
            "torch": (torch["images"], torch["probabilities"]),
        }
        for name, (pictures, probabilities) in expected.items():
            files = [("file", png(picture)) for picture in pictures]
            response = client.post(f"/models/{name}/predict", files=files).raise_for_status()
            rows = [list(row["probabilities"].values()) for row in response.json()["predictions"]]
            assert np.abs(np.array(rows) - probabilities).max() < TOLERANCE


def test_samples_are_run_through_before_publishing(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    with np.load(DATA / "torch_cnn.npz") as torch:
        for index, picture in enumerate(torch["images"][:3]):
            (samples / f"{index}.png").write_bytes(png(picture))
    options = (*TORCH, *STRIP, "--samples", str(samples))
    done = adopt(DATA / "torch_cnn.onnx", tmp_path / "models", *options)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()[:3]] == [
        "0.png:",
        "1.png:",
        "2.png:",
    ]
    assert "3 samples" in done.output
    (samples / "3.jpg").write_bytes(b"not a picture")
    done = adopt(DATA / "torch_cnn.onnx", tmp_path / "models", *options)
    assert_refused(done, "3.jpg")
    assert ModelRepository(tmp_path / "models").versions("adopted") == ["1"]


def graph(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    constants: dict[str, npt.NDArray[Any]],
    *,
    dtype: int = TensorProto.FLOAT,
    out: int = TensorProto.FLOAT,
    inputs: Sequence[str] = ("x",),
) -> onnx.ModelProto:
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph(
            nodes,
            "strange",
            [helper.make_tensor_value_info(name, dtype, shape) for name in inputs],
            [helper.make_tensor_value_info("y", out, [None, None])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    return model


def weights(features: int, classes: int, dtype: Any = np.float32) -> npt.NDArray[Any]:
    return np.random.default_rng(0).normal(0, 0.3, (features, classes)).astype(dtype)


def linear(
    shape: Sequence[int | str] = ("n", 4, 6, 3),
    *,
    classes: int = 3,
    dtype: int = TensorProto.FLOAT,
    end: str = "Identity",
    **options: Any,
) -> onnx.ModelProto:
    """Flatten, multiply, and an operator to end in."""
    features = int(np.prod([size for size in shape[1:] if isinstance(size, int)]))
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    is_float = dtype in {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["cast"], to=dtype if is_float else TensorProto.FLOAT),
        helper.make_node("MatMul", ["cast", "w"], ["z"]),
        helper.make_node(end, ["z"], ["y"]),
    ]
    matrix = weights(features, classes, kind if is_float else np.float32)
    out = dtype if is_float else TensorProto.FLOAT
    return graph(nodes, shape, {"w": matrix}, dtype=dtype, out=out, **options)


def save(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "strange.onnx")
    return folder / "strange.onnx"


LABELS = ("--labels", "a,b,c")
UNIT = ("--preset", "unit")


def softmax(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    exponentials = np.exp(z)
    normalized: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return normalized


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (TensorProto.FLOAT, 1e-6),
        (TensorProto.DOUBLE, 1e-6),
        (TensorProto.FLOAT16, 1e-2),
        (TensorProto.UINT8, 1e-6),
        (TensorProto.INT64, 1e-6),
    ],
)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_types_and_layouts(tmp_path: Path, dtype: int, tolerance: float, layout: str) -> None:
    shape = ("n", 4, 6, 3) if layout == "nhwc" else ("n", 3, 4, 6)
    model = linear(shape, dtype=dtype)
    is_float = dtype not in {TensorProto.UINT8, TensorProto.INT64}
    normalization = ("--scale", "200", "--mean", "0.1,0.2,0.3", "--std", "2") if is_float else ()
    done = adopt(save(model, tmp_path), tmp_path / "m", *SOFTMAX, *LABELS, *normalization)
    assert done.exit_code == 0, done.output
    pictures = np.random.default_rng(1).integers(0, 9, (5, 4, 6, 3), dtype=np.uint8)
    numbers = pictures.astype(np.float64)
    if is_float:
        numbers = (numbers / 200 - [0.1, 0.2, 0.3]) / 2
    if layout == "nchw":
        numbers = numbers.transpose(0, 3, 1, 2)
    expected = softmax(numbers.reshape(5, -1) @ weights(72, 3).astype(np.float64))
    assert np.abs(served(tmp_path / "m", pictures) - expected).max() < tolerance


def test_logarithms_of_probabilities_are_logits(tmp_path: Path) -> None:
    file = save(linear(end="LogSoftmax"), tmp_path)
    pictures = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    expected = softmax(pictures.reshape(5, -1) / 255 @ weights(72, 3).astype(np.float64))
    for name, options in (("kept", ()), ("cut", STRIP)):
        done = adopt(file, tmp_path / "m", *SOFTMAX, *LABELS, *UNIT, *options, name=name)
        assert done.exit_code == 0, done.output
        assert np.abs(served(tmp_path / "m", pictures, name) - expected).max() < 1e-6
    done = adopt(file, tmp_path / "m", "--head", "sigmoid", *LABELS, *UNIT)
    assert_refused(done, "LogSoftmax", "--head softmax")


def test_many_labels(tmp_path: Path) -> None:
    file = save(linear(end="Sigmoid"), tmp_path)
    options = ("--head", "sigmoid", *LABELS, *UNIT)
    assert_refused(adopt(file, tmp_path / "m", *options), "Sigmoid", "--strip-activation")
    more = (*STRIP, "--thresholds", "0.2,0.5,0.9")
    assert adopt(file, tmp_path / "m", *options, *more).exit_code == 0
    card = Predictor.load(tmp_path / "m/adopted/1/model.onnx").card
    assert card.thresholds == (0.2, 0.5, 0.9)
    pictures = np.full((1, 4, 6, 3), 80, np.uint8)
    z = pictures.reshape(1, -1) / 255 @ weights(72, 3).astype(np.float64)
    assert served(tmp_path / "m", pictures) == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-6)


def mixing_batch() -> onnx.ModelProto:
    """A batch of two, of which the second picture is answered with the first."""
    nodes = [
        helper.make_node("Reshape", ["x", "all"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node("Reshape", ["z", "rows"], ["y"]),
    ]
    constants = {"all": np.array([-1]), "w": weights(144, 6), "rows": np.array([2, 3])}
    return graph(nodes, (2, 4, 6, 3), constants)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (linear(), SOFTMAX + LABELS, ["floats", "--preset", "--scale"]),
        (linear(), SOFTMAX + UNIT, ["3 logits", "--labels"]),
        (linear(), (*SOFTMAX, *UNIT, "--labels", "a,b"), ["3 logits", "2 labels"]),
        (linear(), (*BINARY, *UNIT, "--labels", "a,b"), ["3 logits", "binary"]),
        (linear(), (*SOFTMAX, *LABELS, *UNIT, *STRIP), ["nothing to cut"]),
        (linear(), (*SOFTMAX, *LABELS, *UNIT, *LOG), ["--log-probabilities does not fit"]),
        (linear(), (*SOFTMAX, *LABELS, *UNIT, "--height", "5"), ["--height 5", "4, 6, 3"]),
        (linear(), (*SOFTMAX, *LABELS, *UNIT, "--output", "q"), ["--output", "y"]),
        (linear(), (*SOFTMAX, *LABELS, *UNIT, "--mean", "1,2"), ["--mean has 2", "3 channels"]),
        (linear(), (*SOFTMAX, *LABELS, *UNIT, "--fit", "digit"), ["channels", "digit"]),
        (linear(end="Softmax"), SOFTMAX + LABELS + UNIT, ["Softmax", "--strip-activation"]),
        (linear(("n", 72)), SOFTMAX + LABELS + UNIT, ["72 features", "--height", "--width"]),
        (
            linear(("n", 72)),
            (*SOFTMAX, *LABELS, *UNIT, "--height", "5", "--width", "5"),
            ["do not fit", "72 features"],
        ),
        (linear(("n", 3, 4, 3)), SOFTMAX + LABELS + UNIT, ["--layout nchw"]),
        (linear(("n", 4, 6, 3, 1)), SOFTMAX + LABELS + UNIT, ["5 dimensions"]),
        (linear(("n", 4, 6, 4)), (*SOFTMAX, *LABELS, *UNIT, "--layout", "nhwc"), ["4 channels"]),
        (linear(dtype=TensorProto.UINT8), SOFTMAX + LABELS + UNIT, ["whole numbers", "--preset"]),
        (linear(inputs=["x", "mask"]), SOFTMAX + LABELS + UNIT, ["2 inputs", "x, mask"]),
        (mixing_batch(), SOFTMAX + LABELS + UNIT, ["fixed batch of 2", "dynamic"]),
    ],
)
def test_refusals(
    tmp_path: Path, model: onnx.ModelProto, options: tuple[str, ...], words: list[str]
) -> None:
    assert_refused(adopt(save(model, tmp_path), tmp_path / "m", *options), *words)
    assert not list((tmp_path / "m").rglob("*.onnx"))


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\x08\x0anot an onnx file"):
        (tmp_path / "broken.onnx").write_bytes(content)
        done = adopt(tmp_path / "broken.onnx", tmp_path / "m", *SOFTMAX)
        assert_refused(done, "not a valid ONNX file")
    done = adopt(save(linear(), tmp_path), tmp_path, *SOFTMAX, *LABELS, *UNIT, name="Not A Name")
    assert_refused(done, "'Not A Name' is not a model name")


def test_labels_from_a_file_and_the_rest_of_the_card(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("red kite\nbuzzard\n\nhobby\n")
    options = ("--labels", str(tmp_path / "labels.txt"), "--description", "Birds of prey.")
    more = ("--license", "MIT", "--temperature", "1.5", "--fit", "pad")
    done = adopt(save(linear(), tmp_path), tmp_path / "m", *SOFTMAX, *UNIT, *options, *more)
    assert done.exit_code == 0, done.output
    card = Predictor.load(tmp_path / "m/adopted/1/model.onnx").card
    assert card.labels == ("red kite", "buzzard", "hobby")
    assert (card.description, card.license, card.temperature) == ("Birds of prey.", "MIT", 1.5)
    assert card.input.fit == "pad"


def test_nothing_of_the_exporting_machine_is_published(tmp_path: Path) -> None:
    model = linear()
    model.graph.node[0].doc_string = "File /home/somebody/secret.py"
    assert adopt(save(model, tmp_path), tmp_path / "m", *SOFTMAX, *LABELS, *UNIT).exit_code == 0
    assert b"somebody" not in (tmp_path / "m/adopted/1/model.onnx").read_bytes()
