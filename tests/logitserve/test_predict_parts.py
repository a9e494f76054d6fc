"""`logitserve predict --partitioned`: sources, parts, going on, refusing, being stopped."""

import csv
import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from logitserve.bulk.sources import units
from logitserve.cli.main import main
from logitserve.inference.predictor import Predictor
from tests import tiny_models
from tests.e2e.process import clean_environment, command, interruptible
from tests.many_pictures import Held, assert_each_once, files, parquet_file, read, tar, wait_for
from tests.tiny_models import png, random_picture

SECONDS = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_models.publish(tmp_path / "models")
    return tmp_path


def arguments(root: Path, *more: str | Path) -> list[str]:
    return ["predict", "--models", str(root / "models"), *map(str, more)]


def predict(root: Path, *more: str | Path) -> Result:
    return CliRunner().invoke(main, arguments(root, *more))


def parts(root: Path, *more: str | Path) -> Result:
    return predict(root, *more, "--partitioned", "--output", root / "scores", "--workers", "1")


def test_all_kinds_of_sources_at_once_each_picture_once(root: Path) -> None:
    files(root / "folder", range(30))
    tar(root / "a.tar", range(30, 60))
    tar(root / "b.tgz", range(60, 70), "w:gz")
    parquet_file(root / "c.parquet", range(70, 150))
    sources = [root / name for name in ("folder", "a.tar", "b.tgz", "c.parquet")]
    done = parts(root, *sources, "--part-size", "25")
    assert done.exit_code == 0, done.stderr
    rows = read(root / "scores")
    assert_each_once(rows, range(150))
    # 30 files in parts of 25, two tar files, four row groups of 20.
    names = sorted(path.name for path in (root / "scores").iterdir())
    assert names == ["_SUCCESS", "_logitserve.json", *(f"part-{n:05d}.parquet" for n in range(8))]
    model = Predictor.load(root / "models/tiny/1/model.onnx")
    assert {(row["model"], row["version"], row["sha256"]) for row in rows} == {
        ("tiny", "1", model.sha256)
    }
    assert str(root / "a.tar" / "30.png") in {row["file"] for row in rows}


def test_shards_of_a_folder_in_one_csv(root: Path) -> None:
    (root / "shards").mkdir()
    tar(root / "shards/0.tar", range(3))
    parquet_file(root / "shards/1.parquet", range(3, 6))
    done = predict(root, root / "shards", "--format", "csv")
    assert done.exit_code == 0, done.stderr
    found = [row["file"] for row in csv.DictReader(io.StringIO(done.stdout))]
    inside = [str(root / f"shards/0.tar/{seed}.png") for seed in range(3)]
    assert found == [*inside, "row-3.png", "row-4.png", "row-5.png"]


def test_what_is_broken_is_a_row_with_its_error(root: Path) -> None:
    files(root / "folder", range(3))
    (root / "folder/1.png").write_bytes(b"no picture")
    tar(root / "cut.tar", range(10, 14))
    whole = (root / "cut.tar").read_bytes()
    (root / "cut.tar").write_bytes(whole[: 5 * 1024 + 600])
    tar(root / "garbage.tar", range(20, 24))
    content = bytearray((root / "garbage.tar").read_bytes())
    place = content.index(b"22.png")
    content[place : place + 512] = b"\xaa" * 512
    (root / "garbage.tar").write_bytes(content)
    with tarfile.open(root / "link.tar", "w") as archive:
        entry = tarfile.TarInfo("link.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "elsewhere.png"
        archive.addfile(entry)
    table = pa.table({"image": pa.array([png(random_picture(0)), None], pa.binary())})
    parquet.write_table(table, root / "nameless.parquet")
    names = ("folder", "cut.tar", "garbage.tar", "link.tar", "nameless.parquet")
    done = parts(root, *(root / name for name in names))
    assert done.exit_code == 1
    errors = {row["file"]: row["error"] for row in read(root / "scores") if row["error"]}
    assert set(errors) == {
        str(root / "folder/1.png"),
        str(root / "cut.tar"),
        str(root / "garbage.tar"),
        str(root / "link.tar/link.png"),
        str(root / "nameless.parquet/1"),
    }
    assert "damaged or truncated" in errors[str(root / "garbage.tar")]
    good = {row["file"] for row in read(root / "scores") if not row["error"]}
    assert {str(root / "garbage.tar/21.png"), str(root / "nameless.parquet/0")} <= good
    assert f"{len(errors)} of {len(errors) + len(good)} pictures" in done.stderr
    assert parts(root, *(root / name for name in names)).exit_code == 1  # nothing left to do


def test_columns_of_parquet(root: Path) -> None:
    content = [{"bytes": png(random_picture(seed)), "path": f"{seed}.png"} for seed in range(3)]
    parquet.write_table(pa.table({"image": content}), root / "hub.parquet")
    assert parts(root, root / "hub.parquet").exit_code == 0
    assert_each_once(read(root / "scores"), range(3))
    odd = pa.table({"scan": [png(random_picture(7))], "who": [7], "name": ["not this"]})
    parquet.write_table(odd, root / "odd.parquet")
    done = predict(root, root / "odd.parquet")
    assert done.exit_code == 1
    assert "name it with --image-column; columns: scan (binary), who (int64)" in done.stderr
    named = ("--image-column", "scan", "--name-column", "who", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(predict(root, root / "odd.parquet", *named).stdout))
    assert row["file"] == "7"
    done = predict(root, root / "odd.parquet", "--image-column", "who")
    assert "no column 'who' of encoded pictures" in done.stderr
    (root / "odd.parquet").write_bytes(b"PAR1 and then nothing")
    assert "cannot be read as Parquet" in predict(root, root / "odd.parquet").stderr


def test_another_run_does_not_mix(root: Path) -> None:
    files(root / "folder", range(6))
    assert parts(root, root / "folder", "--part-size", "4").exit_code == 0
    before = read(root / "scores")
    tiny_models.publish(root / "models", version="2", seed=5)
    for more, said in (
        (("--part-size", "4"), "begun with version 1, sha256 "),
        (("--part-size", "3", "--model", "tiny/1"), "part_size 4, "),
        (("--part-size", "4", "--model", "tiny/1", "--top-k", "2"), "top_k None, "),
    ):
        done = parts(root, root / "folder", *more)
        assert done.exit_code == 1
        assert said in done.stderr
        assert "write to another folder" in done.stderr
    (root / "folder/3.png").write_bytes(png(random_picture(33)))
    done = parts(root, root / "folder", "--part-size", "4", "--model", "tiny/1")
    assert "the pictures have changed" in done.stderr
    assert read(root / "scores") == before
    (root / "other").mkdir()
    (root / "other/notes.txt").write_text("mine")
    done = predict(root, root / "folder", "--partitioned", "--output", root / "other")
    assert "is not empty" in done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--partitioned",), "--output FOLDER"),
        (("--engine", "ray"), "--output FOLDER"),
        (("--workers", "2"), "add --partitioned"),
        (("--address", "host:6379"), "add --engine ray"),
        (("--partitioned", "--output", "new", "--format", "csv"), "writes parquet, not csv"),
        (("--output", "."), "is a folder"),
    ],
)
def test_wrong_usage(root: Path, more: tuple[str, ...], said: str) -> None:
    files(root / "folder", range(1))
    done = predict(root, root / "folder", *more)
    assert done.exit_code == 2
    assert said in done.stderr


