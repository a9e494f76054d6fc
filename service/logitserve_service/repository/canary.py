"""Which requests a canary answers."""

from collections.abc import Mapping
from hashlib import blake2b

from logitserve.inference import rollout
from logitserve_service.repository.loaded_model import LoadedModel

_BYTES = 8


class Canary:
    """A version that answers a share of the requests to a model.

    A request is drawn by a hash of what it has, so that requests that have the same are answered
    by the same version, and stay with it while the share grows.
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
        """Whether it answers a request with these header fields; else by its id."""
        unit = next((fields[name] for name in self._by if name in fields), request_id)
        if self._is_key:
            unit = unit.rpartition(b" ")[2]  # the same key, with `Bearer` or without
        drawn = blake2b(unit, digest_size=_BYTES, key=self._salt).digest()
        return bool(int.from_bytes(drawn, "big") < self._below)
