"""What `logitserve train` can make. Data only: it is read for `--help`, without TensorFlow."""

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
    """Two hidden layers of 25 and 15 rectified units."""
    RESIDUAL_CNN = "residual-cnn"
    """A small convolutional network with residual blocks."""
    DEEP_RESIDUAL_CNN = "deep-residual-cnn"
    """The same with a block more."""
    SCENE_CNN = "scene-cnn"
    """The same for things that may be anywhere in a picture of any size."""
    PHOTO_CNN = "photo-cnn"
    """The scene network, narrower and blind to light: for a few hundred photographs."""
    CNN = "cnn"
    """Three convolutions, each followed by pooling."""


class Source(StrEnum):
    """Where the pictures come from: the modules of `logitserve_training.datasets`."""

    MNIST = "mnist"
    SCENES = "scenes"
    """Several MNIST digits in one picture."""
    FOLDER = "folder"
    """Anybody's own pictures."""


class Optimizer(StrEnum):
    """How the weights follow the gradient."""

    ADAM = "adam"
    SGD = "sgd"
    """With Nesterov momentum 0.9."""


class Schedule(StrEnum):
    """How the learning rate changes during training."""

    CONSTANT = "constant"
    COSINE = "cosine"
    """Up from 0 during the first twentieth of the steps, then down to 0 along a cosine."""


def _require(checks: dict[str, bool]) -> None:
    for requirement, is_met in checks.items():
        if not is_met:
            raise OptionError(requirement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user may change about a recipe: of each field its help and, where needed, its metavar.

    Raises:
        OptionError: a value that cannot be used; it names the option as the command line does.
    """

    optimizer: Annotated[Optimizer, "how the weights follow the gradient"] = Optimizer.ADAM
    learning_rate: Annotated[float, "the largest of the schedule"] = 1e-3
    epochs: Annotated[int, "passes over the training part"] = 20
    batch_size: Annotated[int, "pictures a step"] = 128
    weight_decay: Annotated[float, "decoupled from the gradient"] = 0.0
    """Each step takes this × learning rate of every weight (not of biases)."""
    seed: Annotated[int, "the same one gives the same weights on the same machine"] = 0

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
    """How far a training picture may be bent, drawn anew each time it is seen."""

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
    """How much light, contrast and the balance of the colors vary, as a logarithm, uniform."""
    until: float = 1.0
    """Share of the training, 0 to 1, after which pictures are seen as they are.

    Bent ones are blurred a little, and no other picture is (He, Xie, Chen et al. 2019, "Data
    Augmentation Revisited", arXiv:1909.09148)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOptions:
    """What a user may say about a folder of pictures; None lets the pictures decide.

    Raises:
        OptionError: a value that cannot be used; it names the option as the command line does.
    """

    head: Annotated[
        Head | None,
        "softmax: one class each; sigmoid: any number of labels, where a table may mean either; "
        "binary: one logit for two classes",
    ] = None
    class_by: Annotated[
        str | None,
        "where the class stands, if that may be in two places: which of nested folders, which "
        "column of the table, or a regular expression for the beginning of the file names",
        "first|last|COLUMN|REGEX",
    ] = None
    image_size: Annotated[
        tuple[int, int] | None, "pixels that the network takes: 64 or HEIGHTxWIDTH", "SIZE"
    ] = None
    channels: Annotated[Literal[1, 3] | None, "1: luminance; 3: color"] = None
    group_by: Annotated[
        str | None,
        "keep pictures of one drive, person … in one part: a column of labels.csv, or a regular "
        "expression for the beginning of the file names",
        "COLUMN|REGEX",
    ] = None
    test_groups: Annotated[
        tuple[str, ...], "the groups to test on, which nothing is trained or chosen on", "GROUP,…"
    ] = ()
    test_split: Annotated[float, "share to test on, where no groups are named [0.15]"] = 0.15
    validation_split: Annotated[float, "share to choose on [0.15]"] = 0.15
    folds: Annotated[
        int | None,
        "with --backbone, of few pictures: test on all of them, in so many parts in turn",
    ] = None
    flip: Annotated[bool | None, "mirror training pictures", "yes|no"] = None
    crop: Annotated[float, "how much they grow, shrink and move [0.2]"] = 0.2
    color: Annotated[float, "how much their light and colors vary [0.3]"] = 0.3
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
                "--folds tests on every group in turn: leave --test-groups out": (
                    self.folds is None or not self.test_groups
                ),
                "--test-groups needs --group-by": not self.test_groups or self.group_by is not None,
            }
        )


