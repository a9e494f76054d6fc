"""The report's page: whole, alone, and the same each time."""

import csv
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from logitserve.inference.card import Fit, Head, ModelCard
from logitserve.inference.predictor import Predictor
from logitserve.inference.reliability import reliability
from logitserve.inference.repository import REPORT_PAGE
from logitserve_training import figures, page, report
from logitserve_training.baseline import Comparison
from logitserve_training.calibrate import calibrate
from logitserve_training.datasets.dataset import LabeledImages
from logitserve_training.drawings import draw
from logitserve_training.epochs import Epoch
from logitserve_training.evaluate import Evaluation, evaluate, predict_all
from logitserve_training.measure import Measured, measure
from tests import tiny_models

EPOCH = Epoch(loss=1.0, accuracy=0.5, validation_loss=1.1, validation_accuracy=0.4, seconds=1.0)
LABELS = {
    Head.SOFTMAX: tuple("0123456789"),
    Head.BINARY: ("other", "<zero>"),
    Head.SIGMOID: ("a", "b & c", "<d>"),
}


class Inventory(HTMLParser):
    """The elements of a page and what they point at."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}
        ]


def truth(head: Head, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    labels = len(LABELS[head])
    if head is Head.SIGMOID:
        return np.random.default_rng(0).integers(0, 2, (count, labels))
    return np.arange(count) % labels


def measured(
    folder: Path,
    head: Head,
    *,
    labels: tuple[str, ...] = (),
    fit: Fit = Fit.DIGIT,
    count: int = 60,
) -> tuple[ModelCard, Evaluation, Measured]:
    """A linear model of drawn digits, calibrated, and what it is worth."""
    thresholds = (0.5,) * 3 if head is Head.SIGMOID else None
    labels = labels or LABELS[head]
    tiny_models.publish(folder, head=head, labels=labels, thresholds=thresholds)
    predictor = Predictor.load(folder / "tiny/1/model.onnx")
    images = np.stack([np.asarray(draw(seed % 10, seed=seed))[..., :1] for seed in range(count)])
    data = LabeledImages(images, truth(head, count) % len(labels))
    digits = tiny_models.SPEC.model_copy(update={"fit": fit})
    card = predictor.card.model_copy(update={"input": digits})
    predictor.card = calibrate(card, predict_all(predictor, images).logits, data.classes, images)
    evaluation = evaluate(predictor, data)
    return predictor.card, evaluation, measure(predictor, evaluation)


@pytest.mark.parametrize("head", Head)
def test_a_page_needs_nothing_else(tmp_path: Path, head: Head) -> None:
    card, evaluation, found = measured(tmp_path, head)
    confusion = evaluation.confusion
    drawn = None if confusion is None else report.confusion_matrix(card, confusion)
    text = page.render(
        card,
        evaluation,
        found,
        learning=figures.learning_curves(card.name, [EPOCH]),
        confusion=drawn,
    )
    inventory = Inventory()
    inventory.feed(text)
    assert not inventory.tags & {"script", "link", "iframe", "object", "embed", "form", "img"}
    assert all(address.startswith(("#", "data:")) for address in inventory.addresses)
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(text) < 400_000
    for section in ("Prediction sets", "Out-of-distribution detection"):
        has_it = card.conformal if section == "Prediction sets" else card.energy
        assert (section in text) == (has_it is not None)
    assert "<d>" not in text
    assert "<zero>" not in text


def rows_of(page: str, section: str) -> list[list[str]]:
    """The cells of all rows of the tables below a heading."""
    below = page.split(f"<h2>{section}</h2>")[1].split("</section>", maxsplit=1)[0]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", below)
    return [[html.unescape(cell) for cell in re.findall(r"<t[dh]>(.*?)</t", row)] for row in rows]


@pytest.mark.parametrize("head", Head)
def test_the_table_sets_each_label_beside_the_majority(tmp_path: Path, head: Head) -> None:
    card, evaluation, found = measured(tmp_path, head)
    comparison = Comparison.of(card, evaluation, evaluation.classes)
    card = comparison.judged(card, evaluation)
    report.write(
        tmp_path / "report",
        card,
        [EPOCH],
        evaluation,
        images=np.zeros((60, 28, 28, 1), np.uint8),
        measured=found,
        comparison=comparison,
    )
    text = (tmp_path / "report" / REPORT_PAGE).read_text()
    rows = rows_of(text, "Comparison with the majority class")
    head_of_labels = rows.index(
        ["label", "pictures", "share", "average precision", "F1", "majority's F1"]
    )
    with (tmp_path / "report" / report.LABELS_FILE).open() as file:
        in_file = list(csv.reader(file))[1:]
    assert [row[0] for row in in_file] == list(LABELS[head])
    for shown, kept in zip(rows[head_of_labels + 1 :], in_file, strict=True):
        assert shown[0] == kept[0]
        assert list(map(float, shown[1:])) == pytest.approx(list(map(float, kept[1:])), abs=6e-4)
    both = {name: (network, majority) for name, network, majority in rows[1:head_of_labels]}
    assert len(both) == len(comparison.metrics)
    assert both["macro F1"] == (
        f"{card.metrics['macro_f1']:.2%}", f"{comparison.metrics['majority_macro_f1']:.2%}"
    )  # fmt: skip
    assert text.count('<tr class="lost">') == len(comparison.lost)
    assert ("not significantly better" in text) == bool(comparison.lost)


def test_the_same_figures_give_the_same_page(tmp_path: Path) -> None:
    card, evaluation, found = measured(tmp_path, Head.SOFTMAX)
    one, other = (
        page.render(card, evaluation, found, learning=None, confusion=None) for _ in range(2)
    )
    assert one == other


def test_figures_take_the_ink_of_the_page() -> None:
    bins = reliability(np.linspace(0.5, 1, 50), np.arange(50) % 2)
    text = figures.svg(figures.reliability_diagram(bins, bins))
    assert text.startswith('<svg fill="currentColor"')
    assert "#000000" not in text
    assert "stroke: currentColor" in text
    assert "var(--grid)" in text
    assert 'pt"' not in text  # of no fixed size


def test_coverage_counts_sets_that_hold_the_truth(tmp_path: Path) -> None:
    rows = measured(tmp_path, Head.SOFTMAX)[2].coverage
    assert [row.asked for row in rows][-1] == 0.98  # 60 pictures cannot promise 99 %
    for row in rows:
        # measured on the very pictures that the thresholds rank, so at least as asked
        assert row.covered >= row.asked
        assert row.low < row.asked < row.high
        assert row.is_missed == (row.covered < row.low)
    sizes = [row.mean_size for row in rows]
    assert sorted(sizes) == sizes


@pytest.mark.parametrize("head", [Head.BINARY, Head.SOFTMAX])
def test_of_two_labels_the_probability_of_yes_is_judged(tmp_path: Path, head: Head) -> None:
    card, evaluation, found = measured(tmp_path, head, labels=("other", "<zero>"))
    text = page.render(card, evaluation, found, learning=None, confusion=None)
    assert "predicted probability of &lt;zero&gt;" in text
    yes = reliability(evaluation.predictions.probabilities[:, 1], evaluation.classes)
    assert found.calibrated.error == evaluation.metrics["ece"] == pytest.approx(yes.error)


def test_tiles_name_their_pictures_and_intervals(tmp_path: Path) -> None:
    card, evaluation, found = measured(tmp_path, Head.SOFTMAX)
    text = page.render(card, evaluation, found, learning=None, confusion=None)
    right = int(evaluation.is_right.sum())
    low, high = evaluation.intervals["accuracy"]
    assert f"accuracy<small>{right} of 60</small><small>95 %: {low:.2%} to {high:.2%}<" in text


def test_each_label_has_its_scores_and_its_threshold(tmp_path: Path) -> None:
    card, evaluation, found = measured(tmp_path, Head.SIGMOID)
    text = page.render(card, evaluation, found, learning=None, confusion=None)
    rows = rows_of(text, "Performance on the test part")
    assert card.thresholds is not None
    for label, scores, threshold in zip(
        card.labels, evaluation.by_label, card.thresholds, strict=True
    ):
        assert scores.f1 is not None
        assert scores.f1.low < scores.f1.value < scores.f1.high
        figures_of = (str(scores.average_precision), str(scores.f1), f"{threshold:.3f}")
        assert [label, str(scores.support), *figures_of] in rows


def test_energies_are_shown_of_a_model_that_met_no_negatives(tmp_path: Path) -> None:
    card, evaluation, found = measured(tmp_path, Head.SOFTMAX, fit=Fit.STRETCH, count=120)
    assert card.energy is not None
    # rounds to zero, which has no sign
    energy = card.energy.model_copy(update={"threshold": -1e-6})
    card = card.model_copy(update={"energy": energy})
    text = page.render(card, evaluation, found, learning=None, confusion=None)
    assert "out-of-distribution pictures was not measured for this model" in text
    assert "wrong predictions</text>" in text
    assert "is above 0.000, as for" in text
    assert evaluation.predictions.known is not None
    unknown = int((~evaluation.predictions.known).sum())
    assert f"{unknown} of 120 (95 %: " in text
