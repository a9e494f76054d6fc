"""TensorFlow Serving's REST form: predict, status and metadata of a model.

https://www.tensorflow.org/tfx/serving/api_rest. A model has one signature, `serving_default`: the
input `image` (uint8 `[n, height, width, channels]`, or encoded pictures as `{"b64": …}`) and one
output, `probabilities`, so `predictions` (or `outputs`) is one list of probabilities a picture, as
of a Keras classifier with a softmax. Logits and argmax are to be had under `/v2`.

Nobody assigns version labels here: `stable` and `latest` both mean the version that answers when
none is named, and there are no others.
"""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.predictor import INPUT
from logitserve_service.api import protocol_schemas as schemas
from logitserve_service.api.json_limits import read_json
from logitserve_service.api.payloads import departure, from_base64, read_body
from logitserve_service.api.schemas import problems
from logitserve_service.api.tensors import PROBABILITIES, Pictures, infer
from logitserve_service.api.v2 import pixels_from_lists
from logitserve_service.errors import TooManyPicturesError, UnusableRequestError
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.classify import Classifier
from logitserve_service.http.limits import RequestLimits
from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.request_ids import server_timing

SIGNATURE = "serving_default"
LABELS = ("stable", "latest")
MODEL = "/v1/models/{name}"

_PREDICT: dict[str, Any] = {
    "response_model": schemas.PredictResponse,
    "openapi_extra": schemas.PREDICT_BODY,
    "responses": problems(400, 404, 408, 413, 422, 429, 503, 504),
}