def test_sources_that_a_machine_does_not_find(root: Path) -> None:
    files(root / "folder", range(2))
    tar(root / "a.tar", range(2))
    found = units([str(root / "folder/0.png"), str(root / "a.tar")])
    (root / "folder").rename(root / "elsewhere")
    (root / "a.tar").unlink()
    for unit in found:
        with pytest.raises(Exception, match="does not find"):
            list(unit.pictures())


def test_without_ray_it_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(root / "folder", range(1))
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")  # so that what the engine sets goes when the test ends
    done = predict(root, root / "folder", "--engine", "ray", "--output", root / "scores")
    assert done.exit_code == 1
    assert done.stderr.endswith("pip install 'logitserve[ray]'\n")


def started(root: Path, *more: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        interruptible(
            command(*arguments(root, *more, "--partitioned", "--output", root / "scores"))
        ),
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def held(root: Path) -> tuple[Held, list[str | Path]]:
    """Twenty pictures in parts of four; number 9, in the third, keeps its reader waiting."""
    files(root / "folder", range(20))
    (root / "folder/9.png").unlink()
    pictures = [root / f"folder/{seed}.png" for seed in range(20)]
    return Held(pictures[9], 9), [*pictures, "--part-size", "4", "--workers", "1"]


def test_killed_half_way_it_goes_on_where_it_stopped(root: Path) -> None:
    picture, more = held(root)
    process = started(root, *more)
    picture.wait_for_reader()
    wait_for(root / "scores/part-00001.parquet")
    children = psutil.Process(process.pid).children(recursive=True)
    other = started(root, *more)
    assert "another run is writing" in other.communicate(timeout=SECONDS)[1]
    process.kill()
    process.communicate(timeout=SECONDS)
    psutil.wait_procs(children, SECONDS)
    assert not any(child.is_running() for child in children)
    written = {path: path.stat().st_mtime_ns for path in (root / "scores").glob("part-*")}
    assert [path.name for path in sorted(written)] == ["part-00000.parquet", "part-00001.parquet"]
    again = started(root, *more)
    picture.wait_for_reader()
    assert picture.release()
    assert "20 pictures in 5 parts" in again.communicate(timeout=SECONDS)[1]
    assert again.returncode == 0
    assert_each_once(read(root / "scores"), range(20))
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())


def test_an_interrupt_is_one_line_and_keeps_what_is_written(root: Path) -> None:
    picture, more = held(root)
    process = started(root, *more)
    picture.wait_for_reader()
    wait_for(root / "scores/part-00001.parquet")
    os.killpg(process.pid, signal.SIGINT)  # to all, as a terminal does
    assert picture.release()
    assert process.communicate(timeout=SECONDS)[1].strip() == "Aborted!"
    assert process.returncode == 1
    names = sorted(path.name for path in (root / "scores").iterdir())
    assert names == ["_logitserve.json", "part-00000.parquet", "part-00001.parquet"]


def test_a_process_that_is_killed_is_one_line(root: Path) -> None:
    picture, more = held(root)
    process = started(root, *more)
    picture.wait_for_reader()
    for child in psutil.Process(process.pid).children():
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    errors = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 1
    assert errors.startswith("Error: a worker process was killed")
    assert len(errors.splitlines()) == 1
