"""A KServe custom predictor: the v1 protocol with an encoded picture."""

import base64
import os
from typing import Any

from classifier import Classifier
from kserve import Model, ModelServer


class Digits(Model):
    def __init__(self) -> None:
        super().__init__("digits")
        self.classifier = Classifier()
        self.ready = True

    def predict(self, payload: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        pictures = [base64.b64decode(instance["b64"]) for instance in payload["instances"]]
        return {"predictions": [self.classifier.classify(picture) for picture in pictures]}


if __name__ == "__main__":
    ModelServer(
        http_port=int(os.environ["PORT"]),
        enable_grpc=False,
        access_log_format=None,
        workers=1,
    ).start([Digits()])
