"""What a graph's answers are, and where its logits stand: found by running it, not by names.

An activation may hide behind shapes, casts, clips and quantization, be spelled out in arithmetic,
or be part of another operator. So every tensor near the output is looked at: if a head applied to
it gives the answers, for every picture, then it may hold the logits; and if the rest of the graph
makes the same of numbers that are drawn, it does, and the graph can end there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import onnx

from logitserve.adoption.network import Rows
from logitserve.adoption.normalizing import producers, reads
from logitserve.adoption.terms import Answers
from logitserve.errors import AdoptionError
from logitserve.inference import heads
from logitserve.inference.card import Head

After = Callable[[str, Rows], Rows | None]
"""The answers for given values of a tensor; None if they need more than that tensor."""

NEAR: Final = 48
"""Nodes before the output whose tensors are looked at."""
SUM: Final = 2e-3
"""By how much the sum of probabilities may differ from 1; float16 and eight bits need it."""
ROUND: Final = 1e-6
"""By how much a probability may leave 0…1."""

EXACT: Final = 1e-5
"""Differences of a probability below it are the same."""
SEED: Final = 17
SPREAD: Final = 1.5
"""Of the numbers on which a head is proven: few of them saturate it."""
EXPLAINED: Final = 0.1
"""What a head makes of the logits may miss so much of the span of all answers: a softmax over a
thousand labels is near 0.001 everywhere, and so would be one of anything."""


class Link(StrEnum):
    """What makes logits of the tensor where the graph is made to end."""

    NONE = "none"
    LOG = "log"
    """softmax(log p) = p, whatever made p."""
    LOGIT = "logit"
    """sigmoid(log p − log(1 − p)) = p."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the graph ends, and how the published one will."""

    head: Head
    tensor: str
    """Where the published graph leaves the original one."""
    count: int
    """Logits a picture."""
    note: str
    """For the card and the owner: what the answers are taken for, and why."""
    column: int | None = None
    """Of the tensor, where only one counts."""
    link: Link = Link.NONE
    cut: str | None = None
    """The function that was cut off."""
    answers: str = "logits"
    """What the original answers: logits, probabilities or their logarithms."""

    def probabilities(self, answers: Rows) -> Rows:
        """What the original means, `[n, labels]`, of its answers, `[n, k]`."""
        if self.answers == "logits":
            return heads.probabilities(self.head, answers)
        values = np.exp(answers) if self.answers == "logarithms" else answers
        if self.head is Head.BINARY:
            return np.concatenate([1 - values[:, -1:], values[:, -1:]], axis=1)
        return values[:, -self.count :]  # skl2onnx puts complements before many labels

    def logits(self, rows: Rows) -> Rows:
        """Logits, `[n, count]`, of what the tensor holds, `[n, k]`."""
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
    """Tensors before a tensor, nearest first."""
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
    """Say how a graph ends.

    Args:
        answers: `[n, k]`, for pictures that differ.
        tensors: name and values, `[n, m]`, of tensors before it, nearest first.
        after: runs the rest of the graph after one of them.
        output: name of the answers' tensor.
        head: as the owner says.
        told: what the owner says that the answers are.
        tolerance: of a probability.

    Raises:
        AdoptionError: what the owner says contradicts the answers, or they may be two things.
    """
    if not np.isfinite(answers).all():
        raise AdoptionError(
            "the graph answers NaN or infinity for drawn pictures: check --preset, and the export"
        )
    ending = _cut(answers, tensors, after, tolerance) or _kept(answers, output, head, told)
    is_probability = ending.answers != "logits"
    if told is Answers.LOGITS and is_probability:
        raise AdoptionError(f"--answers logits contradicts the graph: {ending.note}")
    if told is Answers.PROBABILITIES and not is_probability:
        raise AdoptionError(
            "--answers probabilities contradicts the graph, which answers "
            f"{answers.min():.3g} to {answers.max():.3g} for drawn pictures"
        )
    if head in (None, ending.head):
        return ending
    if is_probability:
        raise AdoptionError(f"--head {head} contradicts the graph: {ending.note}")
    return Ending(head, output, ending.count, f"logits, as --head {head} says")


def _cut(
    answers: Rows, tensors: Sequence[tuple[str, Rows]], after: After, tolerance: float
) -> Ending | None:
    """The tensor of which a head makes the answers; of those as exact, the first of the graph."""
    width = answers.shape[1]
    matches = []
    # skl2onnx writes the complements before the probabilities of many labels
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
    """Within the tolerance, and far closer than any two answers are to each other."""
    worst = np.abs(found - expected).max()
    return bool(worst <= min(tolerance, EXPLAINED * np.ptp(expected)))


def _kept(answers: Rows, output: str, head: Head | None, told: Answers | None) -> Ending:
    """What the answers are, where no activation was found before them."""
    count = answers.shape[1]
    if count > 1 and (answers <= ROUND).all() and _sum_to_one(np.exp(answers)):
        note = "the answers are logarithms of probabilities that sum to 1, which serve as logits"
        return Ending(Head.SOFTMAX, output, count, note, answers="logarithms")
    if (answers >= -ROUND).all() and (answers <= 1 + ROUND).all():
        return _probabilities(answers, output, head, told)
    if count > 1 and (answers >= 0).all() and _sum_to_one(answers / answers.sum(axis=1).mean()):
        raise AdoptionError(
            f"the graph's answers are never negative and sum to {answers.sum(axis=1).mean():.4g} "
            "for every picture, so they are scaled probabilities: export it up to its logits"
        )
    guess = Head.BINARY if count == 1 else Head.SOFTMAX
    why = "one number a picture" if count == 1 else f"{count} numbers a picture, and no activation"
    return Ending(guess, output, count, f"{why}: taken for the logits of --head {guess}")


def _sum_to_one(rows: Rows) -> bool:
    return bool(np.allclose(rows.sum(axis=1), 1, atol=SUM))


def _probabilities(answers: Rows, output: str, head: Head | None, told: Answers | None) -> Ending:
    """Answers between 0 and 1, of no activation that can be cut off."""
    count = answers.shape[1]
    if count > 1 and _sum_to_one(answers):
        if head is Head.BINARY and count == 2:
            note = "probabilities already; their log-odds serve as logits"
            return Ending(Head.BINARY, output, 1, note, 1, Link.LOGIT, answers="probabilities")
        note = "probabilities already, which sum to 1; their logarithms serve as logits"
        return Ending(Head.SOFTMAX, output, count, note, link=Link.LOG, answers="probabilities")
    guess = Head.BINARY if count == 1 else Head.SIGMOID
    if told is Answers.LOGITS:
        return Ending(guess, output, count, "logits, as --answers says")
    if told is None:
        raise AdoptionError(
            f"the graph's answers for drawn pictures all lie between 0 and 1 "
            f"({answers.min():.3g} to {answers.max():.3g}), do not sum to 1, and no sigmoid was "
            "found that makes them: say --answers probabilities or --answers logits"
        )
    note = "probabilities already; their log-odds serve as logits"
    return Ending(guess, output, count, note, link=Link.LOGIT, answers="probabilities")
