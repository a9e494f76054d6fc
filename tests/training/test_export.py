from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from logitserve.inference.card import METADATA_KEY, Head, ModelCard
from logitserve.inference.errors import GoldenMismatchError
from logitserve.inference.predictor import INPUT, OUTPUT, Predictor
from logitserve_training import backend, export
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.errors import DisagreementError
from logitserve_training.networks import PixelStatistics, build
from logitserve_training.pipeline import Published
from logitserve_training.recipes import DIGIT_INPUT, DIGITS, NetworkName

SHAPE = DIGIT_INPUT.shape


def fresh(name: NetworkName, logits: int = 10, seed: int = 0) -> Any:
    backend.make_deterministic(seed)
    statistics = PixelStatistics(mean=0.13, deviation=0.31)
    return build(name, shape=SHAPE, logits=logits, statistics=statistics)


def exported(network: Any, path: Path, *, labels: tuple[str, ...] = DIGITS) -> Predictor:
    card = ModelCard(
        name="test",
        version="1",
        description="",
        head=Head.BINARY if len(labels) == 2 else Head.SOFTMAX,
        labels=labels,
        input=DIGIT_INPUT,
        goldens=export.draw_goldens(network, DIGIT_INPUT),
        created=datetime.now(UTC),
        license="Apache-2.0",
    )
    export.write(export.to_onnx(network, DIGIT_INPUT), card, path)
    return Predictor.load(path)


@pytest.mark.parametrize("name", NetworkName)
def test_the_file_answers_as_the_network_at_every_size_of_batch(
    name: NetworkName, dataset: Dataset, tmp_path: Path
) -> None:
    network = fresh(name)
    predictor = exported(network, tmp_path / "model.onnx")
    images = dataset.train.images[:300]
    assert 0 <= export.check_agreement(network, predictor, images) <= export.TOLERANCE
    graph = onnx.load(tmp_path / "model.onnx")
    assert [(entry.domain, entry.version) for entry in graph.opset_import if not entry.domain] == [
        ("", export.OPSET)
    ]
    operators = {node.op_type for node in graph.graph.node}
    assert not operators & {"Softmax", "Sigmoid", "BatchNormalization"}
    assert [node.name for node in graph.graph.input] == [INPUT]
    assert [node.name for node in graph.graph.output] == [OUTPUT]


def test_one_logit_is_exported_for_yes_or_no(dataset: Dataset, tmp_path: Path) -> None:
    network = fresh(NetworkName.MLP, logits=1)
    predictor = exported(network, tmp_path / "model.onnx", labels=("no", "yes"))
    assert predictor.predict(dataset.test.images[:3]).probabilities.shape == (3, 2)
    assert export.check_agreement(network, predictor, dataset.test.images) <= export.TOLERANCE


def test_a_file_of_another_network_is_not_publishable(dataset: Dataset, tmp_path: Path) -> None:
    network, other = fresh(NetworkName.LINEAR, seed=0), fresh(NetworkName.LINEAR, seed=1)
    predictor = exported(network, tmp_path / "model.onnx")
    with pytest.raises(DisagreementError, match=r"at batch 1 .* differ .* nothing is published"):
        export.check_agreement(other, predictor, dataset.test.images)


def test_goldens_are_one_a_digit_and_prove_the_preprocessing(published: Published) -> None:
    goldens = Predictor.load(published.path).card.goldens
    assert len(goldens) == 10
    assert len({golden.image for golden in goldens}) == 10
    sizes = {int.from_bytes(golden.image[16:20], "big") for golden in goldens}  # PNG's width
    assert sizes == {28, 60}


@pytest.mark.parametrize("layer", range(3))
def test_a_damaged_weight_is_found_when_the_file_is_loaded(
    published: Published, tmp_path: Path, layer: int
) -> None:
    proto = onnx.load(published.path)
    weights = [tensor for tensor in proto.graph.initializer if len(tensor.dims) == 2]
    values = onnx.numpy_helper.to_array(weights[layer])
    weights[layer].CopyFrom(onnx.numpy_helper.from_array(values * 1.1, weights[layer].name))
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(GoldenMismatchError, match="logitserve calibrate"):
        Predictor.load(tmp_path / "model.onnx")


def test_goldens_of_another_network_are_found(tmp_path: Path) -> None:
    exported(fresh(NetworkName.LINEAR), tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    card = ModelCard.from_json(proto.metadata_props[0].value)
    assert proto.metadata_props[0].key == METADATA_KEY
    first = card.goldens[0].model_copy(
        update={"logits": tuple(np.add(card.goldens[0].logits, 0.01).tolist())}
    )
    card = card.model_copy(update={"goldens": (first, *card.goldens[1:])})
    export.write(proto, card, tmp_path / "model.onnx")
    with pytest.raises(GoldenMismatchError, match="1 of 10"):
        Predictor.load(tmp_path / "model.onnx")
