"""Authentication by API keys: which requests need one, and which keys are valid."""

from collections.abc import Mapping
from typing import Final, Self

from fastapi import Request

from logitserve_service.config.keys import Keys
from logitserve_service.config.settings import Settings
from logitserve_service.errors import AdminKeyUnsetError, ForbiddenError, UnauthenticatedError
from logitserve_service.http import documentation, page
from logitserve_service.http.probes import PROBES

OPEN_PATHS: Final = PROBES | page.PATHS | documentation.PATHS
"""Paths that need no key: the probes, and the page and documentation, because a browser cannot send
a key before it has loaded them. They are the same for every service and reveal nothing of its
models."""

Fields = Mapping[bytes, bytes]
"""Header fields; names in lower case."""


class Authenticator:
    """Check the keys of requests."""

    def __init__(self, api: Keys | None, admin: Keys | None) -> None:
        """Set the valid keys; without API keys, requests need none.

        Admin keys are valid on every route; without them, no change is possible.
        """
        self._api = api
        self._admin = admin
        self.required = api is not None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Make an authenticator with the keys of the settings."""
        return cls(settings.keys("api_key"), settings.keys("admin_key"))

    def reread(self) -> None:
        """Read the key files again."""
        for keys in (self._api, self._admin):
            if keys is not None:
                keys.reread()

    def check(self, path: str, fields: Fields) -> None:
        """Check the key if the path needs one; raises like `check_key`."""
        if self._api is None or path in OPEN_PATHS or path.startswith(documentation.FILES_PATH):
            return
        self.check_key(fields)

    def check_key(self, fields: Fields) -> None:
        """Check the key; raises UnauthenticatedError."""
        if self._api is None:
            return
        given = keys_of(fields)
        if not (_any_valid(self._api, given) or _any_valid(self._admin, given)):
            raise UnauthenticatedError(wrong=bool(given))

    def check_admin(self, fields: Fields) -> None:
        """Check the admin key.

        Raises:
            AdminKeyUnsetError: the service has no admin key.
            UnauthenticatedError: there is no key, or it is not valid.
            ForbiddenError: the key is valid, but has no admin rights.
        """
        if self._admin is None:
            raise AdminKeyUnsetError
        given = keys_of(fields)
        if _any_valid(self._admin, given):
            return
        if _any_valid(self._api, given):
            raise ForbiddenError
        raise UnauthenticatedError(wrong=bool(given))

    async def require_admin(self, request: Request) -> None:
        """`check_admin` as a FastAPI dependency."""
        self.check_admin(dict(request.scope["headers"]))


def _any_valid(keys: Keys | None, given: list[bytes]) -> bool:
    return keys is not None and any(map(keys.have, given))


def keys_of(fields: Fields) -> list[bytes]:
    """Return the keys of a request, from `Authorization: Bearer KEY` and `X-API-Key: KEY`."""
    keys = [fields[b"x-api-key"]] if b"x-api-key" in fields else []
    scheme, _, key = fields.get(b"authorization", b"").partition(b" ")
    return [*keys, key.strip()] if scheme.lower() == b"bearer" else keys
