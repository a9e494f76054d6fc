"""A linear head on the features of a backbone."""

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
) -> tuple[Apart, linear_head.Chosen, HeldOut]:
    """The backbone with a linear head, whose weight decay is cross-validated.

    It is fitted to the validation part too, and calibrated by what the folds' heads said of the
    pictures that they were not fitted to (as scikit-learn's CalibratedClassifierCV does without an
    ensemble): few pictures are too dear to be held out for it.
    """
    parts = (dataset.train, dataset.validation)
    images = np.concatenate([part.images for part in parts])
    varied = forms(recipe.augmentation, len(images))
    reporter.line(
        f"{backbone.settings['file']}: {backbone.width} features of {len(images)} pictures of the "
        f"training and validation parts, each in {len(varied)} form{'s' * (len(varied) > 1)}; kept "
        f"in {cache_folder()}"
    )
    try:
        found = np.stack(
            [features(backbone, images, cache_folder(), reporter, form=form) for form in varied]
        )
    except KeyboardInterrupt:
        reporter.line("interrupted: the same command goes on where this one stopped")
        raise
    classes = np.concatenate([part.classes for part in parts])
    groups = None
    if dataset.train.groups is not None and dataset.validation.groups is not None:
        groups = np.concatenate([dataset.train.groups, dataset.validation.groups])
    logits = 1 if recipe.head is Head.BINARY else len(recipe.labels)
    chosen = linear_head.choose(
        recipe.head, found, classes, groups, logits=logits, reporter=reporter
    )
    reporter.line(
        f"weight decay {chosen.decay:g}: the least loss of {chosen.folds} cross-validated parts "
        f"({chosen.loss:.4f} nats)"
    )
    decays = np.array([chosen.decay])
    (head,) = linear_head.fit(recipe.head, found, classes, decays, logits)
    units = None if groups is None else groups[chosen.rows]
    return Apart(backbone, head), chosen, HeldOut(chosen.logits, classes[chosen.rows], units)
