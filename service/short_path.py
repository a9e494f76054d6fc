"""The short path: one encoded picture as the body of a POST, answered without a framework between.

FastAPI documents and routes every request; for a picture of a few hundred bytes, that costs more
than the answer itself. The commonest request is recognized here by its path and content type and
answered by the same functions that the route calls; everything else goes on to the app.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from inference.errors import InferenceError
from service import problems
from service.catalog import Catalog
from service.classify import Classifier
from service.errors import ServiceError
from service.payloads import IMAGE_TYPES, departure, read_body
from service.routes.predict import answer

_IMAGE_TYPES = frozenset(media_type.encode() for media_type in IMAGE_TYPES)


class ShortPath:
    """Answers `POST /predict` with one encoded picture; hands on what is anything else."""

    def __init__(self, app: ASGIApp, *, catalog: Catalog, classifier: Classifier) -> None:
        self.app = app
        self._catalog = catalog
        self._classifier = classifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http" or not self._takes(scope):
            await self.app(scope, receive, send)
            return
        try:
            picture = await read_body(receive)
            body, headers = await answer(
                self._classifier, self._catalog.find(), [picture], departure(receive)
            )
        except (InferenceError, ServiceError) as error:
            await problems.response_to(error)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _takes(self, scope: Scope) -> bool:
        return (
            scope["path"] == "/predict"
            and scope["method"] == "POST"
            and not scope["query_string"]
            and any(k == b"content-type" and v in _IMAGE_TYPES for k, v in scope["headers"])
        )
