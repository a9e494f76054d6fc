"""TensorFlow Serving's REST API for predictions.

https://www.tensorflow.org/tfx/serving/api_rest. A model has one signature, `serving_default`: the
input `image` (uint8 `[n, height, width, channels]`, or encoded images as `{"b64": …}`) and one
output, `probabilities`: one list per image, as a Keras classifier with softmax returns it.
"""

from typing import Any

import numpy as np
import orjson

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import INPUT
from logitserve_service.api.call import Call, Content, Limits, Output
from logitserve_service.api.json_limits import read_json
from logitserve_service.api.json_values import check_members, from_base64, pixels_from_json
from logitserve_service.api.options import no_query
from logitserve_service.api.predict import JSON
from logitserve_service.api.tensors import PROBABILITIES
from logitserve_service.errors import TooManyImagesError, UnusableRequestError
from logitserve_service.execution.job import Inputs
from logitserve_service.execution.result import Result

SIGNATURE = "serving_default"
RESPONSE_MEMBER = {"instances": "predictions", "inputs": "outputs"}
"""Row format and column format: member of the request → member of the response."""


def read(content: Content, card: ModelCard, limits: Limits) -> Call:
    """Read a request; `Call.form` is the member of the response."""
    no_query(content.query)
    document = read_json(content.body, limits)
    forms = RESPONSE_MEMBER.keys() & document.keys() if isinstance(document, dict) else ()
    if isinstance(document, dict):
        check_members(document, ("signature_name", *RESPONSE_MEMBER), "the request")
    if len(forms) != 1:
        raise UnusableRequestError(
            'the JSON must be an object with "instances" (row format) or "inputs" (column '
            "format), one of them"
        )
    signature = document.get("signature_name")
    if signature not in (None, "", SIGNATURE):
        raise UnusableRequestError(f"no signature {signature!r}; there is {SIGNATURE!r}")
    (form,) = forms
    values = document[form] if form == "instances" else _of_input(document[form], form)
    if not isinstance(values, list) or not values:
        raise UnusableRequestError(f"{form} must be a list of at least one image")
    if len(values) > limits.images:
        raise TooManyImagesError(limits.images)
    if form == "instances":
        values = [_of_input(value, f"instances[{index}]") for index, value in enumerate(values)]
    return Call(_inputs(card, values, form), form=RESPONSE_MEMBER[form])


def _of_input(value: Any, where: str) -> Any:
    """Return the value itself, or its member named after the input."""
    if not isinstance(value, dict) or "b64" in value:
        return value
    if list(value) != [INPUT]:
        raise UnusableRequestError(
            f"{where}: the inputs are {list(value)[:4]}; the model has one, {INPUT!r}"
        )
    return value[INPUT]


def _inputs(card: ModelCard, values: list[Any], form: str) -> Inputs:
    """Decode images that are all pixels or all encoded; a mixture is refused."""
    kinds = set(map(type, values))
    if kinds == {list}:
        return pixels_from_json(values, form, (len(values), *card.input.shape))
    if kinds == {dict}:
        return [_encoded(value, f"{form}[{index}]") for index, value in enumerate(values)]
    height, width, channels = card.input.shape
    raise UnusableRequestError(
        f"{form} must be all lists of {height}×{width}×{channels} numbers from 0 to 255, or all "
        'encoded images, {"b64": "<base64>"}'
    )


def _encoded(value: dict[str, Any], where: str) -> bytes:
    if list(value) != ["b64"]:
        raise UnusableRequestError(f'{where} is not {{"b64": "<base64>"}}')
    return from_base64(value["b64"], where)


def write(call: Call, result: Result) -> Output:
    """Write one list of probabilities per image."""
    probabilities = np.ascontiguousarray(result.output(PROBABILITIES), "<f4")
    body = orjson.dumps({call.form: probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)
    return body, JSON


def metadata(card: ModelCard) -> dict[str, Any]:
    """Return the metadata of a model and its signature as TensorFlow Serving does."""
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
