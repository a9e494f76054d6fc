from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit, logsumexp
from scipy.special import softmax as scipy_softmax

from logitserve.inference.card import Energy, Head, LabelScaling
from logitserve.inference.errors import (
    CardInvalidError,
    CardMismatchError,
    CardMissingError,
    GoldenMismatchError,
    ModelFileError,
    NonFiniteLogitsError,
)
from logitserve.inference.predictor import Predictions, Predictor
from tests.tiny_models import (
    SPEC,
    card_for,
    linear_graph,
    linear_logits,
    publish,
    random_picture,
    weights,
    with_card,
)

MODEL = Path("tiny/1/model.onnx")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    publish(tmp_path)
    return tmp_path / MODEL


@pytest.mark.parametrize(
    ("head", "labels"),
    [
        (Head.SOFTMAX, ("a", "b", "c")),
        (Head.SIGMOID, ("car", "bus", "person", "dog")),
        (Head.BINARY, ("no", "yes")),
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 17])
def test_predictions_agree_with_float64(
    tmp_path: Path, head: Head, labels: tuple[str, ...], batch: int
) -> None:
    thresholds = (0.5,) * len(labels) if head is Head.SIGMOID else None
    matrix = publish(tmp_path, head=head, labels=labels, temperature=1.7, thresholds=thresholds)
    predictor = Predictor.load(tmp_path / MODEL)
    pictures = np.stack([random_picture(seed) for seed in range(batch)])

    found = predictor.predict(pictures)

    logits = linear_logits(pictures, matrix)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-5)
    expected = {
        Head.SOFTMAX: scipy_softmax(logits / 1.7, axis=1),
        Head.SIGMOID: expit(logits / 1.7),
        Head.BINARY: np.concatenate([expit(-logits / 1.7), expit(logits / 1.7)], axis=1),
    }[head]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(found.argmax, expected.argmax(axis=1))
    assert len(found) == batch


def test_calibration_can_be_left_out(tmp_path: Path) -> None:
    matrix = publish(tmp_path, temperature=3.0)
    picture = random_picture(1)[None]
    found = Predictor.load(tmp_path / MODEL).predict(picture, calibrated=False)
    expected = scipy_softmax(linear_logits(picture, matrix), axis=1)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)


def test_a_scaling_moves_the_probability_and_the_answer(tmp_path: Path) -> None:
    matrix = publish(
        tmp_path,
        head=Head.BINARY,
        labels=("no", "yes"),
        scaling=(LabelScaling(scale=0.5, bias=3.0),),
    )
    pictures = np.stack([random_picture(seed) for seed in range(30)])
    predictor = Predictor.load(tmp_path / MODEL)
    logits = linear_logits(pictures, matrix)[:, 0]
    for calibrated, expected in ((True, expit(0.5 * logits + 3)), (False, expit(logits))):
        found = predictor.predict(pictures, calibrated=calibrated)
        np.testing.assert_allclose(found.probabilities[:, 1], expected, atol=1e-6)
        np.testing.assert_array_equal(found.argmax, expected > 0.5)
    assert ((logits < 0) & (0.5 * logits + 3 > 0)).any()


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_what_is_known_has_low_energy(tmp_path: Path, temperature: float) -> None:
    pictures = np.stack([random_picture(seed) for seed in range(31)])
    logits = linear_logits(pictures, weights(SPEC, 10, seed=0))
    energies = -temperature * logsumexp(logits / temperature, axis=1)
    threshold = float(np.median(energies)) + 1e-3
    energy = Energy(threshold=threshold, known_share=0.5, pictures=31)
    publish(tmp_path, temperature=temperature, energy=energy)
    predictor = Predictor.load(tmp_path / MODEL)
    for calibrated in (True, False):
        found = predictor.predict(pictures, calibrated=calibrated)
        assert found.known is not None
        np.testing.assert_array_equal(found.known, energies <= threshold)
    parts = [found[:4], found[4:]]
    again = Predictions.concatenated(parts).known
    assert again is not None
    np.testing.assert_array_equal(again, found.known)


def test_a_card_without_energy_knows_nothing_of_strangers(model_file: Path) -> None:
    found = Predictor.load(model_file).predict(random_picture(1)[None])
    assert found.known is None
    assert Predictions.concatenated([found, found]).known is None


