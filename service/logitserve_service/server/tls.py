"""The TLS certificate of the service."""

import ssl
from pathlib import Path

from logitserve_service.config.settings import Settings
from logitserve_service.errors import SettingsError


def files(settings: Settings) -> tuple[Path, Path] | None:
    """Return the paths of certificate and key; None without TLS.

    Raises:
        SettingsError: only one of them is set.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return None
    if key is None:
        raise SettingsError("tls_key", "is needed with a certificate", "not set")
    if certificate is None:
        raise SettingsError("tls_certificate", "is needed with a key", "not set")
    return certificate, key


class Certificate:
    """The content of the certificate files when they were last read, for gRPC."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.pair: tuple[bytes, bytes] | None = None
        """The certificate and its key, PEM; None without TLS."""
        self.read()

    def read(self) -> None:
        """Read the files, after `load` has validated them."""
        pair = files(self._settings)
        self.pair = pair and (pair[0].read_bytes(), pair[1].read_bytes())


def context(settings: Settings) -> ssl.SSLContext | None:
    """Return a context for TLS 1.2 or later with Python's default ciphers; raises like `load`."""
    if files(settings) is None:
        return None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load(made, settings)
    return made


def load(into: ssl.SSLContext, settings: Settings) -> None:
    """Load the certificate and its key for new connections.

    Raises:
        SettingsError: a file cannot be read or parsed, or the key belongs to another certificate.
    """
    pair = files(settings)
    if pair is None:
        return
    for field, path in zip(("tls_certificate", "tls_key"), pair, strict=True):
        try:
            path.open("rb").close()
        except OSError as error:
            raise SettingsError(field, f"cannot be read: {error.strerror}", str(path)) from error
    certificate, key = pair
    try:
        # With an empty password, an encrypted key is an error and not a prompt on the terminal.
        into.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"is not the key of the certificate {certificate}"
            raise SettingsError("tls_key", reason, str(key)) from error
        reason = f"is not a PEM file of a certificate, or {key} is not one of a private key"
        raise SettingsError("tls_certificate", reason, str(certificate)) from error
