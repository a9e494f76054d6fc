"""Read pictures from tar files in WebDataset's format: one member per picture."""

import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import Final

from logitserve.errors import SourceError
from logitserve.inference.images import PICTURE_SUFFIXES
from logitserve.scoring import Picture, shown, unreadable

SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_DAMAGE: Final = (tarfile.TarError, zlib.error, LZMAError, EOFError, OSError)


def pictures(path: Path, name: str) -> Iterator[Picture]:
    """Yield the members with a picture suffix, in the file's order, named `<shard>/<member>`.

    If the file is damaged or truncated, the last picture is the file itself, as unreadable.

    Raises:
        SourceError: the file does not exist on this machine.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError.not_found(str(path)) from error
    with file:
        try:
            with tarfile.open(fileobj=file, mode="r:*") as archive:
                for member in archive:
                    if Path(member.name).suffix.lower() in PICTURE_SUFFIXES:
                        yield from _picture(archive, member, f"{name}/{shown(member.name)}")
                    archive.members.clear()  # type: ignore[attr-defined]  # keeps every member
                _check_end(archive)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise SourceError(f"{name} cannot be read: {error.strerror}") from error
            yield unreadable(name, f"the tar file is damaged or truncated here: {error}")


def _picture(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Iterator[Picture]:
    if member.issym() or member.islnk():
        yield unreadable(name, "the tar member is a link; store files, not links")
    elif (content := archive.extractfile(member)) is not None:
        yield Picture(name, partial(bytes, content.read()))


def _check_end(archive: tarfile.TarFile) -> None:
    """Check for the final block of zeros; `tarfile` takes garbage between members for the end."""
    assert archive.fileobj is not None  # noqa: S101 - it is open
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        text = "the final block of zeros is missing"
        raise tarfile.ReadError(text)
