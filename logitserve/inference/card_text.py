"""A model card as text, line by line."""

from collections.abc import Iterator, Mapping
from typing import Any

from logitserve.inference.card import ModelCard


def facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield name and text of each line; missing fields are omitted."""
    spec = card.input
    yield "head", card.head
    yield "labels", ", ".join(card.labels)
    yield "input", f"{spec.height}×{spec.width}×{spec.channels} pixels, fit: {spec.fit}"
    if card.scaling is None:
        yield "temperature", f"{card.temperature:.4g}"
    else:
        yield "scaling", ", ".join(f"×{s.scale:.4g} {s.bias:+.4g}" for s in card.scaling)
    if card.thresholds is not None:
        yield "thresholds", ", ".join(f"{threshold:.3g}" for threshold in card.thresholds)
    if card.batch is not None:
        yield "batch", f"{card.batch}, fixed; other numbers are split and padded"
    if card.adopted is not None:
        yield "adopted", f"from {card.adopted.file}: {card.adopted.ending}"
    if (data := card.dataset) is not None:
        parts = f"{data.train:,} to train, {data.validation:,} to choose, {data.test:,} to test"
        if data.folds is not None:
            parts = f"{data.train:,}, all for training; {data.folds}-fold cross-validated metrics"
        yield "data set", f"{data.name}: {parts}"
        yield "SHA-256 of the data", data.sha256
    if (training := card.training) is not None:
        yield "recipe", f"{training.recipe}, seed {training.seed}"
        yield "settings", _pairs(training.settings)
        yield "libraries", _pairs(training.libraries)
    yield "created", f"{card.created:%Y-%m-%d %H:%M} UTC"
    yield "license of the weights", card.license


def _pairs(values: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in values.items() if value is not None}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())
