"""`POST /models/{name}/preview`: a picture in, what the network gets of it out."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response

from logitserve.inference.decoding import encode_png
from logitserve.inference.picture_warnings import PictureWarning
from logitserve_service.api.payloads import read_pictures
from logitserve_service.api.schemas import PICTURES_BODY, problems
from logitserve_service.errors import UnusableRequestError
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.classify import Classifier
from logitserve_service.http.limits import RequestLimits
from logitserve_service.repository.catalog import Catalog

WARNINGS_HEADER: Final = "Logitserve-Warnings"

MEANING: Final = {
    PictureWarning.INVERTED: "dark ink on light paper became light ink on black",
    PictureWarning.TRANSPARENCY_FLATTENED: "what was transparent became paper",
    PictureWarning.TURNED_BY_EXIF: "turned or mirrored, as the file says",
    PictureWarning.SQUASHED: "height and width were scaled by different factors",
    PictureWarning.BLANK: "every pixel is nearly the same",
    PictureWarning.NOTHING_FOUND: "nothing looks like ink, so the network gets an empty picture",
}
"""The vocabulary of the header, for people."""

_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the picture, height × width of the card's input",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            WARNINGS_HEADER: {
                "description": (
                    "What the sender may not expect: a list of tokens (RFC 9651), absent when "
                    "there are none. "
                    + "; ".join(f"`{token}`: {meaning}" for token, meaning in MEANING.items())
                    + "."
                ),
                "schema": {"type": "string"},
                "example": "transparency-flattened, inverted",
            }
        },
    }
}


def router(catalog: Catalog, classifier: Classifier, limits: RequestLimits) -> APIRouter:
    """The preview of a named model's input."""
    routes = APIRouter(prefix="/models", tags=["predict"])
    documented: dict[str, Any] = {
        "response_class": Response,
        "openapi_extra": PICTURES_BODY,
        "responses": _ANSWER | problems(400, 404, 408, 413, 415, 422, 429, 503, 504),
    }

    async def respond(request: Request, model: Batcher) -> Response:
        pictures = await read_pictures(request, limits)
        if len(pictures) != 1:
            raise UnusableRequestError(
                f"a preview is of one picture, and the request has {len(pictures)}"
            )
        prepared, warnings = await classifier.prepared(model, pictures[0])
        headers = {"Cache-Control": "no-store"}
        if warnings:
            headers[WARNINGS_HEADER] = ", ".join(warnings)
        return Response(_png(prepared), media_type="image/png", headers=headers)

    @routes.post("/{name}/preview", **documented)
    async def preview(request: Request, name: str) -> Response:
        """The picture exactly as the latest version of a model gets it."""
        return await respond(request, catalog.find(name))

    @routes.post("/{name}/versions/{version}/preview", **documented)
    async def preview_by_version(request: Request, name: str, version: str) -> Response:
        """The picture exactly as one version of a model gets it."""
        return await respond(request, catalog.find(name, version))

    return routes


def _png(prepared: npt.NDArray[np.uint8]) -> bytes:
    return encode_png(prepared[:, :, 0] if prepared.shape[2] == 1 else prepared)
