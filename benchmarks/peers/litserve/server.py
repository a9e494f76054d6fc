"""LitServe, as its documentation serves files."""

import os
from typing import Any

import litserve
from classifier import Classifier
from fastapi import Request
from starlette.datastructures import UploadFile


class DigitsAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.classifier = Classifier()

    def decode_request(self, request: Request) -> bytes:
        file: UploadFile = request["file"]
        return file.file.read()

    def predict(self, x: bytes) -> dict[str, Any]:
        return self.classifier.classify(x)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(DigitsAPI(api_path="/predict"), accelerator="cpu")
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
