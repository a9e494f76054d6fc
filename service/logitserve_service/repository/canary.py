"""Select the requests that a canary answers."""

from collections.abc import Mapping
from hashlib import blake2b

from logitserve.inference import rollout
from logitserve_service.repository.loaded_model import LoadedModel

_BYTES = 8


class Canary:
    """A version that answers a share of the requests to a model.

    Requests are selected by a hash of a header, the API key or the request id. Requests with equal
    values get the same version, and keep it while the share grows.
    """

    def __init__(self, model: LoadedModel, settings: rollout.Canary) -> None:
        self.model = model
        self._below = round(settings.percent / 100 * 2 ** (8 * _BYTES))
        card = model.card
        self._salt = f"{card.name}/{card.version}".encode()[-64:]
        kind, _, header = settings.by.partition(":")
        fields = {"header": [header.lower().encode()], "key": [b"authorization", b"x-api-key"]}
        self._by = fields.get(kind, [])
        self._is_key = kind == "key"

    def takes(self, fields: Mapping[bytes, bytes], request_id: bytes) -> bool:
        """Return whether the canary answers a request, by its header fields or else its id."""
        unit = next((fields[name] for name in self._by if name in fields), request_id)
        if self._is_key:
            unit = unit.rpartition(b" ")[
                2
            ]  # an API key gives the same hash with and without `Bearer`
        drawn = blake2b(unit, digest_size=_BYTES, key=self._salt).digest()
        return bool(int.from_bytes(drawn, "big") < self._below)
