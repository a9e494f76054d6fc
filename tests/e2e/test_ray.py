"""`logitserve predict --engine ray` on real clusters of this machine."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_models
from tests.e2e import ray_nodes
from tests.e2e.process import command
from tests.many_pictures import (
    Held,
    assert_each_once,
    files,
    parquet_file,
    read,
    tar,
    wait_for,
    wait_until_one_is_unread,
)

SECONDS = 90


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ray_nodes.head() as address:
        yield address


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_models.publish(tmp_path / "models")
    return tmp_path


def started(root: Path, *more: str | Path) -> subprocess.Popen[str]:
    options = ("--engine", "ray", "--models", root / "models", "--output", root / "scores")
    return subprocess.Popen(
        command("predict", *map(str, (*options, *more))),
        env=ray_nodes.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_node_is_killed_and_each_picture_has_its_row_once(root: Path, address: str) -> None:
    files(root / "folder", range(200))
    first, second = (root / "folder/10.png", root / "folder/60.png")
    for path in (first, second):
        path.unlink()
    held = [Held(first, 10), Held(second, 60)]
    tar(root / "a.tar", range(200, 260))
    parquet_file(root / "b.parquet", range(260, 300))
    pictures = [root / f"folder/{seed}.png" for seed in range(200)]
    with ray_nodes.another(address) as node:
        process = started(
            root, *pictures, root / "a.tar", root / "b.parquet",
            "--part-size", "40", "--address", address,
        )  # fmt: skip
        for picture in held:  # each of two actors has one in hand
            picture.wait_for_reader()
        node.kill()
        wait_until_one_is_unread(held)  # actors end a moment after their node
    alive = [picture.release() for picture in held]
    assert sorted(alive) == [False, True]  # the reader of one went down with the node
    (lost,) = [picture for picture, was_read in zip(held, alive, strict=True) if not was_read]
    lost.wait_for_reader()  # somebody else reads it now
    assert lost.release()
    printed, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, printed) == (0, "")
    said, summary = errors.splitlines()
    part = 0 if lost is held[0] else 1
    assert said == f"the worker that scored part {part} was lost; scoring it again"
    assert summary == f"300 pictures in 7 parts in {root / 'scores'}"
    assert_each_once(read(root / "scores"), range(300))


def test_killed_half_way_it_goes_on_where_it_stopped(root: Path, address: str) -> None:
    files(root / "folder", range(100))
    (root / "folder/50.png").unlink()
    picture = Held(root / "folder/50.png", 50)
    pictures = [root / f"folder/{seed}.png" for seed in range(100)]
    more: list[str | Path] = [*pictures, "--part-size", "10", "--address", address]
    process = started(root, *more)
    picture.wait_for_reader()
    wait_for(root / "scores/part-00004.parquet")
    process.kill()
    process.communicate(timeout=SECONDS)
    picture.wait_until_unread()
    written = {path: path.stat().st_mtime_ns for path in (root / "scores").glob("part-*")}
    assert len(written) == 5
    again = started(root, *more)
    picture.wait_for_reader()  # an actor of the new run: that of the old one has gone
    assert picture.release()
    assert again.communicate(timeout=SECONDS)[1].startswith("100 pictures in 10 parts")
    assert_each_once(read(root / "scores"), range(100))
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())


def test_a_cluster_of_its_own_and_a_broken_picture(root: Path) -> None:
    files(root / "folder", range(30))
    (root / "folder/99.png").write_bytes(b"no picture")
    process = started(root, root / "folder", "--part-size", "10", "--workers", "1")
    printed, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, printed) == (1, "")
    assert errors.splitlines()[1:] == ["1 of 31 pictures could not be scored"]
    rows = read(root / "scores")
    assert_each_once([row for row in rows if row["error"] is None], range(30))
    (broken,) = [row for row in rows if row["error"] is not None]
    assert Path(broken["file"]).name == "99.png"


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "ray://127.0.0.1:10001"])
def test_an_address_where_no_cluster_is(root: Path, address: str) -> None:
    files(root / "folder", range(1))
    process = started(root, root / "folder", "--address", address)
    errors = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 1
    assert errors.startswith("Error: ")
    assert address in errors
    assert len(errors.splitlines()) == 1
