"""Class activation maps of networks whose logits are linear in the means of feature maps.

A graph that ends in features → global average pooling → linear layer has logits at each position,
whose mean is the image's logits: class activation maps (Zhou et al. 2016, arXiv:1512.04150). They
need no gradients. The graph is parsed as protobuf (onnx.proto), so no ONNX package is needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import runtime
from logitserve.inference.errors import ModelFileError
from logitserve.inference.model_file import in_memory
from logitserve.inference.predictor import INPUT, OUTPUT

if TYPE_CHECKING:
    import onnxruntime

Floats = npt.NDArray[np.float32]
Field = tuple[int, memoryview, memoryview]
"""Number of a protobuf field, its value, and the whole field with its tag."""

POOLS: Final = frozenset({"GlobalAveragePool", "ReduceMean", "AveragePool"})
"""Operators that may be global average pooling; numerical values decide."""
_GRAPH: Final = 7  # of ModelProto
_NODE, _NAME, _INITIALIZER, _INPUT, _OUTPUT = 1, 2, 5, 11, 12  # of GraphProto
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR = 1, 2, 4  # of NodeProto
_TENSOR_NAME: Final = 8  # of TensorProto
_FLOAT_TENSOR: Final = b"\x12\x04\x0a\x02\x08\x01"  # ValueInfoProto.type.tensor_type.elem_type = 1
CLOSE: Final = 1e-4
"""Tolerance of the logits of positions, relative to the largest of them."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read a varint; return it and the next position."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def _fields(data: memoryview) -> Iterator[Field]:
    at = 0
    while at < len(data):
        begin = at
        tag, start = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, start)
            case 2:
                length, start = _varint(data, start)
                at = start + length
            case kind:
                at = start + (8 if kind == 1 else 4)
        yield tag >> 3, data[start:at], data[begin:at]


def _message(number: int, value: bytes) -> bytes:
    """Encode a field that holds a message or text."""
    length, head = len(value), bytes([number << 3 | 2])
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + value


def _values(data: memoryview, number: int) -> list[memoryview]:
    return [value for found, value, _ in _fields(data) if found == number]


def _operator(node: memoryview) -> str:
    return bytes(_values(node, _OPERATOR)[0]).decode()


def _ending(nodes: list[memoryview]) -> tuple[memoryview, list[memoryview]] | None:
    """Return the pool that all paths to the logits pass, and the nodes after it, or None."""
    makers = {name: node for node in nodes for name in _values(node, _NODE_OUTPUT)}
    pool, behind, waiting = None, set(), [memoryview(OUTPUT.encode())]
    while waiting:
        name = waiting.pop()
        if name == INPUT.encode():
            return None  # a path bypasses the pool
        node = makers.get(name)
        if node is None or node is pool or node in behind:
            continue
        if pool is None and _operator(node) in POOLS:
            pool = node
            continue
        behind.add(node)
        if _operator(node) != "Shape":  # Shape does not depend on the values
            waiting += _values(node, _NODE_INPUT)
    return None if pool is None else (pool, [node for node in nodes if node in behind])


def _from_means(node: memoryview, pooled: bytes) -> bytes:
    """Return a node after the pool; a node that reads a shape reads that of the means."""
    if _operator(node) != "Shape":
        return bytes(node)
    kept = [whole for number, _, whole in _fields(node) if number != _NODE_INPUT]
    return b"".join([*kept, _message(_NODE_INPUT, pooled)])


@dataclass(frozen=True)
class FeatureMaps:
    """A network with its feature maps as outputs, and its head as a separate network."""

    session: "onnxruntime.InferenceSession"
    head: "onnxruntime.InferenceSession"
    names: Sequence[str]
    """Names of the feature maps and of their mean."""
    batch: int | None

    @classmethod
    def of(cls, model: bytes, batch: int | None) -> "FeatureMaps | None":
        """Cut an ONNX file with this batch size; return None if its graph has another form."""
        whole_model = list(_fields(memoryview(model)))
        (graph,) = (value for number, value, _ in whole_model if number == _GRAPH)
        fields = list(_fields(graph))
        ending = _ending([value for number, value, _ in fields if number == _NODE])
        if ending is None:
            return None
        pool, behind = ending
        names = [bytes(_values(pool, part)[0]) for part in (_NODE_INPUT, _NODE_OUTPUT)]
        # Protobuf merges a message that occurs twice in a file: so outputs are appended.
        shown = b"".join(_message(_OUTPUT, _message(1, name)) for name in names)
        needed = {name for node in behind for name in _values(node, _NODE_INPUT)}
        kept: list[bytes | memoryview] = [
            whole
            for number, value, whole in fields
            if number == _NAME
            or (number == _INITIALIZER and needed.issuperset(_values(value, _TENSOR_NAME)))
        ]
        kept += [_message(_NODE, _from_means(node, names[1])) for node in behind]
        ends = ((_INPUT, names[1]), (_OUTPUT, OUTPUT.encode()))
        kept += [_message(part, _message(1, name) + _FLOAT_TENSOR) for part, name in ends]
        rest = [whole for number, _, whole in whole_model if number != _GRAPH]
        try:
            with in_memory([model, _message(_GRAPH, shown)]) as content:
                session = runtime.open_reading(content)
            with in_memory([*rest, _message(_GRAPH, b"".join(kept))]) as content:
                head = runtime.open_reading(content)
        except ModelFileError:  # types or operators that cannot be cut there
            return None
        return cls(session, head, [name.decode() for name in names], batch)

    def logits(self, image: npt.NDArray[np.uint8]) -> tuple[Floats, Floats] | None:
        """Return the logits at each position of the feature maps, and the logits of zero features.

        Args:
            image: uint8, `[1, height, width, channels]` of the card.

        Returns:
            `[rows, columns, k]` and `[k]`: the mean of the first plus the second are the logits of
            the image. None if they are not.
        """
        images = image if self.batch is None else image.repeat(self.batch, axis=0)
        logits, features, pooled = self.session.run([OUTPUT, *self.names], {INPUT: images})
        if features.ndim != 4:
            return None
        try:
            return self._at_each_place(logits[0], features[0], pooled)
        # onnxruntime's exceptions have no other base class; they report unexpected shapes.
        except Exception:  # noqa: BLE001
            return None

    def _at_each_place(
        self, logits: Floats, features: Floats, pooled: Floats
    ) -> tuple[Floats, Floats] | None:
        for places in (features, np.moveaxis(features, 0, 2)):  # NHWC, NCHW
            if places.shape[2] == pooled[0].size:
                flat = places.reshape(-1, *pooled.shape[1:])
                without = self._behind(np.zeros_like(flat[:1]))[0]
                found = self._behind(flat) - without
                # In a linear layer, negated features give negated logits.
                off = np.abs(found + self._behind(-flat) - without).max()
                off += np.abs(found.mean(axis=0) + without - logits).max()
                if off <= CLOSE * max(1.0, np.abs(found).max()):
                    return found.reshape(*places.shape[:2], -1), without
        return None

    def _behind(self, pooled: Floats) -> Floats:
        """Return the logits for means of features, `[n, …]`."""
        (name,) = (node.name for node in self.head.get_inputs())
        step = self.batch or len(pooled)
        parts = [pooled[at : at + step] for at in range(0, len(pooled), step)]
        found = [
            self.head.run([OUTPUT], {name: np.resize(part, (step, *part.shape[1:]))})[0]
            for part in parts
        ]
        return np.concatenate(found)[: len(pooled)]
