"""Find a graph's head and logits numerically, by running it instead of by names.

An activation may be followed by shapes, casts, clips and quantization, consist of arithmetic
operators, or be fused into another operator. So each tensor near the output is tested: if a head
applied to it gives the answers for every picture, it may hold the logits. If the rest of the graph
gives the same for random values of the tensor, it does, and the graph is cut there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import onnx

from logitserve.adoption.network import Rows
from logitserve.adoption.normalizing import producers, reads
from logitserve.adoption.options import Answers
from logitserve.errors import AdoptionError
from logitserve.inference import heads
from logitserve.inference.card import Head

After = Callable[[str, Rows], Rows | None]
"""Returns the answers for given values of a tensor; None if they need other tensors too."""

NEAR: Final = 48
"""Number of nodes before the output whose tensors are tested."""
SUM: Final = 2e-3
"""Tolerance of a sum of probabilities, wide enough for float16 and int8."""
ROUND: Final = 1e-6
"""Tolerance of the range 0…1 of a probability."""

EXACT: Final = 1e-5
"""Probabilities that differ by less are equal."""
SEED: Final = 17
SPREAD: Final = 1.5
"""Standard deviation of the random logits; few of them saturate a head."""
EXPLAINED: Final = 0.1
"""Tolerance of the error of a head, relative to the range of all answers: a softmax over a
thousand labels is near 0.001 for any input, so an absolute one would accept every tensor."""


class Link(StrEnum):
    """Function that turns the tensor at the cut into logits."""

    NONE = "none"
    LOG = "log"
    """softmax(log p) = p for any probabilities p."""
    LOGIT = "logit"
    """sigmoid(log p − log(1 − p)) = p."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The original end of the graph, and the end of the published one."""

    head: Head
    tensor: str
    """Name of the tensor where the original graph is cut."""
    count: int
    """Number of logits."""
    note: str
    """For the card and the owner: the interpretation of the answers, with the reason."""
    column: int | None = None
    """Column of the tensor to use, if only one is."""
    link: Link = Link.NONE
    cut: str | None = None
    """The activation that was cut off."""
    answers: str = "logits"
    """What the original returns: logits, probabilities or log probabilities."""

    def probabilities(self, answers: Rows) -> Rows:
        """Return the probabilities, `[n, labels]`, of the original's outputs, `[n, k]`."""
        if self.answers == "logits":
            return heads.probabilities(self.head, answers)
        values = np.exp(answers) if self.answers == "logarithms" else answers
        if self.head is Head.BINARY:
            return np.concatenate([1 - values[:, -1:], values[:, -1:]], axis=1)
        return values[:, -self.count :]  # skl2onnx puts complements before multilabel probabilities

    def logits(self, rows: Rows) -> Rows:
        """Return the logits, `[n, count]`, of the values of the tensor, `[n, k]`."""
        if self.column is not None:
            rows = rows[:, [self.column]]
        least = float(np.finfo(np.float32).tiny)
        if self.link is Link.NONE:
            return rows
        logarithms: Rows = np.log(np.maximum(rows, least))
        return (
            logarithms
            if self.link is Link.LOG
            else logarithms - np.log(np.maximum(1 - rows, least))
        )


def near(model: onnx.ModelProto, answer: str) -> list[str]:
    """Return the tensors that precede a tensor, nearest first."""
    made_by = producers(model)
    found: dict[str, None] = {}
    waiting, nodes = [answer], 0
    while waiting and nodes < NEAR:
        node = made_by.get(waiting.pop(0))
        if node is None or node.op_type == "Constant":
            continue
        nodes += 1
        for name in sorted(reads(node)):
            if name in made_by and name not in found:
                found[name] = None
                waiting.append(name)
    return list(found)


def find(
    answers: Rows,
    tensors: Sequence[tuple[str, Rows]],
    after: After,
    *,
    output: str,
    head: Head | None,
    told: Answers | None,
    tolerance: float,
) -> Ending:
    """Find the head and the logits of a graph.

    Args:
        answers: `[n, k]`, for distinct pictures.
        tensors: name and values, `[n, m]`, of tensors before the output, nearest first.
        after: runs the rest of the graph after one of these tensors.
        output: name of the output tensor.
        head: the owner's choice; None to detect it.
        told: the owner's description of the answers.
        tolerance: of a probability, absolute.

    Raises:
        AdoptionError: the answers contradict the owner's choice, or are ambiguous.
    """
    if not np.isfinite(answers).all():
        raise AdoptionError(
            "the graph returns NaN or infinity for drawn pictures: check --preset, and the export"
        )
    ending = _cut(answers, tensors, after, tolerance) or _kept(answers, output, head, told)
    is_probability = ending.answers != "logits"
    if told is Answers.LOGITS and is_probability:
        raise AdoptionError(f"--answers logits contradicts the graph: {ending.note}")
    if told is Answers.PROBABILITIES and not is_probability:
        raise AdoptionError(
            "--answers probabilities contradicts the graph, which returns "
            f"{answers.min():.3g} to {answers.max():.3g} for drawn pictures"
        )
    if head in (None, ending.head):
        return ending
    if is_probability:
        raise AdoptionError(f"--head {head} contradicts the graph: {ending.note}")
    return Ending(head, output, ending.count, f"logits, according to --head {head}")


