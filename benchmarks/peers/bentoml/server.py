"""A BentoML service that takes a picture."""

from typing import Any

import bentoml
from classifier import Classifier
from PIL.Image import Image


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Digits:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @bentoml.api
    def predict(self, file: Image) -> dict[str, Any]:
        return self.classifier.answer(file)
