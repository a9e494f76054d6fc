"""Class activation maps and occlusion, against networks that are taken apart independently."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import spearmanr

from logitserve.cli.main import main
from logitserve.inference import preprocessing
from logitserve.inference.card import Energy, Fit, Head, InputSpec, LabelScaling
from logitserve.inference.errors import ExplanationError, NonFiniteLogitsError
from logitserve.inference.explaining import Explainer, Explanation, Method
from logitserve.inference.model_file import in_memory, read
from logitserve.inference.occlusion import mean_drops, patches
from logitserve.inference.overlay import AGAINST, FOR, overlay
from logitserve.inference.predictor import Predictor
from logitserve_training.drawings import draw
from tests import tiny_models

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "models/digits/1/model.onnx"
SPEC = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT, as_sent=True)
SIDE = 20
PLENTY_MS = 10_000

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]


def explainer_of(path: Path) -> Explainer:
    with read(path) as reading:
        return Explainer(reading, Predictor.load(path).card)


def session_of(model: Path | bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def digit(label: int, seed: int = 1) -> Pixels:
    return preprocessing.decode(tiny_models.encode(draw(label, seed=seed), "PNG"), SPEC)


def cells_of(found: Explanation) -> Floats:
    return np.array(found.map, np.float64)


def tops(cells: Floats, of: npt.NDArray[np.bool_]) -> set[int]:
    """The fifth of the chosen cells that has the highest values."""
    chosen = np.flatnonzero(of)
    order = chosen[np.argsort(-cells.ravel()[chosen], kind="stable")]
    return set(order[: round(len(chosen) / 5)].tolist())


@pytest.fixture(scope="module")
def digits() -> Explainer:
    return explainer_of(DIGITS)


def convolutional(
    *, batch: int | str = "n", linear: bool = True, shaped: bool = False
) -> onnx.ModelProto:
    """NCHW: convolution, ReLU, mean, and one linear layer, or a ReLU more before it."""
    generator = np.random.default_rng(5)

    def constant(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(generator.normal(0, 0.5, shape).astype(np.float32), name)

    hidden = [] if linear else [helper.make_node("Gemm", ["flat", "H"], ["h"])]
    hidden += [] if linear else [helper.make_node("Relu", ["h"], ["active"])]
    flattened = [helper.make_node("Flatten", ["mean"], ["flat"])]
    if shaped:  # as PyTorch exports `x.flatten(1)`, with the shape of what comes before the mean
        flattened = [
            helper.make_node("Shape", ["features"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["count"]),
            helper.make_node("Concat", ["count", "rest"], ["target"], axis=0),
            helper.make_node("Reshape", ["mean", "target"], ["flat"]),
        ]
    nodes = [
        helper.make_node("Conv", ["x", "K"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["mean"]),
        *flattened,
        *hidden,
        helper.make_node(
            "Gemm", ["flat" if linear else "active", "W", "b"], ["out"], transB=1, alpha=2.0
        ),
    ]
    constants = [constant("K", 6, 3, 3, 3), constant("W", 3, 6), constant("b", 3)]
    constants += [] if linear else [constant("H", 6, 6)]
    if shaped:
        numbers = {"first": np.array([0]), "rest": np.array([-1])}
        constants += [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
        for name, shape in (("x", (3, SIDE, SIDE)), ("out", (3,)))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def adopted(folder: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, folder / "foreign.onnx")
    terms = ("--name", "foreign", "--head", "softmax", "--labels", "a,b,c", "--preset", "imagenet")
    command = ["adopt", str(folder / "foreign.onnx"), *terms, "--models", str(folder)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    return folder / "foreign/1/model.onnx"


@pytest.mark.parametrize("label", ["3", "7", None])
def test_a_class_activation_map_and_its_bias_are_the_logit(
    digits: Explainer, label: str | None
) -> None:
    image = digit(3)
    (logits,) = session_of(DIGITS).run(["logits"], {"image": image[np.newaxis]})
    found = digits.explain(image, method=Method.CAM, label=label)
    assert cells_of(found).shape == (7, 7)
    assert found.bias is not None
    assert np.mean(cells_of(found)) + found.bias == pytest.approx(
        logits[0][int(label or 3)], abs=1e-4
    )
    other = digits.explain(image, method=Method.CAM, label=label, against="8")
    assert other.bias is not None
    expected = logits[0][int(label or 3)] - logits[0][8]
    assert np.mean(cells_of(other)) + other.bias == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("batch", "shaped"), [("n", False), ("n", True), (1, True), (4, False)])
def test_the_map_of_an_adopted_graph_is_that_of_its_features_and_weights(
    tmp_path: Path, batch: int | str, *, shaped: bool
) -> None:
    model = convolutional(batch=batch, shaped=shaped)
    path = adopted(tmp_path, model)
    image = tiny_models.random_picture(1, InputSpec(height=20, width=20, channels=3, fit=Fit.PAD))
    found = explainer_of(path).explain(image, method=Method.CAM, label="b")
    assert found.bias is not None

    normalized = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, None))
    count = 1 if batch == "n" else int(batch)
    pixels = np.moveaxis(normalized, 2, 0)[np.newaxis].repeat(count, axis=0).astype(np.float32)
    (features,) = session_of(model.SerializeToString()).run(["features"], {"x": pixels})
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_allclose(
        cells_of(found), 2 * np.tensordot(weights["W"][1], features[0], 1), atol=1e-4
    )
    assert found.bias == pytest.approx(weights["b"][1], abs=1e-5)


def test_a_network_that_ends_otherwise_has_no_class_activation_map(tmp_path: Path) -> None:
    for path in (
        ROOT / "models/scenes/1/model.onnx",  # the maximum beside the mean
        ROOT / "models/digits-mlp/1/model.onnx",
        ROOT.joinpath("models/zero/1/model.onnx"),
        adopted(tmp_path, convolutional(linear=False)),
    ):
        explainer = explainer_of(path)
        image = np.full(Predictor.load(path).card.input.shape, 7, np.uint8)
        with pytest.raises(ExplanationError, match=r"no class activation maps.*'occlusion'"):
            explainer.explain(image, method=Method.CAM)
        assert explainer.explain(image, budget_ms=1).method is Method.OCCLUSION


def test_occlusion_is_what_a_naive_loop_finds(digits: Explainer) -> None:
    image = digit(5)
    session, temperature = session_of(DIGITS), Predictor.load(DIGITS).card.temperature

    def log_odds(shown: Pixels) -> float:
        (logits,) = session.run(["logits"], {"image": shown[np.newaxis]})
        z = logits[0].astype(np.float64) / temperature
        return float(z[5] - np.log(np.exp(np.delete(z, 5)).sum()))

    total, count = np.zeros((28, 28)), np.zeros((28, 28))
    for top in range(0, 23, 2):
        for left in range(0, 23, 2):
            covered = image.copy()
            covered[top : top + 6, left : left + 6] = 0
            total[top : top + 6, left : left + 6] += log_odds(image) - log_odds(covered)
            count[top : top + 6, left : left + 6] += 1
    found = digits.explain(image, method=Method.OCCLUSION, budget_ms=PLENTY_MS)
    assert (found.label, found.fill, found.passes, found.of) == ("5", "paper", 144, 144)
    np.testing.assert_allclose(np.kron(cells_of(found), np.ones((2, 2))), total / count, atol=1e-4)


def test_the_same_image_has_the_same_map_to_the_bit(digits: Explainer) -> None:
    for method in (Method.CAM, Method.OCCLUSION):
        first, second = (
            explainer.explain(digit(2), method=method, budget_ms=PLENTY_MS)
            for explainer in (digits, explainer_of(DIGITS))
        )
        assert first == second


def test_the_map_is_about_the_model_and_not_about_the_image(digits: Explainer) -> None:
    model = onnx.load(DIGITS)
    generator = np.random.default_rng(3)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim >= 2 and values.dtype == np.float32:
            shuffled = generator.permutation(values.ravel()).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(shuffled, tensor.name))
    card = Predictor.load(DIGITS).card
    with in_memory([model.SerializeToString()]) as reading:
        random = Explainer(reading, card)
    stable, same, other = [], [], []
    for label in range(10):
        image = digit(label)
        noise = generator.normal(0, 5, image.shape)
        noisy = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
        ink = image.reshape(14, 2, 14, 2).max(axis=(1, 3)) > 0
        asked: dict[str, Any] = {"method": Method.OCCLUSION, "budget_ms": PLENTY_MS}
        asked["label"] = str(label)
        ours, again, theirs = (
            cells_of(explainer.explain(shown, **asked))
            for explainer, shown in ((digits, image), (digits, noisy), (random, image))
        )
        stable.append(spearmanr(ours.ravel(), again.ravel()).statistic)
        top = tops(ours, ink)
        same.append(len(top & tops(again, ink)) / len(top))
        other.append(len(top & tops(theirs, ink)) / len(top))
    assert np.mean(stable) >= 0.9
    assert np.mean(same) >= 0.85
    assert np.mean(other) <= 0.5


def test_what_the_map_points_at_is_what_the_answer_needs(digits: Explainer) -> None:
    drops = [
        digits.explain(digit(index % 10, seed=index), method=Method.OCCLUSION, budget_ms=PLENTY_MS)
        for index in range(100)
    ]
    better = [each.drop.top > each.drop.random for each in drops if each.drop is not None]
    assert len(better) == 100
    assert sum(better) >= 95


class Clock:
    """Time that only passes of the network take."""

    def __init__(self, explainer: Explainer, seconds: float) -> None:
        self.now = 0.0
        self.batches: list[int] = []
        self.rests = 0
        inner = explainer.predictor.run

        def run(images: Pixels) -> npt.NDArray[np.float32]:
            self.now += seconds * len(images)
            self.batches.append(len(images))
            return inner(images)

        explainer.predictor.run = run  # type: ignore[method-assign]

    def __call__(self) -> float:
        return self.now

    def rest(self) -> None:
        self.rests += 1
        self.now += 0.0625


@pytest.mark.parametrize(("budget_ms", "passes"), [(1, 0), (500, 1), (2500, 17), (10_000, 77)])
def test_no_pass_begins_that_the_budget_does_not_last_for(budget_ms: int, passes: int) -> None:
    explainer = explainer_of(DIGITS)
    clock = Clock(explainer, 0.125)
    found = explainer.explain(digit(4), method=Method.OCCLUSION, budget_ms=budget_ms, clock=clock)
    assert found.passes == passes
    assert clock.now <= budget_ms / 1000 + 0.125
    assert (found.drop is None) == (passes == 0)
    assert not found.complete
    empty = sum(cell is None for row in found.map for cell in row)
    assert empty == {0: 196, 1: 187, 17: empty, 77: 0}[passes]


def test_runs_have_one_image_and_a_rest_after_each_that_counts_in_the_budget() -> None:
    explainer = explainer_of(DIGITS)
    clock = Clock(explainer, 0.0625)
    found = explainer.explain(
        digit(4), method=Method.OCCLUSION, budget_ms=2500, clock=clock, rest=clock.rest
    )
    assert found.passes == 17  # as if a pass took 0.125 seconds
    assert clock.batches == [1] * (1 + 17 + 2)  # the prediction, the map and its check
    assert clock.rests == 18  # not in the check


@pytest.mark.parametrize(("seconds", "method"), [(0.001, Method.OCCLUSION), (0.04, Method.CAM)])
def test_auto_covers_the_image_where_the_budget_lasts_for_that(
    seconds: float, method: Method
) -> None:
    explainer = explainer_of(DIGITS)
    found = explainer.explain(digit(4), clock=Clock(explainer, seconds))
    assert found.method is method
    assert found.passes == found.of
    assert found.drop is not None


@pytest.mark.parametrize(("height", "width"), [(28, 28), (224, 160), (100, 3), (2, 1)])
def test_the_first_patches_cover_all_cells(height: int, width: int) -> None:
    masks = patches(height, width)
    first = masks[:25]
    assert first.any(axis=0).all()
    assert len({mask.tobytes() for mask in masks}) == len(masks) <= 144
    assert not np.isnan(mean_drops(np.ones(len(first)), first)).any()


def test_heads_of_other_kinds(tmp_path: Path) -> None:
    shape = InputSpec(height=8, width=8, channels=1, fit=Fit.STRETCH)
    scaling = tuple(LabelScaling(scale=2.0, bias=1.0) for _ in "ab")
    told: dict[str, Any] = {
        "thresholds": (0.5, 0.5),
        "scaling": scaling,
        "spec": shape,
        "labels": ("a", "b"),
    }
    matrix = tiny_models.publish(tmp_path, name="sigmoid", head=Head.SIGMOID, **told)
    tiny_models.publish(tmp_path, name="binary", head=Head.BINARY, labels=("no", "yes"), spec=shape)
    energy = Energy(threshold=0, known_share=0.9, pictures=9)
    tiny_models.publish(tmp_path, name="softmax", spec=shape, energy=energy)
    image = tiny_models.random_picture(3, shape)
    found = {}
    for name, label in (("sigmoid", "a"), ("sigmoid", "b"), ("binary", "no"), ("binary", "yes")):
        explainer = explainer_of(tmp_path / name / "1/model.onnx")
        found[label] = explainer.explain(image, label=label, budget_ms=PLENTY_MS)
        best = explainer.explain(image, budget_ms=PLENTY_MS).label
        assert best == explainer._card.labels[explainer.predictor.predict(image[None]).argmax[0]]
    np.testing.assert_array_equal(cells_of(found["no"]), -cells_of(found["yes"]))
    pair = explainer_of(tmp_path / "sigmoid/1/model.onnx")
    between = pair.explain(image, label="a", against="b", budget_ms=PLENTY_MS)
    np.testing.assert_allclose(
        cells_of(between), cells_of(found["a"]) - cells_of(found["b"]), atol=1e-5
    )
    # Of a linear layer what a patch takes is known, whatever it is filled with.
    assert matrix.shape == (64, 2)
    assert explainer_of(tmp_path / "softmax/1/model.onnx").explain(image).fill == "blur"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"label": "33"}, "no label '33'; did you mean '3'"),
        ({"label": "3", "against": "nine"}, "no label 'nine'; there is 0, 1, 2"),
        ({"label": "3", "against": "3"}, "'3' cannot be explained against itself"),
    ],
)
def test_labels_that_cannot_be_explained(
    digits: Explainer, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExplanationError, match=message):
        digits.explain(digit(3), **asked)


def test_the_drawing_shows_what_is_for_and_against_by_color_and_by_sign() -> None:
    image = np.full((28, 28, 1), 128, np.uint8)
    drawn = overlay(image, [[1.0, 0.0], [None, -1.0]])
    assert drawn.shape == (280, 280, 3)
    for_it, against_it = drawn[20, 20], drawn[260, 260]
    assert for_it[2] > for_it[0] + 50
    assert against_it[0] > against_it[2] + 50
    assert drawn[70, 70].max() == drawn[210, 210].max() == 0  # the signs: + and -
    assert drawn[60, 70].max() == 0
    assert drawn[200, 210].max() > 0
    assert (np.array(FOR) != AGAINST).all()
    photo = overlay(np.zeros((480, 640, 3), np.uint8), [[0.0] * 14] * 14)
    assert photo.shape == (480, 640, 3)


def test_the_image_without_finite_logits_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer = explainer_of(DIGITS)
    nothing = np.full((1, 10), np.nan, np.float32)
    monkeypatch.setattr(explainer.predictor, "run", lambda _: nothing)
    with pytest.raises(NonFiniteLogitsError, match="not finite for this image;"):
        explainer.predict(digit(4))
