"""API keys: parse them from a text or file, and compare in constant time.

Only SHA-256 digests are stored and compared, so timing reveals neither length nor prefix.
"""

import hashlib
import hmac
import logging
import os
import re
import time
from pathlib import Path

from logitserve.inference.model_file import Signature as FileStat

logger = logging.getLogger("logitserve.keys")

MAX_FILE_BYTES = 65536
REREAD_SECONDS = 1.0  # interval at which a key file is checked for changes
_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without white space and commas

Digests = tuple[bytes, ...]


class KeysError(Exception):
    """A text or file does not contain valid keys; the message does not quote it."""


class Keys:
    """Valid keys of one kind. Several are valid at once, so that they can be rotated."""

    def __init__(self, digests: Digests, file: Path | None = None) -> None:
        self._digests = digests
        self._file = file
        self._stat = _stat(file)
        self._next_check = time.monotonic() + REREAD_SECONDS

    @classmethod
    def of_text(cls, text: str) -> "Keys":
        """Parse keys from a text, separated by commas or lines."""
        return cls(_parse(text))

    @classmethod
    def of_file(cls, file: Path) -> "Keys":
        """Read keys from a file, in the format of `of_text`; it is re-read when it changes."""
        return cls(_read(file), file)

    @property
    def secrets(self) -> Digests:
        """The SHA-256 digest of each key, 32 bytes, for signing."""
        return self._digests

    def have(self, key: bytes) -> bool:
        """Return whether the key is valid."""
        if self._file is not None and time.monotonic() >= self._next_check:
            self._follow(self._file)
        given = hashlib.sha256(key).digest()
        # All are compared, so that timing does not reveal which one matches.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches)

    def reread(self) -> None:
        """Read the key file again, if there is one; if that fails, the old keys stay valid."""
        if self._file is not None:
            self._stat = None
            self._follow(self._file)

    def _follow(self, file: Path) -> None:
        """Read the file again if it has changed; if that fails, the old keys stay valid."""
        self._next_check = time.monotonic() + REREAD_SECONDS
        stat = _stat(file)
        if stat == self._stat:
            return
        self._stat = stat
        try:
            self._digests = _read(file)
        except KeysError as error:
            logger.warning("the old keys stay valid: %s", error)
        else:
            logger.info("read %d keys from %s again", len(self._digests), file)


def _parse(text: str) -> Digests:
    lines = filter(None, map(str.strip, text.splitlines()))
    keys = [key.strip() for line in lines for key in line.split(",")]
    if not keys:
        raise KeysError("there is no key in it")
    for number, key in enumerate(keys, start=1):
        if not key:
            raise KeysError(f"key {number} of {len(keys)} is empty")
        if not _KEY.fullmatch(key):
            raise KeysError(
                f"key {number} of {len(keys)} has white space or a character that is not printable "
                "ASCII; `openssl rand -hex 32` makes a good key"
            )
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


def _read(file: Path) -> Digests:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise KeysError(f"{file} cannot be read: {reason}") from error
    if len(content) > MAX_FILE_BYTES:
        raise KeysError(f"{file} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return _parse(content.decode("ascii"))
    except UnicodeDecodeError as error:
        raise KeysError(f"{file} has a byte that is not ASCII") from error
    except KeysError as error:
        raise KeysError(f"{file}: {error}") from error


def _stat(file: Path | None) -> FileStat | None:
    try:
        return None if file is None else FileStat.of(file.stat())
    except OSError:
        return None
