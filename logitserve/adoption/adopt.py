"""Publish a third-party ONNX file as a model with a card.

Before it is published, the new file is compared with the original, whose pixels are preprocessed
in numpy. Needs the extra `adopt`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from pydantic import ValidationError

from logitserve.adoption import graph_io, labels, normalizing, preprocessing_search, synthetic
from logitserve.adoption.graph_io import PictureInput
from logitserve.adoption.head_search import Ending
from logitserve.adoption.options import PRESETS, AdoptOptions, Color
from logitserve.adoption.original import MIXED, Original
from logitserve.adoption.preprocessing_search import Sample
from logitserve.errors import AdoptionError
from logitserve.inference import features, preprocessing
from logitserve.inference.card import (
    METADATA_KEY,
    Adoption,
    Fit,
    Golden,
    Head,
    InputSpec,
    ModelCard,
    first_reason,
)
from logitserve.inference.errors import GoldenMismatchError, ImageError, ModelFileError
from logitserve.inference.model_file import read
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import MODEL_FILE, Draft, ModelRepository

SAMPLE_CHUNK: Final = 32
"""Batch size of the samples."""
CROP: Final = 256 / 224
"""Default of resized shorter side / center crop, as in torchvision."""
DRAWN: Final = "a drawn picture"


@dataclass(frozen=True, slots=True)
class Answer:
    """The published model's prediction for a picture."""

    picture: str
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Adopted:
    """A published model, and its difference from the original."""

    card: ModelCard
    path: Path
    ending: Ending
    difference: float
    """Largest absolute difference of a probability, over drawn pictures and samples."""
    answers: tuple[Answer, ...]
    """Predictions for the samples; without samples, for one drawn picture."""
    trial: str | None
    """The preprocessing that the samples selected, with its certainty."""


def adopt(
    file: Path,
    terms: AdoptOptions,
    *,
    models: Path,
    samples: Sequence[Sample] = (),
    color: Color | None = None,
    reference: Sequence[Path] = (),
) -> Adopted:
    """Publish an ONNX or Keras file as the next version of a model, atomically.

    Args:
        file: an ONNX file, or a saved Keras model.
        terms: the options that describe the file.
        models: the folder to publish in.
        samples: pictures to compare both files on; samples with an expected label select the
            preprocessing if it is not given.
        color: order of the channels, if the terms have no normalization.
        reference: in-distribution pictures for the drift monitor.

    Raises:
        AdoptionError: the file cannot be adopted, or more options are needed.
        PublishError: the folder is not writable.
    """
    model = graph_io.load(file)
    own = terms.labels or labels.of_model(model)
    tidy = normalizing.tidied(model)
    told = {"height": terms.height, "width": terms.width, "channels": terms.channels}
    source = graph_io.picture_input(tidy, layout=terms.layout, told=told)
    look = partial(Original, tidy, source, labels=None if own is None else len(own))
    trial = None
    if expected := [sample for sample in samples if sample.expected is not None]:
        terms, trial = _tried(look, source, terms, expected, own, color=color)
    spec = _spec(source, terms)
    pictures = synthetic.draw(spec)
    images = np.stack([preprocessing.decode(picture, spec) for picture in pictures])
    original = look(terms, images)
    with ModelRepository(models).publication(terms.name) as draft:
        card = _card(
            file,
            terms,
            spec,
            original=original,
            own=own,
            pictures=pictures,
            version=draft.version,
        )
        published, difference = _publish(original, card, draft, images)
        answers = []
        for start in range(0, len(samples), SAMPLE_CHUNK):
            chunk = samples[start : start + SAMPLE_CHUNK]
            pixels = _decoded(chunk, spec)
            difference = max(difference, original.compare(published, pixels))
            answers += _answers(published, [sample.file.name for sample in chunk], pixels)
        if reference:
            published = _with_reference(published, reference, draft.folder / MODEL_FILE)
        answers = answers or _answers(published, [DRAWN], images[:1])
    path = models / card.name / draft.version / MODEL_FILE
    return Adopted(published.card, path, original.ending, difference, tuple(answers), trial)


Look = Callable[[AdoptOptions, npt.NDArray[np.uint8]], Original]
"""Analyzes the graph with these terms on distinct pictures."""


def _tried(
    look: Look,
    source: PictureInput,
    terms: AdoptOptions,
    samples: Sequence[Sample],
    own: labels.Labels | None,
    *,
    color: Color | None,
) -> tuple[AdoptOptions, str]:
    """Return the terms with the preprocessing that fits the samples best, and its certainty."""
    if own is None:
        raise AdoptionError("--expect needs labels: give --labels")
    if unknown := {str(sample.expected) for sample in samples} - set(own):
        raise AdoptionError(f"--expect {min(unknown)} is not one of the {len(own)} labels")
    fits = [Fit.STRETCH, Fit.CROP, Fit.PAD] if terms.fit is None else [terms.fit]
    default = terms.normalization or PRESETS["0-1" if source.takes_floats else "raw"]
    spec = _spec(source, terms)
    drawn = [preprocessing.decode(picture, spec) for picture in synthetic.draw(spec)]
    original = look(replace(terms, normalization=default), np.stack(drawn))
    found = preprocessing_search.run(
        original.probabilities,
        lambda fit: _decoded(samples, _spec(source, replace(terms, fit=fit))),
        [own.index(str(sample.expected)) for sample in samples],
        fits,
        list(preprocessing_search.normalizations(source, terms.normalization, color)),
    )
    best, told = preprocessing_search.best(found, len(samples))
    return replace(terms, fit=best.fit, normalization=best.normalization), told