def test_a_damaged_weight_is_found_at_load(model_file: Path) -> None:
    model = onnx.load(model_file)
    (initializer,) = (i for i in model.graph.initializer if i.name == "weights")
    damaged = numpy_helper.to_array(initializer).copy()
    damaged[300, 4] += 1
    initializer.CopyFrom(numpy_helper.from_array(damaged, "weights"))
    onnx.save(model, model_file)
    with pytest.raises(GoldenMismatchError, match="1 of 1 golden images differ"):
        Predictor.load(model_file)


def test_not_a_number_in_the_weights_is_found_at_load(model_file: Path) -> None:
    model = onnx.load(model_file)
    (initializer,) = (i for i in model.graph.initializer if i.name == "weights")
    damaged = np.full_like(numpy_helper.to_array(initializer), np.nan)
    initializer.CopyFrom(numpy_helper.from_array(damaged, "weights"))
    onnx.save(model, model_file)
    with pytest.raises(GoldenMismatchError):
        Predictor.load(model_file)


def test_a_file_without_a_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(linear_graph(SPEC, weights(SPEC, 10, seed=0)), path)
    with pytest.raises(CardMissingError, match="has no model card"):
        Predictor.load(path)


def test_a_card_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(with_card(linear_graph(SPEC, weights(SPEC, 10, seed=0)), "{}"), path)
    with pytest.raises(CardInvalidError):
        Predictor.load(path)


def test_bytes_that_are_no_model_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no protobuf")
    with pytest.raises(ModelFileError, match="onnxruntime cannot load the file") as caught:
        Predictor.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        Predictor.load(tmp_path / "model.onnx")


def saved(tmp_path: Path, graph: onnx.ModelProto) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(with_card(graph, card_for(weights(SPEC, 10, seed=0)).to_json()), path)
    return path


def test_a_graph_with_other_classes_than_the_card_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, linear_graph(SPEC, weights(SPEC, 9, seed=0)))
    with pytest.raises(CardMismatchError, match=r"'logits' is .*9.* but the card requires .*10"):
        Predictor.load(path)


def test_a_graph_with_another_input_size_is_refused(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"height": 14})
    path = saved(tmp_path, linear_graph(spec, weights(spec, 10, seed=0)))
    with pytest.raises(CardMismatchError, match="'image' is"):
        Predictor.load(path)


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, linear_graph(SPEC, weights(SPEC, 10, seed=0), batch=1))
    with pytest.raises(CardMismatchError, match="dynamic batch"):
        Predictor.load(path)


def test_other_tensor_names_are_refused(tmp_path: Path) -> None:
    graph = linear_graph(SPEC, weights(SPEC, 10, seed=0))
    graph.graph.input[0].name = "pixels"
    graph.graph.node[0].input[0] = "pixels"
    with pytest.raises(CardMismatchError, match="one input 'image'"):
        Predictor.load(saved(tmp_path, graph))


def test_non_finite_logits_are_an_error_that_names_the_picture(tmp_path: Path) -> None:
    # log(0) for the black picture only: the goldens pass.
    matrix = np.ones((784, 10), np.float32)
    graph = linear_graph(SPEC, matrix)
    graph.graph.node[-1].output[0] = "sums"
    graph.graph.node.append(helper.make_node("Log", ["sums"], ["logits"]))
    card = card_for(matrix)
    golden = card.goldens[0].model_copy(
        update={"logits": tuple(np.log(np.array(card.goldens[0].logits)))}
    )
    path = tmp_path / "model.onnx"
    onnx.save(with_card(graph, card.model_copy(update={"goldens": (golden,)}).to_json()), path)
    predictor = Predictor.load(path)
    pictures = np.stack([random_picture(1), np.zeros(SPEC.shape, np.uint8), random_picture(2)])
    with pytest.raises(NonFiniteLogitsError) as caught:
        predictor.predict(pictures)
    assert caught.value.rows == (1,)


def test_external_data_beside_the_model_is_not_read(tmp_path: Path) -> None:
    matrix = weights(SPEC, 10, seed=0)
    graph = with_card(linear_graph(SPEC, matrix), card_for(matrix).to_json())
    path = tmp_path / "model.onnx"
    onnx.save(graph, path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    with pytest.raises(ModelFileError):
        Predictor.load(path)


def test_the_frozen_graph_is_what_it_says(model_file: Path) -> None:
    model = onnx.load(model_file)
    onnx.checker.check_model(model)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
