import os
import shutil
import stat
from pathlib import Path

import pytest

from logitserve.inference.errors import ModelNotFoundError, NoModelsError, PublishError
from logitserve.inference.repository import MODEL_FILE, ModelRepository, OneModelRepository


def put(root: Path, name: str, version: str) -> None:
    folder = root / name / version
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(b"model")


def test_finds_models_and_orders_versions_as_numbers(tmp_path: Path) -> None:
    for version in ("9", "10", "1"):
        put(tmp_path, "digits", version)
    put(tmp_path, "zero", "1")
    repository = ModelRepository(tmp_path)
    assert repository.names() == ["digits", "zero"]
    assert repository.versions("digits") == ["1", "9", "10"]
    assert repository.model_file("digits") == tmp_path / "digits/10" / MODEL_FILE
    assert repository.model_file("digits", "9") == tmp_path / "digits/9" / MODEL_FILE


def test_passes_over_what_is_not_a_version(tmp_path: Path) -> None:
    put(tmp_path, "digits", "1")
    put(tmp_path, "digits", ".staging-2-x")
    put(tmp_path, "digits", "latest")
    put(tmp_path, "digits", "02")
    put(tmp_path, ".hidden", "1")
    (tmp_path / "digits/3").mkdir()
    (tmp_path / "README.md").write_text("not a model")
    put(tmp_path, "MNIST", "1")
    put(tmp_path, os.fsdecode(b"b\xff"), "1")
    put(tmp_path, "other", ".")
    put(tmp_path, "long", "1732546789012345678")
    (tmp_path / MODEL_FILE).write_bytes(b"model")
    repository = ModelRepository(tmp_path)
    assert repository.names() == ["digits"]
    assert repository.versions("digits") == ["1"]
    passed_over = repository.look().passed_over
    words = {
        ("MNIST", "1"): "'MNIST' is not a model name",
        ("b\\udcff", "1"): "is not a model name",
        ("digits", "02"): "without leading zeros",
        ("digits", "latest"): "'latest' is not a version",
        ("long", "1732546789012345678"): "18 digits at most",
        ("model.onnx", ""): "--model-name",
        ("other", ""): "expected other/<version>/model.onnx",
    }
    assert passed_over.keys() == words.keys()
    assert all(words[key] in why for key, why in passed_over.items())


def test_a_folder_of_nothing_else_says_what_lies_there(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, "digits", f"000{number}")
    with pytest.raises(NoModelsError, match=r"digits/000\d \('000\d' is not .*\) and 2 more"):
        ModelRepository(tmp_path).names()


def test_a_missing_or_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoModelsError, match="does not exist"):
        ModelRepository(tmp_path / "nowhere").names()
    with pytest.raises(NoModelsError, match="logitserve train"):
        ModelRepository(tmp_path).names()


@pytest.mark.parametrize("name", ["unknown", "../digits", "..", "", "digits/1"])
def test_an_unknown_model_is_not_found(tmp_path: Path, name: str) -> None:
    put(tmp_path / "models", "digits", "1")
    with pytest.raises(ModelNotFoundError):
        ModelRepository(tmp_path / "models").model_file(name)


def test_an_unknown_version_names_those_there_are(tmp_path: Path) -> None:
    put(tmp_path, "digits", "1")
    put(tmp_path, "digits", "2")
    with pytest.raises(ModelNotFoundError, match="there is 1, 2"):
        ModelRepository(tmp_path).model_file("digits", "3")


