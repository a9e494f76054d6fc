"""An MLServer runtime: a BYTES tensor with an encoded picture in, probabilities out."""

from classifier import Classifier
from mlserver import MLModel
from mlserver.codecs import Base64Codec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class DigitsRuntime(MLModel):
    async def load(self) -> bool:
        self.classifier = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (picture,) = Base64Codec.decode_input(payload.inputs[0])
        probabilities = list(self.classifier.classify(picture)["probabilities"].values())
        output = ResponseOutput(
            name="probabilities", shape=[1, len(probabilities)], datatype="FP32", data=probabilities
        )
        return InferenceResponse(model_name=self.name, outputs=[output])
