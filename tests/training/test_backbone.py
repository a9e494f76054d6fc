"""A folder on top of a trained network: tiny convolutions stand for it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from logitserve.adoption import backbone as cutting
from logitserve.adoption import keras
from logitserve.cli.main import main
from logitserve.errors import AdoptionError
from logitserve.inference import heads, preprocessing
from logitserve.inference.card import Fit, Head, InputSpec
from logitserve.inference.predictor import Predictor
from logitserve_training import backbone, backend, linear_head
from logitserve_training.backbone import Backbone
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Augmentation
from tests.training.datasets.test_folder import class_folder, label_folder

SIDE = 24
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])


def write_backbone(path: Path, *, batch: int | str = "batch", headless: bool = False) -> Path:
    """Convolution, rectifier, mean, linear layer, softmax, as torch exports them."""
    generator = np.random.default_rng(3)
    constants = {
        "conv.weight": generator.normal(0, 0.3, (12, 3, 4, 4)),
        "fc.weight": generator.normal(0, 1, (5, 12)),
        "fc.bias": generator.normal(0, 1, 5),
    }
    nodes = [
        helper.make_node("Conv", ["input", "conv.weight"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["scores"], transB=1),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    output = "relu" if headless else "probabilities"
    shape = [batch, 12, 6, 6] if headless else [batch, 5]
    graph = helper.make_graph(
        nodes[:2] if headless else nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"license": "MIT"})
    onnx.save(model, path)
    return path


def pooled(path: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The features of the original file, each picture alone, its pixels prepared by numpy."""
    model = onnx.load(path)
    model.graph.output.append(onnx.ValueInfoProto(name="pool"))
    for axis in (2, 3):
        size = model.graph.input[0].type.tensor_type.shape.dim[axis]
        size.dim_value = images.shape[axis - 1]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    numbers = ((images / 255 - MEAN) / DEVIATION).astype(np.float32).transpose(0, 3, 1, 2)
    return np.concatenate([session.run(["pool"], {"input": one[None]})[0] for one in numbers])[
        :, :, 0, 0
    ]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny.onnx")


def images(count: int = 7, side: int = SIDE) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def of(path: Path) -> Backbone:
    found = cutting.read(str(path), tensor=None, preset=None, size=None)
    return Backbone(found.graph, {"file": path.name}, "MIT")


