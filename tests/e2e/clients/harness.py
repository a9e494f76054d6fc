"""What the programs share. Imports nothing that one of the two environments lacks."""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
Facts = dict[str, Any]
Ask = Callable[[str, npt.NDArray[np.uint8], list[bytes]], tuple[Arrays, Facts]]

OUTPUTS = ("logits", "probabilities", "argmax")


def run(ask: Ask) -> None:
    """Ask about `pictures.npy` and `files.bin`, leave `answers.npz` and print the facts.

    Answers are named "form/output"; facts are whatever else the client told.
    """
    address, folder = sys.argv[1], Path(sys.argv[2])
    pictures = np.load(folder / "pictures.npy")
    arrays, facts = ask(address, pictures, _files((folder / "files.bin").read_bytes()))
    np.savez(folder / "answers.npz", **arrays)  # type: ignore[arg-type]
    print(json.dumps(facts))  # noqa: T201


def _files(data: bytes) -> list[bytes]:
    files = []
    while data:
        end = 4 + struct.unpack_from("<I", data)[0]
        files.append(data[4:end])
        data = data[end:]
    return files
