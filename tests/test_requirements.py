"""The locks of images name the versions that are tested here, and all that serving needs."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "requirements"


def pins(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+==\S+)", (FOLDER / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["build.txt", "image.txt", "training.txt"])
def test_an_image_is_made_of_what_is_tested(name: str) -> None:
    assert pins(name)
    assert pins(name) <= pins("development.txt")


def test_the_image_has_all_that_serving_needs_but_what_builds() -> None:
    assert pins("serving.txt") - pins("build.txt") <= pins("image.txt")
