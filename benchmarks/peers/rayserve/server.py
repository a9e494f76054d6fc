"""Ray Serve with a FastAPI ingress; `serve run` starts it."""

import os
import signal
from typing import Any

import ray
from classifier import Classifier
from fastapi import FastAPI, UploadFile
from ray import serve

app = FastAPI()


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(app)
class Digits:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @app.post("/predict")
    async def predict(self, file: UploadFile) -> dict[str, Any]:
        return self.classifier.classify(await file.read())


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Digits.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
