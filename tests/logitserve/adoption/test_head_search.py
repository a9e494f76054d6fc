"""A head is applied exactly once, however the graph's own is disguised."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper

from logitserve.adoption import head_search
from tests.logitserve.adoption.graphs import (
    LABELS,
    TOLERANCE,
    UNIT,
    Rows,
    adopt,
    adopted,
    assert_refused,
    card_of,
    linear,
    logits,
    pictures,
    save,
    sigmoid,
    softmax,
)

SOFTMAX = helper.make_node("Softmax", ["z"], ["p"], axis=1)
SIGMOID = helper.make_node("Sigmoid", ["z"], ["p"])
SPELLED_SOFTMAX = [
    helper.make_node("ReduceMax", ["z", "one"], ["m"], keepdims=1),
    helper.make_node("Sub", ["z", "m"], ["d"]),
    helper.make_node("Exp", ["d"], ["e"]),
    helper.make_node("ReduceSum", ["e", "one"], ["s"], keepdims=1),
    helper.make_node("Div", ["e", "s"], ["p"]),
]
SPELLED_SIGMOID = [
    helper.make_node("Neg", ["z"], ["n"]),
    helper.make_node("Exp", ["n"], ["e"]),
    helper.make_node("Add", ["e", "unity"], ["d"]),
    helper.make_node("Reciprocal", ["d"], ["p"]),
]
HALVED_TANH = [
    helper.make_node("Mul", ["z", "half"], ["h"]),
    helper.make_node("Tanh", ["h"], ["t"]),
    helper.make_node("Add", ["t", "unity"], ["u"]),
    helper.make_node("Mul", ["u", "half"], ["p"]),
]
HEADS: dict[str, tuple[list[NodeProto], str]] = {
    "softmax": ([SOFTMAX], "softmax"),
    "spelled-softmax": (SPELLED_SOFTMAX, "softmax"),
    "sigmoid": ([SIGMOID], "sigmoid"),
    "spelled-sigmoid": (SPELLED_SIGMOID, "sigmoid"),
    "tanh": (HALVED_TANH, "sigmoid"),
}
CONSTANTS: dict[str, npt.NDArray[Any]] = {
    "one": np.array([1]),
    "unity": np.array(1, np.float32),
    "half": np.array(0.5, np.float32),
    "zero": np.array(0, np.float32),
    "last": np.array([2]),
    "middle": np.array([1]),
    "rows": np.array([-1, 3]),
    "scale": np.array(1 / 255, np.float32),
    "point": np.array(0, np.uint8),
}
WRAPPERS: dict[str, Callable[[str, str], list[NodeProto]]] = {
    "squeeze": lambda a, b: [
        helper.make_node("Unsqueeze", [a, "last"], [f"{b}u"]),
        helper.make_node("Squeeze", [f"{b}u", "last"], [b]),
    ],
    "unsqueeze": lambda a, b: [helper.make_node("Unsqueeze", [a, "last"], [b])],
    "reshape": lambda a, b: [helper.make_node("Reshape", [a, "rows"], [b])],
    "flatten": lambda a, b: [helper.make_node("Flatten", [a], [b])],
    "transpose": lambda a, b: [
        helper.make_node("Unsqueeze", [a, "middle"], [f"{b}u"]),
        helper.make_node("Transpose", [f"{b}u"], [b], perm=[0, 2, 1]),
    ],
    "identity": lambda a, b: [helper.make_node("Identity", [a], [b])],
    "cast": lambda a, b: [
        helper.make_node("Cast", [a], [f"{b}d"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", [f"{b}d"], [b], to=TensorProto.FLOAT),
    ],
    "clip": lambda a, b: [helper.make_node("Clip", [a, "zero", "unity"], [b])],
    "scale": lambda a, b: [helper.make_node("Mul", [a, "unity"], [b])],
    "add": lambda a, b: [helper.make_node("Add", [a, "zero"], [b])],
    "quantize": lambda a, b: [
        helper.make_node("QuantizeLinear", [a, "scale", "point"], [f"{b}q"]),
        helper.make_node("DequantizeLinear", [f"{b}q", "scale", "point"], [b]),
    ],
}


def disguised(head: str, wrappers: Sequence[str]) -> list[NodeProto]:
    nodes, name = list(HEADS[head][0]), "p"
    for index, wrapper in enumerate(wrappers):
        nodes += WRAPPERS[wrapper](name, f"w{index}")
        name = f"w{index}"
    return [*nodes, helper.make_node("Identity", [name], ["y"])]


def check_once(folder: Path, head: str, wrappers: Sequence[str]) -> None:
    """The published probabilities are the original's own, by the logits before its head."""
    model = linear(end=disguised(head, wrappers), constants=CONSTANTS)
    predictor = adopted(save(model, folder), folder / "m", *LABELS, *UNIT)
    function = HEADS[head][1]
    assert predictor.card.head == function
    expected = {"softmax": softmax, "sigmoid": sigmoid}[function](logits(pictures()))
    # an answer in steps of 1 / 255 is less exact than the logits that it came from
    tolerance = 0.5 / 255 + TOLERANCE if "quantize" in wrappers else TOLERANCE
    found = predictor.predict(pictures())
    assert np.abs(found.probabilities - expected).max() < tolerance
    assert np.abs(found.logits - logits(pictures())).max() < 1e-4


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("wrapper", [None, *WRAPPERS])
def test_a_disguised_activation_is_cut_off(tmp_path: Path, head: str, wrapper: str | None) -> None:
    check_once(tmp_path, head, [wrapper] if wrapper else [])


