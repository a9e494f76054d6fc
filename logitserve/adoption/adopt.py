"""Somebody else's ONNX file → a published model with a card.

The published file is compared with the original one, which gets its pixels through numpy, before
anything is published. Needs the extra `adopt`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from pydantic import ValidationError

from logitserve.adoption import foreign, specimens
from logitserve.adoption.foreign import PictureInput
from logitserve.adoption.original import Original
from logitserve.adoption.terms import Terms
from logitserve.errors import AdoptionError
from logitserve.inference import preprocessing
from logitserve.inference.card import METADATA_KEY, Fit, Golden, Head, InputSpec, ModelCard
from logitserve.inference.errors import ImageError
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import MODEL_FILE, ModelRepository

SAMPLE_CHUNK: Final = 32
"""Samples that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the adopted model says of one of its owner's pictures."""

    file: Path
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Adopted:
    """A published model, and how it compares with the original."""

    card: ModelCard
    path: Path
    cut: str | None
    """The operator that was cut off."""
    difference: float
    """Largest of a probability, over drawn pictures and samples."""
    samples: tuple[Sample, ...]


def adopt(file: Path, terms: Terms, *, models: Path, samples: Sequence[Path] = ()) -> Adopted:
    """Publish somebody else's ONNX file as the next version of a model, whole or not at all.

    Args:
        file: the ONNX file.
        terms: what its owner says of it.
        models: the folder to publish in.
        samples: pictures of the owner's to compare both files on.

    Raises:
        AdoptionError: it cannot be adopted, or not without being told more.
        ImageError: a sample is not a picture.
        PublishError: the folder cannot be written to.
    """
    model = foreign.load(file)
    told = {"height": terms.height, "width": terms.width, "channels": terms.channels}
    source = foreign.picture_input(model, layout=terms.layout, told=told)
    original = Original(model, source, terms)
    spec = _spec(source, terms.fit)
    pictures = specimens.draw(spec)
    images = np.stack([preprocessing.decode(picture, spec) for picture in pictures])
    logits = original.logits(images)
    labels = _labels(terms, foreign.labels_of(model), logits.shape[1])
    graph = original.wrapped(logits.shape[1])

    with ModelRepository(models).publication(terms.name) as draft:
        card = _card(terms, spec, labels, version=draft.version, file=file).model_copy(
            update={
                "goldens": tuple(
                    Golden(image=picture, logits=tuple(row.tolist()))
                    for picture, row in zip(pictures, logits, strict=True)
                )
            }
        )
        published = _write(graph, card, draft.folder / MODEL_FILE)
        difference = original.compare(published, images)
        tried = []
        for chunk in _decoded(samples, published):
            difference = max(
                difference, original.compare(published, np.stack(list(chunk.values())))
            )
            tried += _tried(published, chunk)
    cut = None if original.cut is None else original.cut.operator
    path = models / card.name / card.version / MODEL_FILE
    return Adopted(card, path, cut, difference, tuple(tried))


def _spec(source: PictureInput, fit: Fit) -> InputSpec:
    try:
        return InputSpec.model_validate(
            {
                "height": source.height,
                "width": source.width,
                "channels": source.channels,
                "fit": fit,
            }
        )
    except ValidationError as error:
        raise AdoptionError(_first(error)) from error


def _labels(terms: Terms, own: tuple[str, ...] | None, logits: int) -> tuple[str, ...]:
    labels = terms.labels or own
    if labels is None:
        raise AdoptionError(f"the graph gives {logits} logits and no labels: give --labels")
    expected = 1 if terms.head is Head.BINARY else len(labels)
    if logits != expected:
        heads_one = "; a binary head has one, for the second of two labels"
        raise AdoptionError(
            f"the graph gives {logits} logits, but --head {terms.head} with {len(labels)} labels "
            f"has {expected}{heads_one if terms.head is Head.BINARY else ''}"
        )
    return labels


def _card(
    terms: Terms, spec: InputSpec, labels: tuple[str, ...], *, version: str, file: Path
) -> ModelCard:
    """The card, with a golden to be replaced."""
    thresholds = terms.thresholds
    if thresholds is None and terms.head is Head.SIGMOID:
        thresholds = (0.5,)
    if thresholds is not None and len(thresholds) == 1:
        thresholds = thresholds * len(labels)
    width = 1 if terms.head is Head.BINARY else len(labels)
    try:
        return ModelCard(
            name=terms.name,
            version=version,
            description=terms.description or f"Adopted from {file.name}.",
            head=terms.head,
            labels=labels,
            input=spec,
            temperature=terms.temperature,
            thresholds=thresholds,
            goldens=(Golden(image=b"", logits=(0.0,) * width),),
            created=datetime.now(UTC),
            license=terms.license,
        )
    except ValidationError as error:
        raise AdoptionError(_first(error)) from error


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False)[0]
    where = ".".join(map(str, details["loc"]))
    return f"{where}: {details['msg']}" if where else str(details["msg"])


def _write(graph: onnx.ModelProto, card: ModelCard, path: Path) -> Predictor:
    """Write the file, and let it prove itself."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: card.to_json()})
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        reason = str(error).splitlines()[0]
        raise AdoptionError(f"the graph cannot be wrapped: {reason}") from error
    onnx.save(graph, path)
    return Predictor.load(path)


def _decoded(
    files: Sequence[Path], published: Predictor
) -> Iterator[dict[Path, npt.NDArray[np.uint8]]]:
    """The samples, `SAMPLE_CHUNK` at a time."""
    for start in range(0, len(files), SAMPLE_CHUNK):
        chunk = {}
        for file in files[start : start + SAMPLE_CHUNK]:
            try:
                chunk[file] = published.decode(file.read_bytes())
            except (ImageError, OSError) as error:
                raise AdoptionError(f"sample {file} cannot be used: {error}") from error
        yield chunk


def _tried(published: Predictor, chunk: Mapping[Path, npt.NDArray[np.uint8]]) -> list[Sample]:
    predictions = published.predict(np.stack(list(chunk.values())))
    return [
        Sample(file, published.card.labels[argmax], float(probabilities[argmax]))
        for file, argmax, probabilities in zip(
            chunk, predictions.argmax, predictions.probabilities, strict=True
        )
    ]
