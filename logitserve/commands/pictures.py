"""The pictures of a folder, by their names."""

from pathlib import Path
from typing import Final

import click

SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
)
"""Of the files that are taken from a folder; a file that is named itself may have any."""


def in_folder(folder: Path, *, recursive: bool = False, hint: str = "") -> list[Path]:
    """The pictures of a folder, sorted.

    Raises:
        click.UsageError: there are none.
    """
    found = folder.rglob("*") if recursive else folder.iterdir()
    files = sorted(file for file in found if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise click.UsageError(f"no pictures in the folder {folder}{hint}")
    return files