def head_of(path: Path) -> list[npt.NDArray[np.float32]]:
    """Kernel and bias of a published file."""
    found = {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    return [found["head/kernel"], found["head/bias"]]


def test_the_features_before_the_last_linear_layer_are_found(file: Path, tmp_path: Path) -> None:
    found = cutting.read(str(file), tensor=None, preset=None, size=None)
    assert (found.tensor, found.preset, found.license) == ("flat", "imagenet", "MIT")
    np.testing.assert_allclose(of(file).run(images()), pooled(file, images()), atol=1e-5)
    fixed = write_backbone(tmp_path / "fixed.onnx", batch=1)
    np.testing.assert_allclose(of(fixed).run(images()), pooled(file, images()), atol=1e-5)
    headless = write_backbone(tmp_path / "headless.onnx", headless=True)
    np.testing.assert_allclose(of(headless).run(images()), pooled(file, images()), atol=1e-5)


def test_features_and_sizes_may_be_said(file: Path) -> None:
    found = cutting.read(str(file), tensor="relu", preset="0-1", size=(32, 48))
    made = Backbone(found.graph, {"file": "tiny"}, "MIT")
    assert (made.shape, made.width) == ((32, 48, 3), 12)
    with pytest.raises(AdoptionError, match=r"--features rulo: not in the graph; similar: relu"):
        cutting.read(str(file), tensor="rulo", preset=None, size=None)


def test_features_are_kept_by_content(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, reporter = of(file), Reporter(Console(quiet=True))
    first = backbone.features(made, images(), tmp_path, reporter)
    (folder,) = tmp_path.iterdir()
    kept = sorted(folder.iterdir())
    assert len(kept) == 7
    kept[0].write_bytes(b"damaged")
    asked = []
    run = made.run

    def counted(some: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        asked.append(len(some))
        return run(some)

    monkeypatch.setitem(made.__dict__, "run", counted)
    np.testing.assert_allclose(backbone.features(made, images(), tmp_path, reporter), first)
    assert asked == [1]
    cut = backbone.features(made, images(), tmp_path, reporter, form=(True, 0.2))
    assert np.abs(cut - first).max() > 1e-3
    assert sum(asked) == 8


def test_forms_are_fewer_where_pictures_are_many() -> None:
    varied = Augmentation(rotation=0, scale=0.2, shear=0, shift=0, elastic=0, flip=True, color=0)
    assert backbone.forms(varied, 100) == [(False, 0.0), (False, 0.2), (True, 0.0), (True, 0.2)]
    assert backbone.forms(varied, 9_000) == [(False, 0.0)]
    assert backbone.forms(None, 100) == [(False, 0.0)]


@pytest.mark.parametrize("head", [Head.SOFTMAX, Head.SIGMOID])
def test_the_head_is_the_regression_of_scikit_learn(head: Head) -> None:
    """With the same penalty; Adam comes within 0.01 of a probability of the optimum."""
    generator = np.random.default_rng(1)
    features = (generator.normal(0, 1, (90, 6)) * [1, 2, 3, 1, 1, 9] + 4).astype(np.float32)
    scores = features @ generator.normal(0, 0.4, (6, 3)) + generator.normal(0, 1, (90, 3))
    scores -= scores.mean(axis=0)
    classes = scores.argmax(axis=1)
    if head is Head.SIGMOID:
        classes = (scores > np.median(scores, axis=0)).astype(np.int64)
    decay = 0.03
    (found,) = linear_head.fit(head, features[None], classes, np.array([decay]), 3)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    reference = LogisticRegression(C=1 / (decay * 90), max_iter=1000)
    logits = found.logits(features).astype(np.float64)
    if head is Head.SOFTMAX:
        expected = reference.fit(scaled, classes).predict_proba(scaled)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        said = odds / odds.sum(axis=1, keepdims=True)
    else:
        expected = np.stack(
            [reference.fit(scaled, column).predict_proba(scaled)[:, 1] for column in classes.T], 1
        )
        said = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(said, expected, atol=0.01)


def test_a_decay_is_chosen_with_groups_held_out() -> None:
    generator = np.random.default_rng(2)
    features = generator.normal(0, 1, (1, 60, 40)).astype(np.float32)
    classes = (features[0, :, 0] > 0).astype(np.int64)
    groups = np.arange(60) // 20
    chosen = linear_head.choose(
        Head.SOFTMAX, features, classes, groups, logits=2, reporter=Reporter(Console(quiet=True))
    )
    assert chosen.folds == 3
    assert chosen.decay in linear_head.DECAYS
    assert np.mean(chosen.logits.argmax(axis=1) == classes) > 0.6


@pytest.fixture
def _cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_cached")
@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_backbone_and_head_are_published_as_one_file(file: Path, tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    _ = class_folder(data) if kind == "classes" else label_folder(data)
    arguments = f"--data {data} --name mine --models {tmp_path / 'models'} --backbone {file}"
    done = CliRunner().invoke(main, ["train", "folder", *arguments.split()])
    assert done.exit_code == 0, done.output
    assert "curl -F file=@" in done.output
    assert "weakest: " in done.output
    path = tmp_path / "models" / "mine" / "1" / "model.onnx"
    predictor = Predictor.load(path)
    card = predictor.card
    assert card.license == "MIT"
    assert card.training is not None
    assert card.training.settings["backbone"]["file"] == "tiny.onnx"  # type: ignore[index, call-overload]
    kernel, bias = head_of(path)
    height, width, _ = card.input.shape
    shown = images(side=max(height, width))[:, :height, :width]
    apart = pooled(file, shown) @ kernel + bias
    np.testing.assert_allclose(predictor.run(shown), apart, rtol=1e-5, atol=1e-5)
    name = "accuracy" if kind == "classes" else "mean_average_precision"
    assert card.metrics[name] > 0.7
    again = CliRunner().invoke(
        main, ["calibrate", "mine", "--data", str(data), "--models", str(tmp_path / "models")]
    )
    assert again.exit_code == 0, again.output
    calibrated = Predictor.load(tmp_path / "models" / "mine" / "2" / "model.onnx").card
    assert calibrated == card.model_copy(update={"version": "2"})
    evaluated = CliRunner().invoke(
        main, ["evaluate", "mine", "--data", str(data), "--models", str(tmp_path / "models")]
    )
    assert f"{name}: {card.metrics[name]:.4f}" in evaluated.output


@pytest.mark.usefixtures("_cached")
def test_mistakes_about_backbones_are_one_line(file: Path, tmp_path: Path) -> None:
    data = class_folder(tmp_path / "data", count=6)
    for arguments, reason in (
        (f"--backbone {file} --epochs 3", "--epochs applies to a network from scratch"),
        ("--license MIT", "--license belongs to a backbone: give --backbone"),
        (f"--backbone {file} --preset none", "--preset none does not exist; known: imagenet"),
        (f"--backbone {tmp_path / 'none.onnx'}", "none.onnx cannot be read"),
        (f"--backbone {file} --name Mine", "'Mine' is not a model name"),
    ):
        done = CliRunner().invoke(
            main,
            ["train", "folder", "--data", str(data), "--models", str(tmp_path / "m"),
             *arguments.split()],
        )  # fmt: skip
        assert done.exit_code in (1, 2)
        assert reason in done.output.splitlines()[-1]
    assert not list((tmp_path / "m").rglob("*.onnx"))


def test_a_dry_run_says_what_would_be_read(file: Path, tmp_path: Path) -> None:
    data = class_folder(tmp_path / "data", count=6)
    arguments = f"--data {data} --models {tmp_path / 'm'} --backbone {file} --dry-run"
    done = CliRunner().invoke(main, ["train", "folder", *arguments.split()])
    assert done.exit_code == 0, done.output
    assert "12 pictures, 2 classes (circle, square): one folder per class" in done.output
    assert "fit stretch to 32×32×3" in done.output  # larger than 24×24, of the pictures' aspect
    assert not (tmp_path / "m").exists()


@pytest.mark.usefixtures("_cached")
def test_a_network_of_keras_is_learned_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last linear layer is a convolution, in a graph whose pictures have the channels last."""
    applications = backend.keras.applications
    whole = applications.MobileNet(weights=None)
    alone = applications.MobileNet(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    spec = InputSpec(height=32, width=32, channels=3, fit=Fit.STRETCH)
    files = sorted(class_folder(tmp_path / "data").rglob("*.*"))
    shown = np.stack([preprocessing.decode(file.read_bytes(), spec) for file in files])
    numbers = applications.mobilenet.preprocess_input(shown.astype(np.float32))
    generator = np.random.default_rng(0)
    for weights in alone.weights:  # else features vanish, and rounding is what is left
        if weights.ndim == 4:
            inputs = np.prod(weights.shape[: 2 if weights.shape[3] == 1 else 3])
            weights.assign(generator.normal(0, (2 / inputs) ** 0.5, weights.shape))
    whole.set_weights([*alone.get_weights(), *whole.get_weights()[-2:]])
    (tmp_path / "models").mkdir()
    whole.save(tmp_path / "models" / "mobilenet_1_0_224_tf.h5")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    arguments = f"--data {tmp_path / 'data'} --name mine --models {tmp_path / 'm'}"
    of_backbone = "--backbone keras:MobileNet --image-size 32"
    done = CliRunner().invoke(main, ["train", "folder", *f"{arguments} {of_backbone}".split()])
    assert done.exit_code == 0, done.output
    assert "keras:MobileNet: 1024 features of" in done.output
    path = tmp_path / "m" / "mine" / "1" / "model.onnx"
    kernel, bias = head_of(path)
    expected = alone.predict(numbers, verbose=0) @ kernel + bias
    assert np.ptp(expected) > 0.1
    found = Predictor.load(path).predict(shown, calibrated=False).probabilities
    np.testing.assert_allclose(found, heads.softmax(expected.astype(np.float64)), atol=1e-5)


def test_weights_that_are_not_there_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(
        AdoptionError,
        match=r"weights are not in Keras's cache.*curl .*-o '/.*/models/mobilenet_v2.*' https:",
    ):
        keras.convert("keras:MobileNetV2")
    with pytest.raises(AdoptionError, match="has no MobileNetV4; near it: MobileNetV"):
        keras.convert("keras:MobileNetV4")


@pytest.mark.usefixtures("_cached")
@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_figures_of_folds_are_of_heads_that_did_not_see_the_pictures(
    file: Path, tmp_path: Path, kind: str
) -> None:
    data = tmp_path / "data"
    _ = class_folder(data) if kind == "classes" else label_folder(data)
    pictures = 48 if kind == "classes" else 60
    models = f"--data {data} --models {tmp_path / 'm'}"
    train = f"train folder {models} --name mine --backbone {file}"
    done = CliRunner().invoke(main, [*train.split(), "--folds", "4"])
    assert done.exit_code == 0, done.output
    assert f"4 folds of {pictures // 4} to {pictures // 4} pictures" in done.output
    assert "(4-fold cross-validation)" in done.output
    path = tmp_path / "m" / "mine" / "1" / "model.onnx"
    card = Predictor.load(path).card
    assert card.dataset is not None
    assert (card.dataset.folds, card.dataset.train, card.dataset.test) == (4, pictures, pictures)
    assert card.calibration is not None
    assert card.calibration.pictures == pictures
    page = (path.parent / "report" / "index.html").read_text()
    assert f"Measured by 4-fold cross-validation on all {pictures} pictures" in page
    assert "all for training; 4-fold cross-validated metrics" in page
    name = "accuracy" if kind == "classes" else "mean_average_precision"
    low, high = card.intervals[name]
    assert 0.6 < low <= card.metrics[name] <= high
    again = CliRunner().invoke(main, ["evaluate", "mine", *models.split()])
    assert "was fitted to all of" in again.output
    assert CliRunner().invoke(main, ["calibrate", "mine", *models.split()]).exit_code == 0
    calibrated = Predictor.load(tmp_path / "m" / "mine" / "2" / "model.onnx").card
    assert calibrated == card.model_copy(update={"version": "2"})
    second = CliRunner().invoke(main, [*train.split(), "--folds", "4"])
    assert "version 2 was trained on these pictures: not compared" in second.output


@pytest.mark.usefixtures("_cached")
def test_noise_is_not_learned_by_folds(file: Path, tmp_path: Path) -> None:
    """Heads that had seen the pictures would have them all right."""
    generator = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "noise" / name).mkdir(parents=True)
        for index in range(20):
            noise = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "noise" / name / f"{index}.png")
    arguments = f"--data {tmp_path / 'noise'} --models {tmp_path / 'm'} --backbone {file} --folds 5"
    done = CliRunner().invoke(main, ["train", "folder", "--name", "noise", *arguments.split()])
    assert done.exit_code == 0, done.output
    card = Predictor.load(tmp_path / "m" / "noise" / "1" / "model.onnx").card
    assert 0.2 < card.metrics["accuracy"] < 0.8
    assert "It is not significantly better than predicting the majority class" in card.description


def test_where_folds_do_not_apply_is_said(file: Path, tmp_path: Path) -> None:
    data, given = class_folder(tmp_path / "data"), tmp_path / "given"
    class_folder(given / "train")
    class_folder(given / "test", count=3)
    of_backbone = f"--backbone {file}"
    for arguments, reason in (
        (f"--data {data} --folds 5", "--folds needs --backbone"),
        (f"--data {data} {of_backbone} --folds 1", "--folds must be 2 to 20"),
        (f"--data {given} {of_backbone} --folds 5", "the folder defines parts"),
        (f"--data {data} {of_backbone} --folds 5 --group-by m[0-9]",
         "--folds 5: there are only 4 groups (m0, m1, m2, m3); reduce it"),
        (f"--data {data} {of_backbone} --folds 2 --group-by m[0-9] --test-groups m0",
         "omit --test-groups"),
        (f"--data {data} {of_backbone} --folds 2 --if-better", "--if-better"),
        (f"--data {data} {of_backbone} --folds 2 --test-split 0.2", "--test-split"),
    ):  # fmt: skip
        done = CliRunner().invoke(
            main, ["train", "folder", "--models", str(tmp_path / "m"), *arguments.split()]
        )
        assert done.exit_code in (1, 2), done.output
        assert reason in done.output.splitlines()[-1]
    assert not list((tmp_path / "m").rglob("*.onnx"))


@pytest.mark.usefixtures("_cached")
def test_a_head_that_would_be_another_is_not_calibrated(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = f"--data {class_folder(tmp_path / 'data')} --models {tmp_path / 'm'}".split()
    train = ["train", "folder", *models, "--name", "mine", "--backbone", str(file)]
    assert CliRunner().invoke(main, train).exit_code == 0
    monkeypatch.setattr(linear_head, "DECAYS", (0.5,))
    done = CliRunner().invoke(main, ["calibrate", "mine", *models])
    assert "this version fits another head to these pictures: train again" in done.output
    assert not (tmp_path / "m" / "mine" / "2").exists()