def _spec(source: PictureInput, terms: AdoptOptions) -> InputSpec:
    is_gray = terms.normalization is not None and terms.normalization.color is Color.GRAY
    shorter_side = terms.shorter_side
    if terms.fit is Fit.CROP and shorter_side is None:
        shorter_side = round(max(source.height, source.width) * CROP)
    try:
        return InputSpec.model_validate(
            {
                "height": source.height,
                "width": source.width,
                "channels": 1 if is_gray else source.channels,
                "fit": terms.fit or Fit.STRETCH,
                "shorter_side": shorter_side,
            }
        )
    except ValidationError as error:
        raise AdoptionError(first_reason(error)) from error


def _card(
    file: Path,
    terms: AdoptOptions,
    spec: InputSpec,
    *,
    original: Original,
    own: labels.Labels | None,
    pictures: Sequence[bytes],
    version: str,
) -> ModelCard:
    head, count = original.ending.head, original.ending.count
    if own is None:
        raise AdoptionError(
            f"the graph gives {count} logits and no labels: give --labels, with commas between "
            "them, or a file (text, CSV or JSON)"
        )
    width = 1 if head is Head.BINARY else len(own)
    if count != width:
        is_binary = "; a binary head has one, for the second of two labels"
        raise AdoptionError(
            f"the graph gives {count} logits, but --head {head} with {len(own)} labels has "
            f"{width}{is_binary if head is Head.BINARY else ''}"
        )
    thresholds = terms.thresholds
    if thresholds is None and head is Head.SIGMOID:
        thresholds = (0.5,)
    if thresholds is not None and len(thresholds) == 1:
        thresholds = thresholds * len(own)
    goldens = [
        Golden(image=picture, logits=tuple(row.tolist()))
        for picture, row in zip(pictures, original.logits.astype(np.float32), strict=True)
    ]
    try:
        return ModelCard(
            name=terms.name,
            version=version,
            description=terms.description or f"Adopted from {file.name}.",
            head=head,
            labels=own,
            input=spec,
            temperature=terms.temperature,
            thresholds=thresholds,
            goldens=tuple(goldens),
            tolerance=original.tolerance,
            adopted=Adoption(file=file.name, ending=original.ending.note),
            created=datetime.now(UTC),
            license=terms.license,
        )
    except ValidationError as error:
        raise AdoptionError(first_reason(error)) from error


def _publish(
    original: Original, card: ModelCard, draft: Draft, images: npt.NDArray[np.uint8]
) -> tuple[Predictor, float]:
    """Write the first wrapped graph that loads and reproduces the original's answers."""
    reasons = []
    for batch, graph in original.wrapped():
        try:
            published = _write(
                graph, card.model_copy(update={"batch": batch}), draft.folder / MODEL_FILE
            )
            return published, original.compare(published, images)
        except GoldenMismatchError:
            reasons.append(MIXED.format(batch="several" if batch is None else batch))
        except (AdoptionError, ModelFileError) as error:
            reasons.append(str(error))
        # onnxruntime's run-time errors have no other common base class.
        except RuntimeError as error:
            reasons.append(f"the graph does not run: {str(error).splitlines()[0]}")
    raise AdoptionError(reasons[-1])


def _write(graph: onnx.ModelProto, card: ModelCard, path: Path) -> Predictor:
    """Write the file, then load and verify it."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: card.to_json()})
    try:
        onnx.save(graph, path)
    except ValueError as error:  # protobuf's size limit
        raise AdoptionError("the model is larger than the limit of an ONNX file (2 GiB)") from error
    except OSError as error:
        raise AdoptionError(f"the model cannot be written: {error.strerror}") from error
    with read(path) as reading:
        return Predictor.of(reading)


def _with_reference(published: Predictor, pictures: Sequence[Path], path: Path) -> Predictor:
    """Write the file again with the drift reference on its card."""
    card = published.card
    chosen = pictures[:: -(-len(pictures) // features.MOST_PICTURES)]
    parts = []
    for start in range(0, len(chosen), SAMPLE_CHUNK):
        samples = [Sample(picture) for picture in chosen[start : start + SAMPLE_CHUNK]]
        images = _decoded(samples, card.input)
        parts.append(features.measure(images, published.predict(images), card))
    normal = features.reference(features.joined(parts), card)
    return _write(onnx.load(path), card.model_copy(update={"reference": normal}), path)


def _decoded(samples: Sequence[Sample], spec: InputSpec) -> npt.NDArray[np.uint8]:
    images = []
    for sample in samples:
        try:
            images.append(preprocessing.decode(sample.file.read_bytes(), spec))
        except (ImageError, OSError) as error:
            raise AdoptionError(f"sample {sample.file} cannot be used: {error}") from error
    return np.stack(images)


def _answers(
    published: Predictor, names: Sequence[str], images: npt.NDArray[np.uint8]
) -> list[Answer]:
    found = published.predict(images)
    return [
        Answer(name, published.card.labels[argmax], float(probabilities[argmax]))
        for name, argmax, probabilities in zip(
            names, found.argmax, found.probabilities, strict=True
        )
    ]
