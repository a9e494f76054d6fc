"""`python -m logitserve.healthcheck`: check whether the service of this container is ready.

The exit status is 0 if it is ready, else 1 with a one-line reason. The address comes from
environment variables; command line options of the service are not visible here. Nothing of the
service is imported: the check runs often, and importing the settings alone takes ten times as long.
"""

import http.client
import os
import socket
import ssl
import sys
from collections.abc import Mapping

TIMEOUT_SECONDS = 4.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - connects, does not bind


class _LocalConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix domain socket."""

    def __init__(self, path: str, context: ssl.SSLContext | None) -> None:
        super().__init__("localhost")
        self._path = path
        self._context = context

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock)


def connection(environment: Mapping[str, str]) -> http.client.HTTPConnection:
    """Return an unopened connection to the service configured by this environment."""
    context = None
    if environment.get("LOGITSERVE_TLS_CERTIFICATE"):
        # The certificate names the service's public host, not this one.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001
    if path := environment.get("LOGITSERVE_UDS"):
        return _LocalConnection(path, context)
    given = environment.get("LOGITSERVE_HOST") or "127.0.0.1"
    host = _ANY_ADDRESS.get(given, given)
    own = environment.get("LOGITSERVE_PORT", "")
    if "://" in own:
        own = ""  # a Docker or Kubernetes service link, not the setting of the same name
    port = int(own or environment.get("PORT") or 8000)
    if context is None:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)


def main() -> int:
    """Query the readiness route once; return the exit status."""
    try:
        asked = connection(os.environ)
        asked.request("GET", "/readyz")
        answer = asked.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stderr.write(f"no answer: {error}\n")
        return 1
    if answer.status != http.client.OK:
        sys.stderr.write(f"not ready ({answer.status}): {body}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