def _cut(
    answers: Rows, tensors: Sequence[tuple[str, Rows]], after: After, tolerance: float
) -> Ending | None:
    """Find the tensor whose activation gives the answers; on a tie, the first of the graph."""
    width = answers.shape[1]
    matches = []
    # skl2onnx writes the complements before multilabel probabilities
    first, second = answers[:, : width // 2], answers[:, width // 2 :]
    are_complements = width % 2 == 0 and np.allclose(1 - first, second, atol=SUM)
    half = width // 2 if are_complements else width
    for index, (name, rows) in enumerate(tensors):
        count = rows.shape[1]
        if not np.isfinite(rows).all() or count not in {width, half}:
            continue
        for head in (heads.softmax, heads.sigmoid) if count == width > 1 else (heads.sigmoid,):
            worst = float(np.abs(head(rows) - answers[:, -count:]).max())
            if worst <= tolerance:
                matches.append((round(worst / EXACT), -index, name, count, head))
    drawn = np.random.default_rng(SEED).normal(0, SPREAD, (len(answers), width))
    is_pair = width == 2 and _sum_to_one(answers)
    for *_, name, count, head in sorted(matches, key=lambda match: match[:2]):
        given = drawn[:, :count]
        again = after(name, given)
        if again is not None and _close(head(given), again[:, -count:], tolerance):
            is_softmax = head is heads.softmax
            return _activation(name, count, is_softmax=is_softmax, is_pair=is_pair)
    return None


def _activation(name: str, count: int, *, is_softmax: bool, is_pair: bool) -> Ending:
    if is_softmax:
        note = f"the answers are the softmax of {name!r}"
        return Ending(Head.SOFTMAX, name, count, note, cut="Softmax", answers="probabilities")
    note = f"the answers are the sigmoid of {name!r}"
    is_binary = count == 1 or is_pair
    return Ending(
        Head.BINARY if is_binary else Head.SIGMOID,
        name,
        1 if is_binary else count,
        note,
        column=1 if is_binary and count == 2 else None,
        cut="Sigmoid",
        answers="probabilities",
    )


def _close(found: Rows, expected: Rows, tolerance: float) -> bool:
    """Check the tolerance, and that the error is far below the spread of the answers."""
    worst = np.abs(found - expected).max()
    return bool(worst <= min(tolerance, EXPLAINED * np.ptp(expected)))


def _kept(answers: Rows, output: str, head: Head | None, told: Answers | None) -> Ending:
    """Interpret answers for which no activation was found."""
    count = answers.shape[1]
    if count > 1 and (answers <= ROUND).all() and _sum_to_one(np.exp(answers)):
        note = "the answers are log probabilities (they sum to 1), and serve as logits"
        return Ending(Head.SOFTMAX, output, count, note, answers="logarithms")
    if (answers >= -ROUND).all() and (answers <= 1 + ROUND).all():
        return _probabilities(answers, output, head, told)
    if count > 1 and (answers >= 0).all() and _sum_to_one(answers / answers.sum(axis=1).mean()):
        raise AdoptionError(
            f"the graph's answers are never negative and sum to {answers.sum(axis=1).mean():.4g} "
            "for every picture, so they are scaled probabilities: export the graph up to its logits"
        )
    guess = Head.BINARY if count == 1 else Head.SOFTMAX
    why = "one number per picture" if count == 1 else f"{count} numbers per picture, no activation"
    return Ending(guess, output, count, f"{why}: taken for the logits of --head {guess}")


def _sum_to_one(rows: Rows) -> bool:
    return bool(np.allclose(rows.sum(axis=1), 1, atol=SUM))


def _probabilities(answers: Rows, output: str, head: Head | None, told: Answers | None) -> Ending:
    """Interpret answers between 0 and 1 whose activation cannot be cut off."""
    count = answers.shape[1]
    if count > 1 and _sum_to_one(answers):
        if head is Head.BINARY and count == 2:
            note = "the answers are probabilities; their log-odds serve as logits"
            return Ending(Head.BINARY, output, 1, note, 1, Link.LOGIT, answers="probabilities")
        note = "the answers are probabilities that sum to 1; their logarithms serve as logits"
        return Ending(Head.SOFTMAX, output, count, note, link=Link.LOG, answers="probabilities")
    guess = Head.BINARY if count == 1 else Head.SIGMOID
    if told is Answers.LOGITS:
        return Ending(guess, output, count, "logits, according to --answers")
    if told is None:
        raise AdoptionError(
            f"the graph's answers for drawn pictures all lie between 0 and 1 "
            f"({answers.min():.3g} to {answers.max():.3g}), do not sum to 1, and are not the "
            "sigmoid of any tensor: give --answers probabilities or --answers logits"
        )
    note = "the answers are probabilities; their log-odds serve as logits"
    return Ending(guess, output, count, note, link=Link.LOGIT, answers="probabilities")