DIGIT_INPUT: Final = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT)
SCENE_INPUT: Final = InputSpec(height=56, width=56, channels=1, fit=Fit.PAD)
"""Padded, because a stretched digit is another shape than those that were learned."""
DIGITS: Final = tuple("0123456789")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one kind of model is made."""

    name: str
    description: str
    """One sentence for the person who uses the model; it goes into the card."""
    takes: str
    """How long, on two cores, as a person would say it."""
    network: NetworkName
    head: Head = Head.SOFTMAX
    labels: tuple[str, ...] = DIGITS
    class_of: tuple[int, ...] = tuple(range(10))
    """For each class of the data set, the index of its label."""
    input: InputSpec = DIGIT_INPUT
    source: Source = Source.MNIST
    options: Options
    """The defaults, chosen on the validation part."""
    schedule: Schedule = Schedule.CONSTANT
    averaged_epochs: float | None = None
    """Time constant of an exponential moving average of the weights, which is what is kept.

    A tenth of all epochs where that is less.
    """
    augmentation: Augmentation | None = None
    disturbed: float = 0.0
    """Share of each batch that is disturbed too; `logitserve_training.disturb`."""
    strangers: float = 0.0
    """Pictures of no label, for each picture of a batch; `logitserve_training.made_up`.

    The network learns them as one class more, and so to tell what is none of the labels."""
    own: int = 0
    """Hidden units that this class alone is read from; 0: what the labels are read from.

    For networks whose last features are few or pixels. The labels' logits then learn nothing from
    the strangers, and are those of the network without them."""
    is_weighed: bool = False
    """Whether rare labels count more in the loss; `logitserve_training.losses`."""
    keeps_best: bool = False
    """Whether the weights of the epoch with the least validation loss are taken, and training ends
    when a third of the epochs has brought no better ones."""
    folder: FolderOptions | None = None
    """Of a folder of pictures, which completes labels, head, input and augmentation."""


FOLDS_NEED_A_BACKBONE: Final = (
    "--folds is for a head on a --backbone, which is fitted in seconds: a network from scratch "
    "would be trained anew for each fold, and without a part that says when to stop"
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
            strangers=0.125,
            own=32,
        ),
        Recipe(
            name="digits-mlp",
            description="Which digit is it? The lecture's network of 25, 15 and 10 units.",
            takes="2 minutes",
            network=NetworkName.MLP,
            options=Options(epochs=30, weight_decay=0.1),
            averaged_epochs=2,
            strangers=0.125,
            own=32,
        ),
        Recipe(
            name="digits",
            description="Which digit is it? For noisy pictures too; says what is no digit.",
            takes="55 minutes",
            network=NetworkName.DEEP_RESIDUAL_CNN,
            input=DIGIT_INPUT.model_copy(update={"as_sent": True}),
            options=Options(learning_rate=3e-3, epochs=56, weight_decay=0.05),
            schedule=Schedule.COSINE,
            averaged_epochs=1,
            augmentation=_LIKE_A_HAND,
            disturbed=0.4,
            strangers=0.125,
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
            strangers=0.125,
            own=32,
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
    """The recipe of that name.

    Raises:
        OptionError: there is none; the message lists those that there are.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise OptionError(absent("recipe", name, RECIPES)) from None


def of_card(card: ModelCard) -> Recipe:
    """The recipe that a model was made by, with the options, labels and input of its card.

    Raises:
        OptionError: the card names none that is known here.
    """
    training = card.training
    if training is None or training.recipe not in RECIPES:
        raise OptionError(
            f"model {card.name!r} was not made by a recipe of this version "
            f"({', '.join(RECIPES)}), so its held-out pictures are not known here"
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
