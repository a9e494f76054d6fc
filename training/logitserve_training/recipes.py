"""The recipes of `logitserve train`. Data only: `--help` reads it without TensorFlow."""

import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from logitserve.inference.card import Fit, Head, InputSpec, ModelCard
from logitserve.inference.naming import absent
from logitserve_training.errors import OptionError


class NetworkName(StrEnum):
    """The networks of `logitserve_training.networks`."""

    LINEAR = "linear"
    """One dense layer: softmax regression, logistic regression."""
    MLP = "mlp"
    """Two hidden layers of 25 and 15 ReLU units."""
    RESIDUAL_CNN = "residual-cnn"
    """A small convolutional network with residual blocks."""
    DEEP_RESIDUAL_CNN = "deep-residual-cnn"
    """`residual-cnn` with one more block."""
    SCENE_CNN = "scene-cnn"
    """A residual network with global pooling for small objects anywhere in a picture."""
    PHOTO_CNN = "photo-cnn"
    """A narrower scene network with input standardization, for a few hundred photographs."""
    CNN = "cnn"
    """Three convolutions, each followed by pooling."""


class Source(StrEnum):
    """Origin of the pictures: the modules of `logitserve_training.datasets`."""

    MNIST = "mnist"
    SCENES = "scenes"
    """Several MNIST digits in one picture."""
    FOLDER = "folder"
    """A folder of the user's own pictures."""


class Optimizer(StrEnum):
    """Optimization algorithm."""

    ADAM = "adam"
    SGD = "sgd"
    """With Nesterov momentum 0.9."""


class Schedule(StrEnum):
    """Learning rate schedule."""

    CONSTANT = "constant"
    COSINE = "cosine"
    """Linear warmup during the first twentieth of the steps, then cosine decay to 0."""


