"""`POST /models/{name}/preview`: the model's input for an image."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from logitserve.inference.image_warnings import ImageWarning
from logitserve.inference.images import encode_png
from logitserve_service.api import codecs
from logitserve_service.api.call import Content, Limits
from logitserve_service.api.openapi import PREDICT_BODY, problems
from logitserve_service.errors import UnusableRequestError
from logitserve_service.execution.job import Image
from logitserve_service.http import routes
from logitserve_service.http.routes import ModelOfPath
from logitserve_service.repository.loaded_model import LoadedModel

WARNINGS_HEADER: Final = "Logitserve-Warnings"

MEANING: Final = {
    ImageWarning.INVERTED: "dark ink on light paper became light ink on black",
    ImageWarning.TRANSPARENCY_FLATTENED: "transparent pixels became paper",
    ImageWarning.TURNED_BY_EXIF: "turned or mirrored as the file's EXIF data say",
    ImageWarning.SQUASHED: "height and width were scaled by different factors",
    ImageWarning.BLANK: "all pixels are nearly the same",
    ImageWarning.NOTHING_FOUND: "no handwriting was found, so the model gets an empty image",
    ImageWarning.OTHER_INK: "lines, a frame, specks or other things were left out",
    ImageWarning.CUT_OFF: "ink leaves the image as a shadow or a table does, so it is not known",
}
"""Token of the header → its meaning."""

_WARNINGS: Final = {
    "description": (
        "Warnings of preprocessing: a list of tokens (RFC 9651), "
        "absent if there are none. "
        + "; ".join(f"`{token}`: {meaning}" for token, meaning in MEANING.items())
        + "."
    ),
    "schema": {"type": "string"},
    "example": "transparency-flattened, inverted",
}
_IMAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the image, height × width of the model's input",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {WARNINGS_HEADER: _WARNINGS},
    }
}


async def one_image(request: Request, model: LoadedModel, limits: Limits, what: str) -> Image:
    """Return the image of a request in any form of `/predict`.

    Raises:
        UnusableRequestError: there are several images; or as in the codec of the form.
    """
    fields = dict(request.scope["headers"])
    codec = codecs.codec_of(codecs.PREDICT, fields.get(b"content-type"))
    images = codec.read(Content(await request.body(), fields, b""), model.card, limits).inputs
    if len(images) != 1:
        raise UnusableRequestError(f"{what} takes one image, and the request has {len(images)}")
    image: Image = images[0]
    return image


def router(limits: Limits) -> APIRouter:
    """Make the route of the preview."""
    router = APIRouter(prefix="/models", tags=["predict"])

    async def preview(request: Request, model: ModelOfPath) -> Response:
        """Return an image exactly as the model gets it."""
        sent = await one_image(request, model, limits, "a preview")
        image, warnings = await model.batcher.preprocess(sent)
        headers = {"Cache-Control": "no-store"}
        if warnings:
            headers[WARNINGS_HEADER] = ", ".join(warnings)
        png = encode_png(image[:, :, 0] if image.shape[2] == 1 else image)
        return Response(png, media_type="image/png", headers=headers)

    routes.add(
        router,
        "/{name}/preview",
        preview,
        methods=("POST",),
        response_class=Response,
        openapi_extra=PREDICT_BODY,
        responses=_IMAGE | problems(400, 404, 408, 413, 415, 422, 429, 503, 504),
    )
    return router
