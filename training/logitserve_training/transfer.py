"""Train a linear head on the features of a backbone."""

import numpy as np

from logitserve.inference.card import Head
from logitserve_training import linear_head
from logitserve_training.backbone import Apart, Backbone, cache_folder, features, forms
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.finish import HeldOut
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Recipe


def fit_head(
    backbone: Backbone, recipe: Recipe, dataset: Dataset, reporter: Reporter
) -> tuple[Apart, HeldOut]:
    """Fit a linear head on a backbone, with cross-validated weight decay.

    The head is fitted to the validation part too, and calibrated on out-of-fold predictions (as in
    scikit-learn's CalibratedClassifierCV with ensemble=False), so that no pictures need to be held
    out.
    """
    learned = dataset.learned
    varied = forms(recipe.augmentation, len(learned))
    of_parts = "" if dataset.folds else " of the training and validation parts"
    reporter.line(
        f"{backbone.settings['file']}: {backbone.width} features of {len(learned)} pictures"
        f"{of_parts}, each in {len(varied)} form{'s' * (len(varied) > 1)}; kept in {cache_folder()}"
    )
    try:
        found = np.stack(
            [features(backbone, learned.images, cache_folder(), reporter, form=form)
             for form in varied]
        )  # fmt: skip
    except KeyboardInterrupt:
        reporter.line("interrupted: run the same command again to resume")
        raise
    logits = 1 if recipe.head is Head.BINARY else len(recipe.labels)
    known = recipe.head, found, learned.classes, learned.groups
    chosen = linear_head.choose(*known, logits=logits, reporter=reporter)
    reporter.line(
        f"weight decay {chosen.decay:g}: the lowest loss of {chosen.folds}-fold cross-validation "
        f"({chosen.loss:.4f} nats)"
    )
    (head,) = linear_head.fit(*known[:3], np.array([chosen.decay]), logits)
    rows, said = chosen.rows, chosen.logits
    if dataset.folds:
        rows = np.arange(len(learned))
        said = linear_head.cross_validated(*known, dataset.folds, logits=logits, reporter=reporter)
    held = learned[rows]
    return Apart(backbone, head), HeldOut(said, held.classes, held.groups, rows)
