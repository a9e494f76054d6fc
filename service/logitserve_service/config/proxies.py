"""Parse the addresses of proxies in the setting `forwarded_allow_ips`."""

import ipaddress
from collections.abc import Mapping
from typing import Final

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_SCHEMES: Final = {"http", "https"}


class Proxies:
    """The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted."""

    def __init__(self, text: str) -> None:
        """Parse addresses and networks, separated by commas; `*` means any address.

        Raises:
            ValueError: an entry is neither an address nor a network.
        """
        names = [name.strip() for name in text.split(",") if name.strip()]
        if names != ["*"]:
            for name in names:
                ipaddress.ip_network(name)
        self._trusted = ProxyHeadersMiddleware(_no_app, names).trusted_hosts

    def caller(
        self, peer: str | None, scheme: str, fields: Mapping[bytes, bytes]
    ) -> tuple[str | None, str]:
        """Return address and scheme of the client of a request from this peer.

        A peer without an address is connected through a Unix socket, and is trusted.
        """
        if peer is not None and peer not in self._trusted:
            return peer, scheme
        given = fields.get(b"x-forwarded-proto", b"").decode("latin-1").strip()
        addresses = fields.get(b"x-forwarded-for", b"").decode("latin-1")
        host, _ = self._trusted.get_trusted_client_address(addresses)
        return host or peer, given if given in _SCHEMES else scheme


async def _no_app(*_: object) -> None:
    """A placeholder application: only the middleware's trusted addresses are used."""
