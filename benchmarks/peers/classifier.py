"""What every peer does with a picture, written as its users would: Pillow, onnxruntime, softmax."""

import io
import os
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

LABELS = "0123456789"


class Classifier:
    """The model file of the benchmark, on one thread."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def classify(self, data: bytes) -> dict[str, Any]:
        """Encoded picture → argmax and probabilities."""
        return self.answer(Image.open(io.BytesIO(data)))

    def answer(self, image: Image.Image) -> dict[str, Any]:
        """Picture → argmax and probabilities."""
        if image.mode != "L" or image.size != (28, 28):
            image = image.convert("L").resize((28, 28))
        pixels = np.asarray(image, np.uint8).reshape(1, 28, 28, 1)
        (logits,) = self.session.run(["logits"], {"image": pixels})
        exponentials = np.exp(logits[0] - logits[0].max())
        probabilities = exponentials / exponentials.sum()
        return {
            "argmax": int(probabilities.argmax()),
            "probabilities": dict(zip(LABELS, probabilities.tolist(), strict=True)),
        }
