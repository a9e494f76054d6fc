"""Download files once from one of several mirrors, with a SHA-256 check."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from logitserve_training.errors import DataMissingError
from logitserve_training.progress import Reporter

TIMEOUT_SECONDS = 20.0
"""Timeout in seconds of connecting and of each read, not of the whole file."""
ROUNDS = 2
"""Number of attempts over all mirrors."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A published file of some megabytes, downloaded in memory."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""


def download(
    files: Sequence[RemoteFile], mirrors: Sequence[str], folder: Path, reporter: Reporter
) -> None:
    """Download the files that the folder lacks; create the folder if needed.

    A file is renamed into place when it is complete and its checksum is correct. Mirrors are URLs
    that end in a slash.

    Raises:
        DataMissingError: no mirror has a file, or the folder is not writable; the message names
            the missing files and their folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [file for file in files if not (folder / file.name).is_file()]
        with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:
            while missing:
                content = _from_any_mirror(client, missing[0], mirrors, reporter)
                part = folder / f"{missing[0].name}.part"
                part.write_bytes(content)
                part.replace(folder / missing.pop(0).name)
    except OSError as error:
        raise DataMissingError(f"cannot write to {folder}: {error.strerror}") from error
    except httpx.HTTPError as error:
        wanted = ", ".join(file.name for file in missing)
        raise DataMissingError(
            f"no mirror could be reached or had the right files ({error}); fetch {wanted} on a "
            f"machine with a network, from {' or '.join(mirrors)}, and put them into {folder}, "
            "or name the folder that holds them with --data"
        ) from error


def _from_any_mirror(
    client: httpx.Client, file: RemoteFile, mirrors: Sequence[str], reporter: Reporter
) -> bytes:
    for mirror in [*mirrors] * ROUNDS:
        try:
            return _from_mirror(client, file, mirror + file.name, reporter)
        except httpx.HTTPError as error:
            reason = error
            reporter.line(f"{file.name}: {mirror}: {error}")
    raise reason


def _from_mirror(client: httpx.Client, file: RemoteFile, url: str, reporter: Reporter) -> bytes:
    """Download a complete file.

    Raises:
        httpx.HTTPError: the mirror cannot be reached, disconnects, or has another file.
    """
    content = bytearray()
    # `identity`: a .gz file must not be compressed again.
    with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
        if response.status_code != httpx.codes.OK:
            raise httpx.HTTPError(f"the status is {response.status_code}")
        with reporter.bytes(file.name, file.size) as advance:
            for piece in response.iter_raw():
                content += piece
                advance(len(piece))
                if len(content) > file.size:  # another file; limits the memory
                    break
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise httpx.HTTPError(f"its SHA-256 is not {file.sha256}")
    return bytes(content)
