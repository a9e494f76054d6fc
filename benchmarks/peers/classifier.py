"""What every peer does with an image, written as its users would: Pillow, onnxruntime, softmax."""

import io
import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

LABELS = "0123456789"

Array = npt.NDArray[Any]


class Classifier:
    """A model file, on one thread."""

    def __init__(self, file: str | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            file or os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        card = self.session.get_modelmeta().custom_metadata_map["logitserve.card"]
        self.temperature = json.loads(card).get("temperature", 1.0)

    def classify(self, data: bytes) -> dict[str, Any]:
        """Encoded image → argmax and probabilities."""
        return self.answer(Image.open(io.BytesIO(data)))

    def answer(self, image: Image.Image) -> dict[str, Any]:
        """Image → argmax and probabilities."""
        return named(self.probabilities(pixels(image)[np.newaxis])[0])

    def probabilities(self, images: Array) -> Array:
        """`[n, 28, 28, 1]` → `[n, 10]`."""
        (logits,) = self.session.run(["logits"], {"image": images})
        logits /= self.temperature
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def decoded(data: bytes) -> Array:
    """Encoded image → `[28, 28, 1]`."""
    return pixels(Image.open(io.BytesIO(data)))


def pixels(image: Image.Image) -> Array:
    """Image → `[28, 28, 1]`."""
    if image.mode != "L" or image.size != (28, 28):
        image = image.convert("L").resize((28, 28))
    return np.asarray(image, np.uint8)[..., np.newaxis]


def named(probabilities: Array) -> dict[str, Any]:
    """`[10]` → argmax, and probabilities by label."""
    return {
        "argmax": int(probabilities.argmax()),
        "probabilities": dict(zip(LABELS, probabilities.tolist(), strict=True)),
    }
