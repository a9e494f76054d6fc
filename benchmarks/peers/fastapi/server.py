"""The endpoint that people write by hand; run by uvicorn."""

from typing import Any

from classifier import Classifier
from fastapi import FastAPI, UploadFile

app = FastAPI()
classifier = Classifier()


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, Any]:
    return classifier.classify(await file.read())
