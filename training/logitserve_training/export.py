"""Export a trained network to ONNX with its card, and check that both agree."""

from collections.abc import Sequence
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from logitserve.inference import heads, preprocessing
from logitserve.inference.card import METADATA_KEY, Golden, InputSpec, ModelCard
from logitserve.inference.predictor import INPUT, LOGIT_TOLERANCE, NOVELTY, OUTPUT, Predictor
from logitserve_training import drawings
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Images
from logitserve_training.errors import DisagreementError
from logitserve_training.evaluate import at_a_time

OPSET: Final = 18
TOLERANCE: Final = 1e-5
"""Largest allowed difference of a probability between Keras and onnxruntime."""
_ODD: Final = 7
"""Added to the usual batch size for the third comparison, after batches of one and two."""
_BATCH: Final = 250
GOLDEN_SEED: Final = 7

_DIGITS: Final = 10


def to_onnx(network: "keras.Model", spec: InputSpec, *, novelty: bool = False) -> onnx.ModelProto:
    """Convert a network made by `networks.build` or `with_novelty`.

    Returns:
        a checked graph with input `image`, uint8 `[batch, height, width, channels]`, and output
        `logits`, float32 `[batch, k]`; and `novelty`, float32 `[batch, 1]`, if the network has it.
    """
    import tf2onnx  # patches TensorFlow and numpy on import

    signature = [tf.TensorSpec((None, *spec.shape), tf.uint8, name=INPUT)]

    def outputs(image: Any) -> dict[str, Any]:
        found = network(image, training=False)
        return {OUTPUT: found[:, :-1], NOVELTY: found[:, -1:]} if novelty else {OUTPUT: found}

    function = tf.function(outputs, input_signature=signature)
    # not `from_keras`: it fails with Keras 3 (onnx/tensorflow-onnx issue 2448)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    return proto


def write(proto: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Check and write the ONNX file, with the card as its only metadata."""
    onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def keras_logits(network: "keras.Model", images: Images) -> npt.NDArray[np.float32]:
    """Return the network's own logits, float32 `[n, k]`."""
    logits: npt.NDArray[np.float32] = network.predict(images, batch_size=_BATCH, verbose=0)
    return logits


def draw_goldens(
    network: "keras.Model", spec: InputSpec, pictures: Sequence[bytes] | None = None
) -> tuple[Golden, ...]:
    """Record the network's logits for encoded pictures; default: one drawing of each digit.

    Every second drawing is larger, dark on light and in color, so that the preprocessing is
    verified too.
    """
    pictures = pictures or [
        drawings.to_png(
            drawings.draw(
                digit,
                seed=GOLDEN_SEED,
                paper=drawings.SHEET if digit % 2 else drawings.MNIST_LIKE,
            )
        )
        for digit in range(_DIGITS)
    ]
    images = np.stack([preprocessing.decode(picture, spec) for picture in pictures])
    return tuple(
        Golden(image=picture, logits=tuple(logits.tolist()))
        for picture, logits in zip(pictures, keras_logits(network, images), strict=True)
    )


def check_agreement(network: "keras.Model", predictor: Predictor, images: Images) -> float:
    """Check that Keras and the exported file agree for any batch size.

    Returns the largest difference of a probability.

    Raises:
        DisagreementError: the difference exceeds `TOLERANCE`, or a logit's that of goldens.
        NonFiniteLogitsError: one of them returned NaN or infinity.
    """
    card = predictor.card
    expected_logits = keras_logits(network, images)
    expected = _probabilities(card, expected_logits)
    worst = 0.0
    for batch in (1, 2, at_a_time(images) + _ODD):
        starts = range(0, len(images), batch)
        logits = np.concatenate([predictor.run(images[start : start + batch]) for start in starts])
        difference = np.abs(_probabilities(card, logits) - expected).max()
        worst = max(worst, float(difference))
        if difference > TOLERANCE:
            raise DisagreementError(
                f"at batch {batch} the exported file's probabilities differ from the network's by "
                f"up to {difference:.2g}, more than {TOLERANCE:g}; nothing is published"
            )
        # Above 0.99999, probabilities are insensitive to the logits, which novelty depends on.
        apart = np.abs(logits - expected_logits) - LOGIT_TOLERANCE * np.abs(expected_logits)
        if apart.max() > LOGIT_TOLERANCE:
            raise DisagreementError(
                f"at batch {batch} the exported file's logits differ from the network's by more "
                f"than {LOGIT_TOLERANCE:g}; nothing is published"
            )
    return worst


def libraries() -> dict[str, str]:
    """Return the versions of the libraries, for the card."""
    names = (
        "tensorflow",
        "keras",
        "tf2onnx",
        "onnx",
        "onnxruntime",
        "numpy",
        "pillow",
        "scikit-learn",
    )
    return {name: library_version(name) for name in names}


def _probabilities(card: ModelCard, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return heads.probabilities(card.head, heads.scaled(output, 1.0)[:, : card.logit_count])
