"""Files fetched once from one of several mirrors: resumed after a break, checked by SHA-256."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from logitserve_training.errors import DataMissingError
from logitserve_training.progress import Reporter

TIMEOUT_SECONDS = 20.0
"""For connecting, and for each pause between two pieces; not for the whole file."""
RESUMES = 5
"""How often one mirror may break off in one file before the next mirror is tried."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A published file."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""


class _MirrorError(Exception):
    """This mirror does not give the file."""


def download(
    files: Sequence[RemoteFile], mirrors: Sequence[str], folder: Path, reporter: Reporter
) -> None:
    """Fetch the files that the folder does not have yet; the folder is made if need be.

    A file appears under its name only when it is whole and has its checksum. Until then it is
    `<name>.part`, which the next call takes up. Mirrors, addresses that end in a slash, are tried
    in turn.

    Raises:
        DataMissingError: no mirror gives a file, or the folder cannot be written; the message
            names the files that are missing and where to put them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [file for file in files if not (folder / file.name).is_file()]
        with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:
            for file in missing:
                _from_any_mirror(client, file, mirrors, folder, reporter)
    except OSError as error:
        raise DataMissingError(f"cannot write to {folder}: {error.strerror}") from error
    except _MirrorError as error:
        wanted = ", ".join(file.name for file in missing if not (folder / file.name).is_file())
        raise DataMissingError(
            f"no mirror could be reached or gave the right files ({error}); fetch {wanted} on a "
            f"machine with a network, from {' or '.join(mirrors)}, and put them into {folder}, "
            "or name the folder that holds them with --data"
        ) from error


def _from_any_mirror(
    client: httpx.Client,
    file: RemoteFile,
    mirrors: Sequence[str],
    folder: Path,
    reporter: Reporter,
) -> None:
    for mirror in mirrors:
        try:
            return _from_mirror(client, file, mirror + file.name, folder, reporter)
        except _MirrorError as error:
            reporter.line(f"{file.name}: {error}")
            reason = error
    raise reason


def _from_mirror(
    client: httpx.Client, file: RemoteFile, url: str, folder: Path, reporter: Reporter
) -> None:
    """Fetch into the `.part` file until it is whole, then make it the file.

    Raises:
        _MirrorError: the mirror cannot be reached, breaks off too often, or has another file.
    """
    part = folder / f"{file.name}.part"
    for _ in range(1 + RESUMES):
        try:
            _fetch_rest(client, file, url, part, reporter)
        except httpx.HTTPStatusError as error:
            raise _MirrorError(f"{url} answers {error.response.status_code}") from error
        except httpx.ConnectError as error:
            raise _MirrorError(f"{url} cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            reporter.line(f"{file.name}: broke off ({error}); resuming")
        if part.exists() and part.stat().st_size >= file.size:
            break
    else:
        raise _MirrorError(f"{url} broke off {1 + RESUMES} times")

    with part.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        part.unlink()
        raise _MirrorError(f"{url} has another file: its SHA-256 is not {file.sha256}")
    part.replace(folder / file.name)


def _fetch_rest(
    client: httpx.Client, file: RemoteFile, url: str, part: Path, reporter: Reporter
) -> None:
    """Append to the `.part` file what it lacks; start over where the server has no ranges."""
    done = part.stat().st_size if part.exists() else 0
    if done >= file.size:
        return
    # `identity`: a compressed transfer of a .gz file would make the range one of other bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        is_resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        done = done if is_resumed else 0
        with (
            part.open("ab" if is_resumed else "wb") as target,
            reporter.bytes(file.name, file.size, done=done) as advance,
        ):
            for piece in response.iter_raw():
                target.write(piece)
                advance(len(piece))
                done += len(piece)
                if done > file.size:  # not the file; do not fill the disk with it
                    return
