"""The page of numerics: what it computes against other ways to the same, and the page itself."""

import json
import re
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from logitserve.cli.main import main
from logitserve_training.backend import keras
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import (
    data,
    decay,
    descent,
    endings,
    gradients,
    layers,
    limits,
    loop,
    losses,
    page,
    roundoff,
)
from logitserve_training.numerics.roundoff import Numbers
from logitserve_training.numerics.run import FOLDER, NUMBERS, PAGE, finite

DOCS = Path(__file__).parents[2] / "docs"
PLOTS = {
    "differences",
    "descent",
    "endings",
    "gradients",
    "layers",
    "losses",
    "temperature",
    "weight_decay",
}


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    return data.first(data.drawn(), 256)


@pytest.fixture(scope="module")
def softmax() -> losses.Sweep:
    return losses.sweep_softmax()


@pytest.fixture(scope="module")
def sigmoid() -> losses.Sweep:
    return losses.sweep_sigmoid()


@pytest.fixture(scope="module")
def committed() -> Numbers:
    numbers: Numbers = json.loads((DOCS / FOLDER / NUMBERS).read_text())
    return numbers


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick look, by the command."""
    folder = tmp_path_factory.mktemp("look")
    done = CliRunner().invoke(main, ["numerics", "--quick", "--output", str(folder)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"wrote {folder / PAGE}"
    return folder


@pytest.fixture(scope="module")
def quick(look: Path) -> Numbers:
    numbers: Numbers = json.loads((look / FOLDER / NUMBERS).read_text())
    return numbers


def test_two_ten_thousandths_are_those_of_the_lecture() -> None:
    numbers = roundoff.measure()
    assert f"{numbers['direct']:.18f}" == "0.000200000000000000"
    assert f"{numbers['roundabout']:.18f}" == "0.000199999999999978"
    error = abs(Decimal(numbers["roundabout"]) / Decimal("0.0002") - 1)
    assert numbers["errors"]["roundabout"] == pytest.approx(float(error), rel=1e-12)


@pytest.mark.parametrize("z", [-200.0, -87.5, -16.0, -0.5, 0.0, 3.25, 17.0, 90.0, 200.0])
def test_the_references_are_right_to_the_last_digits(
    softmax: losses.Sweep, sigmoid: losses.Sweep, z: float
) -> None:
    for sweep, others in ((softmax, 9), (sigmoid, 1)):
        index = int(np.flatnonzero(sweep.logits == z)[0])
        with localcontext(prec=120):
            odds = others * (-Decimal(z)).exp()
            loss, gradient = float((1 + odds).ln()), float(-odds / (1 + odds))
        assert sweep.loss[index] == pytest.approx(loss, rel=1e-13)
        assert sweep.gradient[index] == pytest.approx(gradient, rel=1e-13)


def test_only_the_fused_loss_is_right_for_every_wrong_answer(
    softmax: losses.Sweep, sigmoid: losses.Sweep
) -> None:
    # Nearest half: where exactly exp underflows depends on the processor.
    expected = {
        ("softmax", losses.TEXTBOOK): (-85, -85),
        ("softmax", losses.SHIFTED): (-85, -85),
        ("softmax", losses.CLIPPED): (-14, -14),
        ("softmax", losses.FUSED): (-200, -200),
        ("sigmoid", losses.TEXTBOOK): (-87.3, -43.6),
        ("sigmoid", losses.SHIFTED): (-87.3, -87.3),
        ("sigmoid", losses.CLIPPED): (-16.2, -16.1),
        ("sigmoid", losses.FUSED): (-200, -200),
    }
    for sweep in (softmax, sigmoid):
        for row in sweep.numbers:
            found = row["loss_right"][0], row["gradient_right"][0]
            assert found == pytest.approx(expected[sweep.head, row["way"]], abs=0.5), row


def test_infinity_and_nan_begin_where_they_do(softmax: losses.Sweep, sigmoid: losses.Sweep) -> None:
    by_way = {row["way"]: row for row in softmax.numbers}
    assert by_way[losses.TEXTBOOK]["loss_nan"] == [None, pytest.approx(np.log(2.0**128), abs=0.1)]
    assert by_way[losses.FUSED]["gradient_nan"] == [None, None]
    # 0 · log(1 - p), where p rounds to 1
    by_way = {row["way"]: row for row in sigmoid.numbers}
    assert by_way[losses.SHIFTED]["loss_nan"] == [None, pytest.approx(np.log(2.0**24), abs=0.1)]
    assert by_way[losses.CLIPPED]["loss_infinite"] == [None, None]


def test_a_clipped_loss_gives_the_worst_mistakes_no_gradient(softmax: losses.Sweep) -> None:
    is_far_off = softmax.logits < np.log(1e-7)
    np.testing.assert_allclose(softmax.gradients[losses.CLIPPED][is_far_off], 0, atol=1e-7)
    assert (softmax.gradients[losses.FUSED][is_far_off] == -1).all()


def test_the_gradient_is_the_probability_less_the_target() -> None:
    for check in (gradients.check_softmax(1), gradients.check_sigmoid(1)):
        assert check.autodiff64 < 1e-15
        assert check.autodiff32 < 5e-7
        assert check.differences.min() < 1e-9
        # h² right of the valley, 1/h left of it
        slope = np.polyfit(np.log(gradients.STEPS[-16:]), np.log(check.differences[-16:]), 1)[0]
        assert slope == pytest.approx(2, abs=0.1)


def test_central_differences_are_exact_for_a_parabola() -> None:
    z = np.array([[1.0, -2.0], [0.5, 4.0]])
    slopes = gradients.central_difference(lambda x: (x**2).sum(axis=1), z, 0.25)
    np.testing.assert_array_equal(slopes, 2 * z)


def test_temperature_ends_in_hardmax_and_in_equal_shares() -> None:
    cooled = limits.temperatures()
    assert cooled.to_hardmax[0] < 1e-40
    assert cooled.to_uniform[-1] < 1e-3
    assert (np.diff(cooled.to_hardmax) >= 0).all()
    assert (np.diff(cooled.to_uniform) <= 0).all()
    assert limits.hardmax(np.array([[1.0, 3.0, 3.0]])).tolist() == [[0.0, 0.5, 0.5]]
    row = next(row for row in cooled.numbers["rows"] if row["temperature"] == 0.5)
    powers = np.exp(2 * np.array(limits.LOGITS))
    np.testing.assert_allclose(row["probabilities"], powers / powers.sum(), rtol=1e-14)


def test_two_classes_are_one_sigmoid_whose_other_side_keeps_its_digits() -> None:
    numbers = limits.two_classes()
    assert numbers["difference"] <= 1e-15
    for row in numbers["rows"]:
        with localcontext(prec=50):
            exact = float(1 / (1 + Decimal(row["z"]).exp()))
        assert row["other_side"] == pytest.approx(exact, rel=1e-14)
    assert next(row["one_minus"] for row in numbers["rows"] if row["z"] == 40) == 0


@pytest.mark.parametrize("rate", descent.BOWL_RATES.values())
def test_the_path_in_the_bowl_is_a_geometric_series(rate: float) -> None:
    steps = np.arange(descent.BOWL_STEPS + 1)[:, None]
    expected = descent.START * (1 - rate * descent.CURVATURES) ** steps
    np.testing.assert_allclose(descent.gradient_descent(rate), expected, rtol=1e-12, atol=1e-15)


def test_adam_is_that_of_keras() -> None:
    weights = keras.Variable(descent.START, dtype="float32")
    optimizer = keras.optimizers.Adam(descent.BOWL_ADAM)
    for _ in range(descent.BOWL_STEPS):
        optimizer.apply([weights.value * descent.CURVATURES.astype(np.float32)], [weights])
    np.testing.assert_allclose(descent.adam(descent.BOWL_ADAM)[-1], weights.numpy(), atol=1e-3)


def test_an_l2_penalty_is_weight_decay_for_sgd_but_not_for_adam() -> None:
    left = {
        (optimizer, way): decay.lone_weights(optimizer, way, 0)[-1]
        for optimizer in decay.RATES
        for way in decay.WAYS
    }
    asked = (1 - 0.003 * 0.5) ** decay.LONE_STEPS
    np.testing.assert_allclose(left[decay.SGD, decay.PENALTY], asked, atol=0.05)
    np.testing.assert_allclose(
        left[decay.SGD, decay.DECOUPLED], left[decay.SGD, decay.PENALTY], atol=1e-5
    )
    np.testing.assert_allclose(left[decay.ADAM, decay.DECOUPLED], asked, atol=0.05)
    quiet, *_, loud = left[decay.ADAM, decay.PENALTY]
    assert abs(quiet) < 0.05
    assert loud > 0.7


def test_rivals_have_as_many_parameters(quick: Numbers) -> None:
    rows = quick["layers"]["rows"]
    for dense, other in zip(rows[::2], rows[1::2], strict=True):
        assert (dense["kind"], other["kind"]) == (layers.DENSE, layers.CONVOLUTIONAL)
        assert other["parameters"] == pytest.approx(dense["parameters"], rel=0.06)
        assert dense["accuracy"] == dense["shifted"][0]
    assert rows[2]["parameters"] == 784 * 25 + 25 + 25 * 15 + 15 + 15 * 10 + 10


def test_keras_finds_the_logits_behind_a_softmax_unless_a_layer_hides_them(
    quick: Numbers,
) -> None:
    by_ending = [
        {ending["name"]: ending for ending in setting["endings"]} for setting in quick["endings"]
    ]
    for setting, found in zip(quick["endings"], by_ending, strict=True):
        assert setting["keras_difference"] == 0
        assert found[endings.SOFTMAX]["accuracy"] == found[endings.LINEAR]["accuracy"]
    ordinary, large, ahead = by_ending
    expected = pytest.approx(ordinary[endings.LINEAR]["loss"], rel=1e-4)
    assert ordinary[endings.HIDDEN]["loss"] == expected
    assert [setting["silent"] for setting in quick["endings"]][::2] == [0.0, 1.0]
    # -log(1e-7) for nine classes of ten: nothing was learned
    assert ahead[endings.HIDDEN]["loss"] == pytest.approx(0.9 * 16.118, rel=0.05)
    assert ahead[endings.HIDDEN]["accuracy"] == ahead[endings.HIDDEN]["best"]
    assert ahead[endings.LINEAR]["loss"] > 20
    assert (large[endings.TEXTBOOK]["loss"], large[endings.TEXTBOOK]["accuracy"]) == ("NaN", 0)


def test_the_same_seed_gives_the_same_curve(drawn: Dataset) -> None:
    def curve(seed: int) -> loop.Curve:
        network = loop.fresh(drawn.train, seed=seed)
        adam = keras.optimizers.Adam(5e-3)
        return loop.train(network, drawn, optimizer=adam, epochs=4, seed=seed)

    one = curve(1)
    assert one == curve(1)
    assert one != curve(2)
    assert one.accuracies[-1] > one.accuracies[0]


def test_a_quick_look_is_a_whole_page(look: Path) -> None:
    assert "quick look" in check_page(look)


def test_the_page_of_the_repository_is_what_its_numbers_make(committed: Numbers) -> None:
    text = check_page(DOCS)
    assert "quick look" not in text
    assert committed["dataset"] == {"name": "MNIST", "train": 55_000, "validation": 5_000}
    assert sum(path.stat().st_size for path in (DOCS / FOLDER).iterdir()) < 600_000


def test_the_page_of_the_repository_has_the_numbers_of_this_code(
    committed: Numbers, softmax: losses.Sweep, sigmoid: losses.Sweep
) -> None:
    assert committed["roundoff"] == roundoff.measure()
    rows = finite(softmax.numbers + sigmoid.numbers)
    for now, then in zip(rows, committed["losses"], strict=True):
        assert {key: now[key] for key in ("head", "way")} == {
            key: then[key] for key in ("head", "way")
        }
        assert now["loss_right"] == pytest.approx(then["loss_right"], abs=1.5)
    assert keys(finite(limits.temperatures().numbers)) == keys(committed["limits"])
    rates = [row["rate"] for row in committed["descent"]["network"]]
    assert rates == [*descent.RATES.values(), descent.ADAM]


def test_the_page_of_the_repository_says_what_its_numbers_say(committed: Numbers) -> None:
    """The sentences that are not numbers."""
    ordinary, large, ahead = (
        {end["name"]: end for end in setting["endings"]} for setting in committed["endings"]
    )
    assert np.ptp([end["accuracy"] for end in ordinary.values()]) < 0.01
    assert large[endings.TEXTBOOK]["loss"] == "NaN"
    assert ahead[endings.HIDDEN]["accuracy"] < 0.2
    assert ahead[endings.LINEAR]["accuracy"] > 0.8
    for setting in committed["endings"]:
        assert setting["keras_difference"] == 0

    small, right, too_large, adam = committed["descent"]["network"]
    assert right["accuracy"] > adam["accuracy"] - 0.02
    assert small["accuracy"] < 0.8
    assert too_large["loss"] == pytest.approx(np.log(10), abs=0.05)
    assert committed["decay"]["sgd_difference"] < 1e-4
    assert committed["decay"]["adam_difference"] > 0.1

    by_size = zip(*[iter(committed["layers"]["rows"])] * 2, strict=True)
    for dense, convolutional in by_size:
        assert convolutional["accuracy"] > dense["accuracy"] + 0.02
        assert convolutional["permuted"] < convolutional["accuracy"] - 0.01
        assert abs(dense["permuted"] - dense["accuracy"]) < 0.03
        assert all(np.greater(convolutional["shifted"], dense["shifted"]))


def test_words_stand_for_what_json_has_no_number_for() -> None:
    numbers = finite({"rows": [1.5, float("nan")], "loss": float("inf"), "name": "x"})
    assert numbers == {"rows": [1.5, "NaN"], "loss": "∞", "name": "x"}
    assert [page.shown(value, ".1f") for value in (-1.25, "NaN", None)] == ["−1.2", "NaN", "–"]
    assert page.shown(1e-7, ".0e") == "1e-07"


def check_page(folder: Path) -> str:
    """Its text, which is what the template makes of its numbers and shows every plot."""
    text = (folder / PAGE).read_text()
    assert text == page.render(json.loads((folder / FOLDER / NUMBERS).read_text()))
    assert not re.search(r"[{}]|\bnan\b|\binf\b|None|\d\.\d{19}|float\d*\(", text)
    shown = set(re.findall(rf"!\[[^]]+\]\({FOLDER}/(\w+)\.png\)", text))
    assert shown == PLOTS == {path.stem for path in (folder / FOLDER).glob("*.png")}
    for name in shown:
        with Image.open(folder / FOLDER / f"{name}.png") as picture:
            assert picture.width >= 700
            picture.verify()
    return text


def keys(value: object) -> object:
    """The shape of nested numbers."""
    if isinstance(value, dict):
        return {key: keys(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [keys(entry) for entry in value]
    return None
