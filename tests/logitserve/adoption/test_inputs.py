"""What a graph takes: types, layouts, presets, colors; and what of it must be said."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from logitserve.inference import preprocessing
from tests.logitserve.adoption.graphs import (
    FLOATS,
    GIVEN,
    LABELS,
    UNIT,
    adopt,
    adopted,
    assert_refused,
    features_of,
    linear,
    logits,
    pictures,
    save,
    softmax,
    weights,
)
from tests.tiny_models import png

HEAD = ("--head", "softmax")


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (TensorProto.FLOAT, 1e-6),
        (TensorProto.DOUBLE, 1e-6),
        (TensorProto.FLOAT16, 1e-2),
        (TensorProto.UINT8, 1e-6),
        (TensorProto.INT8, 1e-6),
        (TensorProto.INT32, 1e-6),
        (TensorProto.INT64, 1e-6),
    ],
)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_types_and_layouts(tmp_path: Path, dtype: int, tolerance: float, layout: str) -> None:
    shape = ("n", 4, 6, 3) if layout == "nhwc" else ("n", 3, 4, 6)
    file = save(linear(shape, dtype=dtype), tmp_path)
    said = ("--scale", "200", "--mean", "0.1,0.2,0.3", "--std", "2") if dtype in FLOATS else ()
    predictor = adopted(file, tmp_path / "m", *HEAD, *LABELS, *said)
    images = pictures() // 32
    numbers = images.astype(np.float64)
    if dtype in FLOATS:
        numbers = (numbers / 200 - [0.1, 0.2, 0.3]) / 2
    elif dtype == TensorProto.INT8:
        numbers -= 128
    if layout == "nchw":
        numbers = numbers.transpose(0, 3, 1, 2)
    expected = softmax(numbers.reshape(5, -1) @ weights(72, 3).astype(np.float64))
    assert np.abs(predictor.predict(images).probabilities - expected).max() < tolerance


def test_float16_is_given_the_tolerance_that_it_needs(tmp_path: Path) -> None:
    file = save(linear(dtype=TensorProto.FLOAT16, end="Softmax"), tmp_path)
    assert adopted(file, tmp_path / "m", *GIVEN).card.tolerance >= 5e-3
    assert adopted(save(linear(), tmp_path), tmp_path / "n", *GIVEN).card.tolerance == 1e-5


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (("--preset", "raw"), lambda x: x),
        (("--preset", "0-1"), lambda x: x / 255),
        (("--preset", "-1..1"), lambda x: x / 127.5 - 1),
        (
            ("--preset", "imagenet"),
            lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        ),
        (("--preset", "caffe"), lambda x: x[..., ::-1] - [103.939, 116.779, 123.68]),
        (("--preset", "0-1", "--color", "bgr"), lambda x: x[..., ::-1] / 255),
        (("--preset", "0-1", "--color", "gray"), lambda x: x[..., :1].repeat(3, 3) / 255),
    ],
)
def test_presets_and_colors(tmp_path: Path, options: tuple[str, ...], numbers) -> None:  # type: ignore[no-untyped-def]
    predictor = adopted(save(linear(), tmp_path), tmp_path / "m", *HEAD, *LABELS, *options)
    images = pictures()
    expected = softmax(numbers(images.astype(np.float64)).reshape(5, -1) @ weights(72, 3))
    taken = images[..., :1] if "gray" in options else images
    assert predictor.card.input.channels == taken.shape[3]
    assert np.abs(predictor.predict(taken).probabilities - expected).max() < 1e-5


@pytest.mark.parametrize("size", [(4, 6), (9, 5), (30, 100), (100, 30), (5, 900)])
def test_the_shorter_side_is_scaled_and_the_center_cut_out(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """As torchvision's Resize and CenterCrop, here written by hand with Pillow."""
    from PIL import Image

    crop = ("--fit", "crop", "--shorter-side", "8")
    predictor = adopted(save(linear(), tmp_path), tmp_path / "m", *GIVEN, *crop)
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8))
    if max(size) > 8 * min(size):  # the center of eight times as long as wide is all that counts
        image = image.crop(((image.width - 40) // 2, 0, (image.width + 40) // 2, 5))
    shorter = min(image.size)
    width, height = (int(8 * side / shorter) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 6) / 2), round((height - 4) / 2)
    expected = np.asarray(resized.crop((left, top, left + 6, top + 4)))
    found = predictor.decode(png(np.asarray(image)))
    assert (found == expected).all()
    stacked, pending = preprocessing.stack([np.asarray(image)], predictor.card.input)
    preprocessing.finish(stacked, [np.asarray(image)], pending, predictor.card.input)
    assert (stacked[0] == found).all()


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (("n", 72), ("--height", "4", "--width", "6")),
        (("n", 4, 6), ()),
        (("n", 4, 6, 1), ()),
        (
            ("n", None, None, None),
            ("--layout", "nhwc", "--height", "4", "--width", "6", "--channels", "3"),
        ),
        ((0, 4, 6, 3), ()),
    ],
)
def test_shapes(
    tmp_path: Path, shape: tuple[int | str | None, ...], options: tuple[str, ...]
) -> None:
    count = features_of(shape) if None not in shape else 72
    model = linear(("n", count))
    value = onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    model.graph.input[0].CopyFrom(value)
    predictor = adopted(save(model, tmp_path), tmp_path / "m", *GIVEN, *options)
    images = pictures(shape=predictor.card.input.shape)
    expected = softmax(logits(images))
    assert np.abs(predictor.predict(images).probabilities - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (linear(), LABELS, ["floats", "--preset", "--scale", "--expect"]),
        (linear(), UNIT, ["3 logits", "--labels"]),
        (linear(), (*UNIT, "--labels", "a,b"), ["3 logits", "2 labels"]),
        (linear(), ("--head", "binary", *UNIT, "--labels", "a,b"), ["3 logits", "binary"]),
        (linear(), (*GIVEN, "--height", "5"), ["--height 5", "4, 6, 3"]),
        (linear(), (*GIVEN, "--output", "q"), ["--output q", "y"]),
        (linear(), (*GIVEN, "--mean", "1,2"), ["--mean has 2", "3 channels"]),
        (linear(), (*GIVEN, "--fit", "digit"), ["channels", "digit"]),
        (linear(), (*GIVEN, "--fit", "pad", "--shorter-side", "9"), ["shorter_side", "crop"]),
        (
            linear(),
            (*GIVEN, "--fit", "crop", "--shorter-side", "5"),
            ["shorter_side", "at least the larger"],
        ),
        (linear(("n", 4, 6)), (*GIVEN, "--color", "bgr"), ["--color bgr", "1 channel"]),
        (linear(("n", 72)), GIVEN, ["72 features", "--height", "--width"]),
        (
            linear(("n", 72)),
            (*GIVEN, "--height", "5", "--width", "5"),
            ["do not fit", "72 features"],
        ),
        (linear(("n", 3, 4, 3)), GIVEN, ["--layout nchw"]),
        (linear(("n", None, None, None)), GIVEN, ["--layout", "--height"]),
        (linear(("n", 4, 6, 3, 1)), GIVEN, ["5 dimensions"]),
        (linear(("n", 4, 6, 4)), (*GIVEN, "--layout", "nhwc"), ["4 channels"]),
        (linear(dtype=TensorProto.UINT8), GIVEN, ["integers", "--preset"]),
        (linear(inputs=["x", "mask"]), GIVEN, ["2 inputs", "x, mask"]),
        (linear(dtype=TensorProto.BOOL), GIVEN, ["BOOL", "float or integer type"]),
        (linear(), (*GIVEN, "--thresholds", "0.5"), ["thresholds", "softmax"]),
    ],
)
def test_refusals(
    tmp_path: Path, model: onnx.ModelProto, options: tuple[str, ...], words: list[str]
) -> None:
    assert_refused(adopt(save(model, tmp_path), tmp_path / "m", *options), *words)
    assert not list((tmp_path / "m").rglob("*.onnx"))
