"""Who may ask: the keys that a request must bring, over HTTP and gRPC alike."""

from collections.abc import Mapping
from typing import Final, Self

from fastapi import Request

from logitserve_service.config.keys import Keys
from logitserve_service.config.settings import Settings
from logitserve_service.errors import AdminKeyUnsetError, ForbiddenError, UnauthenticatedError
from logitserve_service.http.routes import documentation, page
from logitserve_service.http.routes.probes import PROBES

AUTHORIZATION: Final = b"authorization"
API_KEY: Final = b"x-api-key"

DOCUMENTATION: Final = frozenset({"/docs", "/openapi.json"})
DOCUMENTATION_FILES: Final = f"/{documentation.FILES}/"

OPEN_PATHS: Final = PROBES | page.PATHS | DOCUMENTATION
"""What needs no key: the probes; the page and the documentation too, since a browser cannot send a
key before it has them. They are the same wherever this version runs, and tell nothing of the
models."""

Fields = Mapping[bytes, bytes]
"""Of the head of a request; names in lower case."""


class Guard:
    """Knows which keys are valid, and for what."""

    def __init__(self, api: Keys | None, admin: Keys | None) -> None:
        """Take the keys.

        Args:
            api: one of them must come with every request that is not to an open path; without
                them nothing is asked.
            admin: one of them must come with a request that changes something, and will do
                wherever a key is asked; without them nobody may change anything.
        """
        self._api = api
        self._admin = admin

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The guard that the settings ask for."""
        return cls(settings.keys("api_key"), settings.keys("admin_key"))

    @property
    def asks_keys(self) -> bool:
        """Whether requests need a key at all."""
        return self._api is not None

    def check(self, path: str, fields: Fields) -> None:
        """Let a request pass, or not. Reads nothing but its head.

        Raises:
            UnauthenticatedError: it needs a key, and has none that is valid.
        """
        if path not in OPEN_PATHS and not path.startswith(DOCUMENTATION_FILES):
            self.check_key(fields)

    def check_key(self, fields: Fields) -> None:
        """Let whoever has a key pass, if keys are asked.

        Raises:
            UnauthenticatedError: there is none, or none that is valid.
        """
        if self._api is None:
            return
        given = keys_of(fields)
        for key in given:
            if self._api.have(key) or self._is_admin(key):
                return
        raise UnauthenticatedError(wrong=bool(given))

    def check_admin(self, fields: Fields) -> None:
        """Let whoever has an admin key pass.

        Raises:
            AdminKeyUnsetError: there is no admin key.
            UnauthenticatedError: the request has no key, or none that is valid.
            ForbiddenError: the request has a key that is valid, but is no admin key.
        """
        if self._admin is None:
            raise AdminKeyUnsetError
        given = keys_of(fields)
        if any(self._admin.have(key) for key in given):
            return
        if self._api is not None and any(self._api.have(key) for key in given):
            raise ForbiddenError
        raise UnauthenticatedError(wrong=bool(given))

    async def require_admin(self, request: Request) -> None:
        """See `check_admin`; for a route: `dependencies=[Depends(guard.require_admin)]`."""
        self.check_admin(dict(request.scope["headers"]))

    def _is_admin(self, key: bytes) -> bool:
        return self._admin is not None and self._admin.have(key)


def keys_of(fields: Fields) -> list[bytes]:
    """The keys that a request brings: `Authorization: Bearer KEY`, `X-API-Key: KEY`."""
    keys = []
    key = fields.get(API_KEY)
    if key is not None:
        keys.append(key)
    credentials = fields.get(AUTHORIZATION)
    if credentials is not None:
        scheme, _, key = credentials.partition(b" ")
        if scheme.lower() == b"bearer":
            keys.append(key.strip())
    return keys