def _require(checks: dict[str, bool]) -> None:
    for requirement, is_met in checks.items():
        if not is_met:
            raise OptionError(requirement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """User options of a recipe; each field has its help and, where needed, its metavar.

    Raises:
        OptionError: a value is invalid; the message names the command line option.
    """

    optimizer: Annotated[Optimizer, "optimization algorithm"] = Optimizer.ADAM
    learning_rate: Annotated[float, "peak of the schedule"] = 1e-3
    epochs: Annotated[int, "passes over the training part"] = 20
    batch_size: Annotated[int, "pictures per step"] = 128
    weight_decay: Annotated[float, "decoupled from the gradient"] = 0.0
    """Each step subtracts this × learning rate × weight (not from biases)."""
    seed: Annotated[int, "equal seeds give equal weights on the same machine"] = 0

    def __post_init__(self) -> None:
        _require(
            {
                "--learning-rate must be above 0": 0 < self.learning_rate < math.inf,
                "--epochs must be at least 1": self.epochs >= 1,
                "--batch-size must be at least 1": self.batch_size >= 1,
                "--weight-decay must be 0 or more": 0 <= self.weight_decay < math.inf,
                "--seed must be 0 to 4294967295": 0 <= self.seed < 2**32,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Ranges of random augmentation, drawn anew each time a picture is used."""

    rotation: float
    """Degrees to either side, uniform."""
    scale: float
    """Fraction by which each side may grow or shrink, uniform."""
    shear: float
    """Slant to either side as a fraction of the height, uniform."""
    shift: float
    """Pixels to either side, uniform."""
    elastic: float
    """Pixels, standard deviation of a smooth random displacement field."""
    flip: bool = False
    """Whether half of the pictures are mirrored, left to right."""
    color: float = 0.0
    """Maximum change of brightness, contrast and color balance, as a logarithm, uniform."""
    until: float = 1.0
    """Share of the training, 0 to 1, after which pictures are not augmented.

    Deformed pictures are slightly blurred, unlike real ones (He, Xie, Chen et al. 2019, "Data
    Augmentation Revisited", arXiv:1909.09148)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOptions:
    """User options for a folder of pictures; None chooses a value from the pictures.

    Raises:
        OptionError: a value is invalid; the message names the command line option.
    """

    head: Annotated[
        Head | None,
        "softmax: one class per picture; sigmoid: any number of labels, if a table is ambiguous; "
        "binary: one logit for two classes",
    ] = None
    class_by: Annotated[
        str | None,
        "position of the class if it is ambiguous: first or last of nested folders, a column of "
        "the table, or a regular expression for the beginning of the file names",
        "first|last|COLUMN|REGEX",
    ] = None
    image_size: Annotated[
        tuple[int, int] | None, "input size in pixels: 64 or HEIGHTxWIDTH", "SIZE"
    ] = None
    channels: Annotated[Literal[1, 3] | None, "1: luminance; 3: color"] = None
    group_by: Annotated[
        str | None,
        "keep pictures of one group (drive, person …) in one part: a column of labels.csv, or a "
        "regular expression for the beginning of the file names",
        "COLUMN|REGEX",
    ] = None
    test_groups: Annotated[tuple[str, ...], "the groups of the test part", "GROUP,…"] = ()
    test_split: Annotated[float, "share of the test part, if no groups are named [0.15]"] = 0.15
    validation_split: Annotated[float, "share of the validation part [0.15]"] = 0.15
    folds: Annotated[
        int | None,
        "with --backbone, for few pictures: cross-validate with this number of folds",
    ] = None
    flip: Annotated[bool | None, "mirror training pictures randomly", "yes|no"] = None
    crop: Annotated[float, "random change of size and position [0.2]"] = 0.2
    color: Annotated[float, "random change of brightness and color [0.3]"] = 0.3
    """As a logarithm."""

    def __post_init__(self) -> None:
        _require(
            {
                "--image-size must be 8 to 1024 pixels a side": all(
                    8 <= side <= 1024 for side in self.image_size or ()
                ),
                "--test-split must be above 0, and at most 0.5": 0 < self.test_split <= 0.5,
                "--validation-split must be above 0, and at most 0.5": (
                    0 < self.validation_split <= 0.5
                ),
                "--crop must be 0 to 0.5": 0 <= self.crop <= 0.5,
                "--color must be 0 to 1": 0 <= self.color <= 1,
                "--folds must be 2 to 20": self.folds is None or 2 <= self.folds <= 20,
                "--folds tests on every group in turn: omit --test-groups": (
                    self.folds is None or not self.test_groups
                ),
                "--test-groups needs --group-by": not self.test_groups or self.group_by is not None,
            }
        )


DIGIT_INPUT: Final = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT)
SCENE_INPUT: Final = InputSpec(height=56, width=56, channels=1, fit=Fit.PAD)
"""Padded, because stretching changes the shape of digits."""
DIGITS: Final = tuple("0123456789")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Configuration of one kind of model."""

    name: str
    description: str
    """One sentence for the users of the model; it is copied to the card."""
    takes: str
    """Approximate duration on two cores."""
    network: NetworkName
    head: Head = Head.SOFTMAX
    labels: tuple[str, ...] = DIGITS
    class_of: tuple[int, ...] = tuple(range(10))
    """Label index of each class of the data set."""
    input: InputSpec = DIGIT_INPUT
    source: Source = Source.MNIST
    options: Options
    """Default options, chosen on the validation part."""
    schedule: Schedule = Schedule.CONSTANT
    averaged_epochs: float | None = None
    """Time constant of an exponential moving average of the weights, which is the final model.

    At most a tenth of all epochs.
    """
    augmentation: Augmentation | None = None
    disturbed: float = 0.0
    """Share of each batch that is disturbed; see `logitserve_training.disturb`."""
    negatives: float = 0.0
    """Negative examples per picture of a batch; see `logitserve_training.synthetic_negatives`.

    The network learns them as an additional class, to detect out-of-distribution pictures."""
    novelty_units: int = 0
    """Hidden units for the additional class only; 0: it shares the features of the labels.

    For networks whose last features are few, or pixels. The labels' logits are then independent of
    the pictures without a label."""
    is_weighed: bool = False
    """Whether the loss has class weights; see `logitserve_training.losses`."""
    keeps_best: bool = False
    """Early stopping: use the weights with the lowest validation loss, and stop after a third of
    the epochs without a lower one."""
    folder: FolderOptions | None = None
    """Options for a folder of pictures, from which labels, head, input and augmentation follow."""


FOLDS_NEED_A_BACKBONE: Final = (
    "--folds needs --backbone, whose head is fitted in seconds: a network from scratch "
    "would be trained anew for each fold, without a validation part for early stopping"
)

_LIKE_A_HAND: Final = Augmentation(
    rotation=12.0, scale=0.12, shear=0.15, shift=1.5, elastic=0.6, until=0.85
)

RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="softmax-regression",
            description="Which digit is it? One linear layer: the baseline.",
            takes="2 minutes",
            network=NetworkName.LINEAR,
            options=Options(epochs=20, weight_decay=0.1),
            averaged_epochs=2,
            negatives=0.125,
            novelty_units=32,
        ),
        Recipe(
            name="digits-mlp",
            description="Which digit is it? The lecture's network of 25, 15 and 10 units.",
            takes="2 minutes",
            network=NetworkName.MLP,
            options=Options(epochs=30, weight_decay=0.1),
            averaged_epochs=2,
            negatives=0.125,
            novelty_units=32,
        ),
        Recipe(
            name="digits",
            description="Which digit is it? Robust to noise; detects pictures that are not digits.",
            takes="55 minutes",
            network=NetworkName.DEEP_RESIDUAL_CNN,
            input=DIGIT_INPUT.model_copy(update={"as_sent": True}),
            options=Options(learning_rate=3e-3, epochs=56, weight_decay=0.05),
            schedule=Schedule.COSINE,
            averaged_epochs=1,
            augmentation=_LIKE_A_HAND,
            disturbed=0.4,
            negatives=0.125,
        ),
        Recipe(
            name="zero",
            description="Is it a zero? The lecture's network with one logit.",
            takes="2 minutes",
            network=NetworkName.MLP,
            head=Head.BINARY,
            labels=("other", "zero"),
            class_of=(1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
            options=Options(epochs=30, weight_decay=0.1),
            averaged_epochs=2,
            negatives=0.125,
            novelty_units=32,
        ),
        Recipe(
            name="scenes",
            description="Which of the ten digits are in the picture? Up to four, light on dark.",
            takes="20 minutes",
            network=NetworkName.SCENE_CNN,
            head=Head.SIGMOID,
            input=SCENE_INPUT,
            source=Source.SCENES,
            options=Options(learning_rate=2e-3, epochs=8, batch_size=64, weight_decay=0.05),
            schedule=Schedule.COSINE,
            averaged_epochs=0.5,
        ),
        Recipe(
            name="folder",
            description="Trained on a folder of pictures.",
            takes="1 minute for a few hundred pictures",
            network=NetworkName.PHOTO_CNN,
            labels=(),
            class_of=(),
            input=InputSpec(height=60, width=80, channels=3, fit=Fit.STRETCH),
            source=Source.FOLDER,
            options=Options(learning_rate=2e-3, epochs=45, batch_size=32, weight_decay=0.05),
            schedule=Schedule.COSINE,
            averaged_epochs=5,
            is_weighed=True,
            keeps_best=True,
            folder=FolderOptions(),
        ),
    )
}


def find(name: str) -> Recipe:
    """Return the recipe with this name.

    Raises:
        OptionError: it does not exist; the message lists those that do.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise OptionError(absent("recipe", name, RECIPES)) from None


def of_card(card: ModelCard) -> Recipe:
    """Return the recipe of a model, with the options, labels and input of its card.

    Raises:
        OptionError: the recipe on the card is unknown in this version.
    """
    training = card.training
    if training is None or training.recipe not in RECIPES:
        raise OptionError(
            f"model {card.name!r} was not trained with a recipe of this version "
            f"({', '.join(RECIPES)}), so its held-out pictures are unknown"
        )
    recipe, settings = RECIPES[training.recipe], training.settings
    options: dict[str, Any] = {
        field.name: settings[field.name] for field in fields(Options) if field.name in settings
    }
    if "optimizer" in options:
        options["optimizer"] = Optimizer(options["optimizer"])
    folder = recipe.folder
    if folder is not None:
        said: dict[str, Any] = dict(settings.get("folder", {}))  # type: ignore[arg-type]
        tuples = {key: tuple(value) for key, value in said.items() if isinstance(value, list)}
        asked = said.get("head") and Head(said["head"])
        head = asked if card.head is Head.SIGMOID else card.head
        folder = FolderOptions(**said | tuples | {"head": head})
    return replace(
        recipe,
        network=NetworkName(str(settings.get("network", recipe.network))),
        head=card.head,
        labels=card.labels,
        input=card.input,
        options=replace(recipe.options, **options),
        folder=folder,
    )
