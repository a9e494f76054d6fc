"""The endpoints that people write by hand, one a form; run by uvicorn.

`async def` calls onnxruntime in place, which is faster here than going to a thread. Each form has
an endpoint of its own, so that none pays for another's options.
"""

import json
import os
from typing import Annotated, Any

import numpy as np
from classifier import LABELS, Array, Classifier, decoded, named
from fastapi import FastAPI, HTTPException, Query, Request, Response, UploadFile
from pydantic import Base64Bytes, BaseModel

app = FastAPI()
models = {name: Classifier(file) for name, file in json.loads(os.environ["MODELS"]).items()}
default = models[os.environ["DEFAULT_MODEL"]]


def find(name: str) -> Classifier:
    if name not in models:
        raise HTTPException(404, f"there is no model {name!r}")
    return models[name]


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, Any]:
    return default.classify(await file.read())


@app.post("/models/{name}/predict")
async def predict_by_name(name: str, file: UploadFile) -> dict[str, Any]:
    return find(name).classify(await file.read())


@app.post("/raw")
async def raw(request: Request) -> dict[str, Any]:
    return default.classify(await request.body())


@app.post("/models/{name}/raw")
async def raw_by_name(name: str, request: Request) -> dict[str, Any]:
    return find(name).classify(await request.body())


@app.post("/top")
async def top(request: Request, k: Annotated[int, Query(ge=1)] = 3) -> dict[str, Any]:
    probabilities = default.probabilities(decoded(await request.body())[np.newaxis])[0]
    order = probabilities.argsort()[::-1][:k].tolist()
    return {
        "argmax": order[0],
        "probabilities": {LABELS[index]: float(probabilities[index]) for index in order},
    }


CARD = json.loads(default.session.get_modelmeta().custom_metadata_map["logitserve.card"])
OF_ALL = CARD["conformal"]["thresholds"]
THRESHOLDS = np.array(
    [[*row, *OF_ALL[len(row) :]] for row in CARD["conformal"]["thresholds_by_label"]]
)
"""`[labels, 59]`, for coverages 0.50, 0.51, …, 0.99, 0.991, …, 0.999; of MNIST all are there."""


@app.post("/set")
async def prediction_set(
    request: Request, coverage: Annotated[float, Query(ge=0.5, le=0.999)]
) -> dict[str, Any]:
    probabilities = default.probabilities(decoded(await request.body())[np.newaxis])[0]
    order = probabilities.argsort()[::-1]
    ranked = probabilities[order]
    scores = ranked.cumsum() - 2 * ranked
    percent = 100 * coverage
    step = round(percent - 50) if percent <= 99 else 49 + round(10 * (percent - 99))
    members = order[scores <= THRESHOLDS[order, step]]
    return {**named(probabilities), "set": [LABELS[index] for index in members.tolist()]}


class Images(BaseModel):
    images: list[Base64Bytes]


def classify_images(classifier: Classifier, images: list[bytes]) -> dict[str, Any]:
    probabilities = classifier.probabilities(np.stack([decoded(image) for image in images]))
    return {"predictions": [named(row) for row in probabilities]}


@app.post("/json")
async def encoded_images(body: Images) -> dict[str, Any]:
    return classify_images(default, body.images)


@app.post("/models/{name}/json")
async def encoded_images_by_name(name: str, body: Images) -> dict[str, Any]:
    return classify_images(find(name), body.images)


class Pixels(BaseModel):
    pixels: list[list[int]]


@app.post("/pixels")
async def pixels(body: Pixels) -> dict[str, Any]:
    return named(
        default.probabilities(np.array(body.pixels, np.uint8)[np.newaxis, ..., np.newaxis])[0]
    )


class InferInput(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[int]


class InferOutput(BaseModel):
    name: str


class InferRequest(BaseModel):
    id: str | None = None
    inputs: list[InferInput]
    outputs: list[InferOutput] = []


def output(probabilities: Array) -> dict[str, Any]:
    return {"name": "probabilities", "shape": list(probabilities.shape), "datatype": "FP32"}


@app.post("/v2/models/{name}/infer")
async def infer(name: str, body: InferRequest) -> dict[str, Any]:
    (tensor,) = body.inputs
    probabilities = find(name).probabilities(np.array(tensor.data, np.uint8).reshape(tensor.shape))
    tensor_out = {**output(probabilities), "data": probabilities.ravel().tolist()}
    return {"model_name": name, "id": body.id, "outputs": [tensor_out]}


@app.post("/v2/models/{name}/infer-binary")
async def infer_binary(name: str, request: Request) -> Response:
    body = await request.body()
    length = int(request.headers["inference-header-content-length"])
    (tensor,) = json.loads(body[:length])["inputs"]
    images = np.frombuffer(body, np.uint8, offset=length).reshape(tensor["shape"])
    probabilities = find(name).probabilities(images)
    data = probabilities.tobytes()
    parameters = {"binary_data_size": len(data)}
    head = json.dumps(
        {"model_name": name, "outputs": [{**output(probabilities), "parameters": parameters}]}
    ).encode()
    return Response(
        head + data,
        media_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(head))},
    )


class Instances(BaseModel):
    instances: list[list[list[list[int]]]]


@app.post("/v1/models/{name}:predict")
async def v1(name: str, body: Instances) -> dict[str, Any]:
    return {"predictions": find(name).probabilities(np.array(body.instances, np.uint8)).tolist()}
