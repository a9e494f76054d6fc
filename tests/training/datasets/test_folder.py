"""Folders of pictures that the tests draw, trained on and served."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw
from rich.console import Console

from logitserve.cli.evaluate import command
from logitserve.inference.card import Fit, Head
from logitserve.inference.predictor import Predictor
from logitserve_training import pipeline, recipes
from logitserve_training.baseline import VERDICT
from logitserve_training.datasets import decoding, duplicates, folder
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.errors import DataError, DataFormatError, OptionError
from logitserve_training.progress import Reporter
from logitserve_training.recipes import FolderOptions, NetworkName, Options, Recipe
from tests.tiny_models import encode
from tests.training.measured import evaluate_file

QUICK = Options(epochs=8, batch_size=16, learning_rate=1e-2)
SHAPES = ("circle", "square", "line")


def picture(shapes: list[str], seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Shapes, each of its own color, on paper that is not all of one color."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(180, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    canvas = ImageDraw.Draw(image)
    for shape in shapes:
        left, top = generator.integers(0, size[0] - 14), generator.integers(0, size[1] - 14)
        box = (int(left), int(top), int(left) + 13, int(top) + 13)
        if shape == "circle":
            canvas.ellipse(box, fill=(200, 30, 30))
        elif shape == "square":
            canvas.rectangle(box, fill=(30, 160, 30))
        else:
            canvas.line(box, fill=(20, 20, 200), width=4)
    return image


def class_folder(path: Path, count: int = 24, classes: tuple[str, ...] = SHAPES[:2]) -> Path:
    """One folder a class, in several formats, sizes and modes."""
    for number, shape in enumerate(classes):
        (path / shape).mkdir(parents=True)
        for index in range(count):
            drawn = picture([shape], 100 * number + index, (40 + index % 3, 30))
            name, suffix = [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")][index % 3]
            if suffix == "png":
                drawn = drawn.convert("RGBA" if index % 2 else "P")
            (path / shape / f"m{index % 4}_{index}.{suffix}").write_bytes(encode(drawn, name))
    return path


def label_folder(path: Path, count: int = 60) -> Path:
    """`labels.csv`; every label in about half of the pictures, the last in few."""
    path.mkdir()
    generator = np.random.default_rng(5)
    with (path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", *SHAPES])
        for index in range(count):
            holds = generator.random(3) < (0.5, 0.5, 0.2)
            shapes = [shape for shape, held in zip(SHAPES, holds, strict=True) if held]
            picture(shapes, index).save(path / f"{index}.png")
            table.writerow([f"{index}.png", *holds.astype(int)])
    return path


def load(path: Path, **options: object) -> tuple[Recipe, Dataset, str]:
    log = io.StringIO()
    recipe = recipes.find("folder")
    chosen: FolderOptions = replace(recipe.folder or FolderOptions(), **options)  # type: ignore[arg-type]
    reporter = Reporter(Console(file=log, width=400))
    found, dataset = folder.load(replace(recipe, folder=chosen), path, reporter)
    return found, dataset, log.getvalue()


def test_a_class_folder_is_read_in_three_stratified_parts(tmp_path: Path) -> None:
    recipe, dataset, log = load(class_folder(tmp_path / "shapes"))
    assert (recipe.head, recipe.labels) == (Head.SOFTMAX, ("circle", "square"))
    assert recipe.input.shape == (30, 41, 3)
    assert recipe.input.fit is Fit.STRETCH
    assert dataset.name == "shapes"
    for part, count in ((dataset.train, 34), (dataset.validation, 7), (dataset.test, 7)):
        assert abs(len(part) - count) <= 1
        assert abs(np.diff(np.bincount(part.classes))[0]) <= 1
    assert "training: 3" in log


def test_what_the_pictures_say_can_be_overruled(tmp_path: Path) -> None:
    recipe, dataset, _ = load(
        class_folder(tmp_path / "shapes"),
        head=Head.BINARY,
        image_size=(16, 24),
        channels=1,
        flip=True,
        test_split=0.25,
    )
    assert recipe.head is Head.BINARY
    assert dataset.train.images.shape[1:] == recipe.input.shape == (16, 24, 1)
    assert len(dataset.test) == 12
    assert recipe.augmentation is not None
    assert recipe.augmentation.flip


def test_large_pictures_of_many_aspects_are_shrunk_and_padded(tmp_path: Path) -> None:
    for shape in SHAPES[:2]:
        (tmp_path / shape).mkdir()
        for index in range(9):
            size = [(400, 300), (300, 400), (500, 200)][index % 3]
            picture([shape], index, size).convert("L").save(tmp_path / shape / f"{index}.png")
    recipe, _, _ = load(tmp_path)
    assert recipe.input.fit is Fit.PAD
    assert recipe.input.channels == 1
    assert max(recipe.input.height, recipe.input.width) <= decoding.LONGEST_SIDE


def test_broken_files_are_counted_named_and_left_out(tmp_path: Path) -> None:
    path = class_folder(tmp_path / "shapes")
    whole = (path / "circle" / "m0_0.png").read_bytes()
    (path / "circle" / "cut.png").write_bytes(whole[:200])
    (path / "circle" / "empty.jpg").write_bytes(b"")
    (path / "square" / "notes.txt").write_text("not a picture")
    _, dataset, log = load(path)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 48
    line = next(line for line in log.splitlines() if line.startswith("left out"))
    assert line.startswith(
        "left out 3 of 51 files that are not complete pictures: circle/cut.png ("
    )
    assert "square/notes.txt" in line


def test_a_class_without_a_readable_picture(tmp_path: Path) -> None:
    path = class_folder(tmp_path / "shapes")
    (path / "triangle").mkdir()
    (path / "triangle" / "a.png").write_bytes(b"broken")
    with pytest.raises(DataFormatError, match="no readable picture shows triangle"):
        load(path)
    for broken in path.rglob("*.*"):
        broken.write_bytes(b"")
    with pytest.raises(DataFormatError, match="none of the files can be read as a picture"):
        load(path)


def test_too_few_pictures_and_heads_that_do_not_suit(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"the \w+ part has no picture of"):
        load(class_folder(tmp_path / "few", count=2))
    three = class_folder(tmp_path / "three", count=6, classes=SHAPES)
    with pytest.raises(OptionError, match="--head binary needs two classes; there are 3"):
        load(three, head=Head.BINARY)
    with pytest.raises(OptionError, match=r"labels.csv.* have several labels"):
        load(label_folder(tmp_path / "labels"), head=Head.BINARY)
    with pytest.raises(OptionError, match="needs --data"):
        folder.load(recipes.find("folder"), None, Reporter())


def test_groups_are_kept_apart(tmp_path: Path) -> None:
    path = class_folder(tmp_path / "shapes")
    _, dataset, log = load(path, group_by="m[0-9]")
    assert {len(dataset.validation), len(dataset.test)} == {12}
    assert "test: 12 pictures, groups m" in log
    _, dataset, log = load(path, group_by="m[0-9]", test_groups=("m1", "m2"))
    assert "test: 24 pictures, groups m1 (12), m2 (12)" in log
    assert abs(len(dataset.validation) - 4) <= 1  # torn out of the two groups that are left
    with pytest.raises(OptionError, match=r"--test-groups x: no such group; groups: m0 \(12\)"):
        load(path, group_by="m[0-9]", test_groups=("x",))
    with pytest.raises(OptionError, match="names every group"):
        load(path, group_by="m[0-9]", test_groups=("m0", "m1", "m2", "m3"))
    with pytest.raises(OptionError, match="training, validation and test need one group each"):
        load(path, group_by="m")


def test_near_duplicates_across_parts_are_warned_of(tmp_path: Path) -> None:
    """Each scene is filmed six times, under other light; grouped by scene there is no warning."""
    for number, shape in enumerate(SHAPES[:2]):
        (tmp_path / shape).mkdir()
        for scene in range(8):
            smooth = picture([shape], 10 * number + scene).resize((8, 6)).resize((40, 30))
            for shot in range(6):
                darker = smooth.point(
                    [round(level * (1 - 0.02 * shot)) for level in range(256)] * 3
                )
                darker.save(tmp_path / shape / f"s{scene}_{shot}.png")
    _, _, log = load(tmp_path)
    assert "near-duplicates of a training picture with the same labels" in log
    assert "--group-by" in log
    _, _, log = load(tmp_path, group_by="s[0-9]")
    assert "WARNING" not in log


def test_other_light_and_noise_make_a_near_copy_and_another_picture_is_none() -> None:
    generator = np.random.default_rng(0)

    def soft(seed: int) -> npt.NDArray[np.uint8]:
        levels = np.random.default_rng(seed).integers(60, 200, (5, 6, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(levels).resize((60, 45), Image.Resampling.BICUBIC))

    first = soft(1)
    noise = generator.integers(-3, 4, first.shape)
    relit = np.clip(first * 0.8 + 10 + noise, 0, 255).astype(np.uint8)
    shown, one = np.stack([first, relit, soft(2)]), np.ones((3, 1), np.int64)
    assert duplicates.twins(shown[:2], one[:2], np.array([0])) == ([(0, 1)], 0)
    assert duplicates.twins(shown, one, np.array([0, 2])) == ([(0, 1)], 0)


def test_a_mirrored_and_a_closer_copy_are_found_and_lookalikes_of_others_are_none() -> None:
    levels = np.random.default_rng(0).integers(60, 200, (6, 7, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(levels).resize((80, 60), Image.Resampling.BICUBIC))
    closer = np.asarray(Image.fromarray(scene[3:, 4:]).resize((80, 60)))
    for copy in (scene[:, ::-1], closer):
        shown = np.stack([scene, copy])
        assert duplicates.twins(shown, np.array([[1, 0], [1, 0]]), np.array([0])).pairs == [(0, 1)]
        assert not duplicates.twins(shown, np.array([[1, 0], [0, 1]]), np.array([0])).pairs


def test_handwriting_of_one_digit_is_no_near_copy(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    digits = {"1": [(14, 4), (14, 14), (14, 24)], "7": [(6, 5), (21, 5), (16, 14), (11, 24)]}
    for digit, points in digits.items():
        (tmp_path / digit).mkdir()
        for index in range(60):
            image = Image.new("L", (28, 28))
            bent = [tuple(np.add(point, generator.integers(-4, 5, 2)).tolist()) for point in points]
            width = int(generator.integers(2, 5))
            ImageDraw.Draw(image).line(bent, fill=255, width=width)
            image.save(tmp_path / digit / f"{index}.png")
    assert "near-duplicates" not in load(tmp_path)[2]


def test_training_without_a_class_is_refused_with_the_number_needed(tmp_path: Path) -> None:
    """Each group has one class: the parts cannot hold them all."""
    path = class_folder(tmp_path / "shapes", classes=SHAPES)
    for found in list(path.rglob("*.*")):
        found.rename(found.with_name(f"{found.parent.name}-{found.name}"))
    with pytest.raises(DataFormatError, match=r"part has no picture of .*5 in all.*--test-groups"):
        load(path, group_by="[a-z]+")


def drawn(path: Path, counts: dict[str, int]) -> Path:
    """A folder a class, of so many pictures."""
    for number, (shape, count) in enumerate(counts.items()):
        (path / shape).mkdir(parents=True)
        for index in range(count):
            picture([shape], 100 * number + index).save(path / shape / f"{index}.png")
    return path


def test_a_rare_class_is_in_each_part(tmp_path: Path) -> None:
    _, dataset, log = load(drawn(tmp_path / "rare", {"circle": 60, "square": 3, "line": 4}))
    for part in (dataset.train, dataset.validation, dataset.test):
        assert np.bincount(part.classes, minlength=3).min() >= 1
    assert "WARNING: fewer than 10 pictures of line (4), square (3): too few to learn" in log


def test_the_same_picture_under_two_labels_is_warned_of(tmp_path: Path) -> None:
    path = class_folder(tmp_path / "shapes")
    assert "is also" not in load(path)[2]
    (path / "square" / "copy.png").write_bytes((path / "circle" / "m0_0.png").read_bytes())
    (path / "circle" / "copy.png").write_bytes((path / "circle" / "m0_0.png").read_bytes())
    log = load(path)[2]
    assert "WARNING: 1 pictures have other labels than a copy of them" in log
    assert "square/copy.png is also circle/copy.png" in log


def test_a_class_of_one_picture_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="one picture is too few for a class: line"):
        load(drawn(tmp_path / "one", {"circle": 12, "line": 1}))


def test_parts_that_the_folder_gives_are_taken_and_the_rest_is_torn_out(tmp_path: Path) -> None:
    drawn(tmp_path / "data" / "train", {"circle": 20, "square": 20})
    drawn(tmp_path / "data" / "test", {"circle": 4, "square": 3})
    _, dataset, log = load(tmp_path / "data")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [34, 6, 7]
    assert "47 pictures, 2 classes (circle, square): one folder per class, split given by" in log
    assert dataset.files is not None
    assert all("test" in file.parts for file in dataset.files["test"])


def test_few_pictures_are_trained_on_with_a_sane_temperature(tmp_path: Path) -> None:
    """Two of a class are both learned, so that neither validation nor test has one."""
    done = pipeline.train(
        replace(recipes.find("folder"), network=NetworkName.LINEAR),
        replace(QUICK, epochs=4),
        data=drawn(tmp_path / "few", {"circle": 14, "square": 9, "line": 2}),
        models=tmp_path / "models",
        name="few",
        console=Console(quiet=True),
    )
    card = Predictor.load(done.path).card
    assert 0.2 < card.temperature < 5
    assert card.labels == ("circle", "line", "square")


@pytest.mark.parametrize(
    ("interrupted_at", "take_best", "epochs"),
    [("epoch 3/", True, 3), ("epoch 3/", False, 9), ("export to", False, 9), ("label  ", True, 9)],
)
def test_an_interrupted_training_is_gone_on_with_or_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_at: str, epochs: int, *,
    take_best: bool,
) -> None:  # fmt: skip
    data = class_folder(tmp_path / "shapes")
    log = io.StringIO()

    def train(*, resume: bool = False) -> pipeline.Published:
        return pipeline.train(
            replace(recipes.find("folder"), network=NetworkName.LINEAR),
            replace(QUICK, epochs=9),
            data=data,
            models=tmp_path / "models",
            name="mine",
            console=Console(file=log, width=400),
            resume=resume,
            take_best=resume and take_best,
        )

    line = Reporter.line

    def interrupted(self: Reporter, text: str) -> None:
        line(self, text)
        if text.startswith(interrupted_at):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Reporter, "line", interrupted)
        train()
    assert "with --resume --finish it publishes the best epoch" in log.getvalue()
    assert [path.name for path in (tmp_path / "models" / "mine").iterdir()] == [".training"]
    done = train(resume=True)
    assert [path.name for path in (tmp_path / "models" / "mine").iterdir()] == ["1"]
    figures = json.loads((done.path.parent / "report" / "metrics.json").read_text())
    assert len(figures["epochs"]) == epochs
    with pytest.raises(OptionError, match="no training to resume"):
        train(resume=True)


def test_what_is_done_to_training_pictures_is_said(tmp_path: Path) -> None:
    path = class_folder(tmp_path / "shapes")
    assert "training pictures are mirrored" in load(path)[2]
    assert "training pictures are not mirrored" in load(path, flip=False)[2]


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_folder(tmp_path_factory.mktemp("labeled") / "data")


@pytest.fixture(scope="module")
def published(labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The model file of many labels, and what was said while it was trained."""
    log = io.StringIO()
    done = pipeline.train(
        replace(recipes.find("folder"), network=NetworkName.CNN),
        QUICK,
        data=labeled,
        models=tmp_path_factory.mktemp("models"),
        name="shapes",
        console=Console(file=log, width=200),
    )
    return done.path, log.getvalue()


