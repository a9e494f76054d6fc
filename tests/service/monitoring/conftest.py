import pytest

from logitserve.inference.predictor import Predictor
from tests.tiny_models import publish


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("models")
    publish(folder)
    return Predictor.load(folder / "tiny/1/model.onnx")
