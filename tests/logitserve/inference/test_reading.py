import hashlib
import os
from pathlib import Path

import pytest

from logitserve.inference.errors import FileChangedError, ModelFileError
from logitserve.inference.model_file import read
from logitserve.inference.predictor import Predictor
from tests import tiny_models


def test_what_was_read_stays_while_the_file_changes(tmp_path: Path) -> None:
    tiny_models.publish(tmp_path, version="1", seed=1)
    tiny_models.publish(tmp_path, version="2", seed=2)
    path, other = (tmp_path / f"tiny/{version}/model.onnx" for version in "12")
    whole = path.read_bytes()
    with read(path) as reading:
        path.write_bytes(other.read_bytes())
        assert reading.sha256 == hashlib.sha256(whole).hexdigest()
        loaded = Predictor.of(reading)
    assert (loaded.card.version, loaded.sha256) == ("1", hashlib.sha256(whole).hexdigest())
    assert Predictor.load(path).card.version == "2"


def test_a_file_that_grows_while_it_is_read_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"half")
    monkeypatch.setattr("logitserve.inference.model_file.CHUNK_BYTES", 2)
    before: list[os.stat_result] = []
    fstat = os.fstat

    def grow(descriptor: int) -> os.stat_result:
        found = fstat(descriptor)
        if not before:
            path.write_bytes(b"half and the rest")
        before.append(found)
        return found

    monkeypatch.setattr("os.fstat", grow)
    with pytest.raises(FileChangedError, match="being written"), read(path):
        pass


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileChangedError, match="No such file"), read(tmp_path / "model.onnx"):
        pass
    with pytest.raises(ModelFileError, match="cannot be read: Is a directory"), read(tmp_path):
        pass


def test_what_is_refused_does_not_say_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"garbage" * 100)
    with read(path) as reading, pytest.raises(ModelFileError) as caught:
        Predictor.of(reading)
    assert "protobuf" in str(caught.value).lower()
    assert "/" not in str(caught.value)


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    tiny_models.publish(tmp_path)
    path = tmp_path / "tiny/1/model.onnx"
    Predictor.load(path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        Predictor.load(path)
        with pytest.raises(ModelFileError):
            Predictor.load(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
