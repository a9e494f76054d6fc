"""Choose the codec of a request by its route, and for `/predict` by its content type."""

from logitserve_service.api import predict, v1, v2
from logitserve_service.api.call import Codec
from logitserve_service.errors import UnsupportedMediaTypeError

PREDICT, V2, V1 = FORMS = ("predict", "v2", "v1")

_FILE = Codec(predict.read_file, predict.write, instant=True)
_PREDICT = {
    **{media_type.encode(): _FILE for media_type in predict.FILE_TYPES},
    b"multipart/form-data": Codec(predict.read_form, predict.write),
    b"application/json": Codec(predict.read_json_images, predict.write),
}
_CURL = " (curl sends it with --data-binary: add -H 'Content-Type: image/png', or use -F file=@)"
_ANY_TYPE = {V2: Codec(v2.read, v2.write), V1: Codec(v1.read, v1.write)}
"""Codecs for any content type: clients of these protocols send various types, or none."""


def codec_of(form: str, content_type: bytes | None) -> Codec:
    """Return the codec of a route of `FORMS` for a `Content-Type` as it was sent."""
    if form != PREDICT:
        return _ANY_TYPE[form]
    if content_type is None:
        return _FILE
    codec = _PREDICT.get(content_type)
    if codec is None:
        media_type = content_type.partition(b";")[0].strip().lower()
        codec = _PREDICT.get(media_type)
        if codec is None and (not media_type or media_type.startswith(b"image/")):
            return _FILE  # the format of an image is detected from its bytes
        if codec is None:
            hint = _CURL if media_type == b"application/x-www-form-urlencoded" else ""
            raise UnsupportedMediaTypeError(
                f"content type {media_type.decode('latin-1')!r} is not supported{hint}; "
                f"send one of {', '.join(known.decode() for known in _PREDICT)}"
            )
    return codec