def router(catalog: Catalog, classifier: Classifier, limits: RequestLimits) -> APIRouter:
    """`/v1/models/…`."""
    routes = APIRouter(tags=["tensorflow serving"])

    async def respond(request: Request, model: Batcher) -> Response:
        form, pictures = parse(model, await read_body(request.receive), limits)
        predictions, timing = await infer(classifier, model, pictures, departure(request.receive))
        probabilities = predictions.probabilities.astype("<f4")
        body = orjson.dumps({_ANSWER[form]: probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)
        response = Response(body, media_type="application/json")
        response.raw_headers.append((b"server-timing", server_timing(timing)))
        return response

    @routes.post(f"{MODEL}:predict", **_PREDICT)
    async def predict(request: Request, name: str) -> Response:
        """Probabilities of pictures, by the latest version of a model."""
        return await respond(request, catalog.find(name))

    @routes.post(f"{MODEL}/versions/{{version}}:predict", **_PREDICT)
    async def predict_by_version(request: Request, name: str, version: str) -> Response:
        """Probabilities of pictures, by one version of a model."""
        return await respond(request, catalog.find(name, version))

    @routes.post(f"{MODEL}/labels/{{label}}:predict", **_PREDICT)
    async def predict_by_label(request: Request, name: str, label: str) -> Response:
        """Probabilities of pictures, by the version that a label stands for."""
        return await respond(request, _labeled(catalog, name, label))

    _add_descriptions(routes, catalog)
    return routes


def _add_descriptions(routes: APIRouter, catalog: Catalog) -> None:
    """Status and metadata, of a model and of one version."""
    documented: dict[str, Any] = {"responses": problems(404, 503)}

    @routes.get(f"{MODEL}/metadata", **documented)
    async def model_metadata(name: str) -> dict[str, Any]:
        """The signature of a model."""
        return described(catalog.find(name))

    @routes.get(f"{MODEL}/versions/{{version}}/metadata", **documented)
    async def version_metadata(name: str, version: str) -> dict[str, Any]:
        """The signature of one version of a model."""
        return described(catalog.find(name, version))

    @routes.get(f"{MODEL}/labels/{{label}}/metadata", **documented)
    async def label_metadata(name: str, label: str) -> dict[str, Any]:
        """The signature of the version that a label stands for."""
        return described(_labeled(catalog, name, label))

    @routes.get(MODEL, **documented)
    async def model_status(name: str) -> schemas.ModelStatus:
        """How the versions of a model are, the latest first."""
        catalog.find(name)
        return _status(*reversed(catalog.models[name]))

    @routes.get(f"{MODEL}/versions/{{version}}", **documented)
    async def version_status(name: str, version: str) -> schemas.ModelStatus:
        """How one version of a model is."""
        return _status(catalog.find(name, version).card.version)

    @routes.get(f"{MODEL}/labels/{{label}}", **documented)
    async def label_status(name: str, label: str) -> schemas.ModelStatus:
        """How the version is that a label stands for."""
        return _status(_labeled(catalog, name, label).card.version)


def _labeled(catalog: Catalog, name: str, label: str) -> Batcher:
    model = catalog.find(name)
    if label not in LABELS:
        raise ModelNotFoundError(
            f"no version label {label!r} of model {name!r}; there is {', '.join(LABELS)}, for the "
            "latest version, and any version may be asked by its number"
        )
    return model


def _status(*versions: str) -> schemas.ModelStatus:
    well = {"error_code": "OK", "error_message": ""}
    return schemas.ModelStatus(
        model_version_status=[
            schemas.VersionStatus(version=version, state="AVAILABLE", status=well)
            for version in versions
        ]
    )


_ANSWER = {"instances": "predictions", "inputs": "outputs"}
"""Row format and column format: the member that asks → the member that answers."""


def parse(model: Batcher, body: bytes, limits: RequestLimits) -> tuple[str, Pictures]:
    """Read the body of a predict request.

    Returns:
        `instances` or `inputs`, whichever it has, and its pictures.

    Raises:
        UnreadableRequestError: not JSON.
        UnusableRequestError: another signature, input or form of pictures.
        TooManyPicturesError: more than are allowed.
        JsonTooLargeError, JsonTooDeepError: see `read_json`.
    """
    document = read_json(body, limits)
    forms = [form for form in _ANSWER if isinstance(document, dict) and form in document]
    if len(forms) != 1:
        raise UnusableRequestError(
            'the JSON must be an object with "instances" (row format) or "inputs" (column '
            "format), one of them"
        )
    signature = document.get("signature_name")
    if signature not in (None, "", SIGNATURE):
        raise UnusableRequestError(f"no signature {signature!r}; there is {SIGNATURE!r}")
    (form,) = forms
    values = document[form]
    if form == "inputs":
        values = _of_input(values, form)
    if not isinstance(values, list) or not values:
        raise UnusableRequestError(f"{form} must be a list of at least one picture")
    if len(values) > limits.pictures:
        raise TooManyPicturesError(limits.pictures)
    if form == "instances":
        values = [_of_input(value, f"instances[{index}]") for index, value in enumerate(values)]
    return form, _pictures(model, values, form)


def _of_input(value: Any, where: str) -> Any:
    """The value itself, or what stands under the name of the input."""
    if not isinstance(value, dict) or "b64" in value:
        return value
    if list(value) != [INPUT]:
        raise UnusableRequestError(
            f"{where}: the inputs are {list(value)}; the model has one, {INPUT!r}"
        )
    return value[INPUT]


def _pictures(model: Batcher, values: list[Any], form: str) -> Pictures:
    """Either all pixels or all encoded, so that one request is treated in one way."""
    kinds = set(map(type, values))
    if kinds == {list}:
        return pixels_from_lists(values, (len(values), *model.card.input.shape), form)
    if kinds == {dict}:
        return [_encoded(value, f"{form}[{index}]") for index, value in enumerate(values)]
    height, width, channels = model.card.input.shape
    raise UnusableRequestError(
        f"{form} must be all lists of {height}×{width}×{channels} numbers from 0 to 255, or all "
        'encoded pictures, {"b64": "<base64>"}'
    )


def _encoded(value: dict[str, Any], where: str) -> bytes:
    if list(value) != ["b64"]:
        raise UnusableRequestError(f'{where} is not {{"b64": "<base64>"}}')
    return from_base64(value["b64"], where)


def described(model: Batcher) -> dict[str, Any]:
    """The metadata of a model, with its signature, as TensorFlow Serving writes them."""
    card = model.card
    signature = {
        "inputs": {INPUT: _tensor(INPUT, "DT_UINT8", *card.input.shape)},
        "outputs": {PROBABILITIES: _tensor(PROBABILITIES, "DT_FLOAT", len(card.labels))},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": card.name, "signature_name": "", "version": card.version},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _tensor(name: str, dtype: str, *sizes: int) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in (-1, *sizes)]
    return {
        "dtype": dtype,
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": f"{name}:0",
    }