@settings(max_examples=15, deadline=None)
@given(
    head=st.sampled_from(sorted(HEADS)),
    wrappers=st.lists(
        st.sampled_from(["clip", "identity", "cast", "scale", "add", "reshape"]), max_size=6
    ),
)
def test_so_is_one_below_several_layers(
    tmp_path_factory: pytest.TempPathFactory, head: str, wrappers: list[str]
) -> None:
    check_once(tmp_path_factory.mktemp("disguise"), head, wrappers)


def test_a_quantized_output_is_dequantized(tmp_path: Path) -> None:
    end = [SOFTMAX, helper.make_node("QuantizeLinear", ["p", "scale", "point"], ["y"])]
    model = linear(end=end, constants=CONSTANTS, outputs={"y": TensorProto.UINT8})
    found = adopted(save(model, tmp_path), tmp_path / "m", *LABELS, *UNIT).predict(pictures())
    assert np.abs(found.probabilities - softmax(logits(pictures()))).max() < TOLERANCE


@pytest.mark.parametrize("shape", [[-1, 1], [-1], [-1, 1, 1]])
def test_one_column_is_binary(tmp_path: Path, shape: list[int]) -> None:
    end = [SIGMOID, helper.make_node("Reshape", ["p", "shape"], ["y"])]
    model = linear(end=end, classes=1, constants={"shape": np.array(shape)})
    predictor = adopted(save(model, tmp_path), tmp_path / "m", "--labels", "no,yes", *UNIT)
    expected = sigmoid(logits(pictures(), 1))
    assert predictor.card.head == "binary"
    found = predictor.predict(pictures()).probabilities
    assert np.abs(found - np.concatenate([1 - expected, expected], axis=1)).max() < TOLERANCE


def test_saturated_answers_do_not_pass_for_another_head(tmp_path: Path) -> None:
    """[−z, z] of a large z has the same softmax as sigmoid, until a picture is doubtful."""
    end = [
        helper.make_node("Mul", ["z", "large"], ["big"]),
        helper.make_node("Neg", ["big"], ["minus"]),
        helper.make_node("Concat", ["minus", "big"], ["pair"], axis=1),
        helper.make_node("Sigmoid", ["pair"], ["y"]),
    ]
    model = linear(end=end, classes=1, constants={"large": np.array(1000, np.float32)})
    card = adopted(save(model, tmp_path), tmp_path / "m", "--labels", "no,yes", *UNIT).card
    assert card.head == "binary"


def test_two_labels_that_may_both_hold_are_not_binary(tmp_path: Path) -> None:
    """Only the second column is the sigmoid of a tensor of one column."""
    end = [
        helper.make_node("MatMul", ["z", "first"], ["a"]),
        helper.make_node("MatMul", ["z", "second"], ["b"]),
        helper.make_node("Sigmoid", ["a"], ["p"]),
        helper.make_node("Sigmoid", ["b"], ["q"]),
        helper.make_node("Concat", ["p", "q"], ["y"], axis=1),
    ]
    columns = np.eye(3, dtype=np.float32)
    constants = {"first": columns[:, :1], "second": columns[:, 1:2]}
    file = save(linear(end=end, constants=constants), tmp_path)
    assert_refused(adopt(file, tmp_path / "m", "--labels", "a,b", *UNIT), "--answers")
    said = ("--labels", "a,b", *UNIT, "--answers", "probabilities")
    found = adopted(file, tmp_path / "m", *said).predict(pictures()).probabilities
    assert np.abs(found - sigmoid(logits(pictures())[:, :2])).max() < TOLERANCE