def test_publishing_counts_on(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    for expected in ("1", "2", "3"):
        with repository.publication("digits") as draft:
            assert draft.version == expected
            (draft.folder / MODEL_FILE).write_bytes(expected.encode())
            (draft.folder / "report").mkdir()
            (draft.folder / "report/metrics.json").write_text("{}")
    assert repository.versions("digits") == ["1", "2", "3"]
    assert repository.model_file("digits").read_bytes() == b"3"
    assert (tmp_path / "digits/3/report/metrics.json").is_file()
    mode = stat.S_IMODE((tmp_path / "digits/3").stat().st_mode)
    assert mode == 0o755


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    with repository.publication("digits") as draft:
        (draft.folder / MODEL_FILE).write_bytes(b"half")
        with pytest.raises(NoModelsError):
            repository.names()


def test_a_failure_leaves_no_trace(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    with pytest.raises(RuntimeError), repository.publication("digits") as draft:
        (draft.folder / MODEL_FILE).write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_draft_without_a_model_is_not_published(tmp_path: Path) -> None:
    with (
        pytest.raises(PublishError, match=r"no model\.onnx"),
        ModelRepository(tmp_path).publication("digits"),
    ):
        pass


def test_two_who_publish_the_same_version_do_not_overwrite_each_other(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    with (
        pytest.raises(PublishError, match="by another process"),
        repository.publication("digits") as slow,
    ):
        with repository.publication("digits") as fast:
            (fast.folder / MODEL_FILE).write_bytes(b"fast")
        (slow.folder / MODEL_FILE).write_bytes(b"slow")
    assert repository.model_file("digits", "1").read_bytes() == b"fast"
    assert sorted(entry.name for entry in (tmp_path / "digits").iterdir()) == ["1"]


@pytest.mark.parametrize("name", ["Digits", "../x", "", "a/b", "x" * 64])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(PublishError, match="is not a model name"),
        ModelRepository(tmp_path).publication(name),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file, not a folder")
    with (
        pytest.raises(PublishError, match="cannot write to"),
        ModelRepository(tmp_path / "models").publication("digits"),
    ):
        pass


def test_a_look_sees_every_change_of_a_file(tmp_path: Path) -> None:
    put(tmp_path, "digits", "9")
    put(tmp_path, "digits", "10")
    put(tmp_path, "zero", "1")
    put(tmp_path, "digits", ".staging-2-x")
    (tmp_path / "README.md").write_text("not a model")
    repository = ModelRepository(tmp_path)
    seen = repository.look()
    assert list(seen.files) == [("digits", "9"), ("digits", "10"), ("zero", "1")]
    assert repository.look() == seen
    path = repository.path("digits", "9")
    times = path.stat()
    path.write_bytes(b"MODEL")  # as long as before, and made to look as old
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = repository.look().files
    assert changed["digits", "9"] != seen.files["digits", "9"]
    assert changed["zero", "1"] == seen.files["zero", "1"]
    shutil.rmtree(tmp_path / "zero")
    assert ("zero", "1") not in repository.look().files
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError):
        repository.look()


def test_a_folder_of_one_model_holds_its_versions_and_gets_its_name_from_outside(
    tmp_path: Path,
) -> None:
    for version in ("2", "10"):
        put(tmp_path, ".", version)
    repository = OneModelRepository(tmp_path, "cats")
    assert repository.names() == ["cats"]
    assert list(repository.look().files) == [("cats", "2"), ("cats", "10")]
    assert repository.model_file("cats") == tmp_path / "10" / MODEL_FILE
    with pytest.raises(ModelNotFoundError):
        repository.model_file("2")


def test_a_file_that_is_alone_is_version_1(tmp_path: Path) -> None:
    repository = OneModelRepository(tmp_path, "cats")
    with pytest.raises(
        NoModelsError, match=r"expected <version>/model\.onnx or model\.onnx of .*cats"
    ):
        repository.names()
    (tmp_path / MODEL_FILE).write_bytes(b"alone")
    assert repository.model_file("cats") == tmp_path / MODEL_FILE
    put(tmp_path, ".", "2")
    assert repository.versions("cats") == ["1", "2"]
    assert list(repository.look().files) == [("cats", "1"), ("cats", "2")]
    put(tmp_path, ".", "1")
    assert repository.versions("cats") == ["1", "2"]
    assert repository.model_file("cats", "1") == tmp_path / "1" / MODEL_FILE


def test_a_folder_of_one_model_that_is_away_cannot_be_looked_into(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OneModelRepository(tmp_path / "away", "cats").look()


def test_what_a_killed_publication_left_long_ago_is_swept(tmp_path: Path) -> None:
    long_ago, just_now = (tmp_path / "tiny" / f".staging-1-{name}" for name in ("a", "b"))
    for folder in (long_ago, just_now):
        folder.mkdir(parents=True)
        (folder / MODEL_FILE).write_bytes(b"half")
    for path in (long_ago / MODEL_FILE, long_ago):
        os.utime(path, (0, 0))
    with ModelRepository(tmp_path).publication("tiny") as draft:
        (draft.folder / MODEL_FILE).write_bytes(b"whole")
    assert not long_ago.exists()
    assert just_now.exists()


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        (tmp_path / "digits" / version).mkdir(parents=True)
    os.mkfifo(tmp_path / "digits/1/model.onnx")
    (tmp_path / "digits/2/model.onnx").symlink_to("nowhere")
    (tmp_path / "digits/3/model.onnx").mkdir()
    look = ModelRepository(tmp_path).look()
    assert look.files == {}
    assert look.passed_over.keys() == {("digits", version) for version in "123"}
    assert set(look.passed_over.values()) == {"model.onnx is not a file, or is a broken link"}
