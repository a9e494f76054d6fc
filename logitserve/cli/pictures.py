"""The pictures of a folder, by their names."""

from collections.abc import Iterable
from pathlib import Path

import click

from logitserve.inference.images import PICTURE_SUFFIXES


def in_folder(
    folder: Path, *, recursive: bool = False, hint: str = "", shards: Iterable[str] = ()
) -> list[Path]:
    """The pictures of a folder, sorted; where it has none, its shards, by their suffixes.

    Raises:
        click.UsageError: there are none; `hint` is added.
    """
    found = folder.rglob("*") if recursive else folder.iterdir()
    entries = sorted(found)
    for suffixes in (tuple(PICTURE_SUFFIXES), tuple(shards)):
        files = [
            file for file in entries if file.name.lower().endswith(suffixes) and file.is_file()
        ]
        if files:
            return files
    raise click.UsageError(f"no pictures in the folder {folder}{hint}")
