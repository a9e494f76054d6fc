"""Features of a pretrained backbone, cached by content, and the export of backbone and head."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from PIL import Image
from pydantic import JsonValue

from logitserve.inference import runtime
from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import INPUT, OUTPUT
from logitserve_training.datasets.dataset import Images
from logitserve_training.errors import OptionError
from logitserve_training.linear_head import Array, LinearHead
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Augmentation, Recipe

Form = tuple[bool, float]
"""Whether a picture is mirrored, and the share of each side that is cropped."""

_BATCH: Final = 16
_HEAD: Final = ("head/kernel", "head/bias")
_MOST: Final = 10_000
"""Limit of pictures × augmented forms whose features are computed."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained feature extractor."""

    graph: onnx.ModelProto
    """`image`, uint8 `[batch, height, width, channels]` → float32 `[batch, k]`."""
    settings: dict[str, JsonValue]
    """Origin, for the card; `file` is the file's name."""
    license: str
    """SPDX identifier of the weights' license."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Input shape: height, width, channels."""
        _, height, width, channels = self.graph.graph.input[0].type.tensor_type.shape.dim
        return height.dim_value, width.dim_value, channels.dim_value

    @property
    def width(self) -> int:
        """Number of features per picture."""
        return int(self.graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value)

    def recipe_of(self, recipe: Recipe) -> Recipe:
        """Return the recipe for a folder, with the backbone's input.

        Raises:
            OptionError: the recipe is not for folders.
        """
        if recipe.folder is None:
            raise OptionError(f"--backbone needs the recipe 'folder', not {recipe.name!r}")
        height, width, channels = self.shape
        folder = replace(
            recipe.folder,
            image_size=(height, width),
            channels=3 if channels == 3 else 1,
        )
        return replace(recipe, folder=folder)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the graph, hexadecimal."""
        return hashlib.sha256(self.graph.SerializeToString(deterministic=True)).hexdigest()

    @cached_property
    def run(self) -> Callable[[Images], Array]:
        """Return a function that computes features, float32 `[n, k]`, on all CPUs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "backbone.onnx"
            onnx.save(self.graph, path)
            session = runtime.open_session(path, threads=runtime.available_cpus())
        name = self.graph.graph.output[0].name

        def run(images: Images) -> Array:
            starts = range(0, len(images), _BATCH)
            parts = [session.run([name], {INPUT: images[at : at + _BATCH]})[0] for at in starts]
            return np.concatenate(parts)

        return run

    def with_head(self, head: LinearHead) -> onnx.ModelProto:
        """Merge backbone and head into one graph: `image` → `logits`, float32 `[batch, logits]`."""
        both = onnx.ModelProto()
        both.CopyFrom(self.graph)
        features = both.graph.output.pop()
        both.graph.value_info.append(features)  # `Apart.of` finds the tensor by this
        weights = (head.kernel, head.bias)
        both.graph.initializer.extend(map(numpy_helper.from_array, weights, _HEAD))
        inputs = [features.name, *_HEAD]
        both.graph.node.append(helper.make_node("Gemm", inputs, [OUTPUT]))
        shape = ["batch", len(head.bias)]
        both.graph.output.append(
            helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, shape)
        )
        return both


@dataclass(frozen=True, slots=True)
class Apart:
    """Backbone and head, run separately: the reference for the published file."""

    backbone: Backbone
    head: LinearHead

    @classmethod
    def of(cls, proto: onnx.ModelProto, card: ModelCard) -> "Apart":
        """Split a graph made by `Backbone.with_head`.

        Raises:
            OptionError: the card has no backbone, or its digest differs.
        """
        settings = {} if card.training is None else card.training.settings
        settings = cast("dict[str, JsonValue]", settings.get("backbone", {}))
        backbone = onnx.ModelProto()
        backbone.CopyFrom(proto)
        graph = backbone.graph
        del backbone.metadata_props[:]
        weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer[-2:]}
        if graph.value_info and tuple(weights) == _HEAD:
            del graph.node[-1], graph.initializer[-2:]
            graph.output[0].CopyFrom(graph.value_info.pop())
        made = Backbone(backbone, settings, card.license)
        if made.digest != settings.get("sha256"):
            raise OptionError(f"the file of {card.name!r} is not its backbone plus a linear head")
        return cls(made, LinearHead(*weights.values()))

    def predict(self, images: Images, **_: Any) -> npt.NDArray[np.float32]:
        """Return logits, `[n, logits]`; same signature as a Keras model."""
        return self.head.logits(self.backbone.run(images)).astype(np.float32)


def forms(augmentation: Augmentation | None, pictures: int) -> list[Form]:
    """Return the augmented forms in which each training picture is learned.

    The first is the original; with many pictures it is the only one.
    """
    found: list[Form] = [(False, 0.0)]
    if augmentation is not None and augmentation.scale:
        found.append((False, augmentation.scale))
    if augmentation is not None and augmentation.flip:
        found += [(True, cut) for _, cut in tuple(found)]
    return found[: max(1, _MOST // pictures)]


def features(
    backbone: Backbone,
    images: Images,
    cache: Path,
    reporter: Reporter,
    *,
    form: Form = (False, 0.0),
) -> Array:
    """Compute features of pictures in one of their `forms`, float32 `[n, k]`.

    Each picture's features are cached by content in a file in the folder `cache`.
    """
    folder = cache / backbone.digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    found = np.zeros((len(images), backbone.width), np.float32)
    paths = [folder / f"{hashlib.sha256(repr(form).encode() + one.tobytes()).hexdigest()}.npy"
             for one in images]  # fmt: skip
    waiting = [row for row, path in enumerate(paths) if not _kept(path, found[row])]
    with reporter.steps("features", len(waiting)) as advance:
        for at in range(0, len(waiting), _BATCH):
            rows = waiting[at : at + _BATCH]
            found[rows] = backbone.run(np.stack([_varied(images[row], form) for row in rows]))
            for row in rows:
                _keep(paths[row], found[row])
            advance(len(rows))
    return found


def _kept(path: Path, row: Array) -> bool:
    """Load a picture's cached features into `row`; return whether a complete file exists."""
    try:
        row[:] = np.load(path)
    except (OSError, ValueError, EOFError):
        return False
    return True


def _keep(path: Path, row: Array) -> None:
    file = tempfile.NamedTemporaryFile(dir=path.parent, delete=False)  # noqa: SIM115 - closed below
    try:
        with file:
            np.save(file, row)
        Path(file.name).replace(path)
    finally:  # also after an interruption
        Path(file.name).unlink(missing_ok=True)


def _varied(image: npt.NDArray[np.uint8], form: Form) -> npt.NDArray[np.uint8]:
    is_mirrored, cut = form
    if is_mirrored:
        image = image[:, ::-1]
    if not cut:
        return image
    height, width = image.shape[:2]
    box = (width * cut / 2, height * cut / 2, width * (1 - cut / 2), height * (1 - cut / 2))
    shown = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    resized = shown.resize((width, height), Image.Resampling.BILINEAR, box)
    return np.asarray(resized).reshape(image.shape)


def cache_folder() -> Path:
    """Return the cache folder of features: below `XDG_CACHE_HOME`, else below `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "logitserve" / "features"
