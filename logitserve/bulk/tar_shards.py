"""Pictures in tar files, as WebDataset writes them: one member a picture, others beside them."""

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
    """The members with a picture's suffix, in the file's order, each named `<shard>/<member>`.

    Where the file is damaged or cut off, its last picture is the file itself, which cannot be read.

    Raises:
        SourceError: there is no such file here.
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
                    archive.members.clear()  # type: ignore[attr-defined]  # it remembers them all
                _check_end(archive)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise SourceError(f"{name} cannot be read: {error.strerror}") from error
            yield unreadable(name, f"the tar file is damaged or cut off here: {error}")


def _picture(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Iterator[Picture]:
    if member.issym() or member.islnk():
        yield unreadable(name, "it is a link in the tar file; write files, not links, into it")
    elif (content := archive.extractfile(member)) is not None:
        yield Picture(name, partial(bytes, content.read()))


def _check_end(archive: tarfile.TarFile) -> None:
    """Garbage between members looks like the end to `tarfile`; the end is a block of zeros."""
    assert archive.fileobj is not None  # noqa: S101 - it is open
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        text = "it does not end as a tar file does"
        raise tarfile.ReadError(text)
