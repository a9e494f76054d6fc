"""mosec: OpenCV decodes, and onnxruntime runs what has come together, up to 32 images."""

import json
import os
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
from mosec import Server, ValidationError, Worker

LABELS = "0123456789"
MAX_BATCH = 32
MAX_WAIT_MS = int(os.environ.get("MAX_WAIT_MS", "2"))

UInt8 = npt.NDArray[np.uint8]


class Digits(Worker):
    def __init__(self) -> None:
        super().__init__()
        cv2.setNumThreads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        card = self.session.get_modelmeta().custom_metadata_map["logitserve.card"]
        self.temperature = json.loads(card).get("temperature", 1.0)

    def deserialize(self, data: bytes) -> UInt8:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise ValidationError("this is not an image")
        return image if image.shape == (28, 28) else cv2.resize(image, (28, 28))

    def forward(self, data: list[UInt8]) -> list[dict[str, Any]]:
        (logits,) = self.session.run(["logits"], {"image": np.stack(data)[..., np.newaxis]})
        logits /= self.temperature
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        return [
            {"argmax": argmax, "probabilities": dict(zip(LABELS, row, strict=True))}
            for argmax, row in zip(
                probabilities.argmax(axis=1).tolist(), probabilities.tolist(), strict=True
            )
        ]

    def serialize(self, data: dict[str, Any]) -> bytes:
        return msgspec.json.encode(data)


if __name__ == "__main__":
    server = Server()
    for name, file in json.loads(os.environ["MODELS"]).items():
        server.append_worker(
            Digits,
            max_batch_size=MAX_BATCH,
            max_wait_time=MAX_WAIT_MS,
            env=[{"MODEL": file}],
            route=f"/models/{name}/predict",
        )
    server.run()
