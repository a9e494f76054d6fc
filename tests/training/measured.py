"""A model file, measured on the pictures that its recipe left for that."""

from pathlib import Path

from logitserve.inference.predictor import Predictor
from logitserve_training.evaluate import Evaluation, evaluate, held_out
from logitserve_training.progress import Reporter


def evaluate_file(path: Path, data: Path | None, reporter: Reporter) -> Evaluation:
    predictor = Predictor.load(path)
    return evaluate(predictor, held_out(predictor, data, reporter))
