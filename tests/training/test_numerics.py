"""The page of numerics: what it computes against other ways to the same, and the page itself."""

import json
import re
from dataclasses import astuple
from decimal import Decimal, localcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from logitserve.cli.main import main
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import (
    activations,
    crossentropy,
    decay,
    descent,
    gradients,
    layers,
    loop,
    losses,
    multilabel,
    output_layers,
    prior,
)
from logitserve_training.numerics.loop import Effort
from logitserve_training.numerics.run import FOLDER, NUMBERS, PAGE, TEMPLATE, TRAINED
from logitserve_training.numerics.section import Numbers, Section, finite, render, shown

DOCS = Path(__file__).parents[2] / "docs"
PLOTS = {
    "adam", "descent", "differences", "endings", "layers", "likelihood", "losses",
    "prior", "squared", "stability", "temperature", "weight_decay",
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    return loop.first(loop.drawn(), 256)


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


def cells(lesson: Section, table: str) -> dict[str, list[Any]]:
    """The rows of a table by their first cell."""
    return {row[0]: list(row[1:]) for row in lesson.numbers[table]}


def rows(numbers: Numbers, lesson: str, table: str) -> dict[str, list[Any]]:
    """The same of what was written."""
    return {row[0]: row[1:] for row in numbers[lesson][table]}


def test_two_ten_thousandths_are_those_of_the_lecture() -> None:
    (_, direct, _), (_, roundabout, off), *_ = activations.roundoff().numbers["roundoff"]
    assert f"{direct:.18f}" == "0.000200000000000000"
    assert f"{roundabout:.18f}" == "0.000199999999999978"
    assert off == pytest.approx(float(abs(Decimal(roundabout) / Decimal("0.0002") - 1)), rel=1e-12)


def test_the_example_of_the_lecture_has_its_probabilities() -> None:
    example = cells(activations.measure(), "example")
    assert [f"{row[2]:.3f}" for row in example.values()] == [
        "0.842", "0.042", "0.002", "0.114", "1.000",
    ]  # fmt: skip
    assert [row[3] for row in example.values()] == [1, 0, 0, 0, 1]


def test_the_loss_of_the_lecture_is_that_of_the_true_neuron() -> None:
    lesson = crossentropy.measure()
    assert cells(lesson, "true_neuron")["sum: the loss"][-1] == pytest.approx(-np.log(0.2))
    product, cost = list(cells(lesson, "likelihood").values())[-2:]
    assert product[0] == pytest.approx(np.exp(-3 * cost[1]))  # J is the mean of three
    for nats, bits, crossed, divergence in cells(lesson, "entropies").values():
        assert bits * np.log(2) == pytest.approx(nats)
        assert crossed == pytest.approx(nats + divergence)
    assert cells(lesson, "entropies")["one-hot (0, 1, 0, 0)"][2] == pytest.approx(-np.log(0.2))


def test_the_gradients_of_both_losses_are_those_of_tensorflow() -> None:
    logits = np.pad(crossentropy.LOGITS[:, None], ((0, 0), (0, 9)))
    classes = tf.zeros(len(logits), tf.int32)
    of: dict[str, loop.Loss] = {
        "cross-entropy": loop.fused,
        "squared error": lambda c, z: output_layers.of_one_hot(c, tf.nn.softmax(z)),
    }
    for name, (loss, gradient) in crossentropy.by_logit().items():
        z = tf.constant(logits, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(z)
            found = of[name](classes, z)
        np.testing.assert_allclose(found.numpy(), loss, atol=3e-6)
        np.testing.assert_allclose(tape.gradient(found, z).numpy()[:, 0], gradient, atol=1e-6)


@pytest.mark.parametrize("z", [-200.0, -87.5, -16.0, -0.5, 0.0, 3.25, 17.0, 90.0, 200.0])
def test_the_references_are_right_to_the_last_digits(z: float) -> None:
    for head, others in losses.OTHERS.items():
        exact = losses.exact(head)
        index = int(np.flatnonzero(z == losses.LOGITS)[0])
        with localcontext(prec=120):
            odds = others * (-Decimal(z)).exp()
            loss, gradient = float((1 + odds).ln()), float(-odds / (1 + odds))
        assert exact[0][index] == pytest.approx(loss, rel=1e-13)
        assert exact[1][index] == pytest.approx(gradient, rel=1e-13)


def test_only_the_fused_loss_is_right_for_every_wrong_answer() -> None:
    # Nearest half: where exactly exp underflows depends on the processor.
    expected = {
        ("softmax", losses.TEXTBOOK): (-85, -85),
        ("softmax", losses.SHIFTED): (-85, -85),
        ("softmax", losses.CLIPPED): (-14, -14),
        ("softmax", losses.FUSED): (None, None),
        ("sigmoid", losses.TEXTBOOK): (-87.4, -43.7),
        ("sigmoid", losses.SHIFTED): (-87.4, -87.4),
        ("sigmoid", losses.CLIPPED): (-16.2, -16.1),
        ("sigmoid", losses.FUSED): (None, None),
    }
    found = cells(losses.measure(), "losses")
    for (head, way), ends in expected.items():
        loss, _, gradient, *_ = found[f"{head}: {way}"]
        assert (loss, gradient) == pytest.approx(ends, abs=0.5), way


def test_infinity_and_nan_begin_where_they_do() -> None:
    found = cells(losses.measure(), "losses")
    infinite, nan, *gradient_nan = 4, 5, 6, 7
    textbook = found[f"softmax: {losses.TEXTBOOK}"]
    assert textbook[nan] == pytest.approx(np.log(2.0**128), abs=0.1)
    assert [found[f"softmax: {losses.FUSED}"][place] for place in gradient_nan] == [None, None]
    # 0 · log(1 - p), where p rounds to 1
    shifted = found[f"sigmoid: {losses.SHIFTED}"]
    assert shifted[nan] == pytest.approx(np.log(2.0**24), abs=0.1)
    assert found[f"sigmoid: {losses.CLIPPED}"][infinite] is None


def test_a_clipped_loss_gives_the_worst_mistakes_no_gradient() -> None:
    found, is_far_off = losses.sweep("softmax"), np.log(1e-7) > losses.LOGITS
    np.testing.assert_allclose(found[losses.CLIPPED][1][is_far_off], 0, atol=1e-7)
    assert (found[losses.FUSED][1][is_far_off] == -1).all()


def test_the_gradient_is_the_probability_less_the_target_and_goes_back_layer_by_layer() -> None:
    lesson = gradients.measure()
    for double, single, moved, _ in cells(lesson, "gradients").values():
        assert double < 1e-15
        assert single < 5e-7
        assert moved < 1e-9
    for line in lesson.figures["differences"].axes[0].lines:
        x, y = (np.log(np.asarray(column, dtype=np.float64)[-16:]) for column in line.get_data())
        assert np.polyfit(x, y, 1)[0] == pytest.approx(2, abs=0.1)  # h² right of the valley
    for _, largest, off in cells(lesson, "layers_chain").values():
        assert off < 1e-15 < largest
    chain = cells(lesson, "chain")
    assert chain["dW of unit 2"][1:5] == pytest.approx([0.6, -1.6, 0.2, 0.8])
    assert [row[-1] for row in chain.values()][1:] == pytest.approx([1.0, -1.1, 0.0])


def test_central_differences_are_exact_for_a_parabola() -> None:
    z = np.array([[1.0, -2.0], [0.5, 4.0]])
    slopes = gradients.central_difference(lambda x: (x**2).sum(axis=1), z, 0.25)
    np.testing.assert_array_equal(slopes, 2 * z)


def test_temperature_ends_in_hardmax_and_in_equal_shares() -> None:
    cooled = activations.cooled()
    to_hardmax = np.abs(cooled - activations.hardmax(activations.EXAMPLE)).max(axis=1)
    to_uniform = np.abs(cooled - 0.25).max(axis=1)
    assert to_hardmax[0] < 1e-40
    assert to_uniform[-1] < 2e-3
    assert (np.diff(to_hardmax) >= 0).all()
    assert (np.diff(to_uniform) <= 0).all()
    assert activations.hardmax(np.array([[1.0, 3.0, 3.0]])).tolist() == [[0.0, 0.5, 0.5]]


def test_two_classes_are_one_sigmoid_whose_other_side_keeps_its_digits() -> None:
    lesson = activations.measure()
    assert lesson.numbers["difference"] <= 1e-15
    for z, (one_minus, other_side) in cells(lesson, "two").items():
        with localcontext(prec=50):
            exact = float(1 / (1 + Decimal(z).exp()))
        assert other_side == pytest.approx(exact, rel=1e-14)
        assert (one_minus == 0) == (float(z) >= 40)


@pytest.mark.parametrize("rate", descent.BOWL_RATES.values())
def test_the_path_in_the_bowl_is_a_geometric_series(rate: float) -> None:
    path = descent.descend(lambda _, w: descent.CURVATURES * w, descent.START, rate)
    steps = np.arange(descent.BOWL_STEPS + 1)[:, None]
    expected = descent.START * (1 - rate * descent.CURVATURES) ** steps
    np.testing.assert_allclose(path, expected, rtol=1e-12, atol=1e-15)
    # "too large" really leaves the bowl
    assert (descent.bowl(path[-1]) > descent.bowl(path[0])) == (rate > 0.08)


@pytest.mark.parametrize("strength", [None, 0.5])
def test_adam_is_that_of_keras(strength: float | None) -> None:
    weights = keras.Variable(descent.START, dtype="float32")
    optimizer = keras.optimizers.Adam(0.1, weight_decay=strength)
    for _ in range(descent.BOWL_STEPS):
        optimizer.apply([weights.value * descent.CURVATURES.astype(np.float32)], [weights])
    path = descent.adam(
        lambda _, w: descent.CURVATURES * w, descent.START, 0.1, decay=strength or 0.0
    )
    np.testing.assert_allclose(path[-1], weights.numpy(), atol=1e-3)


def test_adam_steps_by_the_agreement_of_signs_and_not_by_size() -> None:
    found = {
        name: [descent.signed_steps(share, size)[-100:].mean() for size in descent.SIZES]
        for name, share in descent.SIGNS.items()
    }
    for sizes in found.values():
        assert np.ptp(sizes) < 1e-3
    means = [sizes[0] for sizes in found.values()]
    assert means == sorted(means, reverse=True)
    assert (means[0], means[2]) == pytest.approx((1.0, 0.5), abs=0.02)
    assert means[-1] < 0.1


def test_the_lectures_penalty_is_that_of_keras_and_takes_twice_as_much() -> None:
    assert float(keras.regularizers.L2(0.05)(np.array([2.0, 1.0]))) == pytest.approx(0.05 * 5)
    assert decay.shrunk(2 * 0.003 * 0.5, 1000)[-1] == pytest.approx(0.050, abs=5e-4)
    assert decay.shrunk(0.003 * 0.5, 1000)[-1] == pytest.approx(0.223, abs=5e-4)
    for share in decay.PRODUCTS:
        path = decay.shrunk(share, 15)
        assert (abs(path[-1]) < 1) == (share < 2)
        assert (path > 0).all() == (share < 1)


def test_an_l2_penalty_is_weight_decay_for_sgd_but_not_for_adam() -> None:
    left = {
        (optimizer, way): decay.lone_weights(optimizer, way)[-1]
        for optimizer in decay.RATES
        for way in decay.WAYS
    }
    asked = (1 - 0.003 * 0.5) ** decay.LONE_STEPS
    np.testing.assert_allclose(left[decay.SGD, decay.PENALTY], asked, atol=0.05)
    np.testing.assert_allclose(
        left[decay.SGD, decay.DECOUPLED], left[decay.SGD, decay.PENALTY], atol=1e-12
    )
    np.testing.assert_allclose(left[decay.ADAM, decay.DECOUPLED], asked, atol=0.05)
    quiet, *_, loud = left[decay.ADAM, decay.PENALTY]
    assert abs(quiet) < 0.05
    assert loud > 0.7


def test_the_penalty_is_the_prior_and_the_evidence_finds_the_degree() -> None:
    lesson = prior.measure()
    assert lesson.numbers["difference"] < 1e-12
    assert lesson.numbers["best_degree"] == 3
    points, without, with_prior, _ = np.array(list(cells(lesson, "prior").values())).T
    assert (np.diff(points) < 0).all()
    assert without[9] > 1.5 * with_prior[9]


def test_rivals_have_as_many_parameters_and_multiply_more(drawn: Dataset) -> None:
    for size in layers.SIZES:
        dense, other = (
            layers.build(kind, size, drawn.train, 0)
            for kind in (layers.DENSE, layers.CONVOLUTIONAL)
        )
        assert other.count_params() == pytest.approx(dense.count_params(), rel=0.06)
    assert dense.count_params() == 784 * 25 + 25 + 25 * 15 + 15 + 15 * 10 + 10
    assert layers.multiplications(dense) == 784 * 25 + 25 * 15 + 15 * 10
    filters = layers.SIZES[-1][1]
    assert layers.multiplications(other) == (
        14**2 * 25 * filters + 7**2 * 9 * filters**2 + 7**2 * filters * 10
    )


def test_keras_finds_the_logits_behind_a_softmax_unless_a_layer_hides_them(
    quick: Numbers,
) -> None:
    starts = quick["endings"]["starts"]
    for start in starts:
        assert start["keras_difference"] == 0
        assert start["accuracy"][output_layers.SOFTMAX] == start["accuracy"][output_layers.LINEAR]
    ordinary, large, ahead = (start["loss"] for start in starts)
    assert ordinary[output_layers.HIDDEN] == pytest.approx(ordinary[output_layers.LINEAR], rel=1e-4)
    assert [start["silent"] for start in starts][::2] == [0.0, 1.0]
    # -log(1e-7) for nine classes of ten: nothing was learned
    assert ahead[output_layers.HIDDEN] == pytest.approx([0.9 * 16.118], rel=0.05)
    assert ahead[output_layers.LINEAR][0] > 20
    assert large[output_layers.TEXTBOOK] == ["NaN"]
    assert starts[1]["accuracy"][output_layers.TEXTBOOK] == [0]


def test_labels_are_asked_of_one_network_or_of_many(quick: Numbers) -> None:
    one, three = rows(quick, "multilabel", "multilabel").values()
    assert three[4] == pytest.approx(3 * one[4], rel=0.01)  # parameters
    for row in quick["multilabel"]["stated"]:
        assert sum(row[1:-1]) == pytest.approx(row[-1])
    assert all(holds.sum() in {4, 5} for holds in multilabel.HOLDS.values())


def test_the_same_seeds_give_the_same_curves(drawn: Dataset) -> None:
    effort = Effort(256, epochs=4, seeds=2)
    one, other = (
        loop.repeat(drawn, effort, partial(keras.optimizers.Adam, 5e-3)) for _ in range(2)
    )
    assert one.losses == other.losses
    assert one.losses[0] != one.losses[1]
    assert one.accuracies[0][-1] > one.accuracies[0][0]


def test_a_quick_look_is_a_whole_page(look: Path) -> None:
    assert "quick look" in check_page(look)


def test_the_page_of_the_repository_is_what_its_numbers_make(committed: Numbers) -> None:
    text = check_page(DOCS)
    assert "quick look" not in text
    assert committed["context"]["data"] == "MNIST"
    assert committed["context"]["train"] == 55_000
    assert sum(path.stat().st_size for path in (DOCS / FOLDER).iterdir()) < 700_000
    for name, (_, effort) in TRAINED.items():
        kept = tuple(committed[name][key] for key in ("pictures", "epochs", "seeds"))
        assert kept == astuple(effort)
        assert effort.seeds >= 5


def test_the_page_of_the_repository_has_the_numbers_of_this_code(committed: Numbers) -> None:
    """Of what needs no training, but for what depends on the processor."""
    for name, lesson in {
        "roundoff": activations.roundoff(),
        "activations": activations.measure(),
        "crossentropy": crossentropy.measure(),
        "prior": prior.measure(),
    }.items():
        now, then = finite(lesson.numbers), committed[name]
        assert now.keys() == then.keys()
        for table in now:
            if isinstance(now[table], list) and isinstance(now[table][0], list):
                for found, kept in zip(now[table], then[table], strict=True):
                    assert found[0] == kept[0]
                    assert found[1:] == [
                        value if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)
                        for value in kept[1:]
                    ]


def test_the_page_of_the_repository_says_what_its_numbers_say(committed: Numbers) -> None:
    """The sentences that are not numbers, in every seed."""
    starts = committed["endings"]["starts"]
    ordinary, _, ahead = (start["accuracy"] for start in starts)
    assert np.ptp([np.mean(found) for found in ordinary.values()]) < 0.03
    assert set(starts[1]["loss"][output_layers.TEXTBOOK]) == {"NaN"}
    assert max(ahead[output_layers.HIDDEN]) < 0.2
    assert max(ahead[output_layers.SQUARED]) < 0.5
    assert min(ahead[output_layers.LINEAR]) > 0.7
    assert {start["keras_difference"] for start in starts} == {0}
    assert max(committed["endings"]["number"]) < min(ordinary[output_layers.LINEAR]) - 0.2

    small, right, too_large, adam = rows(committed, "descent", "descent").values()
    assert np.mean(right[2]) > np.mean(adam[2]) - 0.02
    assert max(small[2]) < 0.8
    assert too_large[1] == pytest.approx([np.log(10)] * len(too_large[1]), abs=0.1)
    early, late = rows(committed, "descent", "ratios").values()
    assert all(np.greater(early, late))
    assert committed["decay"]["sgd_difference"] < 1e-4
    assert committed["decay"]["adam_difference"] > 0.1

    by_size = zip(*[iter(committed["layers"]["layers"])] * 2, strict=True)
    for (_, _, dense, mixed_dense), (_, _, convolutional, mixed) in by_size:
        assert min(convolutional) > max(dense)
        assert max(mixed) < min(convolutional)
        assert abs(np.mean(dense) - np.mean(mixed_dense)) < 0.03
    dense, convolutional = rows(committed, "layers", "data").values()
    assert all(min(one) > max(other) for one, other in zip(convolutional, dense, strict=True))
    assert min(convolutional[-2]) > max(dense[-1])  # a quarter of the pictures
    by_parameters, convolution, by_units = rows(committed, "layers", "speed").values()
    assert by_parameters[2] < convolution[2] < by_units[2]


def test_a_cell_is_a_word_a_number_or_what_the_seeds_gave() -> None:
    assert finite({"rows": [1.5, float("nan")], "loss": float("inf"), "name": "x"}) == {
        "rows": [1.5, "NaN"], "loss": "∞", "name": "x",
    }  # fmt: skip
    assert [shown(value, ".1f") for value in (-1.25, "NaN", None)] == ["−1.2", "NaN", "–"]
    assert shown(1e-7, ".0e") == "1e-07"
    assert shown([0.5, 0.7], ".1%") == "60.0 ± 14.1 %"
    assert shown([0.5], ".1%") == "50.0 %"
    assert shown([0.5, "NaN"], ".1%") == "NaN"
    page = render({"a": {"b": -1234.5, "c": [0.25, 0.75]}}, "{a[b]:,.0f}, {a[c]:.0%}")
    assert page == "−1,234, 50 ± 35 %"
    table = {"a": {"b": [["x", 1.0, 0.25, 0.5], ["y", 2.0, None, 0.75]]}}
    assert render(table, "{a[b]:g .0%}") == "| x | 1 | 25 % | 50 % |\n| y | 2 | – | 75 % |"


def check_page(folder: Path) -> str:
    """Its text, which is what the template makes of its numbers and shows every plot."""
    text = (folder / PAGE).read_text()
    assert text == render(json.loads((folder / FOLDER / NUMBERS).read_text()), TEMPLATE.read_text())
    assert not re.search(r"[{}]|\bnan\b|\binf\b|None|\d\.\d{19}|float\d*\(", text)
    shown_plots = set(re.findall(rf"!\[[^]]+\]\({FOLDER}/(\w+)\.png\)", text))
    assert shown_plots == PLOTS == {path.stem for path in (folder / FOLDER).glob("*.png")}
    for name in shown_plots:
        with Image.open(folder / FOLDER / f"{name}.png") as picture:
            assert picture.width >= 700
            picture.verify()
    return text
