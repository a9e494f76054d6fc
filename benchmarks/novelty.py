"""What tells a picture that is no digit: scores compared on one model.

    python -m benchmarks.novelty --data FOLDER

prints, for each kind of `logitserve_training.out_of_distribution`, the share that each score finds
at 1 % false alarms on the validation part. The scores are computed from the file of `digits`: its
logits, its last output, and the features before its last layer.
"""

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from scipy.special import logsumexp, softmax

from benchmarks.markdown import Row, table
from logitserve.inference.card import METADATA_KEY, ModelCard
from logitserve.inference.predictor import INPUT, NOVELTY, OUTPUT
from logitserve_training import out_of_distribution
from logitserve_training.datasets import mnist
from logitserve_training.datasets.dataset import Images
from logitserve_training.progress import Reporter

FILE: Final = Path(__file__).parents[1] / "models/digits/1/model.onnx"
FALSE_ALARMS: Final = 0.01
PICTURES: Final = 500
NEIGHBORS: Final = 10
REFERENCE: Final = 10_000
"""Pictures of the training part that features are compared with."""
Floats = Any


class Network:
    """A model file that gives its features too."""

    def __init__(self, file: Path) -> None:
        proto = onnx.load(file)
        last = [node for node in proto.graph.node if node.op_type in {"MatMul", "Gemm"}][-1]
        self._features = last.input[0]
        proto.graph.output.append(onnx.ValueInfoProto(name=self._features))
        self._session = onnxruntime.InferenceSession(proto.SerializeToString())
        properties = {prop.key: prop.value for prop in proto.metadata_props}
        self.card = ModelCard.from_json(properties[METADATA_KEY])

    def __call__(self, images: Images) -> tuple[Floats, Floats]:
        """Output and features."""
        parts = [
            self._session.run(
                [OUTPUT, NOVELTY, self._features], {INPUT: images[start : start + 250]}
            )
            for start in range(0, len(images), 250)
        ]
        logits, novelty, features = (np.concatenate(each) for each in zip(*parts, strict=True))
        output = np.concatenate([logits, novelty], axis=1).astype(np.float64)
        return output, features.reshape(len(images), -1).astype(np.float64)


class Scores:
    """Higher is less like a digit."""

    def __init__(self, features: Floats, classes: Floats) -> None:
        self._means = np.stack([features[classes == digit].mean(axis=0) for digit in range(10)])
        centered = features - self._means[classes]
        self._precision = np.linalg.pinv(centered.T @ centered / len(features))
        self._reference = features / np.linalg.norm(features, axis=1, keepdims=True)

    def __call__(self, output: Floats, features: Floats) -> dict[str, Floats]:
        """By name, `[n]`."""
        logits = output[:, :10]
        apart = features[:, None] - self._means
        mahalanobis = np.einsum("nkf,fg,nkg->nk", apart, self._precision, apart, optimize=True)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        near = np.sort(unit @ self._reference.T, axis=1)[:, -NEIGHBORS]
        return {
            "maximum probability": -softmax(logits, axis=1).max(axis=1),
            "energy": -logsumexp(logits, axis=1),
            "Mahalanobis distance": mahalanobis.min(axis=1),
            f"{NEIGHBORS} nearest neighbors": -near,
            "extra class": output[:, 10],
        }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    dataset = mnist.load(parser.parse_args().data, Reporter())
    network = Network(FILE)
    train = dataset.train[:REFERENCE]
    scores = Scores(network(train.images)[1], train.classes)
    in_distribution = scores(*network(dataset.validation.images))
    limits = {name: np.quantile(found, 1 - FALSE_ALARMS) for name, found in in_distribution.items()}
    rows: dict[str, Row] = {name: {"score": name} for name in limits}
    means = dict.fromkeys(limits, 0.0)
    for kind in out_of_distribution.KINDS:
        images = out_of_distribution.pictures(kind, network.card.input, count=PICTURES).images
        for name, values in scores(*network(images)).items():
            share = float(np.mean(values > limits[name]))
            rows[name][kind] = f"{share:.3f}"
            means[name] += share / len(out_of_distribution.KINDS)
    print(table([row | {"mean": f"{means[name]:.3f}"} for name, row in rows.items()]))


if __name__ == "__main__":
    main()
