"""The models that are benchmarked: the lecture's network, and an adopted logistic regression."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from benchmarks.forms import ADOPTED, DEFAULT, digits
from logitserve.inference.repository import ModelRepository

ADOPT = (
    *("--name", ADOPTED, "--head", "softmax", "--preset", "0-1"),
    *("--height", "28", "--width", "28", "--channels", "1"),
)


def publish(shipped: Path, folder: Path) -> dict[str, Path]:
    """Put both models into the folder; name → file."""
    source = ModelRepository(shipped).model_file(DEFAULT).resolve()
    target = folder / DEFAULT / "1" / source.name
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target)
    images = digits()
    features = images.reshape(len(images), -1).astype(np.float32) / 255
    regression = LogisticRegression(C=0.01).fit(features, np.arange(len(images)) % 10)
    own = folder.parent / "regression.onnx"
    own.write_bytes(
        to_onnx(regression, features[:1], options={"zipmap": False}).SerializeToString()
    )
    command = [sys.executable, "-m", "logitserve", "adopt", str(own), *ADOPT]
    subprocess.run([*command, "--models", str(folder)], check=True, stdout=subprocess.DEVNULL)
    repository = ModelRepository(folder)
    return {name: repository.model_file(name).resolve() for name in (DEFAULT, ADOPTED)}


def reference(file: Path) -> npt.NDArray[np.float64]:
    """Probabilities of all images, by onnxruntime and a softmax: `[images, 10]`."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["logitserve.card"])
    (logits,) = session.run(["logits"], {"image": digits()[..., np.newaxis]})
    scaled = logits.astype(np.float64) / card["temperature"]
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result
