"""Keys: what a text must be to be keys, and which are valid now.

Only their SHA-256 digests are kept and compared, so that neither a length nor a common beginning
tells anything by the time that a comparison takes.
"""

import hashlib
import hmac
import logging
import os
import re
import time
from pathlib import Path

logger = logging.getLogger("logitserve.keys")

MAX_FILE_BYTES = 65536
"""A file that is larger is no file of keys."""

REREAD_SECONDS = 1.0
"""How often a file is asked whether it has changed, at most."""

_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without white space and commas

Digests = tuple[bytes, ...]


class KeysError(Exception):
    """A text or a file does not hold keys; says why, without the text."""


class Keys:
    """Keys of one kind; several may be valid at once, so that they can be rotated."""

    def __init__(self, digests: Digests, file: Path | None = None) -> None:
        """Begin with these.

        Args:
            digests: SHA-256 of each key.
            file: where they were read; read again when it changes.
        """
        self._digests = digests
        self._file = file
        self._signature = None if file is None else _signature(file)
        self._next_look = time.monotonic() + REREAD_SECONDS

    @classmethod
    def of_text(cls, text: str) -> "Keys":
        """The keys of a text, separated by commas or lines.

        Raises:
            KeysError: there is none, or one of them cannot be a key.
        """
        return cls(digests(text))

    @classmethod
    def of_file(cls, file: Path) -> "Keys":
        """The keys of a file, as those of a text; a change of the file is followed.

        Raises:
            KeysError: it cannot be read, or does not hold keys.
        """
        return cls(_read(file), file)

    def have(self, key: bytes) -> bool:
        """Whether this is one of them, in a time that does not tell how nearly it is."""
        if self._file is not None and time.monotonic() >= self._next_look:
            self._look(self._file)
        given = hashlib.sha256(key).digest()
        # All are compared, so that the time does not tell which one it is either.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return True in matches

    def _look(self, file: Path) -> None:
        """Read the file again if it has changed; what is wrong with it leaves the keys valid."""
        self._next_look = time.monotonic() + REREAD_SECONDS
        signature = _signature(file)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._digests = _read(file)
        except KeysError as error:
            logger.warning("the keys stay as they are, because %s", error)
        else:
            logger.info("read %d keys from %s again", len(self._digests), file)


def digests(text: str) -> Digests:
    """SHA-256 of each key of a text. Blank lines are passed over.

    Raises:
        KeysError: there is none, or one of them cannot be a key.
    """
    lines = [line.strip() for line in text.splitlines()]
    keys = [key.strip() for line in lines if line for key in line.split(",")]
    if not keys:
        raise KeysError("there is no key in it")
    for number, key in enumerate(keys, start=1):
        if not key:
            raise KeysError(f"key {number} of {len(keys)} is empty")
        if not _KEY.fullmatch(key):
            raise KeysError(
                f"key {number} of {len(keys)} has a character that is not printable ASCII, or "
                "white space; `openssl rand -hex 32` makes a good one"
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
        return digests(content.decode("ascii"))
    except UnicodeDecodeError as error:
        raise KeysError(f"{file} has a byte that is not ASCII") from error
    except KeysError as error:
        raise KeysError(f"{file}: {error}") from error


def _signature(file: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; none where it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
