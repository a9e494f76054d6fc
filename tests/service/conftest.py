from pathlib import Path

import pytest

from logitserve.inference.predictor import Predictor
from tests import tiny_models
from tests.service.gated import GatedPredictor


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    tiny_models.publish(tmp_path)
    return tmp_path / "tiny/1/model.onnx"


@pytest.fixture
def predictor(model_file: Path) -> Predictor:
    return Predictor.load(model_file)


@pytest.fixture
def gated(predictor: Predictor) -> GatedPredictor:
    return GatedPredictor(predictor)