def test_probabilities_without_an_activation_are_kept(tmp_path: Path) -> None:
    end = [
        SIGMOID,
        helper.make_node("ReduceSum", ["p", "one"], ["s"], keepdims=1),
        helper.make_node("Div", ["p", "s"], ["y"]),
    ]
    model = linear(end=end, constants=CONSTANTS)
    predictor = adopted(save(model, tmp_path), tmp_path / "m", *LABELS, *UNIT)
    single = sigmoid(logits(pictures()))
    expected = single / single.sum(axis=1, keepdims=True)
    assert np.abs(predictor.predict(pictures()).probabilities - expected).max() < TOLERANCE
    assert predictor.card.adopted is not None
    assert "answers are probabilities" in predictor.card.adopted.ending


def test_numbers_that_may_be_either_need_a_word(tmp_path: Path) -> None:
    end = [helper.make_node("HardSigmoid", ["z"], ["y"])]
    file = save(linear(end=end), tmp_path)
    assert_refused(adopt(file, tmp_path / "m", *LABELS, *UNIT), "between 0 and 1", "--answers")
    expected = np.clip(logits(pictures()) * 0.2 + 0.5, 0, 1)
    said: tuple[str, ...] = (*LABELS, *UNIT, "--answers", "probabilities")
    found = adopted(file, tmp_path / "m", *said).predict(pictures()).probabilities
    assert np.abs(found - expected).max() < TOLERANCE
    said = (*LABELS, *UNIT, "--answers", "logits", "--head", "softmax")
    found = adopted(file, tmp_path / "m", *said).predict(pictures()).probabilities
    assert np.abs(found - softmax(expected)).max() < TOLERANCE


def test_logarithms_of_probabilities_are_logits(tmp_path: Path) -> None:
    file = save(linear(end="LogSoftmax"), tmp_path)
    found = adopted(file, tmp_path / "m", *LABELS, *UNIT).predict(pictures()).probabilities
    assert np.abs(found - softmax(logits(pictures()))).max() < 1e-6
    done = adopt(file, tmp_path / "m", "--head", "sigmoid", *LABELS, *UNIT)
    assert_refused(done, "--head sigmoid contradicts", "sum to 1")


@pytest.mark.parametrize(
    ("end", "options", "words"),
    [
        ("Softmax", ["--head", "sigmoid"], ["--head sigmoid contradicts", "softmax of 'z'"]),
        ("Softmax", ["--answers", "logits"], ["--answers logits contradicts", "softmax of 'z'"]),
        ("Sigmoid", ["--head", "softmax"], ["--head softmax contradicts", "sigmoid of 'z'"]),
        ("Identity", ["--answers", "probabilities"], ["probabilities contradicts"]),
        ([SOFTMAX, helper.make_node("Mul", ["p", "h"], ["y"])], [], ["sum to 100", "scaled"]),
        ([helper.make_node("Sqrt", ["z"], ["y"])], [], ["NaN"]),
    ],
)
def test_contradictions_are_refused_with_the_reason(
    tmp_path: Path, end: list[NodeProto] | str, options: list[str], words: list[str]
) -> None:
    model = linear(end=end, constants={"h": np.array(100, np.float32)})
    assert_refused(adopt(save(model, tmp_path), tmp_path / "m", *LABELS, *UNIT, *options), *words)


def test_the_guess_is_said(tmp_path: Path) -> None:
    done = adopt(save(linear(), tmp_path), tmp_path / "m", *LABELS, *UNIT)
    assert "head softmax: 3 numbers per picture, no activation" in done.output
    more = (*LABELS, *UNIT, "--head", "sigmoid", "--thresholds", "0.2,0.5,0.9")
    assert adopt(save(linear(), tmp_path), tmp_path / "m", *more).exit_code == 0
    assert card_of(tmp_path / "m").thresholds == (0.2, 0.5, 0.9)


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_a_head_that_needs_more_than_the_tensor_is_none(width: int, seed: int) -> None:
    rows: Rows = np.random.default_rng(seed).normal(size=(8, width))
    ending = head_search.find(
        softmax(rows),
        [("z", rows)],
        lambda _name, _rows: None,
        output="y",
        head=None,
        told=None,
        tolerance=TOLERANCE,
    )
    assert (ending.tensor, ending.link) == ("y", head_search.Link.LOG)