def test_many_labels_are_published_with_thresholds_and_a_table(
    published: tuple[Path, str],
) -> None:
    path, log = published
    card = Predictor.load(path).card
    assert (card.head, card.labels) == (Head.SIGMOID, SHAPES)
    assert card.thresholds is not None
    assert {"macro_f1", "mean_average_precision", "majority_macro_f1"} <= card.metrics.keys()
    assert "weights in the loss: " in log
    assert "fewer than 2000 pictures" in log
    assert "Give one with --backbone" in log
    with (path.parent / "report" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == list(SHAPES)
    mean = np.mean([float(row["average_precision"]) for row in rows])
    assert mean == pytest.approx(card.metrics["mean_average_precision"], abs=1e-3)
    page = (path.parent / "report" / "index.html").read_text()
    assert "<h2>Comparison with the majority class</h2>" in page


def test_it_is_measured_again_on_its_test_part_and_on_another_folder(
    published: tuple[Path, str], labeled: Path, tmp_path: Path
) -> None:
    path, _ = published
    card = Predictor.load(path).card
    log = io.StringIO()
    reporter = Reporter(Console(file=log, width=300))
    again = evaluate_file(path, labeled, reporter)
    assert "its test part is used" in log.getvalue()
    assert again.metrics == {name: card.metrics[name] for name in again.metrics}
    other = evaluate_file(path, label_folder(tmp_path / "other", count=20), reporter)
    assert "all of it is used" in log.getvalue()
    assert len(other.classes) == 20
    done = CliRunner().invoke(
        command, ["shapes", "--data", str(tmp_path / "other"), "--models", str(path.parents[2])]
    )
    assert done.exit_code == 0, done.output
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[-3:]] == list(SHAPES)
    with pytest.raises(DataError, match="has the labels circle, square"):
        evaluate_file(path, class_folder(tmp_path / "shapes", count=2), reporter)
    with pytest.raises(OptionError, match="give one with --data"):
        evaluate_file(path, None, reporter)


def test_a_network_that_learns_nothing_is_called_that(tmp_path: Path) -> None:
    """Pictures of noise under names that mean nothing."""
    generator = np.random.default_rng(0)
    for name, count in (("left", 30), ("right", 12)):
        (tmp_path / "noise" / name).mkdir(parents=True)
        for index in range(count):
            noise = generator.integers(0, 256, (12, 12), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "noise" / name / f"{index}.png")
    recipe = recipes.find("folder")
    log = io.StringIO()
    done = pipeline.train(
        replace(recipe, network=NetworkName.LINEAR, folder=FolderOptions(head=Head.BINARY)),
        replace(QUICK, epochs=1),
        data=tmp_path / "noise",
        models=tmp_path / "models",
        name="noise",
        console=Console(file=log, width=200),
    )
    card = Predictor.load(done.path).card
    assert card.labels == ("left", "right")
    assert VERDICT in card.description
    assert "WARNING: it is not significantly better than predicting" in log.getvalue()
    assert card.metrics["majority_accuracy"] == pytest.approx(5 / 7, abs=0.06)
