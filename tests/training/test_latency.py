from pathlib import Path

import pytest

from logitserve.inference.predictor import Predictor
from logitserve_training import latency
from tests import tiny_models


def test_every_size_of_batch_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_SECONDS", 0.0)
    tiny_models.publish(tmp_path)
    found = latency.measure(Predictor.load(tmp_path / "tiny/1/model.onnx"))
    assert found.batches == latency.BATCHES
    for median, slow in zip(found.median, found.slowest_tenth, strict=True):
        assert 0 < median <= slow
    assert found.processor


def test_the_processor_has_a_name_wherever_it_is_not_written_down(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: Fast 9000\n")
    assert latency.processor(cpuinfo) == "Fast 9000"
    assert latency.processor(tmp_path / "none") == latency.processor(Path("/dev/null")) != ""
